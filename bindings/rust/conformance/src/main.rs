//! The conformance suite in Rust: `conformance [NAME…]`
//!
//! Walks bindings/conformance/*.json (the rows whose names begin with a NAME, where any is given), prints one line for
//! each row, and fails if one is not "ok". FINERMOE_SOURCE is the root of the project; by default three folders above.

#![forbid(unsafe_code)]

mod errors;
mod generations;
mod models;
mod row;
mod sessions;
mod text;
mod threads;
mod writers;

use row::{Result, field, fields};
use serde_json::Value;
use std::process::ExitCode;

/// What a kind of row does: its inputs in, its results by name out.
type Behaviour = fn(&Value) -> Result<Value>;

fn behaviour(kind: &str) -> Option<Behaviour> {
    let all = [text::kind, models::kind, sessions::kind, generations::kind, threads::kind, errors::kind, writers::kind];
    all.into_iter().find_map(|kinds| kinds(kind))
}

/// Numbers with a fraction to within 1e-4, everything else exactly.
fn equal(expected: &Value, found: &Value) -> bool {
    match (expected, found) {
        (Value::Number(a), Value::Number(b)) if a.is_f64() || b.is_f64() => {
            a.as_f64().zip(b.as_f64()).is_some_and(|(a, b)| (a - b).abs() <= 1e-4)
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| equal(a, b)))
        }
        _ => expected == found,
    }
}

/// What is wrong with a row's results, if anything is.
fn check(row: &Value) -> Result<()> {
    let kind = field::<String>(row, "kind")?;
    let behaviour = behaviour(&kind).ok_or_else(|| format!("no such kind: {kind}"))?;
    let found = behaviour(row)?;
    let expected = fields(&row["expect"])?;
    if expected.is_empty() {
        return Err("the row expects nothing".into());
    }
    for (name, value) in expected {
        if !equal(value, &found[name]) {
            return Err(format!("{name}: expected {value}, found {}", found[name]).into());
        }
    }
    Ok(())
}

fn run(names: &[String]) -> Result<bool> {
    let mut files = std::fs::read_dir(row::source().join("bindings/conformance"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    let mut all_ok = true;
    for file in files {
        let rows: Vec<Value> = serde_json::from_slice(&std::fs::read(&file)?)?;
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        for row in &rows {
            let name = format!("{stem}/{}", field::<String>(row, "name")?);
            if !names.is_empty() && !names.iter().any(|wanted| name.starts_with(wanted)) {
                continue;
            }
            match check(row) {
                Ok(()) => println!("{name}\tok"),
                Err(why) => {
                    all_ok = false;
                    println!("{name}\tfailed: {}", why.to_string().replace('\n', " "));
                }
            }
        }
    }
    Ok(all_ok)
}

fn main() -> ExitCode {
    let names: Vec<String> = std::env::args().skip(1).collect();
    match run(&names) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("conformance: {why}");
            ExitCode::FAILURE
        }
    }
}
