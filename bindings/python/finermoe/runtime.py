"""The machine and what computes on it: devices, threads, memory limits, profiles, and the flag that cancels a call."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

from . import _lowlevel as low
from ._values import DeviceKind, Dtype, Isa, KvDtype, number_of, read

if TYPE_CHECKING:
    from typing_extensions import Unpack

Path = str | os.PathLike[str]
Log = Callable[[int, str], object]
"""Receives a level of :mod:`logging` (DEBUG, INFO or WARNING) and a message: ``logging.getLogger("finermoe").log``."""
Task = Callable[[int], None]
Executor = Callable[[int, Task], object]
"""Receives ``n_tasks`` and ``task``; calls ``task(i)`` once for each i below n_tasks, on any threads, and returns when
all have returned: ``lambda n, task: list(pool.map(task, range(n)))``. A task runs without the GIL."""


def version() -> str:
    """The library's version, "MAJOR.MINOR.PATCH"."""
    text: str = low.version()
    return text


def abi_version() -> int:
    """The number in the shared library's soname."""
    number: int = low.abi_version()
    return number


class Cancel:
    """A flag that any thread may raise; the calls that were given it end with :class:`finermoe.Cancelled`.

    A session stays at its last whole token, a writer leaves no file behind, a generation goes on when called again.
    """

    def __init__(self) -> None:
        self._handle = low.cancel_create()
        self._lowers_itself = False

    @classmethod
    def _own(cls) -> Cancel:
        """An object's own flag, which is lowered when a call has ended by it."""
        self = cls()
        self._lowers_itself = True
        return self

    def _spent(self) -> None:
        if self._lowers_itself:
            self.reset()

    def request(self) -> None:
        """Raises the flag. Any thread may."""
        low.cancel_request(self._handle)

    def reset(self) -> None:
        """Lowers it again."""
        low.cancel_reset(self._handle)

    @property
    def requested(self) -> bool:
        """Whether it is raised."""
        return bool(low.cancel_requested(self._handle))


@dataclass(frozen=True)
class SystemInfo:
    """What the library finds on this machine, and how it was built: what a bug report needs."""

    isa: Isa
    """The instruction set that "auto" takes."""
    kernels: str
    """"portable", "avx2", "avx2-vnni", "avx512" or "amx"."""
    compiler: str
    build: str
    isas: tuple[Isa, ...]
    """Those that the processor can execute."""
    n_threads: int
    """Threads of a runtime that is not told otherwise."""
    processor_quota: float
    """Processors that the control groups of this process grant; 0: no limit."""
    memory_quota: int
    """Bytes that they grant; 0: no limit."""
    memory_available: int
    """Bytes that this process could use at this moment."""


def system_info() -> SystemInfo:
    """The machine and the build."""
    return read(SystemInfo, low.system_get_info())


@dataclass(frozen=True)
class DeviceInfo:
    """A device that models can compute on."""

    kind: DeviceKind
    name: str
    """By which it is chosen."""
    description: str
    version: str
    memory: int
    """Bytes that it has; of the CPU: what this process may use."""
    memory_available: int
    """Of these, free at this moment."""
    weight_dtypes: tuple[Dtype, ...]
    kv_dtypes: tuple[KvDtype, ...]
    copies_weights: bool


def devices(module: Path | None = None) -> list[DeviceInfo]:
    """The devices of this machine, the CPU first.

    :param module: path of a device module, whose devices count too; None: libfinermoe_cuda, where it is installed
    """
    return [read(DeviceInfo, low.device_get_info(module, i)) for i in range(low.device_count(module))]


@dataclass(frozen=True)
class RuntimeInfo:
    """A runtime's threads and memory."""

    n_threads: int
    isa: Isa
    memory_limit: int
    """Bytes; 0: none."""
    memory_used: int
    """Bytes now counted against it."""
    memory_peak: int
    """The most that was ever counted."""
    device: str
    uses_blas: bool
    """A BLAS library computes products here."""
    blas: str
    """What the library says of itself; empty if none was opened."""


@dataclass(frozen=True)
class Operation:
    """One operation's part of the steps since the runtime was made or its profile was reset."""

    name: str
    n_calls: int
    seconds: float
    bytes: int
    """Of weights or cache that the calls had to read."""
    macs: int
    """Multiplications with an addition, of matrix products."""


class RuntimeOptions(TypedDict, total=False):
    """The keywords of :class:`Runtime`, which :class:`Model` takes as well."""

    threads: int
    isa: Isa
    memory_limit: int
    device: str | None
    device_module: Path | None
    blas: Path | bool
    log: Log | None
    executor: Executor | None
    profile: bool


class Runtime:
    """Worker threads and memory accounts, shared by the models that are opened with it. Any thread may use it.

    :param threads: threads that compute, the calling one among them; 0: as many processors as this process may use.
        With an executor: how many tasks that can run at once.
    :param isa: one that the machine lacks is an :class:`~finermoe.UnsupportedError`
    :param memory_limit: bytes that models, sessions and their scratch may allocate together; 0: no limit
    :param device: name of the device that models compute on, such as "cuda:0", or "cuda:GPU-" and the beginning of its
        UUID; None: the CPU
    :param device_module: path of a shared library whose devices can be chosen too; None: libfinermoe_cuda, where it is
        installed and a device of it is named
    :param blas: path of OpenBLAS, which computes the products that it computes faster than the kernels of this
        processor; True: OpenBLAS as the system finds it; False: none
    :param log: receives the library's messages
    :param executor: threads of the program's own instead of the library's
    :param profile: measure the operations of the models' steps
    """

    _owner: Any = None  # keeps what the library may call alive, where it was a model that made the runtime

    def __init__(self, *, threads: int = 0, isa: Isa | int = "auto", memory_limit: int = 0, device: str | None = None,
                 device_module: Path | None = None, blas: Path | bool = False, log: Log | None = None,
                 executor: Executor | None = None, profile: bool = False) -> None:
        options = low.runtime_options_create()
        low.runtime_options_set_isa(options, number_of("ISA", isa))
        low.runtime_options_set_memory_limit(options, memory_limit)
        low.runtime_options_set_device(options, device)
        low.runtime_options_set_device_module(options, device_module)
        if blas is not False:
            low.runtime_options_set_blas(options, None if blas is True else blas)
        low.runtime_options_set_profile(options, profile)
        # The library calls these for as long as the runtime lives, and whatever keeps it alive keeps this object alive.
        self._log = None if log is None else _at_logging_levels(log)
        self._executor = executor
        low.runtime_options_set_log(options, self._log)
        if executor is None:
            low.runtime_options_set_threads(options, threads)
        else:
            low.runtime_options_set_executor(options, executor, threads)
        self._handle = low.runtime_create(options)

    @classmethod
    def _of_model(cls, model: Any) -> Runtime:
        self = cls.__new__(cls)
        self._handle = low.runtime_open_model(model._open_handle)
        self._owner = model
        return self

    @property
    def info(self) -> RuntimeInfo:
        """Threads and memory at this moment."""
        return read(RuntimeInfo, low.runtime_get_info(self._handle))

    @property
    def operations(self) -> list[Operation]:
        """The profile; empty without one."""
        count = low.runtime_operation_count(self._handle)
        return [read(Operation, low.runtime_get_operation(self._handle, i)) for i in range(count)]

    def reset_profile(self) -> None:
        """Begins the profile anew."""
        low.runtime_reset_profile(self._handle)


def _at_logging_levels(log: Log) -> Log:
    return lambda level, message: log(10 * (level + 1), message)


def make_runtime(runtime: Runtime | None, options: RuntimeOptions) -> Runtime | None:
    """The runtime given, or one with these options; None where there is neither."""
    if not options:
        return runtime
    if runtime is not None:
        raise TypeError(f"with a runtime of its own, a model takes no {', '.join(options)}")
    return Runtime(**options)
