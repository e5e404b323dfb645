package finermoe;

/** Kinds of errors; finermoe.h has the same. */
public enum ErrorCode {
  /** A NULL, a value out of its range, a path with a NUL inside. */
  INVALID_ARGUMENT(Native.ERROR_INVALID_ARGUMENT),
  /** A result has no room in an array or buffer of the caller. */
  BUFFER_TOO_SMALL(Native.ERROR_BUFFER_TOO_SMALL),
  /** Another thread is using this object. */
  BUSY(Native.ERROR_BUSY),
  /** The object was closed. */
  CLOSED(Native.ERROR_CLOSED),
  /** A cancel object or progress callback asked for it. */
  CANCELLED(Native.ERROR_CANCELLED),
  /** A token id outside [0, vocab_size). */
  TOKEN_OUT_OF_RANGE(Native.ERROR_TOKEN_OUT_OF_RANGE),
  /** More tokens than the session, or more positions than the model, holds. */
  CONTEXT_LENGTH(Native.ERROR_CONTEXT_LENGTH),
  /** A text call on a model that came without tokenizer.json. */
  NO_TOKENIZER(Native.ERROR_NO_TOKENIZER),
  /** The object is not in the state that the call needs. */
  STATE(Native.ERROR_STATE),
  /** Something this build or machine cannot do, named in the message. */
  UNSUPPORTED(Native.ERROR_UNSUPPORTED),
  /** A defect of the library; please report it. */
  INTERNAL(Native.ERROR_INTERNAL),
  /** A router logit (or a scanned weight) that is NaN or infinite. */
  NOT_FINITE(Native.ERROR_NOT_FINITE),
  /** The system refused memory, or a file descriptor. */
  OUT_OF_MEMORY(Native.ERROR_OUT_OF_MEMORY),
  /** The runtime's own limit would be passed; the figures are in the message. */
  MEMORY_LIMIT(Native.ERROR_MEMORY_LIMIT),
  /** Not enough room for the output; what it needs is in the message. */
  DISK_FULL(Native.ERROR_DISK_FULL),
  /** A thread could not be started. */
  THREAD(Native.ERROR_THREAD),
  /** No file at the path. */
  FILE_NOT_FOUND(Native.ERROR_FILE_NOT_FOUND),
  /** Permission, a directory in place of a file, a read error. */
  FILE_UNREADABLE(Native.ERROR_FILE_UNREADABLE),
  /** An output that is there already. */
  FILE_EXISTS(Native.ERROR_FILE_EXISTS),
  /** A write, sync or rename failed. */
  FILE_WRITE(Native.ERROR_FILE_WRITE),
  /** The index names a shard that is not there. */
  SHARD_NOT_FOUND(Native.ERROR_SHARD_NOT_FOUND),
  /** A mapped file became shorter after it was opened. */
  FILE_CHANGED(Native.ERROR_FILE_CHANGED),
  /** An index entry with a NUL, a separator or ".." in its file name. */
  PATH(Native.ERROR_PATH),
  /** The file ends inside the header's length or the header. */
  HEADER_TRUNCATED(Native.ERROR_HEADER_TRUNCATED),
  /** The header's length is larger than the file or the cap. */
  HEADER_TOO_LARGE(Native.ERROR_HEADER_TOO_LARGE),
  /** Not the JSON that safetensors asks for. */
  HEADER_MALFORMED(Native.ERROR_HEADER_MALFORMED),
  /** Tensors end beyond the end of the file. */
  DATA_TRUNCATED(Native.ERROR_DATA_TRUNCATED),
  /** Tensors that share bytes. */
  OFFSETS_OVERLAP(Native.ERROR_OFFSETS_OVERLAP),
  /** Negative, reversed, overflowing, or not the size of the shape. */
  OFFSETS_INVALID(Native.ERROR_OFFSETS_INVALID),
  /** A tensor that is there twice. */
  TENSOR_DUPLICATE(Native.ERROR_TENSOR_DUPLICATE),
  /** An element type that is not supported. */
  TENSOR_DTYPE(Native.ERROR_TENSOR_DTYPE),
  /** The message names the tensor and the formula of its shape. */
  TENSOR_SHAPE(Native.ERROR_TENSOR_SHAPE),
  /** The first three are named, and how many more. */
  TENSOR_MISSING(Native.ERROR_TENSOR_MISSING),
  /** Model.safetensors.index.json. */
  INDEX_MALFORMED(Native.ERROR_INDEX_MALFORMED),
  /** Not JSON, or not an object. */
  CONFIG_MALFORMED(Native.ERROR_CONFIG_MALFORMED),
  /** A value that is needed is not there. */
  CONFIG_MISSING(Native.ERROR_CONFIG_MISSING),
  /** A value of the wrong type, negative, zero or huge. */
  CONFIG_VALUE(Native.ERROR_CONFIG_VALUE),
  /** Values that do not multiply out, with the numbers. */
  CONFIG_INCONSISTENT(Native.ERROR_CONFIG_INCONSISTENT),
  /** A model_type that is not finer_moe, qwen2 or qwen2_moe. */
  MODEL_TYPE(Native.ERROR_MODEL_TYPE),
  /** Layers with a sliding window and no sensible length for it. */
  SLIDING_WINDOW(Native.ERROR_SLIDING_WINDOW),
  /** A rope scaling that is not supported, or makes no numbers. */
  ROPE_SCALING(Native.ERROR_ROPE_SCALING),
  /** Not JSON, ids out of range, a token twice. */
  TOKENIZER_MALFORMED(Native.ERROR_TOKENIZER_MALFORMED),
  /** Merges missing, or naming tokens that the vocabulary lacks. */
  TOKENIZER_MERGES(Native.ERROR_TOKENIZER_MERGES),
  /** A merge whose result is one of its own ancestors. */
  TOKENIZER_CYCLIC(Native.ERROR_TOKENIZER_CYCLIC),
  /** A component that is not supported, by name. */
  TOKENIZER_COMPONENT(Native.ERROR_TOKENIZER_COMPONENT),
  /** None, or one outside the supported family, by name. */
  CHAT_TEMPLATE(Native.ERROR_CHAT_TEMPLATE),
  /** Not a session file, another version, truncated, wrong checksum. */
  SESSION_MALFORMED(Native.ERROR_SESSION_MALFORMED),
  /** Saved from another model, or with another cache type. */
  SESSION_MISMATCH(Native.ERROR_SESSION_MISMATCH),
  /** A file's SHA-256 is not the one expected. */
  CHECKSUM(Native.ERROR_CHECKSUM),
  /** The device's driver is not installed, or does not start. */
  NO_DRIVER(Native.ERROR_NO_DRIVER),
  /** The message says which version the driver is, and which is needed. */
  DRIVER_TOO_OLD(Native.ERROR_DRIVER_TOO_OLD),
  /** The driver finds no device, or not the one that was named. */
  NO_DEVICE(Native.ERROR_NO_DEVICE),
  /** The device has not enough free memory; the message says for what. */
  DEVICE_MEMORY(Native.ERROR_DEVICE_MEMORY),
  /** The device failed while it was used: this process cannot use it again. */
  DEVICE_LOST(Native.ERROR_DEVICE_LOST),
  /** A number that this version does not know. */
  UNKNOWN(Integer.MIN_VALUE);

  private final int status;

  ErrorCode(int status) {
    this.status = status;
  }

  static ErrorCode of(int status) {
    for (ErrorCode code : values()) {
      if (code.status == status) return code;
    }
    return UNKNOWN;
  }

  /**
   * The number in C.
   *
   * @return a negative number
   */
  public int status() {
    return status;
  }
}
