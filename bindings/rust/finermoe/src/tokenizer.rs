//! Text and ids.

use crate::enums::{TextFlags, TokenKind};
use crate::error::Result;
use crate::model::Model;
use crate::raw::{self, TokenizerInfo};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// A byte-level BPE tokenizer. Usable without weights. Immutable; a clone shares it, and any number of threads may use
/// it.
///
/// ```
/// # fn main() -> finermoe::Result<()> {
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../examples/models/tiny-wordnet-finermoe");
/// let tokenizer = finermoe::Tokenizer::open(path)?;
/// let ids = tokenizer.encode("A ship at sea")?;
/// assert_eq!(tokenizer.decode(&ids)?, "A ship at sea");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Tokenizer {
    raw: Arc<raw::Tokenizer>,
}

/// The ids of a text and where each stands in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoding {
    /// The ids.
    pub ids: Vec<i32>,
    /// The bytes of the text that each one stands for; 0..0 of one that the tokenizer puts around the text.
    pub offsets: Vec<Range<usize>>,
}

impl Tokenizer {
    fn new(raw: raw::Tokenizer) -> Self {
        Tokenizer { raw: Arc::new(raw) }
    }

    /// Of a directory with a tokenizer, of a tokenizer.json, or of a single-file model.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        raw::Tokenizer::open(path.as_ref()).map(Self::new)
    }

    /// Of the text of a tokenizer.json, and of a tokenizer_config.json where there is one.
    pub fn from_json(json: impl AsRef<[u8]>, config_json: Option<&[u8]>) -> Result<Self> {
        raw::Tokenizer::open_memory(json.as_ref(), config_json).map(Self::new)
    }

    pub(crate) fn of_model(model: &Model) -> Result<Self> {
        raw::Tokenizer::open_model(model.raw()).map(Self::new)
    }

    pub(crate) fn raw(&self) -> &raw::Tokenizer {
        &self.raw
    }

    /// Special ids and size.
    pub fn info(&self) -> Result<TokenizerInfo> {
        self.raw.info()
    }

    /// Text to ids, equal to Hugging Face's encode().
    pub fn encode(&self, text: &str) -> Result<Vec<i32>> {
        self.encode_with(text, TextFlags::empty())
    }

    /// The same with [`TextFlags::PARSE_SPECIAL`] or [`TextFlags::NO_SPECIAL_TOKENS`].
    pub fn encode_with(&self, text: &str, flags: TextFlags) -> Result<Vec<i32>> {
        self.raw.encode(text, flags)
    }

    /// The same, and where each token stands in the text.
    pub fn encode_offsets(&self, text: &str, flags: TextFlags) -> Result<Encoding> {
        let (ids, offsets) = self.raw.encode_offsets(text, flags)?;
        let offsets = offsets.into_iter().map(|[begin, end]| begin as usize..end as usize).collect();
        Ok(Encoding { ids, offsets })
    }

    /// How many ids a text has.
    pub fn count(&self, text: &str, flags: TextFlags) -> Result<usize> {
        self.raw.count(text, flags)
    }

    /// Ids to text. Ids without a token give nothing; bytes that are not UTF-8 give U+FFFD.
    pub fn decode(&self, ids: &[i32]) -> Result<String> {
        self.decode_with(ids, TextFlags::empty())
    }

    /// The same with [`TextFlags::SHOW_SPECIAL`].
    pub fn decode_with(&self, ids: &[i32], flags: TextFlags) -> Result<String> {
        self.raw.decode(ids, flags)
    }

    /// The bytes of one token, which need not be whole characters, and its kind.
    pub fn token(&self, id: i32) -> Result<(Vec<u8>, TokenKind)> {
        self.raw.token(id)
    }

    /// The id of the token with exactly these bytes.
    pub fn find(&self, bytes: impl AsRef<[u8]>) -> Result<Option<i32>> {
        self.raw.find(bytes.as_ref())
    }

    /// Ids to text as they come.
    pub fn decoder(&self, flags: TextFlags) -> Result<Decoder> {
        Ok(Decoder { raw: raw::Decoder::create(&self.raw, flags)? })
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("info", &self.info()).finish()
    }
}

/// Ids to text as they come, never a part of a character.
pub struct Decoder {
    raw: raw::Decoder,
}

impl Decoder {
    /// Takes one id and gives the text that became complete by it, often none.
    pub fn push(&mut self, id: i32) -> Result<String> {
        self.raw.push(id)
    }

    /// The end: an unfinished character comes out as U+FFFD, and the decoder begins anew.
    pub fn flush(&mut self) -> Result<String> {
        self.raw.flush()
    }
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Decoder")
    }
}
