//! Kinds of rows: models, runtimes, plans.

use crate::Behaviour;
use crate::row::*;
use finermoe::*;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

type Result<T> = crate::row::Result<T>;

pub fn kind(name: &str) -> Option<Behaviour> {
    Some(match name {
        "config" => config,
        "config_json" => config_json,
        "plan" => plan,
        "system" => system,
        "runtime" => runtime,
        "open_memory" => open_memory,
        "open_fd" => open_fd,
        "expert_cache" => expert_cache,
        "expert_similarity" => expert_similarity,
        "executor" => executor,
        "log" => log,
        "load_progress" => load_progress,
        _ => return None,
    })
}

fn config(row: &Value) -> Result<Value> {
    let config = Config::open(model_path(row)?)?;
    let mut info = serde_json::to_value(config.info())?;
    info["dtype"] = number_of(config.info().dtype, &DTYPES)?;
    Ok(info)
}

fn config_json(row: &Value) -> Result<Value> {
    let json = Config::open(model_path(row)?)?.json()?;
    if json != fs::read(model_path(row)?.join("config.json"))? {
        return Err("not the bytes of config.json".into());
    }
    Ok(json!({"bytes": json.len()}))
}

fn plan(row: &Value) -> Result<Value> {
    let plan = Config::open(model_path(row)?)?
        .plan()
        .session(&session_options(row)?)
        .sessions(field(row, "sessions")?)
        .threads(field(row, "threads")?)
        .compute()?;
    Ok(serde_json::to_value(plan)?)
}

fn system(_: &Value) -> Result<Value> {
    let kernels = system_info()?.kernels;
    let known = ["portable", "avx2", "avx2-vnni", "avx512", "amx"].contains(&kernels.as_str());
    Ok(json!({"devices": devices(None)?[0].name, "kernels_known": known}))
}

fn open_on(row: &Value, runtime: &Runtime) -> Result<Model> {
    Ok(Model::builder(model_path(row)?).runtime(runtime).open()?)
}

fn operations_with_calls(runtime: &Runtime) -> Result<BTreeSet<String>> {
    let called = runtime.operations()?.into_iter().filter(|operation| operation.n_calls > 0);
    Ok(called.map(|operation| operation.name).collect())
}

fn runtime(row: &Value) -> Result<Value> {
    let runtime = Runtime::builder()
        .threads(field(row, "threads")?)
        .memory_limit(field(row, "memory_limit")?)
        .profile(field(row, "profile")?)
        .build()?;
    let model = open_on(row, &runtime)?;
    model.session().create()?.append(&field::<Vec<i32>>(row, "ids")?, Logits::None)?;
    let info = model.runtime()?.info()?;
    let operations = operations_with_calls(&runtime)?;
    runtime.reset_profile()?;
    Ok(json!({
        "n_threads": info.n_threads, "memory_limit": info.memory_limit, "device": info.device,
        "uses_blas": info.uses_blas, "blas": info.blas,
        "operations": operations, "calls_after_reset": operations_with_calls(&runtime)?.len(),
    }))
}

/// Does something with the row's model as a single file in Q8.
fn with_single_file(row: &Value, open: impl FnOnce(File) -> Result<Model>) -> Result<Value> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("q8.safetensors");
    Quantize::new(model_path(row)?, &path, DType::Q8).run()?;
    let model = open(File::open(&path)?)?;
    Ok(json!({"text": start(open_session(&model, row)?, row)?.text()?}))
}

fn open_memory(row: &Value) -> Result<Value> {
    with_single_file(row, |mut file| {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut file, &mut bytes)?;
        Ok(Model::from_memory(bytes).open()?)
    })
}

fn open_fd(row: &Value) -> Result<Value> {
    with_single_file(row, |file| Ok(Model::from_fd(&file).open()?))
}

fn expert_cache(row: &Value) -> Result<Value> {
    Ok(serde_json::to_value(open_model(row)?.expert_cache()?)?)
}

fn expert_similarity(row: &Value) -> Result<Value> {
    Ok(json!({"similarity": open_model(row)?.expert_similarity(field(row, "layer")?, None)?}))
}

fn executor(row: &Value) -> Result<Value> {
    let tasks_ran = Arc::new(AtomicUsize::new(0));
    let counter = tasks_ran.clone();
    let runtime = Runtime::builder()
        .executor(2, move |tasks| {
            counter.fetch_add(tasks.len(), Ordering::Relaxed);
            std::thread::scope(|scope| {
                scope.spawn(|| tasks.run_all());
                tasks.run_all();
            });
        })
        .build()?;
    let mut session = open_on(row, &runtime)?.session().create()?;
    let logits = session.append(&field::<Vec<i32>>(row, "ids")?, Logits::Last)?;
    Ok(json!({"argmax": argmax(&logits[0]), "tasks_ran": tasks_ran.load(Ordering::Relaxed) > 0}))
}

fn log(row: &Value) -> Result<Value> {
    let folder = tempfile::tempdir()?;
    for entry in fs::read_dir(model_path(row)?)? {
        let entry = entry?;
        fs::copy(entry.path(), folder.path().join(entry.file_name()))?;
    }
    fs::write(folder.path().join("tokenizer.json"), "{")?;
    let levels = Arc::new(Mutex::new(BTreeSet::new()));
    let sink = levels.clone();
    let runtime = Runtime::builder()
        .log(move |level, _| {
            sink.lock().expect("nothing panics with it").insert(level as i32);
        })
        .build()?;
    let mut session = Model::builder(folder.path()).runtime(&runtime).open()?.session().create()?;
    start(&mut session, row)?.next_event()?;
    Ok(json!({"levels": *levels.lock().expect("nothing panics with it")}))
}

fn load_progress(row: &Value) -> Result<Value> {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let to = seen.clone();
    Model::builder(model_path(row)?)
        .verify(true)
        .progress(move |progress| to.lock().expect("nothing panics with it").see(progress))
        .open()?;
    Ok(seen.lock().expect("nothing panics with it").result())
}

/// What a progress closure was told.
#[derive(Default)]
pub struct Seen {
    phases: Vec<String>,
    done: u64,
    total: u64,
}

impl Seen {
    pub fn see(&mut self, progress: Progress<'_>) -> ControlFlow<()> {
        if self.phases.last().is_none_or(|last| last != progress.phase) {
            self.phases.push(progress.phase.to_owned());
        }
        (self.done, self.total) = (progress.done, progress.total);
        ControlFlow::Continue(())
    }

    pub fn result(&self) -> Value {
        json!({"phases": self.phases, "complete": self.done == self.total})
    }
}
