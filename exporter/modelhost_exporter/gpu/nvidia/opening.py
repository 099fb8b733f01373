"""Opening the driver, and not trying that too often."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.gpu.nvidia.nvml import DriverFailed, LibraryBroken, Nvml, NvmlFailure

if TYPE_CHECKING:
    from collections.abc import Callable

_AGAIN_SECONDS, _NEVER_THERE_SECONDS = 10.0, 60.0


class Opening:
    """Open the driver; one that cannot be opened is tried again after 10 s, one that never was loaded after a minute.

    Each try may start a program (modprobe). A library that cannot be loaded is checked again at once: see library.py.
    """

    def __init__(self, nvml: Nvml, clock: Callable[[], float]) -> None:
        self._nvml = nvml
        self._clock = clock
        self._failed: tuple[NvmlFailure, float] | None = None

    def open(self, *, was_there: bool) -> None:
        """Open it. NvmlFailure when that cannot be done; the last one again, without a try, when it is too early."""
        if self._failed is not None:
            failure, when = self._failed
            soon = was_there or isinstance(failure, DriverFailed)
            if self._clock() - when < (_AGAIN_SECONDS if soon else _NEVER_THERE_SECONDS):
                raise failure.with_traceback(None)  # it would grow with each raise
        try:
            self._nvml.open()
        except NvmlFailure as failure:
            self._failed = None if isinstance(failure, LibraryBroken) else (failure, self._clock())
            raise
        self._failed = None
