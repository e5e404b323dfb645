//! Kinds of rows: requests, one and many at once.

use crate::Behaviour;
use crate::row::*;
use finermoe::{Batch, Closer, Generation, GenerationOptions, Model, Sampler, Session};
use serde_json::{Map, Value, json};
use std::collections::HashMap;

pub fn kind(name: &str) -> Option<Behaviour> {
    Some(match name {
        "generate" => generate,
        "info" => info,
        "options_info" => options_info,
        "hook" => hook,
        "append_in_the_middle" => append_in_the_middle,
        "finish" => finish,
        "resume" => resume,
        "continue" => go_on,
        "sampler" => sampler,
        "batch" => batch,
        "batch_error" => batch_error,
        _ => return None,
    })
}

fn generate(row: &Value) -> Result<Value> {
    let (_, mut session) = open(row)?;
    let (mut tokens, mut logprobs, mut top, mut text) = (Vec::new(), Vec::new(), Vec::new(), String::new());
    let mut finish_reason = None;
    for event in start(&mut session, row)? {
        let event = event?;
        text += &event.text;
        if let Some(token) = event.token {
            tokens.push(token);
            logprobs.push(event.logprob);
            top.push(event.top.into_iter().map(|(id, _)| id).collect::<Vec<_>>());
        }
        finish_reason = event.finish_reason;
    }
    Ok(json!({
        "tokens": tokens, "text": text, "finish_reason": finish_reason, "logprobs": logprobs, "top": top,
    }))
}

fn info(row: &Value) -> Result<Value> {
    let mut generation = start(open(row)?.1, row)?;
    generation.by_ref().collect::<finermoe::Result<Vec<_>>>()?;
    Ok(serde_json::to_value(generation.info()?)?)
}

fn options_info(row: &Value) -> Result<Value> {
    let options = set_options(open_model(row)?.generation_options(), &row["options"])?;
    Ok(serde_json::to_value(options.info()?)?)
}

fn hook(row: &Value) -> Result<Value> {
    let mut generation = start(open(row)?.1, row)?;
    let mut tokens = Vec::new();
    loop {
        generation.prepare()?;
        let mut logits = generation.logits()?;
        let likeliest = argmax(&logits).ok_or("no logits")?;
        logits[likeliest] = f32::NEG_INFINITY;
        generation.set_logits(&logits)?;
        let event = generation.next_event()?.ok_or("it had ended")?;
        tokens.push(event.token);
        if event.finish_reason.is_some() {
            return Ok(json!({"tokens": tokens}));
        }
    }
}

fn append_in_the_middle(row: &Value) -> Result<Value> {
    let mut generation = start(open(row)?.1, row)?;
    let (mut tokens, mut text) = (Vec::new(), String::new());
    let after: usize = field(row, "after")?;
    while let Some(event) = {
        if tokens.len() == after {
            generation.append(&field::<Vec<i32>>(row, "insert")?)?;
        }
        generation.next_event()?
    } {
        tokens.push(event.token);
        text += &event.text;
        if event.finish_reason.is_some() {
            break;
        }
    }
    Ok(json!({"tokens": tokens, "text": text}))
}

/// The text of the first `after` events.
fn begin(generation: &mut Generation<Session>, row: &Value) -> Result<String> {
    let events = generation.by_ref().take(field(row, "after")?);
    Ok(events.map(|event| event.map(|event| event.text)).collect::<finermoe::Result<String>>()?)
}

fn finish(row: &Value) -> Result<Value> {
    let mut generation = start(open(row)?.1, row)?;
    let text = begin(&mut generation, row)?;
    let event = generation.finish()?;
    if generation.next_event()?.is_some() {
        return Err("an event after the finish".into());
    }
    Ok(json!({"text": text + &event.text, "finish_reason": event.finish_reason}))
}

fn resume(row: &Value) -> Result<Value> {
    let mut generation = start(open(row)?.1, row)?;
    let mut events = generation.by_ref().take(field(row, "after")?).collect::<finermoe::Result<Vec<_>>>()?;
    let (session_data, request_data) = (generation.session_mut().save_memory()?, generation.save_memory()?);
    drop(generation);
    let (_, mut session) = open(row)?;
    session.restore_memory(&session_data)?;
    let mut generation = Generation::restore_memory(&mut session, &request_data)?;
    if row.get("draft").is_some() {
        let (model, n) = draft(row)?;
        generation.set_draft(Some(&model), n)?;
    }
    events.extend(generation.collect::<finermoe::Result<Vec<_>>>()?);
    let tokens: Vec<i32> = events.iter().filter_map(|event| event.token).collect();
    Ok(json!({"tokens": tokens, "text": events.into_iter().map(|event| event.text).collect::<String>()}))
}

fn go_on(row: &Value) -> Result<Value> {
    let (_, mut session) = open(row)?;
    let first = start(&mut session, row)?.text()?;
    let more = json!({"prompt": row["more"], "no_special_tokens": true, "options": row["options"]});
    Ok(json!({"texts": [first, start(&mut session, &more)?.text()?]}))
}

fn sampler(row: &Value) -> Result<Value> {
    let options = set_options(GenerationOptions::neutral(), &row["options"])?;
    let mut sampler = Sampler::new(&options)?;
    let logits: Vec<f32> = field(row, "logits")?;
    sampler.accept_prompt(&field::<Vec<i32>>(row, "prompt")?)?;
    let mut tokens = Vec::new();
    for _ in 0..field(row, "n")? {
        let id = sampler.choose(&logits)?;
        sampler.accept(id)?;
        tokens.push(id);
    }
    Ok(json!({"tokens": tokens}))
}

/// A batch whose members join and leave as the row says.
struct Run<'r> {
    rows: &'r [Value],
    batch: Batch<Session>,
    waiting: HashMap<u64, Generation<Session>>,
    closers: HashMap<u64, Closer>,
    texts: HashMap<u64, String>,
    finish: HashMap<u64, Value>,
    error: Option<finermoe::Error>,
}

impl<'r> Run<'r> {
    fn new(model: &Model, row: &'r Value) -> Result<Self> {
        let rows = items(&row["members"]);
        let (mut waiting, mut closers) = (HashMap::new(), HashMap::new());
        for member in rows {
            let (tag, session) = (field(member, "tag")?, open_session(model, member)?);
            closers.insert(tag, session.closer());
            waiting.insert(tag, start(session, member)?);
        }
        let (texts, finish) = (HashMap::new(), HashMap::new());
        Ok(Run { rows, batch: model.batch()?, waiting, closers, texts, finish, error: None })
    }

    fn join_and_leave(&mut self, n_events: usize) -> Result<()> {
        for row in self.rows {
            let tag = field(row, "tag")?;
            if maybe(row, "join_after")?.unwrap_or(0) == n_events {
                self.batch.add(self.waiting.remove(&tag).ok_or("joined twice")?)?;
            }
            if maybe(row, "leave_after")? == Some(n_events) && self.batch.remove(tag)?.is_none() {
                return Err("left before it joined".into());
            }
        }
        Ok(())
    }

    /// Runs until no member is left; `between` is called before each event with their number so far.
    fn run_to_the_end(&mut self, between: impl Fn(&Self, usize)) -> Result<()> {
        self.join_and_leave(0)?;
        let mut n_events = 0;
        loop {
            between(self, n_events);
            let Some(item) = self.batch.next_event()? else { return Ok(()) };
            *self.texts.entry(item.tag).or_default() += &item.event.text;
            if let Some(reason) = item.event.finish_reason {
                self.finish.insert(item.tag, serde_json::to_value(reason)?);
                if item.finished.is_none() {
                    return Err("a member that finished is not given back".into());
                }
            }
            if item.error.is_some() {
                self.error = item.error;
            }
            n_events += 1;
            self.join_and_leave(n_events)?;
        }
    }
}

fn batch(row: &Value) -> Result<Value> {
    let model = open_model(row)?;
    let mut run = Run::new(&model, row)?;
    run.run_to_the_end(|_, _| {})?;
    let (mut texts, mut finish) = (Map::new(), Map::new());
    for member in run.rows {
        let tag: u64 = field(member, "tag")?;
        let reason = run.finish.remove(&tag);
        if reason.is_some() {
            texts.insert(tag.to_string(), run.texts[&tag].clone().into());
        }
        finish.insert(tag.to_string(), reason.unwrap_or("none".into()));
    }
    Ok(json!({"texts": texts, "finish": finish}))
}

fn batch_error(row: &Value) -> Result<Value> {
    let model = open_model(row)?;
    let mut run = Run::new(&model, row)?;
    let (closes, close_after): (u64, usize) = (field(row, "closes")?, field(row, "close_after")?);
    run.run_to_the_end(|run, n_events| {
        if n_events == close_after {
            run.closers[&closes].close();
        }
    })?;
    let others = run.texts.iter().filter(|&(&tag, _)| tag != closes);
    let texts: Map<_, _> = others.map(|(tag, text)| (tag.to_string(), text.clone().into())).collect();
    Ok(json!({"texts": texts, "code": run.error.map(|error| error.name())}))
}
