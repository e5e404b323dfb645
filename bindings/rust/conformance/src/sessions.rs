//! Kinds of rows: sessions and traces.

use crate::Behaviour;
use crate::row::*;
use finermoe::{Hidden, Logits, Record, Rows, Session};
use serde_json::{Value, json};

pub fn kind(name: &str) -> Option<Behaviour> {
    Some(match name {
        "logits" => logits,
        "hidden" => hidden,
        "score" => score,
        "session" => session,
        "session_info" => session_info,
        "routes" => routes,
        _ => return None,
    })
}

/// Appends the row's ids and keeps the rows that it names.
fn append(session: &mut Session, row: &Value, keep: &str) -> Result<Rows> {
    let ids: Vec<i32> = field(row, "ids")?;
    Ok(match &row[keep] {
        Value::String(all) if all == "all" => session.append(&ids, Logits::All)?,
        Value::Array(_) => session.append(&ids, Logits::Rows(&field::<Vec<usize>>(row, keep)?))?,
        _ => session.append(&ids, Logits::Last)?,
    })
}

fn logits(row: &Value) -> Result<Value> {
    let (_, mut session) = open(row)?;
    let kept = append(&mut session, row, "keep")?;
    if kept.iter().enumerate().any(|(i, values)| session.logits(i).ok().as_deref() != Some(values)) {
        return Err("other logits when they are asked for again".into());
    }
    let values = kept.iter().map(|values| columns(values, row)).collect::<Result<Vec<_>>>()?;
    Ok(json!({"values": values, "argmax": kept.iter().map(argmax).collect::<Vec<_>>()}))
}

fn hidden(row: &Value) -> Result<Value> {
    let model = open_model(row)?;
    let what = if flag(row, "only") { Hidden::Only } else { Hidden::Keep };
    let mut session = model.session().options(session_options(row)?).hidden(what).create()?;
    let logits = append(&mut session, row, "rows")?;
    let kept = session.hidden_rows()?;
    if kept.iter().enumerate().any(|(i, values)| session.hidden(i).ok().as_deref() != Some(values)) {
        return Err("other hidden states when they are asked for again".into());
    }
    let values = kept.iter().map(|values| columns(values, row)).collect::<Result<Vec<_>>>()?;
    Ok(json!({"values": values, "n_logits": logits.len()}))
}

fn score(row: &Value) -> Result<Value> {
    let score = open(row)?.1.score(&field::<Vec<i32>>(row, "ids")?)?;
    let likeliest: Vec<i32> = score.likeliest.into_iter().map(|id| id.unwrap_or(-1)).collect();
    Ok(json!({"logprobs": score.logprobs, "likeliest": likeliest}))
}

/// Sessions that steps are done on, the last being the one in use, with what they saved.
struct Stage {
    sessions: Vec<Session>,
    folder: tempfile::TempDir,
    memory: Vec<u8>,
}

impl Stage {
    fn session(&mut self) -> &mut Session {
        self.sessions.last_mut().expect("the first stays")
    }

    fn step(&mut self, step: &Value) -> Result<Value> {
        let what = step[0].as_str().unwrap_or_default();
        let number = |at: usize| usize::try_from(step[at].as_u64().unwrap_or_default());
        let ids = || -> Result<Vec<i32>> { Ok(serde_json::from_value(step[1].clone())?) };
        let file = self.folder.path().join("session");
        let memory = std::mem::take(&mut self.memory);
        let session = self.session();
        match what {
            "append" => drop(session.append(&ids()?, Logits::None)?),
            "truncate" => session.truncate(number(1)?)?,
            "remove" => session.remove(number(1)?..number(2)?)?,
            "keep_prefix" => return Ok(json!([session.keep_prefix(&ids()?)?])),
            "set_context_length" => session.set_context_length(number(1)?)?,
            "reset" => session.reset()?,
            "fork" => {
                let fork = session.fork()?;
                self.sessions.push(fork);
            }
            "save" => session.save(file)?,
            "restore" => session.restore(file)?,
            "save_memory" => self.memory = session.save_memory()?,
            "restore_memory" => session.restore_memory(&memory)?,
            "generate" => return Ok(start(session, &step[1])?.text()?.into()),
            other => return Err(format!("no such step: {other}").into()),
        }
        Ok(self.session().info()?.length.into())
    }
}

fn session(row: &Value) -> Result<Value> {
    let mut stage = Stage { sessions: vec![open(row)?.1], folder: tempfile::tempdir()?, memory: Vec::new() };
    let mut results = Vec::new();
    for step in items(&row["steps"]) {
        let memory = stage.memory.clone(); // each step takes it
        results.push(stage.step(step)?);
        if stage.memory.is_empty() {
            stage.memory = memory;
        }
    }
    let tokens = stage.session().tokens()?;
    let logits = stage.session().append(&[tokens.last().copied().unwrap_or(0)], Logits::Last)?;
    Ok(json!({"results": results, "tokens": tokens, "argmax": argmax(&logits[0])}))
}

fn session_info(row: &Value) -> Result<Value> {
    let (_, mut session) = open(row)?;
    append(&mut session, row, "keep")?;
    let info = session.info()?;
    let mut found = serde_json::to_value(&info)?;
    found["kv_dtype"] = number_of(info.kv_dtype, &DTYPES)?;
    found["precision"] = number_of(info.precision, &PRECISIONS)?;
    Ok(found)
}

fn routes(row: &Value) -> Result<Value> {
    let (_, mut session) = open(row)?;
    let trace = session.trace(Record::all())?;
    session.append(&field::<Vec<i32>>(row, "ids")?, Logits::None)?;
    let (info, layer) = (trace.info()?, field(row, "moe_layer")?);
    let (experts, weights, groups) = (trace.experts(layer)?, trace.weights(layer)?, trace.groups(layer)?);
    let (logits, usage) = (trace.logits(layer)?, trace.usage(layer)?);
    let k = info.n_experts_per_token;
    Ok(json!({
        "layers": trace.layers()?,
        "positions": trace.positions()?,
        "experts": experts.chunks(k).collect::<Vec<_>>(),
        "weights": weights.chunks(k).collect::<Vec<_>>(),
        "groups": groups.chunks(info.n_components).collect::<Vec<_>>(),
        "usage": [usage.iter().sum::<u64>(), usage.iter().copied().max().unwrap_or(0)],
        "balance_loss": trace.balance_loss(layer)?,
        "logits_argmax": logits.chunks(info.n_experts).map(argmax).collect::<Vec<_>>(),
    }))
}
