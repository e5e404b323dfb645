package finermoe

// #include <finermoe.h>
import "C"

import (
	"io/fs"
	"strings"

	"finermoe.example/finermoe/internal/low"
)

// Code says what went wrong. It is an error itself, so that
//
//	errors.Is(err, finermoe.ErrContextLength)
//
// finds it in whatever a call of this package returned.
type Code int32

// The codes. See finermoe.h for what each means.
const (
	ErrInvalidArgument Code = C.FINERMOE_ERROR_INVALID_ARGUMENT
	ErrBufferTooSmall  Code = C.FINERMOE_ERROR_BUFFER_TOO_SMALL
	ErrBusy            Code = C.FINERMOE_ERROR_BUSY
	ErrClosed          Code = C.FINERMOE_ERROR_CLOSED
	ErrCancelled       Code = C.FINERMOE_ERROR_CANCELLED
	ErrTokenOutOfRange Code = C.FINERMOE_ERROR_TOKEN_OUT_OF_RANGE
	ErrContextLength   Code = C.FINERMOE_ERROR_CONTEXT_LENGTH
	ErrNoTokenizer     Code = C.FINERMOE_ERROR_NO_TOKENIZER
	ErrState           Code = C.FINERMOE_ERROR_STATE
	ErrUnsupported     Code = C.FINERMOE_ERROR_UNSUPPORTED
	ErrInternal        Code = C.FINERMOE_ERROR_INTERNAL
	ErrNotFinite       Code = C.FINERMOE_ERROR_NOT_FINITE

	ErrOutOfMemory Code = C.FINERMOE_ERROR_OUT_OF_MEMORY
	ErrMemoryLimit Code = C.FINERMOE_ERROR_MEMORY_LIMIT
	ErrDiskFull    Code = C.FINERMOE_ERROR_DISK_FULL
	ErrThread      Code = C.FINERMOE_ERROR_THREAD

	ErrFileNotFound   Code = C.FINERMOE_ERROR_FILE_NOT_FOUND // also fs.ErrNotExist
	ErrFileUnreadable Code = C.FINERMOE_ERROR_FILE_UNREADABLE
	ErrFileExists     Code = C.FINERMOE_ERROR_FILE_EXISTS // also fs.ErrExist
	ErrFileWrite      Code = C.FINERMOE_ERROR_FILE_WRITE
	ErrShardNotFound  Code = C.FINERMOE_ERROR_SHARD_NOT_FOUND
	ErrFileChanged    Code = C.FINERMOE_ERROR_FILE_CHANGED
	ErrPath           Code = C.FINERMOE_ERROR_PATH

	ErrHeaderTruncated Code = C.FINERMOE_ERROR_HEADER_TRUNCATED
	ErrHeaderTooLarge  Code = C.FINERMOE_ERROR_HEADER_TOO_LARGE
	ErrHeaderMalformed Code = C.FINERMOE_ERROR_HEADER_MALFORMED
	ErrDataTruncated   Code = C.FINERMOE_ERROR_DATA_TRUNCATED
	ErrOffsetsOverlap  Code = C.FINERMOE_ERROR_OFFSETS_OVERLAP
	ErrOffsetsInvalid  Code = C.FINERMOE_ERROR_OFFSETS_INVALID
	ErrTensorDuplicate Code = C.FINERMOE_ERROR_TENSOR_DUPLICATE
	ErrTensorDType     Code = C.FINERMOE_ERROR_TENSOR_DTYPE
	ErrTensorShape     Code = C.FINERMOE_ERROR_TENSOR_SHAPE
	ErrTensorMissing   Code = C.FINERMOE_ERROR_TENSOR_MISSING
	ErrIndexMalformed  Code = C.FINERMOE_ERROR_INDEX_MALFORMED

	ErrConfigMalformed    Code = C.FINERMOE_ERROR_CONFIG_MALFORMED
	ErrConfigMissing      Code = C.FINERMOE_ERROR_CONFIG_MISSING
	ErrConfigValue        Code = C.FINERMOE_ERROR_CONFIG_VALUE
	ErrConfigInconsistent Code = C.FINERMOE_ERROR_CONFIG_INCONSISTENT
	ErrModelType          Code = C.FINERMOE_ERROR_MODEL_TYPE
	ErrSlidingWindow      Code = C.FINERMOE_ERROR_SLIDING_WINDOW
	ErrRopeScaling        Code = C.FINERMOE_ERROR_ROPE_SCALING

	ErrTokenizerMalformed Code = C.FINERMOE_ERROR_TOKENIZER_MALFORMED
	ErrTokenizerMerges    Code = C.FINERMOE_ERROR_TOKENIZER_MERGES
	ErrTokenizerCyclic    Code = C.FINERMOE_ERROR_TOKENIZER_CYCLIC
	ErrTokenizerComponent Code = C.FINERMOE_ERROR_TOKENIZER_COMPONENT
	ErrChatTemplate       Code = C.FINERMOE_ERROR_CHAT_TEMPLATE

	ErrSessionMalformed Code = C.FINERMOE_ERROR_SESSION_MALFORMED
	ErrSessionMismatch  Code = C.FINERMOE_ERROR_SESSION_MISMATCH
	ErrChecksum         Code = C.FINERMOE_ERROR_CHECKSUM

	ErrNoDriver     Code = C.FINERMOE_ERROR_NO_DRIVER
	ErrDriverTooOld Code = C.FINERMOE_ERROR_DRIVER_TOO_OLD
	ErrNoDevice     Code = C.FINERMOE_ERROR_NO_DEVICE
	ErrDeviceMemory Code = C.FINERMOE_ERROR_DEVICE_MEMORY
	ErrDeviceLost   Code = C.FINERMOE_ERROR_DEVICE_LOST
)

// Error is the code's name, such as "FINERMOE_ERROR_BUSY".
func (c Code) Error() string { return low.StatusName(int32(c)) }

// Error is what a failed call returns; errors.As finds it. Beside its Code it is what ended the call from outside, if
// that is so: the error of a context, or the one that a [ProgressFunc] returned.
type Error struct {
	Code     Code
	Name     string // of the code, "FINERMOE_ERROR_BUSY"
	Message  string // one line for a person
	Expected string // what the library expected, "" where that says nothing
	Found    string // what it found instead
	cause    error
}

// Error is the message, the code's name, and what ended the call from outside.
func (e *Error) Error() string {
	text := e.Message + " (" + e.Name + ")"
	if e.cause != nil {
		text += ": " + e.cause.Error()
	}
	return text
}

// Unwrap is the error of a context or of a ProgressFunc, or nil.
func (e *Error) Unwrap() error { return e.cause }

// Is reports whether target is the code of this error, or the standard library's name for it.
func (e *Error) Is(target error) bool {
	switch target {
	case fs.ErrNotExist:
		return e.Code == ErrFileNotFound
	case fs.ErrExist:
		return e.Code == ErrFileExists
	}
	return target == e.Code
}

func newError(code Code, message, expected, found string) *Error {
	return &Error{Code: code, Name: code.Error(), Message: message, Expected: expected, Found: found}
}

// check turns what a call of the low layer answered into an error, or nil.
func check(failure low.Error) error {
	if failure == 0 {
		return nil
	}
	defer low.ErrorFree(failure)
	return newError(Code(low.ErrorCode(failure)), low.ErrorMessage(failure), low.ErrorExpected(failure),
		low.ErrorFound(failure))
}

// because adds what ended a call from outside to an error that says so.
func because(err, cause error) error {
	if failed, ok := err.(*Error); ok && failed.Code == ErrCancelled && failed.cause == nil {
		failed.cause = cause
	}
	return err
}

// checkPaths refuses what C would cut off at its first NUL.
func checkPaths(paths ...string) error {
	for _, path := range paths {
		if strings.ContainsRune(path, 0) {
			return newError(ErrInvalidArgument, "a path or name holds a NUL", "no NUL inside", "one")
		}
	}
	return nil
}

// checkCount refuses a negative count, which in C would be a very large one.
func checkCount(name string, n int) error {
	if n >= 0 {
		return nil
	}
	return newError(ErrInvalidArgument, name+" is negative", "0 or more", "less than 0")
}
