//! Kinds of rows: writers and checks.

use crate::Behaviour;
use crate::models::Seen;
use crate::row::*;
use finermoe::{DType, Quantize, Synthesize, Upcycle, Verify};
use serde_json::{Value, json};
use std::ops::ControlFlow;
use std::path::Path;

pub fn kind(name: &str) -> Option<Behaviour> {
    Some(match name {
        "upcycle" => upcycle,
        "quantize" => quantize,
        "synthesize" => synthesize,
        "verify" => verify,
        "writer_progress" => writer_progress,
        "writer_cancel" => writer_cancel,
        "writer_exists" => writer_exists,
        _ => return None,
    })
}

/// The SHA-256 of a model's weights.
fn sha256_of(folder: &Path) -> Result<Value> {
    let files = Verify::new(folder).run()?;
    let weights = files.into_iter().find(|file| file.name == "model.safetensors").ok_or("no model.safetensors")?;
    Ok(json!({"sha256": weights.sha256}))
}

fn upcycle(row: &Value) -> Result<Value> {
    let (folder, options) = (tempfile::tempdir()?, &row["options"]);
    let out = folder.path().join("out");
    let mut upcycle = Upcycle::new(model_path(row)?, &out)
        .preset(&field::<String>(row, "preset")?)
        .seed(field(row, "seed")?)
        .granularity_inter(maybe(options, "g_i")?.unwrap_or(0))
        .expansion_inter(maybe(options, "r_i")?.unwrap_or(0))
        .granularity_output(maybe(options, "g_o")?.unwrap_or(0))
        .expansion_output(maybe(options, "r_o")?.unwrap_or(0))
        .top_inter(maybe(options, "t_i")?.unwrap_or(0));
    if let Some(shared) = maybe(options, "shared_expert")? {
        upcycle = upcycle.shared_expert(shared);
    }
    if let Some(concat_proj) = named(options, "concat_proj")? {
        upcycle = upcycle.concat_proj(concat_proj);
    }
    if let Some(separate) = maybe(options, "separate_router")? {
        upcycle = upcycle.separate_router(separate);
    }
    if let Some(scale) = maybe(options, "down_scale")? {
        upcycle = upcycle.down_scale(scale);
    }
    if let Some(ratio) = maybe(options, "drop_ratio")? {
        upcycle = upcycle.drop_ratio(ratio);
    }
    if let Some(router_init) = named(options, "router_init")? {
        upcycle = upcycle.router_init(router_init);
    }
    upcycle.run()?;
    sha256_of(&out)
}

/// A type by its name in a row; none for "source".
fn dtype(name: &str) -> Result<Option<DType>> {
    if name == "source" {
        return Ok(None);
    }
    Ok(Some(serde_json::from_value(name.into())?))
}

fn quantize_to<'a>(out: &Path, row: &Value) -> Result<Quantize<'a>> {
    let to = dtype(&field::<String>(row, "dtype")?)?.ok_or("a type")?;
    let mut quantize = Quantize::new(model_path(row)?, out, to);
    for (pattern, name) in maybe::<Vec<(String, String)>>(row, "overrides")?.unwrap_or_default() {
        quantize = quantize.with_override(&pattern, dtype(&name)?);
    }
    Ok(quantize)
}

fn quantize(row: &Value) -> Result<Value> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("out");
    quantize_to(&out, row)?.run()?;
    sha256_of(&out)
}

fn synthesize(row: &Value) -> Result<Value> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("out");
    let mut synthesize = Synthesize::new(model_path(row)?, &out).seed(field(row, "seed")?);
    if let Some(dtype) = dtype(&field::<String>(row, "dtype")?)? {
        synthesize = synthesize.dtype(dtype);
    }
    synthesize.run()?;
    sha256_of(&out)
}

fn verify(row: &Value) -> Result<Value> {
    let files = Verify::new(model_path(row)?).run()?;
    let files = files.into_iter().map(|file| (file.name, file.n_tensors, file.n_nan, file.n_infinite, file.sha256));
    Ok(json!({"files": files.collect::<Vec<_>>()}))
}

fn writer_progress(row: &Value) -> Result<Value> {
    let folder = tempfile::tempdir()?;
    let mut seen = Seen::default();
    quantize_to(&folder.path().join("out"), row)?.progress(|progress| seen.see(progress)).run()?;
    Ok(seen.result())
}

fn writer_cancel(row: &Value) -> Result<Value> {
    let folder = tempfile::tempdir()?;
    let stopped = quantize_to(&folder.path().join("out"), row)?.progress(|_| ControlFlow::Break(())).run();
    let left = std::fs::read_dir(folder.path())?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<_>>>()?;
    Ok(json!({"code": code_of(stopped), "left": left}))
}

fn writer_exists(row: &Value) -> Result<Value> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("out");
    quantize_to(&out, row)?.run()?;
    let code = code_of(quantize_to(&out, row)?.run());
    quantize_to(&out, row)?.overwrite(true).run()?;
    Ok(json!({"code": code, "replaced": true}))
}
