//! Kinds of rows: cancelling, closing, several threads.

use crate::Behaviour;
use crate::row::*;
use finermoe::{Cancel, Logits, Model, Session};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Mutex;
use std::thread;

pub fn kind(name: &str) -> Option<Behaviour> {
    Some(match name {
        "cancel" => cancel,
        "cancelled_before" => cancelled_before,
        "close_session" => close_session,
        "close_model" => close_model,
        "closed" => closed,
        "close_twice" => close_twice,
        "two_models" => two_models,
        "many_sessions" => many_sessions,
        "busy" => busy,
        _ => return None,
    })
}

fn cancel(row: &Value) -> Result<Value> {
    let cancel = Cancel::new()?;
    let in_prefill = row["where"] == "prefill";
    let mut options = open_model(row)?.session().options(session_options(row)?).cancel(&cancel);
    if in_prefill {
        let flag = cancel.clone();
        options = options.chunk(1).progress(move |progress| {
            if progress.done == 3 {
                flag.request();
            }
            ControlFlow::Continue(())
        });
    }
    let mut session = options.create()?;
    let mut generation = start(&mut session, row)?;
    let (mut text, mut code, mut n_events) = (String::new(), "", 0);
    while code.is_empty() {
        if !in_prefill && n_events == 3 {
            let flag = cancel.clone();
            thread::spawn(move || flag.request()).join().expect("it does not panic");
        }
        match generation.next_event() {
            Ok(event) => text += &event.ok_or("it had ended")?.text,
            Err(error) => code = error.name(),
        }
        n_events += 1;
    }
    generation.set_cancel(None); // the closure raises it again
    Ok(json!({"code": code, "text": text + &generation.text()?}))
}

fn cancelled_before(row: &Value) -> Result<Value> {
    let cancel = Cancel::new()?;
    cancel.request();
    let (_, mut session) = open(row)?;
    session.set_cancel(Some(&cancel));
    let mut generation = start(&mut session, row)?;
    let code = code_of(generation.next_event());
    cancel.reset();
    Ok(json!({"code": code, "text": generation.text()?}))
}

/// What a request that would go on and on ends with when `close` is called on another thread after three events.
fn closed_while_running(session: &mut Session, close: impl FnOnce() + Send) -> Result<&'static str> {
    let endless = json!({"prompt": "A ship", "options": {"max_tokens": 0, "ignore_eos": true}});
    let mut generation = start(session, &endless)?;
    thread::scope(|scope| {
        let mut close = Some(close);
        for n_events in 0.. {
            if n_events == 3 {
                scope.spawn(close.take().expect("there is one third event"));
            }
            match generation.next_event() {
                Ok(Some(event)) if event.finish_reason.is_none() => {}
                other => return Ok(code_of(other)),
            }
        }
        unreachable!()
    })
}

fn text_on(model: &Model, request: &Value) -> Result<String> {
    Ok(start(model.session().create()?, request)?.text()?)
}

fn close_session(row: &Value) -> Result<Value> {
    let (model, mut session) = open(row)?;
    let closer = session.closer();
    let code = closed_while_running(&mut session, move || closer.close())?;
    Ok(json!({"code": code, "other": text_on(&model, &row["request"])?}))
}

fn close_model(row: &Value) -> Result<Value> {
    let (model, mut session) = open(row)?;
    let other = open_model(row)?;
    let code = closed_while_running(&mut session, || model.close())?;
    Ok(json!({"code": code, "other": text_on(&other, &row["request"])?}))
}

fn closed(row: &Value) -> Result<Value> {
    let (model, mut session) = open(row)?;
    let request = json!({"prompt": "A ship"});
    let code = match row["object"].as_str() {
        Some("model") => {
            model.close();
            code_of(session.append(&[1], Logits::None))
        }
        Some("session") => {
            session.closer().close();
            code_of(session.append(&[1], Logits::None))
        }
        Some("generation") => {
            let mut generation = start(session, &request)?;
            generation.closer().close();
            code_of(generation.next_event())
        }
        Some("batch") => {
            let mut batch = model.batch()?;
            batch.add(start(session, &request)?)?;
            batch.closer().close();
            code_of(batch.step())
        }
        _ => return Err("no such object".into()),
    };
    Ok(json!({"code": code}))
}

fn close_twice(row: &Value) -> Result<Value> {
    let request = json!({"prompt": "A ship"});
    for reversed in [false, true] {
        let (model, session) = open(row)?;
        let of_session = session.closer();
        let generation = start(session, &request)?;
        let of_generation = generation.closer();
        let mut batch = model.batch()?;
        let of_batch = batch.closer();
        batch.add(generation)?;
        for _ in 0..2 {
            if reversed {
                of_batch.close();
                of_generation.close();
            }
            of_session.close();
            model.close();
            if !reversed {
                of_generation.close();
                of_batch.close();
            }
        }
        drop(batch);
        of_batch.close(); // of what is gone
    }
    Ok(json!({"closed": true}))
}

fn two_models(row: &Value) -> Result<Value> {
    let open = |name: &String| Ok(Model::builder(example_model(name)).threads(2).open()?);
    let models = field::<Vec<String>>(row, "models")?.iter().map(open).collect::<Result<Vec<_>>>()?;
    let mut generations =
        models.iter().map(|model| start(model.session().create()?, row)).collect::<Result<Vec<_>>>()?;
    let mut texts = vec![String::new(); models.len()];
    let mut n_running = models.len();
    while n_running > 0 {
        n_running = 0;
        for (generation, text) in generations.iter_mut().zip(&mut texts) {
            if let Some(event) = generation.next_event()? {
                *text += &event.text;
                n_running += 1;
            }
        }
    }
    Ok(json!({"texts": texts}))
}

fn many_sessions(row: &Value) -> Result<Value> {
    const N_THREADS: usize = 4;
    let model = open_model(row)?;
    let mut parts: Vec<Vec<(usize, Session)>> = (0..N_THREADS).map(|_| Vec::new()).collect();
    for i in 0..field(row, "n")? {
        parts[i % N_THREADS].push((i, open_session(&model, row)?));
    }
    let texts = Mutex::new(BTreeSet::new());
    let run = |part: Vec<(usize, Session)>| {
        for (i, session) in part {
            let mut request = row.clone();
            request["options"]["seed"] = i.into();
            let text = start(session, &request).and_then(|generation| Ok(generation.text()?));
            texts.lock().expect("nothing panics with it").insert(text.unwrap_or_else(|error| error.to_string()));
        }
    };
    thread::scope(|scope| {
        for part in parts {
            scope.spawn(|| run(part));
        }
    });
    let texts = texts.into_inner()?;
    Ok(json!({"texts": texts, "n_distinct": texts.len()}))
}

/// Two threads cannot have one session: this compiles only while `Session` is not `Sync`, for else both of the
/// implementations would fit. Behind a lock, one thread waits for the other.
fn busy(row: &Value) -> Result<Value> {
    trait NotSync<Which> {
        fn check() {}
    }
    impl<T> NotSync<()> for T {}
    struct Second;
    impl<T: Sync> NotSync<Second> for T {}
    <Session as NotSync<_>>::check();

    let session = Mutex::new(open(row)?.1);
    let append = || session.lock().ok().map(|mut session| code_of(session.append(&[1, 2, 3], Logits::None)));
    let codes = thread::scope(|scope| [scope.spawn(append), scope.spawn(append)].map(|thread| thread.join()));
    let both_waited = codes.into_iter().all(|code| matches!(code, Ok(Some("FINERMOE_OK"))));
    let length = session.into_inner()?.info()?.length;
    Ok(json!({"busy": both_waited && length == 6}))
}
