"""Errors: a class for each code of the library, all of them :class:`Error`."""

from __future__ import annotations

import builtins
import errno
from collections.abc import Callable

from . import _lowlevel as low

__all__ = [
    "Error", "InvalidArgumentError", "BufferTooSmallError", "BusyError", "ClosedError", "Cancelled",
    "TokenOutOfRangeError", "ContextLengthError", "NoTokenizerError", "StateError", "UnsupportedError", "InternalError",
    "NotFiniteError", "OutOfMemoryError", "MemoryLimitError", "DiskFullError", "ThreadError", "FileNotFoundError",
    "FileUnreadableError", "FileExistsError", "FileWriteError", "ShardNotFoundError", "FileChangedError", "PathError",
    "HeaderTruncatedError", "HeaderTooLargeError", "HeaderMalformedError", "DataTruncatedError", "OffsetsOverlapError",
    "OffsetsInvalidError", "TensorDuplicateError", "TensorDtypeError", "TensorShapeError", "TensorMissingError",
    "IndexMalformedError", "ConfigMalformedError", "ConfigMissingError", "ConfigValueError", "ConfigInconsistentError",
    "ModelTypeError", "SlidingWindowError", "RopeScalingError", "TokenizerMalformedError", "TokenizerMergesError",
    "TokenizerCyclicError", "TokenizerComponentError", "ChatTemplateError", "SessionMalformedError",
    "SessionMismatchError", "ChecksumError", "NoDriverError", "DriverTooOldError", "NoDeviceError", "DeviceMemoryError",
    "DeviceLostError",
]


class Error(Exception):
    """A call of libfinermoe failed. Every object stays usable; what a failed call would have changed is unchanged.

    `str()` of it is the library's message, one line for a person. It can be pickled, and so cross to another process.
    """

    code: int = 0
    """The number of the header's constant."""
    message: str
    """One line of text."""
    expected: str
    """What the library expected; empty where that says nothing."""
    found: str
    """What it found instead; empty where that says nothing."""

    def __init__(self, message: str = "", expected: str = "", found: str = "") -> None:
        super().__init__(message)
        self.message, self.expected, self.found = message, expected, found

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Callable[..., Error], tuple[int, str, str, str]]:
        return make, (self.code, self.message, self.expected, self.found)

    @property
    def name(self) -> str:
        """The header's constant, such as ``"FINERMOE_ERROR_BUSY"``."""
        name: str = low.status_name(self.code)
        return name


class InvalidArgumentError(Error, ValueError):
    """A value out of its range, or a path with a NUL inside."""

    code = -1


class BufferTooSmallError(Error):
    """An array that was given is too small."""

    code = -2


class BusyError(Error):
    """Another thread is using this object."""

    code = -3


class ClosedError(Error):
    """The object was closed."""

    code = -4


class Cancelled(Error):
    """A cancel object or a callback asked for it; the object can be used again."""

    code = -5


class TokenOutOfRangeError(Error):
    """A token id outside [0, vocab_size)."""

    code = -6


class ContextLengthError(Error):
    """More tokens than the session, or more positions than the model, holds."""

    code = -7


class NoTokenizerError(Error):
    """A text call on a model that came without tokenizer.json."""

    code = -8


class StateError(Error):
    """The object is not in the state that the call needs."""

    code = -9


class UnsupportedError(Error):
    """Something this build or machine cannot do, named in the message."""

    code = -10


class InternalError(Error):
    """A defect of the library; please report it."""

    code = -11


class NotFiniteError(Error):
    """A router logit (or a scanned weight) that is NaN or infinite."""

    code = -12


class OutOfMemoryError(Error, MemoryError):
    """The system refused memory, or a file descriptor."""

    code = -20


class MemoryLimitError(Error, MemoryError):
    """The runtime's own limit would be passed; the figures are in the message."""

    code = -21


class DiskFullError(Error):
    """Not enough room for the output; what it needs is in the message."""

    code = -22


class ThreadError(Error):
    """A thread could not be started."""

    code = -23


class FileNotFoundError(Error, builtins.FileNotFoundError):
    """A file that is not there."""

    code = -30
    errno = errno.ENOENT


class FileUnreadableError(Error):
    """Permission, a directory in place of a file, a read error."""

    code = -31


class FileExistsError(Error, builtins.FileExistsError):
    """An output that is there already."""

    code = -32
    errno = errno.EEXIST


class FileWriteError(Error):
    """A write, sync or rename failed."""

    code = -33


class ShardNotFoundError(Error):
    """The index names a shard that is not there."""

    code = -34


class FileChangedError(Error):
    """A mapped file became shorter after it was opened."""

    code = -35


class PathError(Error):
    """An index entry with a NUL, a separator or ".." in its file name."""

    code = -36


class HeaderTruncatedError(Error):
    """The file ends inside the header's length or the header."""

    code = -40


class HeaderTooLargeError(Error):
    """The header's length is larger than the file or the cap."""

    code = -41


class HeaderMalformedError(Error):
    """Not the JSON that safetensors asks for."""

    code = -42


class DataTruncatedError(Error):
    """Tensors end beyond the end of the file."""

    code = -43


class OffsetsOverlapError(Error):
    """Two tensors of a file share bytes."""

    code = -44


class OffsetsInvalidError(Error):
    """Negative, reversed, overflowing, or not the size of the shape."""

    code = -45


class TensorDuplicateError(Error):
    """A tensor that is there twice."""

    code = -46


class TensorDtypeError(Error):
    """A tensor of a type that is not supported."""

    code = -47


class TensorShapeError(Error):
    """The message names the tensor and the formula of its shape."""

    code = -48


class TensorMissingError(Error):
    """The first three are named, and how many more."""

    code = -49


class IndexMalformedError(Error):
    """Model.safetensors.index.json."""

    code = -50


class ConfigMalformedError(Error):
    """Not JSON, or not an object."""

    code = -60


class ConfigMissingError(Error):
    """A value that is needed is not there."""

    code = -61


class ConfigValueError(Error):
    """A value of the wrong type, negative, zero or huge."""

    code = -62


class ConfigInconsistentError(Error):
    """Values that do not multiply out, with the numbers."""

    code = -63


class ModelTypeError(Error):
    """A model_type that is not finer_moe, qwen2 or qwen2_moe."""

    code = -64


class SlidingWindowError(Error):
    """Layers with a sliding window and no sensible length for it."""

    code = -65


class RopeScalingError(Error):
    """A rope scaling that is not supported, or makes no numbers."""

    code = -66


class TokenizerMalformedError(Error):
    """Not JSON, ids out of range, a token twice."""

    code = -70


class TokenizerMergesError(Error):
    """Merges missing, or naming tokens that the vocabulary lacks."""

    code = -71


class TokenizerCyclicError(Error):
    """A merge whose result is one of its own ancestors."""

    code = -72


class TokenizerComponentError(Error):
    """A component that is not supported, by name."""

    code = -73


class ChatTemplateError(Error):
    """None, or one outside the supported family, by name."""

    code = -74


class SessionMalformedError(Error):
    """Not a session file, another version, truncated, wrong checksum."""

    code = -80


class SessionMismatchError(Error):
    """Saved from another model, or with another cache type."""

    code = -81


class ChecksumError(Error):
    """A file's SHA-256 is not the one expected."""

    code = -82


class NoDriverError(Error):
    """The device's driver is not installed, or does not start."""

    code = -90


class DriverTooOldError(Error):
    """The message says which version the driver is, and which is needed."""

    code = -91


class NoDeviceError(Error):
    """The driver finds no device, or not the one that was named."""

    code = -92


class DeviceMemoryError(Error, MemoryError):
    """The device has not enough free memory; the message says for what."""

    code = -93


class DeviceLostError(Error):
    """The device failed while it was used: this process cannot use it again."""

    code = -94


_CLASSES = {cls.code: cls for cls in Error.__subclasses__()}


def make(code: int, message: str, expected: str, found: str) -> Error:
    """The exception for an error of the library; one that this version does not know is a plain :class:`Error`."""
    error = _CLASSES.get(code, Error)(message, expected, found)
    error.code = code
    return error


low.require_main_interpreter()
low.set_error_factory(make)
