//! What went wrong.

use crate::enums::c_enum;
use crate::raw;
use finermoe_sys as sys;
use std::fmt;

/// The result of what can fail here.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, as the library says it: a code for programs, a line of text for people.
#[derive(Clone, PartialEq, Eq)]
pub struct Error(Box<Contents>);

#[derive(Clone, PartialEq, Eq)]
struct Contents {
    code: ErrorCode,
    message: String,
    expected: String,
    found: String,
}

impl Error {
    pub(crate) fn new(code: ErrorCode, message: String, expected: String, found: String) -> Self {
        Error(Box::new(Contents { code, message, expected, found }))
    }

    /// A text that C would take to end in its middle.
    pub(crate) fn with_nul(text: &str) -> Self {
        let message = format!("{text:?} has a NUL inside");
        Error::new(ErrorCode::InvalidArgument, message, "a text without NUL".into(), format!("{text:?}"))
    }

    /// What kind of error it is.
    pub fn code(&self) -> ErrorCode {
        self.0.code
    }

    /// The name of the code in C: `"FINERMOE_ERROR_BUSY"`.
    pub fn name(&self) -> &'static str {
        self.0.code.name()
    }

    /// One line of text for a person.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What the library expected; empty where that says nothing.
    pub fn expected(&self) -> &str {
        &self.0.expected
    }

    /// What it found instead; empty where that says nothing.
    pub fn found(&self) -> &str {
        &self.0.found
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Error");
        shown.field("code", &self.0.code).field("message", &self.0.message);
        shown.field("expected", &self.0.expected).field("found", &self.0.found).finish()
    }
}

impl std::error::Error for Error {}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        let kind = match error.code() {
            ErrorCode::FileNotFound => std::io::ErrorKind::NotFound,
            ErrorCode::FileExists => std::io::ErrorKind::AlreadyExists,
            ErrorCode::InvalidArgument => std::io::ErrorKind::InvalidInput,
            ErrorCode::OutOfMemory => std::io::ErrorKind::OutOfMemory,
            _ => std::io::ErrorKind::Other,
        };
        std::io::Error::new(kind, error)
    }
}

c_enum! {
    /// What kind of error it is: the constants `FINERMOE_ERROR_…` of the header.
    pub enum ErrorCode {
        /// A value out of its range, a path with a NUL inside.
        InvalidArgument = FINERMOE_ERROR_INVALID_ARGUMENT,
        /// An array of the caller's that is too small.
        BufferTooSmall = FINERMOE_ERROR_BUFFER_TOO_SMALL,
        /// Another thread is using this object.
        Busy = FINERMOE_ERROR_BUSY,
        /// The object was closed.
        Closed = FINERMOE_ERROR_CLOSED,
        /// A [`Cancel`](crate::Cancel) or a progress closure asked for it.
        Cancelled = FINERMOE_ERROR_CANCELLED,
        /// A token id that the vocabulary does not have.
        TokenOutOfRange = FINERMOE_ERROR_TOKEN_OUT_OF_RANGE,
        /// More tokens than the session, or more positions than the model, holds.
        ContextLength = FINERMOE_ERROR_CONTEXT_LENGTH,
        /// A text for a model that came without a tokenizer.
        NoTokenizer = FINERMOE_ERROR_NO_TOKENIZER,
        /// The object is not in the state that the call needs.
        State = FINERMOE_ERROR_STATE,
        /// Something that this build or machine cannot do, named in the message.
        Unsupported = FINERMOE_ERROR_UNSUPPORTED,
        /// A defect of the library; please report it.
        Internal = FINERMOE_ERROR_INTERNAL,
        /// A router logit (or a scanned weight) that is NaN or infinite.
        NotFinite = FINERMOE_ERROR_NOT_FINITE,
        /// The system refused memory, or a file descriptor.
        OutOfMemory = FINERMOE_ERROR_OUT_OF_MEMORY,
        /// The runtime's own limit would be passed.
        MemoryLimit = FINERMOE_ERROR_MEMORY_LIMIT,
        /// Not enough room for the output.
        DiskFull = FINERMOE_ERROR_DISK_FULL,
        /// A thread could not be started.
        Thread = FINERMOE_ERROR_THREAD,
        /// There is no such file.
        FileNotFound = FINERMOE_ERROR_FILE_NOT_FOUND,
        /// Permission, a directory in place of a file, a read error.
        FileUnreadable = FINERMOE_ERROR_FILE_UNREADABLE,
        /// An output that is there already.
        FileExists = FINERMOE_ERROR_FILE_EXISTS,
        /// A write, sync or rename failed.
        FileWrite = FINERMOE_ERROR_FILE_WRITE,
        /// The index names a shard that is not there.
        ShardNotFound = FINERMOE_ERROR_SHARD_NOT_FOUND,
        /// A mapped file became shorter after it was opened.
        FileChanged = FINERMOE_ERROR_FILE_CHANGED,
        /// An index entry with a NUL, a separator or ".." in its file name.
        Path = FINERMOE_ERROR_PATH,
        /// A file ends inside the length of its header, or inside its header.
        HeaderTruncated = FINERMOE_ERROR_HEADER_TRUNCATED,
        /// The length of the header is larger than the file or the cap.
        HeaderTooLarge = FINERMOE_ERROR_HEADER_TOO_LARGE,
        /// Not the JSON that safetensors asks for.
        HeaderMalformed = FINERMOE_ERROR_HEADER_MALFORMED,
        /// Tensors end beyond the end of the file.
        DataTruncated = FINERMOE_ERROR_DATA_TRUNCATED,
        /// Two tensors share bytes.
        OffsetsOverlap = FINERMOE_ERROR_OFFSETS_OVERLAP,
        /// Offsets that are negative, reversed, overflowing, or not the size of the shape.
        OffsetsInvalid = FINERMOE_ERROR_OFFSETS_INVALID,
        /// A tensor that is there twice.
        TensorDuplicate = FINERMOE_ERROR_TENSOR_DUPLICATE,
        /// A tensor of another type than its place needs.
        TensorDtype = FINERMOE_ERROR_TENSOR_DTYPE,
        /// A tensor of another shape; the message has the formula.
        TensorShape = FINERMOE_ERROR_TENSOR_SHAPE,
        /// Tensors that are not there.
        TensorMissing = FINERMOE_ERROR_TENSOR_MISSING,
        /// A model.safetensors.index.json that cannot be used.
        IndexMalformed = FINERMOE_ERROR_INDEX_MALFORMED,
        /// A config.json that is not JSON, or not an object.
        ConfigMalformed = FINERMOE_ERROR_CONFIG_MALFORMED,
        /// A value that is needed is not in config.json.
        ConfigMissing = FINERMOE_ERROR_CONFIG_MISSING,
        /// A value of the wrong type, negative, zero or huge.
        ConfigValue = FINERMOE_ERROR_CONFIG_VALUE,
        /// Values that do not multiply out.
        ConfigInconsistent = FINERMOE_ERROR_CONFIG_INCONSISTENT,
        /// A model_type that the library does not run.
        ModelType = FINERMOE_ERROR_MODEL_TYPE,
        /// Layers with a sliding window and no sensible length for it.
        SlidingWindow = FINERMOE_ERROR_SLIDING_WINDOW,
        /// A rope scaling that is not supported, or makes no numbers.
        RopeScaling = FINERMOE_ERROR_ROPE_SCALING,
        /// A tokenizer.json that cannot be used.
        TokenizerMalformed = FINERMOE_ERROR_TOKENIZER_MALFORMED,
        /// Merges that are missing, or name tokens that the vocabulary lacks.
        TokenizerMerges = FINERMOE_ERROR_TOKENIZER_MERGES,
        /// A merge whose result is one of its own ancestors.
        TokenizerCyclic = FINERMOE_ERROR_TOKENIZER_CYCLIC,
        /// A component of the tokenizer that is not supported.
        TokenizerComponent = FINERMOE_ERROR_TOKENIZER_COMPONENT,
        /// No chat template, or one outside the supported family.
        ChatTemplate = FINERMOE_ERROR_CHAT_TEMPLATE,
        /// Not a saved session, of another version, truncated, or with a wrong checksum.
        SessionMalformed = FINERMOE_ERROR_SESSION_MALFORMED,
        /// Saved from another model, or with another cache type.
        SessionMismatch = FINERMOE_ERROR_SESSION_MISMATCH,
        /// A file whose SHA-256 is not the one expected.
        Checksum = FINERMOE_ERROR_CHECKSUM,
        /// The device's driver is not installed, or does not start.
        NoDriver = FINERMOE_ERROR_NO_DRIVER,
        /// The message says which version the driver is, and which is needed.
        DriverTooOld = FINERMOE_ERROR_DRIVER_TOO_OLD,
        /// The driver finds no device, or not the one that was named.
        NoDevice = FINERMOE_ERROR_NO_DEVICE,
        /// The device has not enough free memory; the message says for what.
        DeviceMemory = FINERMOE_ERROR_DEVICE_MEMORY,
        /// The device failed while it was used: this process cannot use it again.
        DeviceLost = FINERMOE_ERROR_DEVICE_LOST,
    }
}

impl ErrorCode {
    /// The name in C: `"FINERMOE_ERROR_BUSY"`; `"FINERMOE_ERROR_UNKNOWN"` for a code that the library does not have.
    pub fn name(self) -> &'static str {
        raw::status_name(self.to_c())
    }
}
