//! Whatever is dropped or closed first, and on whichever thread, what is left works or says why not.

mod common;

use common::{model, model_path, session};
use finermoe::*;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

#[test]
fn a_session_outlives_its_model() {
    let model = model();
    let mut session = session(&model);
    let (tokenizer, config, runtime) = (model.tokenizer().unwrap(), model.config().unwrap(), model.runtime().unwrap());
    drop(model);
    assert!(!session.generate("A ship").max_tokens(4).text().unwrap().is_empty());
    drop(session);
    assert_eq!(tokenizer.encode("A ship").unwrap().len(), 2);
    assert_eq!(config.info().n_experts, 32);
    assert_eq!(runtime.info().unwrap().device, "cpu");
}

#[test]
fn everything_can_be_dropped_in_any_order() {
    // Each order of five objects, made anew.
    for order in 0..120 {
        let model = model();
        let mut recorded = session(&model);
        let trace = recorded.trace(Record::USAGE).unwrap();
        let generation = session(&model).into_generate("A ship").start().unwrap();
        let batch = model.batch::<Session>().unwrap();
        let mut objects: Vec<Box<dyn std::any::Any>> =
            vec![Box::new(model), Box::new(recorded), Box::new(trace), Box::new(generation), Box::new(batch)];
        let mut digits = order;
        for n in (1..=5).rev() {
            drop(objects.remove(digits % n));
            digits /= n;
        }
    }
}

/// Bytes that tell when they are gone.
struct Watched {
    bytes: Vec<u8>,
    gone: Arc<AtomicBool>,
}

impl AsRef<[u8]> for Watched {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::SeqCst);
    }
}

fn single_file(folder: &tempfile::TempDir) -> std::path::PathBuf {
    let path = folder.path().join("q8.safetensors");
    Quantize::new(model_path(), &path, DType::Q8).run().unwrap();
    path
}

#[test]
fn the_bytes_of_a_model_live_as_long_as_what_was_made_from_it() {
    let folder = tempfile::tempdir().unwrap();
    let gone = Arc::new(AtomicBool::new(false));
    let bytes = std::fs::read(single_file(&folder)).unwrap();
    let model = Model::from_memory(Watched { bytes, gone: gone.clone() }).threads(1).open().unwrap();
    let generation = session(&model).into_generate(&[1, 2, 3]).max_tokens(4).start().unwrap();
    let closer = generation.closer();
    drop(model);
    assert!(!gone.load(Ordering::SeqCst));
    let mut session = generation.into_session();
    assert_eq!(session.append(&[4, 5], Logits::Last).unwrap().len(), 1);
    assert!(!gone.load(Ordering::SeqCst));
    drop(session);
    assert!(gone.load(Ordering::SeqCst), "what closes an object does not keep it alive");
    closer.close();
}

#[test]
fn shared_and_static_bytes_will_do() {
    let folder = tempfile::tempdir().unwrap();
    let bytes: Arc<[u8]> = std::fs::read(single_file(&folder)).unwrap().into();
    let model = Model::from_memory(bytes.clone()).threads(1).open().unwrap();
    assert_eq!(model.session().create().unwrap().append(&[1], Logits::All).unwrap().width(), 4096);
    assert_eq!(Model::from_memory(b"no model").open().unwrap_err().code(), ErrorCode::HeaderTooLarge);
    assert!(Model::from_memory([]).open().is_err());
    drop(model);
    assert_eq!(Arc::strong_count(&bytes), 1);
}

#[test]
fn a_descriptor_stays_the_callers() {
    let folder = tempfile::tempdir().unwrap();
    let file = File::open(single_file(&folder)).unwrap();
    let model = Model::from_fd(&file).threads(1).open().unwrap();
    let size = file.metadata().unwrap().len();
    drop(file);
    assert!(size > 0 && model.session().create().is_ok());
    assert!(Model::from_fd(&File::open(model_path()).unwrap()).open().is_ok(), "a folder has a descriptor too");
}

#[test]
fn a_model_is_closed_while_another_thread_generates() {
    let model = model();
    let mut session = session(&model);
    let (begun, has_begun) = std::sync::mpsc::channel();
    let generating = thread::spawn(move || {
        loop {
            session.reset()?;
            for event in session.generate("A ship").max_tokens(0).ignore_eos(true).start()? {
                event?;
                begun.send(()).ok();
            }
        }
    });
    has_begun.recv().unwrap();
    model.close();
    let ended: Result<()> = generating.join().unwrap();
    assert_eq!(ended.unwrap_err().code(), ErrorCode::Closed);
    assert_eq!(model.session().create().unwrap_err().code(), ErrorCode::Closed);
    model.close();
}

#[test]
fn a_batch_member_is_closed_while_the_batch_runs() {
    let model = model();
    let mut batch = model.batch().unwrap();
    let sessions = [session(&model), session(&model)];
    let closer = sessions[1].closer();
    for (tag, session) in (0..).zip(sessions) {
        batch.add(session.into_generate("A ship").ignore_eos(true).max_tokens(9).tag(tag).start().unwrap()).unwrap();
    }
    closer.close();
    let last: Vec<_> = batch.map(Result::unwrap).filter(|item| item.finished.is_some()).collect();
    let error = last.iter().find(|item| item.tag == 1).unwrap().error.as_ref();
    assert_eq!(error.unwrap().code(), ErrorCode::Closed);
    let whole = last.iter().find(|item| item.tag == 0).unwrap();
    assert_eq!((whole.event.finish_reason, &whole.error), (Some(FinishReason::MaxTokens), &None));
}

#[test]
fn a_session_moves_between_threads() {
    let model = model();
    let mut session = session(&model);
    let ids = model.tokenizer().unwrap().encode("A ship at sea").unwrap();
    for id in ids.clone() {
        session = thread::spawn(move || session.append(&[id], Logits::None).map(|_| session)).join().unwrap().unwrap();
    }
    assert_eq!(session.tokens().unwrap(), ids);
}

#[test]
fn a_forgotten_generation_leaves_its_session_usable() {
    let model = model();
    let mut session = session(&model);
    let mut generation = session.generate("A ship").start().unwrap();
    generation.next_event().unwrap();
    std::mem::forget(generation);
    assert!(!session.generate("A poem").max_tokens(3).text().unwrap().is_empty());
}

#[test]
fn a_batch_lends_sessions_or_owns_them() {
    let model = model();
    let mut sessions = [session(&model), session(&model)];
    {
        let mut batch = model.batch().unwrap();
        for (session, prompt) in sessions.iter_mut().zip(["A ship", "A poem"]) {
            batch.add(session.generate(prompt).max_tokens(3).start().unwrap()).unwrap();
        }
        assert_eq!(batch.by_ref().map(|item| item.unwrap().finished.is_some() as usize).sum::<usize>(), 2);
        assert!(batch.is_empty());
    }
    let [first, second] = sessions;
    assert!(first.info().unwrap().length >= 3);

    let mut batch = model.batch().unwrap();
    batch.add(first.into_generate("A ship").tag(5).max_tokens(2).ignore_eos(true).start().unwrap()).unwrap();
    batch.add(second.into_generate("A ship").tag(6).start().unwrap()).unwrap();
    assert_eq!((batch.len(), batch.step().unwrap()), (2, 2));
    for member in batch.members_mut() {
        assert!(member.info().unwrap().prepared);
        assert_eq!(member.logits().unwrap().len(), 4096);
    }
    let alone = batch.remove(6).unwrap().unwrap();
    assert!(batch.remove(6).unwrap().is_none());
    let last = batch.by_ref().last().unwrap().unwrap();
    assert_eq!((last.tag, last.event.finish_reason), (5, Some(FinishReason::MaxTokens)));
    assert!(last.finished.unwrap().into_session().info().unwrap().length >= 3);
    drop(batch);
    assert!(alone.into_session().append(&[1], Logits::None).is_ok());
}

#[test]
fn errors_say_what_was_expected() {
    let error = Model::open("/no/such").unwrap_err();
    assert_eq!((error.code(), error.name()), (ErrorCode::FileNotFound, "FINERMOE_ERROR_FILE_NOT_FOUND"));
    assert!(error.to_string().contains("/no/such") && !error.expected().is_empty() && !error.found().is_empty());
    assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::NotFound);
    let error = Model::open("with\0nul").unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidArgument);
    let error = model().session().context_length(1_000_000_000).create().unwrap_err();
    assert_eq!((error.code(), error.found()), (ErrorCode::ContextLength, "1000000000"));
    // A builder keeps its first error until it ends.
    let session = session(&model());
    let error = session.into_generate("A ship").temperature(-1.0).top_p(7.0).text().unwrap_err();
    assert_eq!((error.code(), error.found()), (ErrorCode::InvalidArgument, "-1"));
}

#[test]
fn every_code_of_the_header_has_a_name_here() {
    let header = include_str!("../../../../include/finermoe.h");
    let names = header.lines().filter_map(|line| line.trim().split_once(" = ")).map(|(name, _)| name);
    let mut n_codes = 0;
    for name in names.filter(|name| name.starts_with("FINERMOE_ERROR_")) {
        // FINERMOE_ERROR_FILE_NOT_FOUND is FileNotFound.
        let words = name.trim_start_matches("FINERMOE_ERROR_").split('_');
        let variant: String = words.map(|word| word[..1].to_owned() + &word[1..].to_lowercase()).collect();
        let source = include_str!("../src/error.rs");
        assert!(source.contains(&format!("{variant} = {name},")), "{name} has no {variant}");
        n_codes += 1;
    }
    assert!(n_codes > 40);
    assert_eq!(ErrorCode::Busy.name(), "FINERMOE_ERROR_BUSY");
    assert_eq!(ErrorCode::Unknown(-999).name(), "FINERMOE_ERROR_UNKNOWN");
}
