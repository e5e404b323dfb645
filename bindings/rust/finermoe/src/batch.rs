//! Many requests at once.

use crate::cancel::{Cancel, Closer};
use crate::enums::FinishReason;
use crate::error::{Error, ErrorCode, Result};
use crate::generation::Generation;
use crate::model::Model;
use crate::raw::{self, Event};
use crate::session::Session;
use std::borrow::BorrowMut;

/// Generations of one model that advance together, one pass over the weights for all. They own their sessions (`S` is
/// `Session`) or borrow them (`S` is `&mut Session`); the batch owns the generations.
///
/// As an iterator it gives the next event of any member, members taking turns, until none is left. An error that all
/// members have ends the loop, and a new one goes on.
///
/// ```
/// # fn main() -> finermoe::Result<()> {
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../examples/models/tiny-wordnet-finermoe");
/// # let model = finermoe::Model::open(path)?;
/// let mut batch = model.batch()?;
/// for (tag, prompt) in ["A ship", "A poem", "A compass"].iter().enumerate() {
///     let session = model.session().create()?;
///     batch.add(session.into_generate(*prompt).max_tokens(20).tag(tag as u64).start()?)?;
/// }
/// let mut texts = vec![String::new(); 3];
/// for item in &mut batch {
///     let item = item?;
///     texts[item.tag as usize] += &item.event.text;
/// }
/// # assert!(texts.iter().all(|text| !text.is_empty()));
/// # Ok(())
/// # }
/// ```
pub struct Batch<S> {
    raw: raw::Batch,
    members: Vec<Generation<S>>,
    cancel: Option<Cancel>,
    failed: bool,
}

/// An event of one member of a batch.
#[derive(Debug)]
#[non_exhaustive]
pub struct BatchEvent<S> {
    /// The number that the request was given.
    pub tag: u64,
    /// Its event.
    pub event: Event,
    /// What kept the member from going on, where the finish reason is [`FinishReason::Error`]. The others do not
    /// notice.
    pub error: Option<Error>,
    /// The member, which has left the batch with its last event, and has its session.
    pub finished: Option<Generation<S>>,
}

impl<S: BorrowMut<Session>> Batch<S> {
    pub(crate) fn new(model: &Model) -> Result<Self> {
        Ok(Batch { raw: raw::Batch::create(model.raw())?, members: Vec::new(), cancel: None, failed: false })
    }

    /// Lets a generation take part from the next step on. Its `tag` tells its events from those of others.
    ///
    /// Sessions of different precision are refused; so is a generation of another model. One that is refused is
    /// dropped.
    pub fn add(&mut self, generation: Generation<S>) -> Result<()> {
        self.raw.add(generation.raw())?;
        self.members.push(generation);
        Ok(())
    }

    /// Takes the first member with this tag out of the batch, if there is one. It can go on alone.
    pub fn remove(&mut self, tag: u64) -> Result<Option<Generation<S>>> {
        let Some(index) = self.member(tag, |_| true) else { return Ok(None) };
        self.raw.remove(self.members[index].raw())?;
        Ok(Some(self.members.remove(index)))
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The members, to call [`Generation::next_event`] on those that [`Batch::step`] has prepared. One that finishes so
    /// stays a member until it is removed.
    pub fn members_mut(&mut self) -> impl Iterator<Item = &mut Generation<S>> {
        self.members.iter_mut()
    }

    /// One pass over the weights for every member that is not prepared: one token for those that decode, a chunk of the
    /// prompt for those that prefill. Returns how many have not finished and can go on. For hosts that want to look at
    /// logits; [`Batch::next_event`] does this itself.
    pub fn step(&mut self) -> Result<usize> {
        self.raw.step(self.cancel.as_ref().map(Cancel::raw))
    }

    /// The next event of any member: one that is ready, or passes are computed until one is. None when no member is
    /// left.
    pub fn next_event(&mut self) -> Result<Option<BatchEvent<S>>> {
        let (tag, event) = self.raw.next(self.cancel.as_ref().map(Cancel::raw))?;
        let finish = event.finish_reason;
        if finish.is_none() && event.token.is_none() {
            return Ok(None);
        }
        let mut finished = None;
        if finish.is_some() {
            if let Some(index) = self.member(tag, |member| has_ended(member)) {
                finished = Some(self.members.remove(index));
            }
        }
        let mut error = None;
        if let Some(member) = &mut finished {
            member.note_finish();
            error = member.last_error().filter(|_| finish == Some(FinishReason::Error));
        }
        Ok(Some(BatchEvent { tag, event, error, finished }))
    }

    /// Another flag that can cancel its passes, or none.
    pub fn set_cancel(&mut self, cancel: Option<&Cancel>) {
        self.cancel = cancel.cloned();
    }

    /// What closes it from any thread.
    pub fn closer(&self) -> Closer {
        Closer::new(self.raw.closer())
    }

    fn member(&self, tag: u64, matches: impl Fn(&Generation<S>) -> bool) -> Option<usize> {
        self.members.iter().position(|member| member.tag() == tag && matches(member))
    }
}

/// Whether its last event has been given; where several members have one tag, this tells them apart.
fn has_ended<S: BorrowMut<Session>>(member: &Generation<S>) -> bool {
    member.info().map_or_else(
        |error| error.code() != ErrorCode::Busy,
        |info| info.finish_reason.is_some() || info.status.is_some(),
    )
}

impl<S: BorrowMut<Session>> Iterator for Batch<S> {
    type Item = Result<BatchEvent<S>>;

    fn next(&mut self) -> Option<Self::Item> {
        if std::mem::take(&mut self.failed) {
            return None;
        }
        let event = self.next_event().transpose();
        self.failed = matches!(event, Some(Err(_)));
        event
    }
}

impl<S> std::fmt::Debug for Batch<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("members", &self.members).finish()
    }
}
