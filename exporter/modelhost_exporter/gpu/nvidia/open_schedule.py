"""When NVIDIA's driver is opened, and when it is closed and opened again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.gpu.nvidia.errors import DriverFailed, LibraryBroken, NvmlFailure

if TYPE_CHECKING:
    from collections.abc import Callable

    from modelhost_exporter.gpu.nvidia.nvml import Nvml

_RETRY_SECONDS, _RETRY_NEVER_LOADED_SECONDS = 10.0, 60.0
_FIRST_RENEWAL_SECONDS, _MAX_RENEWAL_SECONDS = 30.0, 480.0


class DriverOpener:
    """Open the driver; retry one that cannot be opened after 10 s, and one that was never loaded after a minute.

    Each try may start a program (modprobe). A library that cannot be loaded is retried at once: library.py has limits
    of its own.
    """

    def __init__(self, nvml: Nvml, clock: Callable[[], float]) -> None:
        self._nvml = nvml
        self._clock = clock
        self._failed: tuple[NvmlFailure, float] | None = None

    def open(self, *, was_loaded: bool) -> None:
        """Open the driver. Raises NvmlFailure: before the next retry is due, the last one again."""
        if self._failed is not None:
            failure, when = self._failed
            soon = was_loaded or isinstance(failure, DriverFailed)
            if self._clock() - when < (_RETRY_SECONDS if soon else _RETRY_NEVER_LOADED_SECONDS):
                raise failure.with_traceback(None)  # its traceback would grow with each raise
        try:
            self._nvml.open()
        except NvmlFailure as failure:
            self._failed = None if isinstance(failure, LibraryBroken) else (failure, self._clock())
            raise
        self._failed = None


class RenewalSchedule:
    """When the library is initialised again to find a GPU that is missing or new.

    30 s after one is first missing, then each time after twice as long, up to 8 min: a new initialisation voids every
    handle, so that the other GPUs have no means (GPM) in one scrape.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._at: float | None = None
        self._delay = _FIRST_RENEWAL_SECONDS

    def is_due(self) -> bool:
        """Return whether the library must be initialised again now."""
        return self._at is not None and self._clock() >= self._at

    def begin(self) -> None:
        """Note that the library is being initialised again."""
        self._at = None

    def update(self, *, wanted: bool) -> None:
        """Schedule the next renewal where a GPU is missing or new, else cancel it."""
        if not wanted:
            self._at = None
            self._delay = _FIRST_RENEWAL_SECONDS
        elif self._at is None:
            self._at = self._clock() + self._delay
            self._delay = min(2 * self._delay, _MAX_RENEWAL_SECONDS)
