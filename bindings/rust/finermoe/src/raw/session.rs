//! Section 7 of the header: sessions.

use super::*;
use std::sync::Arc;

impl SessionOptions {
    pub fn create() -> Result<Self> {
        Self::made(Keep::default(), |out, error| unsafe { sys::finermoe_session_options_create(out, error) })
    }

    setters! {
        set_context_length(usize) = finermoe_session_options_set_context_length;
        set_kv_dtype(i32) = finermoe_session_options_set_kv_dtype;
        set_precision(i32) = finermoe_session_options_set_precision;
        set_chunk(usize) = finermoe_session_options_set_chunk;
        set_hidden(i32) = finermoe_session_options_set_hidden;
    }

    /// Sessions that are created with these options keep the slot.
    pub fn set_progress(&mut self, slot: Arc<ProgressSlot<'static>>) -> Result<()> {
        let (call, user) = callbacks::progress_for_c(Some(&slot));
        self.keep_too(slot);
        check(|error| unsafe { sys::finermoe_session_options_set_progress(self.ptr(), call, user, error) })
    }
}

/// Reads one row that the last append kept.
type GetRow = unsafe extern "C" fn(*const sys::finermoe_session, usize, *mut f32, usize, *mut usize, CError) -> i32;

impl Session {
    /// The session, and all that is made from it, keeps `slot`, which it may be told to report to.
    pub fn create(model: &Model, options: &SessionOptions, slot: Arc<ProgressSlot<'static>>) -> Result<Self> {
        let mut keep = model.keep().and(options.keep());
        keep.add(slot);
        Self::made(keep, |out, error| unsafe { sys::finermoe_session_create(model.ptr(), options.ptr(), out, error) })
    }

    pub fn append(&self, ids: &[i32], logits: u32, cancel: Option<&Cancel>) -> Result<()> {
        check(|error| unsafe {
            let kept = logits as i32;
            sys::finermoe_session_append(self.ptr(), ids.as_ptr(), ids.len(), kept, pointer_to(cancel), error)
        })
    }

    pub fn append_rows(&self, ids: &[i32], rows: &[usize], cancel: Option<&Cancel>) -> Result<()> {
        check(|error| unsafe {
            let (chosen, count) = (rows.as_ptr(), rows.len());
            sys::finermoe_session_append_rows(
                self.ptr(),
                ids.as_ptr(),
                ids.len(),
                chosen,
                count,
                pointer_to(cancel),
                error,
            )
        })
    }

    /// Writes rows one behind the other into new memory, and gives them with the length of one.
    fn rows(&self, n_rows: usize, get: GetRow) -> Result<(Vec<f32>, usize)> {
        let mut width = 0;
        unsafe { get(self.ptr(), 0, null_mut(), 0, &mut width, null_mut()) };
        let mut values: Vec<f32> = Vec::with_capacity(n_rows * width);
        for row in 0..n_rows {
            let free = &mut values.spare_capacity_mut()[..width];
            let mut needed = 0;
            check(|error| unsafe { get(self.ptr(), row, free.as_mut_ptr().cast(), width, &mut needed, error) })?;
            assert!(needed == width);
            unsafe { values.set_len((row + 1) * width) }; // this row was written
        }
        Ok((values, width))
    }

    pub fn all_logits(&self, n_rows: usize) -> Result<(Vec<f32>, usize)> {
        self.rows(n_rows, sys::finermoe_session_logits)
    }

    pub fn all_hidden(&self, n_rows: usize) -> Result<(Vec<f32>, usize)> {
        self.rows(n_rows, sys::finermoe_session_hidden)
    }

    pub fn logits(&self, row: usize) -> Result<Vec<f32>> {
        fill(0, |logits, capacity, needed, error| unsafe {
            sys::finermoe_session_logits(self.ptr(), row, logits, capacity, needed, error)
        })
    }

    pub fn hidden(&self, row: usize) -> Result<Vec<f32>> {
        fill(0, |hidden, capacity, needed, error| unsafe {
            sys::finermoe_session_hidden(self.ptr(), row, hidden, capacity, needed, error)
        })
    }

    pub fn logits_into(&self, row: usize, logits: &mut [f32]) -> Result<usize> {
        let mut needed = 0;
        check(|error| unsafe {
            sys::finermoe_session_logits(self.ptr(), row, logits.as_mut_ptr(), logits.len(), &mut needed, error)
        })?;
        Ok(needed)
    }

    pub fn hidden_into(&self, row: usize, hidden: &mut [f32]) -> Result<usize> {
        let mut needed = 0;
        check(|error| unsafe {
            sys::finermoe_session_hidden(self.ptr(), row, hidden.as_mut_ptr(), hidden.len(), &mut needed, error)
        })?;
        Ok(needed)
    }

    pub fn score(&self, ids: &[i32], cancel: Option<&Cancel>) -> Result<(Vec<f32>, Vec<i32>)> {
        let mut likeliest = vec![-1; ids.len()];
        let mut logprobs = vec![f32::NAN; ids.len()];
        let mut needed = 0;
        check(|error| unsafe {
            let (scores, tokens, capacity) = (logprobs.as_mut_ptr(), likeliest.as_mut_ptr(), ids.len());
            let (begin, cancel) = (ids.as_ptr(), pointer_to(cancel));
            sys::finermoe_session_score(
                self.ptr(),
                begin,
                ids.len(),
                cancel,
                scores,
                tokens,
                capacity,
                &mut needed,
                error,
            )
        })?;
        Ok((logprobs, likeliest))
    }

    pub fn info(&self) -> Result<SessionInfo> {
        let info = read(|info, error| unsafe { sys::finermoe_session_get_info(self.ptr(), info, error) })?;
        Ok(unsafe { SessionInfo::from_c(&info) })
    }

    pub fn tokens(&self) -> Result<Vec<i32>> {
        fill(64, |ids, capacity, needed, error| unsafe {
            sys::finermoe_session_tokens(self.ptr(), ids, capacity, needed, error)
        })
    }

    pub fn truncate(&self, length: usize) -> Result<()> {
        check(|error| unsafe { sys::finermoe_session_truncate(self.ptr(), length, error) })
    }

    pub fn reset(&self) -> Result<()> {
        check(|error| unsafe { sys::finermoe_session_reset(self.ptr(), error) })
    }

    pub fn keep_prefix(&self, ids: &[i32]) -> Result<usize> {
        let mut n_kept = 0;
        check(|error| unsafe {
            sys::finermoe_session_keep_prefix(self.ptr(), ids.as_ptr(), ids.len(), &mut n_kept, error)
        })?;
        Ok(n_kept)
    }

    pub fn remove(&self, begin: usize, end: usize) -> Result<()> {
        check(|error| unsafe { sys::finermoe_session_remove(self.ptr(), begin, end, error) })
    }

    pub fn set_context_length(&self, n_tokens: usize) -> Result<()> {
        check(|error| unsafe { sys::finermoe_session_set_context_length(self.ptr(), n_tokens, error) })
    }

    /// Reports to a slot, which must be the one that the session was created with, or no longer.
    pub fn set_progress(&self, slot: Option<&Arc<ProgressSlot<'static>>>) -> Result<()> {
        let kept = slot.is_none_or(|slot| self.keep().holds(slot));
        assert!(kept, "a session reports only to what lives as long as it does");
        let (call, user) = callbacks::progress_for_c(slot.map(|slot| &**slot));
        check(|error| unsafe { sys::finermoe_session_set_progress(self.ptr(), call, user, error) })
    }

    /// Like `create`, with the slot of the fork's own. It reports where this session does, until it is told otherwise.
    pub fn fork(&self, slot: Arc<ProgressSlot<'static>>) -> Result<Self> {
        let mut keep = self.keep().clone();
        keep.add(slot);
        Self::made(keep, |out, error| unsafe { sys::finermoe_session_fork(self.ptr(), out, error) })
    }

    pub fn save(&self, path: &Path) -> Result<()> {
        let path = c_path(path)?;
        check(|error| unsafe { sys::finermoe_session_save(self.ptr(), path.as_ptr(), error) })
    }

    pub fn restore(&self, path: &Path) -> Result<()> {
        let path = c_path(path)?;
        check(|error| unsafe { sys::finermoe_session_restore(self.ptr(), path.as_ptr(), error) })
    }

    pub fn save_memory(&self) -> Result<Vec<u8>> {
        fill(0, |data: *mut u8, capacity, needed, error| unsafe {
            sys::finermoe_session_save_memory(self.ptr(), data.cast(), capacity, needed, error)
        })
    }

    pub fn restore_memory(&self, data: &[u8]) -> Result<()> {
        check(|error| unsafe {
            sys::finermoe_session_restore_memory(self.ptr(), data.as_ptr().cast(), data.len(), error)
        })
    }

    pub fn set_trace(&self, trace: Option<&Trace>) -> Result<()> {
        check(|error| unsafe { sys::finermoe_session_set_trace(self.ptr(), pointer_to(trace), error) })
    }
}
