//! Requests that have not begun.

use crate::cancel::Cancel;
use crate::chat::Chat;
use crate::enums::TextFlags;
use crate::error::Result;
use crate::generation::{Generation, GenerationRest};
use crate::options::GenerationOptions;
use crate::raw;
use crate::session::Session;
use std::borrow::{BorrowMut, Cow};

/// What a generation goes on from: a text, ids, or a chat.
#[derive(Debug)]
#[non_exhaustive]
pub enum Prompt<'p> {
    /// A text, whose ids are those of [`Tokenizer::encode_with`](crate::Tokenizer::encode_with).
    Text(Cow<'p, str>),
    /// Ids; at least one, unless the session holds a token to continue from.
    Ids(Cow<'p, [i32]>),
    /// A chat of the caller's.
    Chat(&'p Chat),
    /// A chat made for this request.
    OwnChat(Chat),
}

/// Prompts are made from what holds a text, ids or a chat.
macro_rules! prompts {
    ($($type:ty => |$from:ident| $prompt:expr;)*) => {$(
        impl<'p> From<$type> for Prompt<'p> {
            fn from($from: $type) -> Self {
                $prompt
            }
        }
    )*};
}

prompts! {
    &'p str => |text| Prompt::Text(text.into());
    &'p String => |text| Prompt::Text(text.into());
    String => |text| Prompt::Text(text.into());
    &'p [i32] => |ids| Prompt::Ids(ids.into());
    &'p Vec<i32> => |ids| Prompt::Ids(ids.into());
    Vec<i32> => |ids| Prompt::Ids(ids.into());
    &'p Chat => |chat| Prompt::Chat(chat);
    Chat => |chat| Prompt::OwnChat(chat);
}

impl<'p, const N: usize> From<&'p [i32; N]> for Prompt<'p> {
    fn from(ids: &'p [i32; N]) -> Self {
        Prompt::Ids(ids[..].into())
    }
}

/// A request before it begins: a session (`&mut Session`, or one that it owns), a prompt, and options, which begin with
/// the model's defaults.
#[must_use = "nothing is generated until `start` or `text`"]
pub struct Request<'p, S> {
    session: S,
    prompt: Prompt<'p>,
    options: GenerationOptions,
    flags: TextFlags,
    tag: u64,
    cancel: Option<Cancel>,
}

impl<'p, S: BorrowMut<Session>> Request<'p, S> {
    /// A request on a session, which is `&mut Session` or `Session`: what [`Session::generate`] and
    /// [`Session::into_generate`] make.
    pub fn new(session: S, prompt: Prompt<'p>) -> Self {
        let (options, cancel) = (session.borrow().model().generation_options(), session.borrow().cancel().cloned());
        Request { session, prompt, options, flags: TextFlags::empty(), tag: 0, cancel }
    }

    /// Begins. Nothing is computed yet. All ids, those of the options too, are compared with the vocabulary here; an
    /// error leaves the session as it was.
    pub fn start(self) -> Result<Generation<S>> {
        let (session, options) = (self.session.borrow().raw(), self.options.raw()?);
        let raw = match &self.prompt {
            Prompt::Text(text) => raw::Generation::create_text(session, options, text, self.flags),
            Prompt::Ids(ids) => raw::Generation::create(session, options, ids),
            Prompt::Chat(chat) => raw::Generation::create_chat(session, options, chat.raw(), self.flags),
            Prompt::OwnChat(chat) => raw::Generation::create_chat(session, options, chat.raw(), self.flags),
        }?;
        let rest = GenerationRest { session: self.session, cancel: self.cancel, tag: 0, draft: None };
        let mut generation = Generation::new(raw, rest);
        if self.tag != 0 {
            generation.set_tag(self.tag)?;
        }
        Ok(generation)
    }

    /// Runs to the end and gives all text.
    pub fn text(self) -> Result<String> {
        self.start()?.text()
    }
}

impl<S> Request<'_, S> {
    pub(crate) fn with(mut self, set: impl FnOnce(GenerationOptions) -> GenerationOptions) -> Self {
        self.options = set(self.options);
        self
    }

    /// Other options than the model's defaults and those that were set here.
    pub fn options(self, options: &GenerationOptions) -> Self {
        self.with(|_| options.clone())
    }

    /// Of a text [`TextFlags::PARSE_SPECIAL`] and [`TextFlags::NO_SPECIAL_TOKENS`]; of a chat
    /// [`TextFlags::CONTINUE_LAST`] and [`TextFlags::NO_GENERATION_PROMPT`].
    pub fn flags(mut self, flags: TextFlags) -> Self {
        self.flags = flags;
        self
    }

    /// A number of the host's own, that a batch gives with the events.
    pub fn tag(mut self, tag: u64) -> Self {
        self.tag = tag;
        self
    }

    /// Can cancel the generation; the session's own by default.
    pub fn cancel(mut self, cancel: &Cancel) -> Self {
        self.cancel = Some(cancel.clone());
        self
    }
}

impl<S> std::fmt::Debug for Request<'_, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request").field("prompt", &self.prompt).field("options", &self.options).finish()
    }
}
