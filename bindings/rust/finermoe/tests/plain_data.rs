//! What comes out is plain data: it can be sent, compared and, with the feature `serde`, written down.

mod common;

use common::{model, session};
use finermoe::*;

fn send<T: Send>() {}
fn both<T: Send + Sync>() {}

#[test]
fn what_may_go_to_other_threads_may() {
    let sent_and_shared: [fn(); 8] = [
        both::<Model>,
        both::<Runtime>,
        both::<Config>,
        both::<Tokenizer>,
        both::<Cancel>,
        both::<Closer>,
        both::<Error>,
        both::<Event>,
    ];
    let sent: [fn(); 11] = [
        send::<Session>,
        send::<Trace>,
        send::<Decoder>,
        send::<Chat>,
        send::<Sampler>,
        send::<GenerationOptions>,
        send::<SessionOptions>,
        send::<Generation<Session>>,
        send::<Generation<&mut Session>>,
        send::<Batch<Session>>,
        send::<Batch<&mut Session>>,
    ];
    sent_and_shared.iter().chain(&sent).for_each(|check| check());
}

#[test]
fn an_event_without_text_has_no_memory_of_its_own() {
    let model = model();
    let mut session = session(&model);
    let mut n_empty = 0;
    for event in session.generate("A ship").max_tokens(12).stop("no such text").start().unwrap() {
        let event = event.unwrap();
        if event.text.is_empty() {
            assert_eq!((event.text.capacity(), event.top.capacity()), (0, 0));
            n_empty += 1;
        }
    }
    assert!(n_empty > 0, "text that may become a stop string is held back");
}

#[test]
fn logits_are_read_in_one_piece_or_in_place() {
    let model = model();
    let mut session = session(&model);
    let rows = session.append(&[1, 2, 3], Logits::Rows(&[0, 2])).unwrap();
    let mut place = vec![0.0; rows.width()];
    assert_eq!(session.logits_into(1, &mut place).unwrap(), 4096);
    assert_eq!((&rows[1], session.logits(1).unwrap()), (&place[..], place.clone()));
    let error = session.logits_into(0, &mut place[..7]).unwrap_err();
    assert_eq!(error.code(), ErrorCode::BufferTooSmall);
    assert_eq!(session.append(&[4], Logits::None).unwrap(), Rows::default());
    assert!(session.append(&[], Logits::All).map_or(true, |rows| rows.is_empty()));
}

#[test]
fn debug_shows_something() {
    let model = model();
    let mut session = session(&model);
    assert!(format!("{session:?}").contains("context_length: 128"));
    assert!(format!("{:?}", session.generate("A ship")).contains("A ship"));
    assert!(format!("{:?}", model.runtime().unwrap()).contains("cpu"));
    assert!(format!("{:?}", Chat::of(&[Message::user("me")]).unwrap()).contains("me"));
}

#[cfg(feature = "serde")]
#[test]
fn events_and_infos_can_be_written_down() {
    let model = model();
    let mut session = session(&model);
    let events: Result<Vec<Event>> =
        session.generate("A ship").max_tokens(3).top_logprobs(2).start().unwrap().collect();
    let events = events.unwrap();
    let json = serde_json::to_string(&events).unwrap();
    assert_eq!(serde_json::from_str::<Vec<Event>>(&json).unwrap(), events);
    assert!(json.contains(r#""finish_reason":"max_tokens""#));

    let info = session.info().unwrap();
    let json = serde_json::to_string(&info).unwrap();
    assert_eq!(serde_json::from_str::<SessionInfo>(&json).unwrap(), info);
    let config = model.config().unwrap();
    let json = serde_json::to_string(config.info()).unwrap();
    assert!(json.contains(r#""dtype":"bf16""#));
    assert_eq!(&serde_json::from_str::<ConfigInfo>(&json).unwrap(), config.info());
    assert_eq!(serde_json::to_string(&ErrorCode::FileNotFound).unwrap(), r#""file_not_found""#);
    assert_eq!(serde_json::to_string(&Message::user("me")).unwrap(), r#"{"role":"user","content":"me"}"#);
}
