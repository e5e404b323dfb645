//! What any thread may do to stop a call.

use crate::error::Result;
use crate::raw;
use std::fmt;
use std::sync::Arc;

/// A flag that any thread may raise. Long calls look at it between layers, chunks and files, and answer
/// [`ErrorCode::Cancelled`](crate::ErrorCode::Cancelled): a session stays at its last whole token, a writer leaves no
/// file behind. A generation or a batch goes on when it is called again with the flag lowered.
///
/// A clone is the same flag.
#[derive(Clone)]
pub struct Cancel {
    raw: Arc<raw::Cancel>,
}

impl Cancel {
    /// A flag that is not raised.
    pub fn new() -> Result<Self> {
        Ok(Cancel { raw: Arc::new(raw::Cancel::create()?) })
    }

    /// Raises the flag.
    pub fn request(&self) {
        self.raw.request();
    }

    /// Lowers it again.
    pub fn reset(&self) {
        self.raw.reset();
    }

    /// Whether it is raised.
    pub fn is_requested(&self) -> bool {
        self.raw.requested()
    }

    pub(crate) fn raw(&self) -> &raw::Cancel {
        &self.raw
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancel").field("requested", &self.is_requested()).finish()
    }
}

/// Closes a session, a generation or a batch from any thread: what it is doing is cancelled, and later calls answer
/// [`ErrorCode::Closed`](crate::ErrorCode::Closed). It does not keep the object alive; closing one that is gone, or
/// twice, does nothing.
#[derive(Clone)]
pub struct Closer {
    raw: raw::Closer,
}

impl Closer {
    pub(crate) fn new(raw: raw::Closer) -> Self {
        Closer { raw }
    }

    /// Closes it.
    pub fn close(&self) {
        self.raw.close();
    }
}

impl fmt::Debug for Closer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Closer")
    }
}
