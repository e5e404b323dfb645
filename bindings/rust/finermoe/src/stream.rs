//! A generation for asynchronous programs.

use crate::error::Result;
use crate::generation::{Generation, GenerationRest};
use crate::raw::{self, Event};
use crate::session::Session;
use crate::{Cancel, Closer, Error, ErrorCode};
use futures_core::Stream;
use std::borrow::BorrowMut;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;

/// A generation as a stream of its events. A thread of its own computes them, one for each that is asked for, so that
/// the executor is never kept waiting. Dropping the stream stops the generation at once, in the middle of a step too,
/// and leaves the session usable.
///
/// Like the iterator, it ends after the last event, and after an error.
///
/// ```
/// # fn main() -> finermoe::Result<()> {
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../examples/models/tiny-wordnet-finermoe");
/// # let model = finermoe::Model::open(path)?;
/// use futures_util::TryStreamExt;
/// # futures_executor::block_on(async {
/// let mut session = model.session().create()?;
/// let mut events = session.generate("A ship").max_tokens(20).start()?.into_stream()?;
/// while let Some(event) = events.try_next().await? {
///     print!("{}", event.text);
/// }
/// # Ok(())
/// # })
/// # }
/// ```
pub struct EventStream<S> {
    worker: Option<Worker<S>>,
    /// An event was asked for and has not been taken.
    asked: bool,
    finished: bool,
    failed: bool,
}

/// The thread, what it shares with the stream, and what it leaves of the generation.
struct Worker<S> {
    thread: JoinHandle<raw::Generation>,
    shared: Arc<Mutex<Slot>>,
    demand: Sender<()>,
    closer: Closer,
    rest: GenerationRest<S>,
}

#[derive(Default)]
struct Slot {
    event: Option<std::thread::Result<Result<Event>>>,
    waker: Option<Waker>,
}

fn lock(shared: &Mutex<Slot>) -> MutexGuard<'_, Slot> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Computes an event each time that one is asked for.
fn work(
    mut raw: raw::Generation,
    cancel: Option<Cancel>,
    asked: Receiver<()>,
    shared: &Mutex<Slot>,
) -> raw::Generation {
    while asked.recv().is_ok() {
        let event = catch_unwind(AssertUnwindSafe(|| raw.next(cancel.as_ref().map(Cancel::raw))));
        let waker = {
            let mut slot = lock(shared);
            slot.event = Some(event);
            slot.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
    raw
}

impl<S: BorrowMut<Session>> Generation<S> {
    /// The same events as a `futures::Stream`, computed on a thread of its own.
    pub fn into_stream(self) -> Result<EventStream<S>> {
        let (finished, closer) = (self.is_finished(), self.closer());
        let (raw, rest) = self.into_parts();
        let (demand, asked) = channel();
        let shared = Arc::new(Mutex::new(Slot::default()));
        let thread = std::thread::Builder::new().name("finermoe".into()).spawn({
            let (shared, cancel) = (shared.clone(), rest.cancel.clone());
            move || work(raw, cancel, asked, &shared)
        });
        let thread = thread.map_err(|why| {
            let message = format!("a thread could not be started: {why}");
            Error::new(ErrorCode::Thread, message, "a thread".into(), why.to_string())
        })?;
        let worker = Worker { thread, shared, demand, closer, rest };
        Ok(EventStream { worker: Some(worker), asked: false, finished, failed: false })
    }
}

impl<S> EventStream<S> {
    /// The generation, when the event that is being computed is there, for which this waits. An event that was asked
    /// for and not taken is lost, unless it was the last: the next one says again why it ended.
    pub fn into_generation(mut self) -> Generation<S> {
        let worker = self.worker.take().expect("the thread lives as long as the stream");
        drop(worker.demand);
        let raw = worker.thread.join().unwrap_or_else(|panic| resume_unwind(panic));
        Generation::from_parts(raw, worker.rest, self.finished)
    }

    /// Stops the generation at once and gives the session back.
    pub fn into_session(self) -> S {
        if let Some(worker) = &self.worker {
            worker.closer.close();
        }
        self.into_generation().into_session()
    }
}

impl<S> Drop for EventStream<S> {
    fn drop(&mut self) {
        if let Some(worker) = self.worker.take() {
            worker.closer.close();
            drop(worker.demand);
            let _ = worker.thread.join(); // it catches panics itself
        }
    }
}

/// Nothing here is pinned.
impl<S> Unpin for EventStream<S> {}

impl<S> Stream for EventStream<S> {
    type Item = Result<Event>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.finished || std::mem::take(&mut this.failed) {
            return Poll::Ready(None);
        }
        let Some(worker) = &this.worker else { return Poll::Ready(None) };
        let mut slot = lock(&worker.shared);
        let Some(event) = slot.event.take() else {
            slot.waker = Some(context.waker().clone());
            if !std::mem::replace(&mut this.asked, true) {
                let _ = worker.demand.send(()); // the thread listens as long as the stream lives
            }
            return Poll::Pending;
        };
        drop(slot);
        this.asked = false;
        let event = event.unwrap_or_else(|panic| resume_unwind(panic));
        match &event {
            Ok(event) => this.finished = event.finish_reason.is_some(),
            Err(_) => this.failed = true,
        }
        Poll::Ready(Some(event))
    }
}

impl<S> std::fmt::Debug for EventStream<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventStream").field("finished", &self.finished).finish_non_exhaustive()
    }
}
