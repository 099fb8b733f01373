"""NVIDIA's management library (NVML), through nvidia-ml-py: loading, opening, calling and closing it."""

from __future__ import annotations

import contextlib
import importlib
import math
import threading
import time
from typing import TYPE_CHECKING, Any

from modelhost_exporter.gpu.nvidia import library
from modelhost_exporter.gpu.nvidia.errors import (
    DriverFailed,
    DriverGone,
    LibraryBroken,
    LibraryMissing,
    NvmlFailure,
    check,
)
from modelhost_exporter.process.daemon_thread import start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def load() -> Any:
    """Return nvidia-ml-py, its library loaded.

    Raises LibraryMissing or LibraryBroken before nvidia-ml-py (3 MB) is imported.
    """
    try:
        found = library.load()
    except library.NotLoadable as error:
        raise LibraryBroken(str(error)) from error
    if not found:
        raise LibraryMissing(library.MISSING)
    return importlib.import_module("pynvml")


class Nvml:
    """The library: loaded once, and initialised again whenever the driver was unloaded and is back.

    Calls are made inside ``using()``, so that the library is not shut down during a call. ``lib`` is nvidia-ml-py.
    """

    lib: Any

    def __init__(
        self, loader: Callable[[], Any] = load, drain_seconds: float = 1.0, retire_seconds: float = 5.0
    ) -> None:
        """Prepare; ``close`` waits ``drain_seconds`` for calls, ``retire`` until none came for ``retire_seconds``."""
        self._loader = loader
        self._drain_seconds = drain_seconds
        self._retire_seconds = retire_seconds
        self._retired = False
        self._allocations: dict[int, tuple[Callable[[Any], None], Any]] = {}
        self._last_allocation = 0
        self._turning = threading.Lock()
        """Held while the library is opened or closed, so that one does not happen during the other."""
        self._state = threading.Condition()
        self._users: dict[object, float] = {}
        self.generation = 0
        """0 while closed, else the number of times it was opened. Handles of another generation are void."""
        self.failure: NvmlFailure | None = None
        """The last error since the library was opened that concerns the whole driver."""
        self._opened = 0
        self._last_use = 0.0

    def open(self) -> None:
        """Load and initialise the library; waits while another thread is closing it. Raises NvmlFailure."""
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

    @contextlib.contextmanager
    def using(self) -> Iterator[int]:
        """Keep the library open during the block, and yield the generation. DriverGone while it is closed."""
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

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function of the library, inside ``using()``. Raises DeviceLost, NvmlFailure or NVMLError."""
        try:
            return function(*arguments)
        except self.lib.NVMLError as error:
            check(error)
            raise

    def call_or_none(self, function: Callable[..., Any], *arguments: Any) -> Any | None:
        """Call a function as ``call`` does; return None for an NVMLError, and for text that is not UTF-8."""
        try:
            return self.call(function, *arguments)
        except (self.lib.NVMLError, UnicodeDecodeError):
            return None

    def keep(self, free: Callable[[Any], None], thing: Any) -> int:
        """Register an allocation of the library, freed at the latest before shutdown; return its number."""
        with self._state:
            number = self._last_allocation = self._last_allocation + 1
            self._allocations[number] = free, thing
        return number

    def free(self, number: int) -> None:
        """Free an allocation now, inside ``using()``; do nothing where it is free already."""
        with self._state:
            free, thing = self._allocations.pop(number, (None, None))
        if free is not None:
            self._free(free, thing)

    def close(self) -> bool:
        """Shut the library down once no call is running; return False, still open, when a call does not return in time.

        Calls that already run longer than ``drain_seconds`` are not waited for: no other call could start meanwhile.
        """
        with self._turning:
            return self._close()

    def close_in_background(self) -> None:
        """Close as ``close`` does, in a thread."""
        _in_background(self.close)

    def retire(self) -> None:
        """Shut the library down in a thread once it has been unused for a while; it may hang for ever in a call.

        A later ``open`` then initialises it again. A library that is never shut down does not find a GPU that was lost
        and is back.
        """
        self._retired = True
        _in_background(self._close_when_unused)

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
            allocations, self._allocations = self._allocations, {}
            self._state.notify_all()
        for free, thing in allocations.values():
            self._free(free, thing)
        with contextlib.suppress(self.lib.NVMLError):  # the driver may be gone
            self.lib.nvmlShutdown()
        return True

    def _free(self, free: Callable[[Any], None], thing: Any) -> None:
        with contextlib.suppress(self.lib.NVMLError):
            free(thing)

    def _close_when_unused(self) -> None:
        """Close once unused for long enough; wait for ever while a call hangs; return when closed elsewhere."""
        while self.generation:
            with self._state:
                left = self._last_use + self._retire_seconds - time.monotonic()
                waits = bool(self._users) or left > 0
                if waits:
                    self._state.wait(None if self._users else left)
            if not waits:
                self.close()


def _in_background(function: Callable[[], object]) -> None:
    """Run a function in a daemon thread; on a machine without a free thread it does not run."""
    with contextlib.suppress(RuntimeError):
        start(function, "gpu-nvml-close")
