//! Runs FineRMoE language models: the safe interface of libfinermoe.
//!
//! ```
//! # fn main() -> finermoe::Result<()> {
//! # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../examples/models/tiny-wordnet-finermoe");
//! let model = finermoe::Model::builder(path).threads(2).open()?;
//! let mut session = model.session().context_length(512).create()?;
//! for event in session.generate("A ship").max_tokens(20).temperature(0.8).seed(7).start()? {
//!     print!("{}", event?.text);
//! }
//! let answer: String = session.chat(&[finermoe::Message::user("Define the noun \"compass\".")])?.text()?;
//! # assert!(answer.contains("direction"), "{answer}");
//! # Ok(())
//! # }
//! ```
//!
//! # The objects
//!
//! | | what it is | threads |
//! |---|---|---|
//! | [`Model`] | a mapped checkpoint; a clone shares it | any number at once |
//! | [`Runtime`], [`Config`], [`Tokenizer`], [`Cancel`] | its threads, shape, text; a flag | the same |
//! | [`Session`] | a sequence of tokens and its KV cache | one, any |
//! | [`Request`], [`Generation`] | a request before and while it runs: an iterator of [`Event`]s | one, any |
//! | [`Batch`] | generations that advance together | one, any |
//! | [`Trace`] | what the router did | one, any |
//!
//! A generation borrows its session ([`Session::generate`]) or owns it ([`Session::into_generate`]), so that what the
//! session holds cannot change unseen. Everything is freed when it is dropped, in any order. What a session, a
//! generation or a batch is doing ends when a [`Cancel`] is raised (it can go on afterwards) or when a [`Closer`] or
//! [`Model::close`] closes it (it answers [`ErrorCode::Closed`] from then on).
//!
//! Options are builders. A value that the library refuses is the error of the call that ends the builder (`open`,
//! `create`, `start`, `run`), with the message that the library gave for it.
//!
//! A closure that is called during a call (progress, log, executor) may panic: the call is cancelled as soon as may be,
//! and the panic goes on where the call was made.
//!
//! # Features
//!
//! - `serde`: events, messages, infos and enums can be serialised;
//! - `futures`: [`Generation::into_stream`];
//! - `vendored`: libfinermoe is built from its sources and linked statically.
//!
//! The oldest Rust is 1.85.

#![deny(unsafe_code)]
#![warn(missing_docs)]

mod batch;
mod cancel;
mod chat;
mod config;
mod enums;
mod error;
mod generation;
mod model;
mod options;
mod raw;
mod request;
mod rows;
mod runtime;
mod sampler;
mod session;
#[cfg(feature = "futures")]
mod stream;
mod tokenizer;
mod trace;
mod writers;

pub use batch::{Batch, BatchEvent};
pub use cancel::{Cancel, Closer};
pub use chat::Chat;
pub use config::{Config, PlanBuilder};
pub use enums::*;
pub use error::{Error, ErrorCode, Result};
pub use generation::Generation;
pub use model::{Model, ModelBuilder};
pub use options::GenerationOptions;
pub use raw::{
    ConfigInfo, DeviceInfo, Event, ExpertCacheInfo, GenerationInfo, GenerationOptionsInfo, Message, Operation, Plan,
    Progress, RuntimeInfo, SessionInfo, SystemInfo, Tasks, TokenizerInfo, TraceInfo, VerifiedFile,
};
pub use request::{Prompt, Request};
pub use rows::Rows;
pub use runtime::{Runtime, RuntimeBuilder, devices, system_info};
pub use sampler::Sampler;
pub use session::{Logits, Score, Session, SessionBuilder, SessionOptions};
#[cfg(feature = "futures")]
pub use stream::EventStream;
pub use tokenizer::{Decoder, Encoding, Tokenizer};
pub use trace::Trace;
pub use writers::{Quantize, Synthesize, Upcycle, Verify};

/// The library's version, `"MAJOR.MINOR.PATCH"`.
pub fn version() -> &'static str {
    raw::version()
}

/// The ABI version, equal to the number in the shared library's soname.
pub fn abi_version() -> u32 {
    raw::abi_version()
}
