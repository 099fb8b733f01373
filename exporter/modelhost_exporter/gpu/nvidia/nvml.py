"""The one door to NVIDIA's management library (NVML), through nvidia-ml-py.

Errors as a tree::

    NvmlFailure                 a call failed, and no other call on this driver will do better
    ├── LibraryMissing          no libnvidia-ml: a machine without NVIDIA's driver
    ├── LibraryBroken           the library is there and cannot be loaded
    ├── DriverGone              the library is there and the driver is not (any more)
    ├── DriverFailed            the driver is loaded and cannot be opened
    └── DriverReplaced          the driver is not the one that the loaded library belongs to
    reading.Lost                this one GPU is gone
    nvidia-ml-py's NVMLError    one field failed
"""

from __future__ import annotations

import contextlib
import importlib
import math
import threading
import time
from typing import TYPE_CHECKING, Any

from modelhost_exporter.gpu.contract import DeviceLost
from modelhost_exporter.gpu.nvidia import library
from modelhost_exporter.process.daemon_thread import start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OK, UNINITIALIZED, INVALID_ARGUMENT, NOT_SUPPORTED, NO_PERMISSION, NOT_FOUND = 0, 1, 2, 3, 4, 6
INSUFFICIENT_POWER, DRIVER_NOT_LOADED, TIMEOUT, IRQ_ISSUE, FUNCTION_NOT_FOUND = 8, 9, 10, 11, 13
GPU_IS_LOST, RESET_REQUIRED, MISMATCH = 15, 16, 18
VERSION_MISMATCH, DEPRECATED, GPU_NOT_FOUND, UNKNOWN = 25, 26, 28, 999

_GONE = frozenset({UNINITIALIZED, DRIVER_NOT_LOADED})
_LOST = frozenset({GPU_IS_LOST, GPU_NOT_FOUND})
UNSUPPORTED = frozenset(
    {INVALID_ARGUMENT, NOT_SUPPORTED, NO_PERMISSION, FUNCTION_NOT_FOUND, VERSION_MISMATCH, DEPRECATED}
)
"""What a card or driver answers that does not have a field; some answer it for a moment only (see query.py)."""
RETRY_UNSUPPORTED_SECONDS = 600.0
"""How long such an answer is believed of what never answered otherwise."""


class NvmlFailure(Exception):
    """A call failed in a way that concerns the whole driver."""


class LibraryMissing(NvmlFailure):
    """The machine has no NVIDIA driver library."""


class LibraryBroken(NvmlFailure):
    """The library is there and cannot be loaded."""


class DriverFailed(NvmlFailure):
    """The driver is loaded and cannot be opened, such as in a container that lost access to it."""


class DriverGone(NvmlFailure):
    """The library is there, the driver is not loaded."""


class DriverReplaced(NvmlFailure):
    """The driver is another version than the library that this process has loaded."""


def load() -> Any:
    """Return nvidia-ml-py, its library loaded.

    LibraryMissing or LibraryBroken, without importing it (3 MB), where the library is missing or cannot be loaded.
    """
    try:
        found = library.load()
    except library.NotLoadable as error:
        raise LibraryBroken(str(error)) from error
    if not found:
        raise LibraryMissing(library.MISSING)
    return importlib.import_module("pynvml")


def check(error: Exception) -> None:
    """Raise what an NVMLError means for the driver or the GPU as a whole; return when it is about one field only."""
    code = getattr(error, "value", None)
    if code in _LOST:
        raise DeviceLost(str(error)) from error
    if code in _GONE:
        raise DriverGone(str(error)) from error
    if code == MISMATCH:
        raise DriverReplaced(str(error)) from error


class Nvml:
    """The library: loaded once, initialised, and initialised again when the driver has gone and come back.

    Calls are made inside ``using()``, so that it is not shut down during a call. ``lib`` is nvidia-ml-py.
    """

    lib: Any

    def __init__(
        self, loader: Callable[[], Any] = load, drain_seconds: float = 1.0, retire_seconds: float = 5.0
    ) -> None:
        """Prepare; closing waits ``drain_seconds`` for calls, a retired one shuts down once unused for that long."""
        self._loader = loader
        self._drain_seconds = drain_seconds
        self._retire_seconds = retire_seconds
        self._retired = False
        self._kept: dict[int, tuple[Callable[[Any], None], Any]] = {}
        self._turning = threading.Lock()
        """Held while it is opened or closed, so that what is being closed is not opened in between."""
        self._state = threading.Condition()
        self._users: dict[object, float] = {}
        self.generation = 0
        """0 while closed, else how often it was opened: handles of another generation are void."""
        self.failure: NvmlFailure | None = None
        """The last error that concerns the whole driver, since it was opened."""
        self._opened = 0
        self._numbers = 0
        self._last_use = 0.0

    def open(self) -> None:
        """Load and initialise; NvmlFailure when that cannot be done. Waits while another thread is closing it."""
        with self._turning:
            if not self.generation:
                self._open()
        if self._retired:
            self.retire()

    def _open(self) -> None:
        self.lib = self._loader()
        try:
            self.lib.nvmlInit()
        except self.lib.NVMLError as error:
            check(error)
            if error.value == self.lib.NVML_ERROR_LIBRARY_NOT_FOUND:
                raise LibraryMissing(str(error)) from error
            raise DriverFailed(f"the NVIDIA driver cannot be opened: {error}") from error
        with self._state:
            self.failure = None
            self._opened += 1
            self.generation = self._opened
            self._last_use = time.monotonic()

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function of the library. Raises Lost or NvmlFailure, else NVMLError; call it inside ``using()``."""
        try:
            return function(*arguments)
        except self.lib.NVMLError as error:
            check(error)
            raise

    def call_or_none(self, function: Callable[..., Any], *arguments: Any) -> Any | None:
        """Call a function of the library, as ``call`` does; None when it returns no readable text."""
        try:
            return self.call(function, *arguments)
        except (self.lib.NVMLError, UnicodeDecodeError):
            return None

    def retire(self) -> None:
        """Shut down once it has been unused for a while, if ever; does not block.

        Opening it then initialises the library again: one that is never shut down does not find a GPU that came back.
        """
        self._retired = True
        _in_background(self._close_when_unused)

    def close_in_background(self) -> None:
        """Close, as ``close``, but do not wait for it."""
        _in_background(self.close)

    def keep(self, free: Callable[[Any], None], thing: Any) -> int:
        """Keep what the library allocated; it is freed before the library is shut down. Returns its number."""
        with self._state:
            number = self._numbers = self._numbers + 1
            self._kept[number] = free, thing
        return number

    def free(self, number: int) -> None:
        """Free one thing that is kept now; nothing when that was done. Call it inside ``using()``."""
        with self._state:
            free, thing = self._kept.pop(number, (None, None))
        if free is not None:
            self._free(free, thing)

    def close(self) -> bool:
        """Shut down once no call is under way; False, and still open, when one does not return in time.

        A call that has taken longer than that already is not waited for: no other call could be made meanwhile.
        """
        with self._turning:
            return self._close()

    def _close(self) -> bool:
        with self._state:
            if not self.generation:
                return True
            if min(self._users.values(), default=math.inf) < time.monotonic() - self._drain_seconds:
                return False
            generation, self.generation = self.generation, 0
            if not self._state.wait_for(lambda: not self._users, self._drain_seconds):
                self.generation = generation
                return False
            kept, self._kept = self._kept, {}
            self._state.notify_all()
        for free, thing in kept.values():
            self._free(free, thing)
        with contextlib.suppress(self.lib.NVMLError):  # the driver may be gone
            self.lib.nvmlShutdown()
        return True

    def _free(self, free: Callable[[Any], None], thing: Any) -> None:
        with contextlib.suppress(self.lib.NVMLError):
            free(thing)

    def _close_when_unused(self) -> None:
        """Wait until it can be closed, for ever while a call hangs; ends when it has been closed elsewhere."""
        while self.generation:
            with self._state:
                left = self._last_use + self._retire_seconds - time.monotonic()
                waits = bool(self._users) or left > 0
                if waits:
                    self._state.wait(None if self._users else left)
            if not waits:
                self.close()

    @contextlib.contextmanager
    def using(self) -> Iterator[int]:
        """Keep it open meanwhile; yields the generation. DriverGone while it is closed."""
        with self._state:
            if not self.generation:
                raise DriverGone("not initialised")
            generation = self.generation
            user = object()
            self._users[user] = time.monotonic()
        try:
            yield generation
        except NvmlFailure as failure:
            self.failure = failure
            raise
        finally:
            with self._state:
                del self._users[user]
                self._last_use = time.monotonic()
                self._state.notify_all()


def _in_background(function: Callable[[], object]) -> None:
    """Run a function in a daemon thread; where the machine has no thread left it does not run."""
    with contextlib.suppress(RuntimeError):
        start(function, "gpu-nvml-close")
