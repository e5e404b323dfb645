//! Requests that run.

use crate::cancel::{Cancel, Closer};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::raw::{self, Event, GenerationInfo};
use crate::session::Session;
use std::borrow::BorrowMut;

/// A request on a session, which it borrows (`S` is `&mut Session`) or owns (`S` is `Session`).
///
/// As an iterator it gives an event for each token, the last one with its finish reason. An error ends the loop; where
/// it was a cancel, or something else that has passed, a new loop goes on:
///
/// ```
/// # fn main() -> finermoe::Result<()> {
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../examples/models/tiny-wordnet-finermoe");
/// # let model = finermoe::Model::open(path)?;
/// # let mut session = model.session().create()?;
/// let cancel = finermoe::Cancel::new()?;
/// let mut generation = session.generate("A ship").max_tokens(8).ignore_eos(true).cancel(&cancel).start()?;
/// let mut n_tokens = 0;
/// for event in &mut generation {
///     match event {
///         Ok(_) => n_tokens += 1,
///         Err(error) => assert_eq!(error.code(), finermoe::ErrorCode::Cancelled),
///     }
///     cancel.request();
/// }
/// assert_eq!(n_tokens, 1);
/// cancel.reset();
/// let rest: finermoe::Result<Vec<_>> = generation.collect();
/// assert_eq!(rest?.len(), 7);
/// # Ok(())
/// # }
/// ```
pub struct Generation<S> {
    raw: raw::Generation,
    rest: GenerationRest<S>,
    finished: bool,
    failed: bool,
}

/// What a generation has beside the C object.
pub(crate) struct GenerationRest<S> {
    pub session: S,
    pub cancel: Option<Cancel>,
    pub tag: u64,
    /// The model that [`Generation::set_draft`] has set: its closures are called.
    pub draft: Option<Model>,
}

impl<S: BorrowMut<Session>> Generation<S> {
    pub(crate) fn new(raw: raw::Generation, rest: GenerationRest<S>) -> Self {
        Generation { raw, rest, finished: false, failed: false }
    }

    /// A request that goes on where [`Generation::save_memory`] saved one, on a session (`&mut` or owned) that holds
    /// the same tokens as the other did then.
    pub fn restore_memory(session: S, data: &[u8]) -> Result<Self> {
        let raw = raw::Generation::restore_memory(session.borrow().raw(), data)?;
        let finished = raw.info()?.finish_reason.is_some();
        let cancel = session.borrow().cancel().cloned();
        Ok(Generation { raw, rest: GenerationRest { session, cancel, tag: 0, draft: None }, finished, failed: false })
    }

    /// Computes what is missing, chooses a token, appends it to the session, and reports it. None after the finish.
    pub fn next_event(&mut self) -> Result<Option<Event>> {
        if self.finished {
            return Ok(None);
        }
        let event = self.raw.next(self.rest.cancel.as_ref().map(Cancel::raw))?;
        self.finished = event.finish_reason.is_some();
        Ok(Some(event))
    }

    /// Runs to the end and gives the text of all events.
    pub fn text(mut self) -> Result<String> {
        let mut text = String::new();
        while let Some(event) = self.next_event()? {
            text += &event.text;
        }
        Ok(text)
    }

    /// Appends tokens that the host chose: a tool's result, a forced beginning, constrained text. They follow what was
    /// shown, are no part of any event's text, and the request goes on behind them.
    pub fn append(&mut self, ids: &[i32]) -> Result<()> {
        self.raw.append(ids)
    }

    /// Ends the request now and gives the text that was held back.
    pub fn finish(&mut self) -> Result<Event> {
        let event = self.raw.finish()?;
        self.finished = true;
        Ok(event)
    }

    /// Computes the logits of the next token without choosing it, so that they can be read and changed.
    pub fn prepare(&mut self) -> Result<()> {
        self.raw.prepare(self.rest.cancel.as_ref().map(Cancel::raw))
    }

    /// The logits that the next token will be chosen from, before any processing, of a prepared request:
    /// `[vocab_size]`.
    pub fn logits(&self) -> Result<Vec<f32>> {
        self.raw.logits()
    }

    /// The same into memory of the caller's. Returns how many numbers they are.
    pub fn logits_into(&self, logits: &mut [f32]) -> Result<usize> {
        self.raw.logits_into(logits)
    }

    /// Replaces them for this step (-∞ forbids a token). Log-probabilities stay those of the model.
    pub fn set_logits(&mut self, logits: &[f32]) -> Result<()> {
        self.raw.set_logits(logits)
    }

    /// The state of the request, without its session: with [`Session::save`] it goes on in another process and to the
    /// same text.
    pub fn save_memory(&self) -> Result<Vec<u8>> {
        self.raw.save_memory()
    }

    /// How far it has come.
    pub fn info(&self) -> Result<GenerationInfo> {
        self.raw.info()
    }

    /// Another number of the host's own, that a batch gives with the events.
    pub fn set_tag(&mut self, tag: u64) -> Result<()> {
        self.raw.set_tag(tag)?;
        self.rest.tag = tag;
        Ok(())
    }

    /// Another model that drafts up to `n` tokens for one pass, as [`GenerationOptions::draft`] says, or none: for a
    /// request that was restored and has none. The tokens stay the same.
    ///
    /// [`GenerationOptions::draft`]: crate::GenerationOptions::draft
    pub fn set_draft(&mut self, model: Option<&Model>, n: usize) -> Result<()> {
        self.raw.set_draft(model.map(Model::raw), n)?;
        self.rest.draft = model.cloned();
        Ok(())
    }

    /// Another flag that can cancel it, or none.
    pub fn set_cancel(&mut self, cancel: Option<&Cancel>) {
        self.rest.cancel = cancel.cloned();
    }

    /// The error of the last event or of the last pass of a batch, if that failed.
    pub fn last_error(&self) -> Option<Error> {
        self.raw.last_error()
    }

    /// Its session.
    pub fn session(&self) -> &Session {
        self.rest.session.borrow()
    }

    /// Its session, which may be used between two events: the next token follows what it holds then. The request does
    /// not notice such changes: tokens forgotten meanwhile still count for penalties and limits.
    pub fn session_mut(&mut self) -> &mut Session {
        self.rest.session.borrow_mut()
    }

    /// What closes it from any thread.
    pub fn closer(&self) -> Closer {
        Closer::new(self.raw.closer())
    }

    pub(crate) fn raw(&self) -> &raw::Generation {
        &self.raw
    }

    pub(crate) fn tag(&self) -> u64 {
        self.rest.tag
    }

    /// A batch has given the last event.
    pub(crate) fn note_finish(&mut self) {
        self.finished = true;
    }
}

impl<S> Generation<S> {
    /// Ends the request and gives the session back.
    pub fn into_session(self) -> S {
        self.rest.session
    }

    #[cfg(feature = "futures")]
    pub(crate) fn is_finished(&self) -> bool {
        self.finished
    }

    #[cfg(feature = "futures")]
    pub(crate) fn into_parts(self) -> (raw::Generation, GenerationRest<S>) {
        (self.raw, self.rest)
    }

    #[cfg(feature = "futures")]
    pub(crate) fn from_parts(raw: raw::Generation, rest: GenerationRest<S>, finished: bool) -> Self {
        Generation { raw, rest, finished, failed: false }
    }
}

impl<S: BorrowMut<Session>> Iterator for Generation<S> {
    type Item = Result<Event>;

    fn next(&mut self) -> Option<Self::Item> {
        if std::mem::take(&mut self.failed) {
            return None;
        }
        let event = self.next_event().transpose();
        self.failed = matches!(event, Some(Err(_)));
        event
    }
}

impl<S> std::fmt::Debug for Generation<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Generation").field("info", &self.raw.info()).finish()
    }
}
