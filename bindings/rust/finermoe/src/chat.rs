//! Conversations.

use crate::enums::TextFlags;
use crate::error::Result;
use crate::raw::{self, Message};
use crate::tokenizer::Tokenizer;

impl Message {
    /// A message of any role that the library knows.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Message { role: role.into(), content: content.into() }
    }

    /// What the host tells the model.
    pub fn system(content: impl Into<String>) -> Self {
        Message::new("system", content)
    }

    /// What the user says.
    pub fn user(content: impl Into<String>) -> Self {
        Message::new("user", content)
    }

    /// What the model said.
    pub fn assistant(content: impl Into<String>) -> Self {
        Message::new("assistant", content)
    }
}

/// A conversation that is kept and changed. For one that is made anew each time, a slice of [`Message`]s will do.
///
/// ```
/// # fn main() -> finermoe::Result<()> {
/// use finermoe::{Chat, Message};
/// let mut chat = Chat::new()?;
/// chat.add(&Message::user("Define the noun \"ship\"."))?;
/// chat.set(0, "Define the noun \"sea\".")?;
/// assert_eq!(chat.messages()?, [Message::user("Define the noun \"sea\".")]);
/// # Ok(())
/// # }
/// ```
pub struct Chat {
    raw: raw::Chat,
}

impl Chat {
    /// An empty one.
    pub fn new() -> Result<Self> {
        Ok(Chat { raw: raw::Chat::create()? })
    }

    /// One with messages.
    pub fn of(messages: &[Message]) -> Result<Self> {
        let mut chat = Chat::new()?;
        messages.iter().try_for_each(|message| chat.add(message))?;
        Ok(chat)
    }

    pub(crate) fn raw(&self) -> &raw::Chat {
        &self.raw
    }

    /// Adds a message at the end.
    pub fn add(&mut self, message: &Message) -> Result<()> {
        self.raw.add(&message.role, &message.content)
    }

    /// How many messages it has.
    pub fn len(&self) -> usize {
        self.raw.count()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One message.
    pub fn get(&self, index: usize) -> Result<Message> {
        self.raw.get(index)
    }

    /// All messages.
    pub fn messages(&self) -> Result<Vec<Message>> {
        (0..self.len()).map(|index| self.get(index)).collect()
    }

    /// Another text for a message, which keeps its role.
    pub fn set(&mut self, index: usize, content: &str) -> Result<()> {
        self.raw.set(index, content)
    }

    /// Forgets all messages from `n` on.
    pub fn truncate(&mut self, n: usize) -> Result<()> {
        self.raw.truncate(n)
    }

    /// Forgets the messages of a range.
    pub fn remove(&mut self, range: std::ops::Range<usize>) -> Result<()> {
        self.raw.remove(range.start, range.end)
    }

    /// Prompt ids as the tokenizer's own chat template renders the messages, with [`TextFlags::NO_GENERATION_PROMPT`]
    /// or [`TextFlags::CONTINUE_LAST`]. Special tokens typed into a message stay text.
    pub fn encode(&self, tokenizer: &Tokenizer, flags: TextFlags) -> Result<Vec<i32>> {
        self.raw.encode(tokenizer.raw(), flags)
    }

    /// The same as text, for a person to read.
    pub fn render(&self, tokenizer: &Tokenizer, flags: TextFlags) -> Result<String> {
        self.raw.render(tokenizer.raw(), flags)
    }
}

impl std::fmt::Debug for Chat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Chat").field(&self.messages()).finish()
    }
}
