//! Section 6 of the header: tokenizer, decoder, chat.

use super::*;

impl Tokenizer {
    pub fn open(path: &Path) -> Result<Self> {
        let path = c_path(path)?;
        Self::made(Keep::default(), |out, error| unsafe { sys::finermoe_tokenizer_open(path.as_ptr(), out, error) })
    }

    pub fn open_memory(json: &[u8], config: Option<&[u8]>) -> Result<Self> {
        let (config_json, config_length) = config.map_or((std::ptr::null(), 0), |text| (chars(text), text.len()));
        Self::made(Keep::default(), |out, error| unsafe {
            sys::finermoe_tokenizer_open_memory(chars(json), json.len(), config_json, config_length, out, error)
        })
    }

    pub fn open_model(model: &Model) -> Result<Self> {
        Self::made(model.keep().clone(), |out, error| unsafe {
            sys::finermoe_tokenizer_open_model(model.ptr(), out, error)
        })
    }

    pub fn info(&self) -> Result<TokenizerInfo> {
        let info = read(|info, error| unsafe { sys::finermoe_tokenizer_get_info(self.ptr(), info, error) })?;
        Ok(unsafe { TokenizerInfo::from_c(&info) })
    }

    pub fn encode(&self, text: &str, flags: TextFlags) -> Result<Vec<i32>> {
        fill(guess_ids(text), |ids, capacity, needed, error| unsafe {
            let (begin, length) = (chars(text.as_bytes()), text.len());
            let offsets = null_mut();
            sys::finermoe_tokenizer_encode(
                self.ptr(),
                begin,
                length,
                flags.bits(),
                ids,
                offsets,
                capacity,
                needed,
                error,
            )
        })
    }

    /// Begin and end of each token beside its id.
    pub fn encode_offsets(&self, text: &str, flags: TextFlags) -> Result<(Vec<i32>, Vec<[u64; 2]>)> {
        let count = self.count(text, flags)?;
        let mut offsets = vec![[0u64; 2]; count];
        let ids = fill(count, |ids, capacity, needed, error| unsafe {
            let (begin, length) = (chars(text.as_bytes()), text.len());
            let capacity = capacity.min(offsets.len());
            let places = offsets.as_mut_ptr().cast();
            sys::finermoe_tokenizer_encode(
                self.ptr(),
                begin,
                length,
                flags.bits(),
                ids,
                places,
                capacity,
                needed,
                error,
            )
        })?;
        Ok((ids, offsets))
    }

    pub fn count(&self, text: &str, flags: TextFlags) -> Result<usize> {
        let mut count = 0;
        check(|error| unsafe {
            let (begin, length) = (chars(text.as_bytes()), text.len());
            sys::finermoe_tokenizer_count(self.ptr(), begin, length, flags.bits(), &mut count, error)
        })?;
        Ok(count)
    }

    pub fn decode(&self, ids: &[i32], flags: TextFlags) -> Result<String> {
        fill_text(8 * ids.len(), |text, capacity, needed, error| unsafe {
            let (begin, count) = (ids.as_ptr(), ids.len());
            sys::finermoe_tokenizer_decode(self.ptr(), begin, count, flags.bits(), text, capacity, needed, error)
        })
    }

    pub fn token(&self, id: i32) -> Result<(Vec<u8>, TokenKind)> {
        let mut kind = 0;
        let bytes = fill(32, |bytes: *mut u8, capacity, needed, error| unsafe {
            sys::finermoe_tokenizer_token(self.ptr(), id, bytes.cast(), capacity, needed, &mut kind, error)
        })?;
        Ok((bytes, TokenKind::from_c(kind)))
    }

    pub fn find(&self, bytes: &[u8]) -> Result<Option<i32>> {
        let mut id = -1;
        check(|error| unsafe { sys::finermoe_tokenizer_find(self.ptr(), chars(bytes), bytes.len(), &mut id, error) })?;
        Ok((id >= 0).then_some(id))
    }
}

/// Room for the ids of a text: few tokens are shorter than two bytes.
fn guess_ids(text: &str) -> usize {
    text.len() / 2 + 8
}

impl Decoder {
    pub fn create(tokenizer: &Tokenizer, flags: TextFlags) -> Result<Self> {
        Self::made(tokenizer.keep().clone(), |out, error| unsafe {
            sys::finermoe_decoder_create(tokenizer.ptr(), flags.bits(), out, error)
        })
    }

    pub fn push(&mut self, id: i32) -> Result<String> {
        fill_text(32, |text, capacity, needed, error| unsafe {
            sys::finermoe_decoder_push(self.ptr(), id, text, capacity, needed, error)
        })
    }

    pub fn flush(&mut self) -> Result<String> {
        fill_text(8, |text, capacity, needed, error| unsafe {
            sys::finermoe_decoder_flush(self.ptr(), text, capacity, needed, error)
        })
    }
}

impl Chat {
    pub fn create() -> Result<Self> {
        Self::made(Keep::default(), |out, error| unsafe { sys::finermoe_chat_create(out, error) })
    }

    pub fn add(&mut self, role: &str, text: &str) -> Result<()> {
        let role = c_text(role)?;
        check(|error| unsafe {
            sys::finermoe_chat_add(self.ptr(), role.as_ptr(), chars(text.as_bytes()), text.len(), error)
        })
    }

    pub fn count(&self) -> usize {
        unsafe { sys::finermoe_chat_count(self.ptr()) }
    }

    pub fn get(&self, index: usize) -> Result<Message> {
        let message = read(|message, error| unsafe { sys::finermoe_chat_get(self.ptr(), index, message, error) })?;
        Ok(unsafe { Message::from_c(&message) })
    }

    pub fn set(&mut self, index: usize, text: &str) -> Result<()> {
        check(|error| unsafe { sys::finermoe_chat_set(self.ptr(), index, chars(text.as_bytes()), text.len(), error) })
    }

    pub fn truncate(&mut self, n: usize) -> Result<()> {
        check(|error| unsafe { sys::finermoe_chat_truncate(self.ptr(), n, error) })
    }

    pub fn remove(&mut self, begin: usize, end: usize) -> Result<()> {
        check(|error| unsafe { sys::finermoe_chat_remove(self.ptr(), begin, end, error) })
    }

    pub fn encode(&self, tokenizer: &Tokenizer, flags: TextFlags) -> Result<Vec<i32>> {
        fill(256, |ids, capacity, needed, error| unsafe {
            sys::finermoe_chat_encode(self.ptr(), tokenizer.ptr(), flags.bits(), ids, capacity, needed, error)
        })
    }

    pub fn render(&self, tokenizer: &Tokenizer, flags: TextFlags) -> Result<String> {
        fill_text(1024, |text, capacity, needed, error| unsafe {
            sys::finermoe_chat_render(self.ptr(), tokenizer.ptr(), flags.bits(), text, capacity, needed, error)
        })
    }
}
