//! Closures that the library calls: what they hear, how they stop a call, and where their panics go.

mod common;

use common::{model, model_path, session};
use finermoe::*;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// The text of the panic that ends a call.
fn panic_of<T>(call: impl FnOnce() -> T) -> String {
    let panic = catch_unwind(AssertUnwindSafe(call)).err().expect("the panic goes on where the call was made");
    (*panic.downcast_ref::<&str>().unwrap()).to_owned()
}

#[test]
fn a_panic_in_progress_goes_on_where_the_call_was_made() {
    let opening = || Model::builder(model_path()).verify(true).progress(|_| panic!("while opening")).open();
    assert_eq!(panic_of(opening), "while opening");

    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let writing = || Quantize::new(model_path(), &out, DType::Q8).progress(|_| panic!("while writing")).run();
    assert_eq!(panic_of(writing), "while writing");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
    assert_eq!(panic_of(|| Verify::new(model_path()).progress(|_| panic!("while reading")).run()), "while reading");

    let model = model();
    let mut session = model.session().chunk(2).progress(|_| panic!("in prefill")).create().unwrap();
    assert_eq!(panic_of(|| session.append(&[1, 2, 3, 4], Logits::None)), "in prefill");
    session.clear_progress().unwrap();
    session.reset().unwrap();
    assert_eq!(session.append(&[1, 2, 3, 4], Logits::Last).unwrap().len(), 1);
}

#[test]
fn a_panic_of_the_executor_or_the_log_goes_on_where_the_call_was_made() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = calls.clone();
    let executor = move |tasks: &Tasks<'_>| {
        tasks.run_next();
        assert!(counter.fetch_add(1, Ordering::Relaxed) != 3, "the fourth time");
    };
    let runtime = Runtime::builder().executor(2, executor).build().unwrap();
    let model = Model::builder(model_path()).runtime(&runtime).open().unwrap();
    let mut session = session(&model);
    assert_eq!(panic_of(|| session.append(&[1, 2, 3], Logits::All)), "the fourth time");
    assert!(session.reset().is_ok());
    assert_eq!(session.append(&[1, 2, 3], Logits::All).unwrap().len(), 3, "and the runtime works on");

    let runtime = Runtime::builder().log(|_, _| panic!("in the log")).build().unwrap();
    let model =
        || Model::builder(model_path()).runtime(&runtime).open()?.session().create()?.append(&[1], Logits::None);
    assert_eq!(panic_of(model), "in the log");
}

#[test]
fn the_executors_threads_compute_the_same() {
    let ids = [4065, 286, 198, 290];
    let expected = session(&model()).append(&ids, Logits::All).unwrap();
    let executors: [fn(&Tasks<'_>); 3] = [
        |_| {}, // what it leaves is done by the thread that called it
        |tasks| tasks.run_all(),
        |tasks| {
            std::thread::scope(|scope| {
                for _ in 0..tasks.len() {
                    scope.spawn(|| tasks.run_next());
                }
            });
        },
    ];
    for executor in executors {
        let runtime = Runtime::builder().executor(3, executor).build().unwrap();
        let model = Model::builder(model_path()).runtime(&runtime).open().unwrap();
        drop(runtime); // the model keeps it, and its executor
        assert_eq!(session(&model).append(&ids, Logits::All).unwrap(), expected);
    }
}

#[test]
fn progress_can_be_changed_and_a_fork_reports_where_its_session_did() {
    let model = model();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let to = |name: &'static str| {
        let heard = heard.clone();
        move |progress: Progress<'_>| {
            assert_eq!((progress.phase, progress.total), ("prefill", 2));
            heard.lock().unwrap().push(name);
            ControlFlow::Continue(())
        }
    };
    let taken = || std::mem::take(&mut *heard.lock().unwrap());
    let mut first = model.session().chunk(1).progress(to("one")).create().unwrap();
    first.append(&[1, 2], Logits::None).unwrap();
    assert!(taken().iter().all(|&name| name == "one"));
    first.set_progress(to("two")).unwrap();
    let mut fork = first.fork().unwrap();
    first.clear_progress().unwrap();
    first.append(&[1, 2], Logits::None).unwrap();
    assert!(taken().is_empty());
    drop(first);
    fork.append(&[1, 2], Logits::None).unwrap();
    let names = taken();
    assert!(!names.is_empty() && names.iter().all(|&name| name == "two"));
    fork.set_progress(|_| ControlFlow::Break(())).unwrap();
    assert_eq!(fork.append(&[1, 2, 3], Logits::None).unwrap_err().code(), ErrorCode::Cancelled);
}

#[test]
fn a_closure_may_borrow_what_a_writer_outlives_not() {
    let mut phases = Vec::new();
    let files = Verify::new(model_path())
        .progress(|progress| {
            phases.push(progress.phase.to_owned());
            ControlFlow::Continue(())
        })
        .run()
        .unwrap();
    assert!(!phases.is_empty() && files.iter().any(|file| file.name == "config.json" && file.sha256.len() == 64));
}

#[test]
fn opening_can_be_cancelled() {
    let cancel = Cancel::new().unwrap();
    let flag = cancel.clone();
    let opening = Model::builder(model_path()).verify(true).cancel(&cancel).progress(move |_| {
        flag.request();
        ControlFlow::Continue(())
    });
    assert_eq!(opening.open().unwrap_err().code(), ErrorCode::Cancelled);
    assert!(cancel.is_requested());
    assert_eq!(model().expert_similarity(0, Some(&cancel)).unwrap_err().code(), ErrorCode::Cancelled);
}

#[test]
fn a_loop_goes_on_after_a_cancel() {
    let model = model();
    let mut session = session(&model);
    let whole = session.generate("A ship").max_tokens(12).ignore_eos(true).text().unwrap();
    session.reset().unwrap();
    let cancel = Cancel::new().unwrap();
    let request = session.generate("A ship").max_tokens(12).ignore_eos(true).cancel(&cancel);
    let mut generation = request.start().unwrap();
    let (mut text, mut n_cancelled) = (String::new(), 0);
    while generation.info().unwrap().finish_reason.is_none() {
        for event in &mut generation {
            match event {
                Ok(event) => {
                    text += &event.text;
                    cancel.request();
                }
                Err(error) => {
                    assert_eq!(error.code(), ErrorCode::Cancelled);
                    n_cancelled += 1;
                    cancel.reset();
                }
            }
        }
    }
    assert_eq!((text, n_cancelled), (whole, 11));
    assert!(generation.next().is_none() && generation.next_event().unwrap().is_none());
}

#[test]
fn the_library_tells_what_it_is() {
    assert_eq!(version(), env!("CARGO_PKG_VERSION"));
    assert_eq!(abi_version(), 0);
    let info = system_info().unwrap();
    assert!(info.isas.contains(&Isa::Portable) && info.n_threads > 0 && info.memory_available > 0);
    let devices = devices(None).unwrap();
    assert_eq!((devices[0].kind, devices[0].name.as_str()), (DeviceKind::Cpu, "cpu"));
    assert!(devices[0].kv_dtypes.contains(&DType::Q8));
    assert!(finermoe::devices(Some("/no/such/module.so".as_ref())).is_err());
}
