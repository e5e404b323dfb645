//! Generations as streams.
#![cfg(feature = "futures")]

mod common;

use common::{model, session};
use finermoe::*;
use futures_executor::block_on;
use futures_util::{StreamExt, TryStreamExt};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::time::{Duration, Instant};

#[test]
fn a_stream_gives_the_same_events_as_the_loop() {
    let model = model();
    let mut session = session(&model);
    let expected: Result<Vec<_>> = session.generate("A ship").max_tokens(9).start().unwrap().collect();
    session.reset().unwrap();
    let stream = session.generate("A ship").max_tokens(9).start().unwrap().into_stream().unwrap();
    assert_eq!(block_on(stream.try_collect::<Vec<_>>()).unwrap(), expected.unwrap());
}

#[test]
fn a_stream_that_waits_does_not_hold_up_another_on_its_executor() {
    let model = model();
    let (release, released) = mpsc::channel::<()>();
    let until_released = move |_: Progress<'_>| {
        let _ = released.recv();
        ControlFlow::Continue(())
    };
    let held_up = model.session().context_length(128).progress(until_released).create().unwrap();
    let open = |session: Session| {
        let generation = session.into_generate("A ship").max_tokens(6).ignore_eos(true).start().unwrap();
        generation.into_stream().unwrap()
    };
    let mut both = futures_util::stream::select(open(held_up).map(|_| 'a'), open(session(&model)).map(|_| 'b'));
    let first: String = block_on(both.by_ref().take(6).collect());
    assert_eq!(first, "bbbbbb");
    drop(release);
    let rest: String = block_on(both.collect());
    assert_eq!(rest, "aaaaaa");
}

#[test]
fn a_dropped_stream_stops_in_the_middle_of_a_step_and_gives_the_session_back() {
    let model = model();
    let slow = |_: Progress<'_>| {
        std::thread::sleep(Duration::from_millis(2));
        ControlFlow::Continue(())
    };
    let mut session = model.session().chunk(1).progress(slow).create().unwrap();
    let ids = [1; 1000]; // two seconds at least
    let begin = Instant::now();
    let mut stream = session.generate(&ids).start().unwrap().into_stream().unwrap();
    let waiting = futures_util::future::poll_immediate(stream.next());
    assert!(block_on(waiting).is_none(), "asking does not wait");
    std::thread::sleep(Duration::from_millis(10));
    drop(stream);
    assert!(begin.elapsed() < Duration::from_millis(1500));
    session.clear_progress().unwrap();
    session.reset().unwrap();
    assert!(!session.generate("A ship").max_tokens(2).text().unwrap().is_empty());
}

#[test]
fn a_stream_goes_back_to_a_generation_and_a_session() {
    let model = model();
    let whole = session(&model).into_generate("A ship").max_tokens(8).ignore_eos(true).text().unwrap();
    let request = session(&model).into_generate("A ship").max_tokens(8).ignore_eos(true);
    let mut stream = request.start().unwrap().into_stream().unwrap();
    let first: String = block_on(stream.by_ref().take(3).map(|event| event.unwrap().text).collect());
    let generation = stream.into_generation();
    assert_eq!(generation.session().info().unwrap().context_length, 128);
    assert_eq!(first + &generation.text().unwrap(), whole);

    let stream = session(&model).into_generate("A ship").start().unwrap().into_stream().unwrap();
    assert!(stream.into_session().append(&[1], Logits::None).is_ok());
}

#[test]
fn errors_and_panics_come_out_of_the_stream() {
    let model = model();
    let cancel = Cancel::new().unwrap();
    cancel.request();
    let request = session(&model).into_generate("A ship").max_tokens(4).cancel(&cancel);
    let mut stream = request.start().unwrap().into_stream().unwrap();
    assert_eq!(block_on(stream.next()).unwrap().unwrap_err().code(), ErrorCode::Cancelled);
    assert!(block_on(stream.next()).is_none());
    cancel.reset();
    assert!(block_on(stream.next()).unwrap().is_ok());

    let session = model.session().progress(|_| panic!("a closure")).create().unwrap();
    let mut stream = session.into_generate("A ship").start().unwrap().into_stream().unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| block_on(stream.next()))).is_err());
    let closer = stream.into_session().closer();
    closer.close();
}

#[test]
fn a_forgotten_stream_does_no_harm() {
    let model = model();
    let mut session = session(&model);
    let mut stream = session.generate("A ship").start().unwrap().into_stream().unwrap();
    block_on(stream.next()).unwrap().unwrap();
    std::mem::forget(stream);
    assert!(session.append(&[1], Logits::None).is_ok());
    drop(session);
}
