//! Sessions.

use crate::cancel::{Cancel, Closer};
use crate::chat::Chat;
use crate::enums::{DType, Hidden, Precision, Record};
use crate::error::Result;
use crate::model::Model;
use crate::options::Deferred;
use crate::raw::{self, Message, Progress, SessionInfo};
use crate::request::{Prompt, Request};
use crate::rows::Rows;
use crate::trace::Trace;
use finermoe_sys as sys;
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Options of a session, as a [plan](crate::Config::plan) reads them too.
#[must_use]
pub struct SessionOptions {
    options: Deferred<raw::SessionOptions>,
}

impl SessionOptions {
    /// The defaults.
    #[allow(clippy::new_without_default)] // memory may run out, which is then the error of the call that uses them
    pub fn new() -> Self {
        SessionOptions { options: Deferred::new(raw::SessionOptions::create()) }
    }

    pub(crate) fn raw(&self) -> Result<&raw::SessionOptions> {
        self.options.get()
    }

    fn with(mut self, set: impl FnOnce(&mut raw::SessionOptions) -> Result<()>) -> Self {
        self.options.set(set);
        self
    }
}

/// The setters, once for the options and once for the builder that has options.
macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident($argument:ident: $type:ty) = $set:expr;)*) => {
        impl SessionOptions {
            $($(#[$doc])* pub fn $name(self, $argument: $type) -> Self {
                self.with(|options| $set(options, $argument))
            })*
        }

        impl SessionBuilder {
            $($(#[$doc])* pub fn $name(mut self, $argument: $type) -> Self {
                self.options = self.options.$name($argument);
                self
            })*
        }
    };
}

use raw::SessionOptions as Raw;

setters! {
    /// Most tokens that the session can hold; 0 (default): the smaller of the model's max_positions and 4096.
    context_length(n_tokens: usize) = Raw::set_context_length;
    /// How the KV cache stores keys and values: F32 (default), F16, Bf16 or Q8.
    kv_dtype(dtype: DType) = |options: &mut Raw, dtype: DType| options.set_kv_dtype(dtype.to_c());
    /// How the products with weights are computed; exactly by default.
    precision(precision: Precision) = |options: &mut Raw, chosen: Precision| options.set_precision(chosen.to_c());
    /// Most tokens computed in one pass when a long prompt is appended; 0 (default): 512.
    chunk(n_tokens: usize) = Raw::set_chunk;
    /// What is kept of the rows that an append names; their logits by default.
    hidden(hidden: Hidden) = |options: &mut Raw, hidden: Hidden| options.set_hidden(hidden.to_c());
}

/// Options for a session on a model.
#[must_use = "there is no session until `create`"]
pub struct SessionBuilder {
    model: Model,
    options: SessionOptions,
    progress: Reports,
    cancel: Option<Cancel>,
}

impl SessionBuilder {
    pub(crate) fn new(model: &Model) -> Self {
        let (options, progress) = (SessionOptions::new(), Reports::default());
        SessionBuilder { model: model.clone(), options, progress, cancel: None }
    }

    /// Other options than those that were set here.
    pub fn options(mut self, options: SessionOptions) -> Self {
        self.options = options;
        self
    }

    /// Hears how far long prompts have come (phase `"prefill"`, in tokens), on the thread that computes; a break
    /// cancels.
    pub fn progress(self, progress: impl FnMut(Progress<'_>) -> ControlFlow<()> + Send + 'static) -> Self {
        self.progress.set(Some(Arc::new(raw::progress_slot(progress))));
        self
    }

    /// Can cancel what the session and the requests on it do.
    pub fn cancel(mut self, cancel: &Cancel) -> Self {
        self.cancel = Some(cancel.clone());
        self
    }

    /// Makes the session.
    pub fn create(mut self) -> Result<Session> {
        let slot = self.progress.slot();
        if self.progress.get().is_some() {
            self.options.options.set(|options| options.set_progress(slot.clone()));
        }
        let raw = raw::Session::create(self.model.raw(), self.options.raw()?, slot.clone())?;
        Ok(Session { raw, model: self.model, progress: self.progress, slot, cancel: self.cancel })
    }
}

/// Where a session reports to. C gets a slot that lives as long as the session does and looks here each time, so that
/// the closure can be another one later.
#[derive(Clone, Default)]
struct Reports(Arc<Mutex<Option<Arc<raw::ProgressSlot<'static>>>>>);

impl Reports {
    fn get(&self) -> Option<Arc<raw::ProgressSlot<'static>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, to: Option<Arc<raw::ProgressSlot<'static>>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = to;
    }

    fn slot(&self) -> Arc<raw::ProgressSlot<'static>> {
        let reports = self.clone();
        Arc::new(raw::progress_slot(move |progress| match reports.get() {
            Some(to) => raw::report(&to, progress),
            None => ControlFlow::Continue(()),
        }))
    }
}

/// Which rows of logits an append keeps and gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logits<'a> {
    /// None.
    None,
    /// Those behind the last token.
    Last,
    /// Those behind every token.
    All,
    /// Those behind the tokens with these indices, strictly ascending.
    Rows(&'a [usize]),
}

/// The log-probabilities of tokens that were appended.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Score {
    /// Natural logarithm of the probability of each token behind all before it; none for the first of a session.
    pub logprobs: Vec<Option<f32>>,
    /// The token that was likeliest in its place, the lowest of equals; none for the first of a session.
    pub likeliest: Vec<Option<i32>>,
}

/// A sequence of tokens and its KV cache. It keeps its model alive.
///
/// It holds every token that was appended to it, given to it as a prompt, or shown by a generation on it. Tokens at its
/// end may not be computed yet: the next call that computes anything computes them first.
pub struct Session {
    raw: raw::Session,
    model: Model,
    progress: Reports,
    slot: Arc<raw::ProgressSlot<'static>>,
    cancel: Option<Cancel>,
}

impl Session {
    pub(crate) fn raw(&self) -> &raw::Session {
        &self.raw
    }

    /// The model that it computes.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Another flag that can cancel what the session and later requests on it do, or none.
    pub fn set_cancel(&mut self, cancel: Option<&Cancel>) {
        self.cancel = cancel.cloned();
    }

    pub(crate) fn cancel(&self) -> Option<&Cancel> {
        self.cancel.as_ref()
    }

    fn raw_cancel(&self) -> Option<&raw::Cancel> {
        self.cancel.as_ref().map(Cancel::raw)
    }

    /// A request whose prompt (a text, ids, or a [`Chat`]) is appended to what the session holds. Of a chat, what the
    /// session already holds of the rendered prompt is kept, and what it holds beyond that is forgotten.
    pub fn generate<'a>(&'a mut self, prompt: impl Into<Prompt<'a>>) -> Request<'a, &'a mut Session> {
        Request::new(self, prompt.into())
    }

    /// The same with a generation that owns the session, and gives it back with
    /// [`Generation::into_session`](crate::Generation::into_session).
    pub fn into_generate<'a>(self, prompt: impl Into<Prompt<'a>>) -> Request<'a, Session> {
        Request::new(self, prompt.into())
    }

    /// A request for an answer to a conversation. A conversation that begins as the one before it did is not computed
    /// again as far as they are the same.
    pub fn chat(&mut self, messages: &[Message]) -> Result<Request<'_, &mut Session>> {
        let chat = Chat::of(messages)?;
        Ok(self.generate(chat))
    }

    /// The same with a generation that owns the session.
    pub fn into_chat(self, messages: &[Message]) -> Result<Request<'static, Session>> {
        let chat = Chat::of(messages)?;
        Ok(self.into_generate(chat))
    }

    /// Appends tokens, computes them, and gives the rows of logits that are kept: `[rows, vocab_size]`.
    ///
    /// After a cancel the session holds the tokens of the chunks that were finished; after another error it holds what
    /// it held before.
    pub fn append(&mut self, ids: &[i32], logits: Logits<'_>) -> Result<Rows> {
        let cancel = self.raw_cancel();
        match logits {
            Logits::None => self.raw.append(ids, sys::FINERMOE_LOGITS_NONE, cancel)?,
            Logits::Last => self.raw.append(ids, sys::FINERMOE_LOGITS_LAST, cancel)?,
            Logits::All => self.raw.append(ids, sys::FINERMOE_LOGITS_ALL, cancel)?,
            Logits::Rows(rows) => self.raw.append_rows(ids, rows, cancel)?,
        }
        match self.raw.info()?.n_logits {
            0 => Ok(Rows::default()),
            n_logits => Ok(Rows::new(self.raw.all_logits(n_logits)?)),
        }
    }

    /// One row of logits that the last append kept: `[vocab_size]`.
    pub fn logits(&self, row: usize) -> Result<Vec<f32>> {
        self.raw.logits(row)
    }

    /// The same into memory of the caller's. Returns how many numbers they are.
    pub fn logits_into(&self, row: usize, logits: &mut [f32]) -> Result<usize> {
        self.raw.logits_into(row, logits)
    }

    /// One hidden state after the last norm that the last append kept, where [`SessionBuilder::hidden`] asks for them:
    /// `[hidden_size]`.
    pub fn hidden(&self, row: usize) -> Result<Vec<f32>> {
        self.raw.hidden(row)
    }

    /// The same into memory of the caller's. Returns how many numbers they are.
    pub fn hidden_into(&self, row: usize, hidden: &mut [f32]) -> Result<usize> {
        self.raw.hidden_into(row, hidden)
    }

    /// All hidden states that the last append kept: `[rows, hidden_size]`.
    pub fn hidden_rows(&self) -> Result<Rows> {
        match self.raw.info()?.n_hidden {
            0 => Ok(Rows::default()),
            n_hidden => Ok(Rows::new(self.raw.all_hidden(n_hidden)?)),
        }
    }

    /// Appends tokens and gives the log-probability of each, without keeping logits. After any error the session holds
    /// what it held before.
    pub fn score(&mut self, ids: &[i32]) -> Result<Score> {
        let (logprobs, likeliest) = self.raw.score(ids, self.raw_cancel())?;
        Ok(Score {
            logprobs: logprobs.into_iter().map(|logprob| (!logprob.is_nan()).then_some(logprob)).collect(),
            likeliest: likeliest.into_iter().map(|id| (id >= 0).then_some(id)).collect(),
        })
    }

    /// Its length, its options, and what it keeps.
    pub fn info(&self) -> Result<SessionInfo> {
        self.raw.info()
    }

    /// The tokens held.
    pub fn tokens(&self) -> Result<Vec<i32>> {
        self.raw.tokens()
    }

    /// Forgets all tokens from `length` on.
    pub fn truncate(&mut self, length: usize) -> Result<()> {
        self.raw.truncate(length)
    }

    /// Forgets all tokens.
    pub fn reset(&mut self) -> Result<()> {
        self.raw.reset()
    }

    /// Keeps as many tokens as the session and a sequence have in common from the start, forgets all others, and says
    /// how many it still holds: go on with appending `ids[n..]`.
    pub fn keep_prefix(&mut self, ids: &[i32]) -> Result<usize> {
        self.raw.keep_prefix(ids)
    }

    /// Removes the tokens of a range and shifts later tokens down. Those were computed while the removed ones were
    /// visible, so this only approximates recomputing them.
    pub fn remove(&mut self, range: Range<usize>) -> Result<()> {
        self.raw.remove(range.start, range.end)
    }

    /// Another context length, with the tokens kept; 0: the default. Takes a second cache for the time of the call; an
    /// error changes nothing.
    pub fn set_context_length(&mut self, n_tokens: usize) -> Result<()> {
        self.raw.set_context_length(n_tokens)
    }

    /// Another closure that hears how far long prompts have come, as [`SessionBuilder::progress`].
    pub fn set_progress(
        &mut self,
        progress: impl FnMut(Progress<'_>) -> ControlFlow<()> + Send + 'static,
    ) -> Result<()> {
        self.progress.set(Some(Arc::new(raw::progress_slot(progress))));
        self.raw.set_progress(Some(&self.slot))
    }

    /// No closure any more.
    pub fn clear_progress(&mut self) -> Result<()> {
        self.raw.set_progress(None)?;
        self.progress.set(None);
        Ok(())
    }

    /// A second session that begins as a copy of this one: tokens, cache and options, not the kept rows.
    pub fn fork(&mut self) -> Result<Session> {
        let progress = Reports::default();
        progress.set(self.progress.get());
        let slot = progress.slot();
        let raw = self.raw.fork(slot.clone())?;
        if progress.get().is_some() {
            raw.set_progress(Some(&slot))?;
        }
        Ok(Session { raw, model: self.model.clone(), progress, slot, cancel: self.cancel.clone() })
    }

    /// Writes tokens and cache to a file, which appears when it is whole.
    pub fn save(&mut self, path: impl AsRef<Path>) -> Result<()> {
        self.raw.save(path.as_ref())
    }

    /// Replaces the session's content by a saved one of the same model and cache type. A refused file changes nothing.
    pub fn restore(&mut self, path: impl AsRef<Path>) -> Result<()> {
        self.raw.restore(path.as_ref())
    }

    /// The same bytes as [`Session::save`] writes.
    pub fn save_memory(&mut self) -> Result<Vec<u8>> {
        self.raw.save_memory()
    }

    /// The same as [`Session::restore`], from memory.
    pub fn restore_memory(&mut self, data: &[u8]) -> Result<()> {
        self.raw.restore_memory(data)
    }

    /// A new trace that records what the router does with tokens that are computed from now on.
    pub fn trace(&mut self, what: Record) -> Result<Trace> {
        let trace = self.model.trace(what)?;
        self.set_trace(Some(&trace))?;
        Ok(trace)
    }

    /// Records with this trace from now on, or with none.
    pub fn set_trace(&mut self, trace: Option<&Trace>) -> Result<()> {
        self.raw.set_trace(trace.map(Trace::raw))
    }

    /// What closes it from any thread.
    pub fn closer(&self) -> Closer {
        Closer::new(self.raw.closer())
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("info", &self.info()).finish()
    }
}
