"""Pause the polling of a GPU, so that the system can suspend it: queries and an open driver keep it awake.

Known of NVIDIA's driver: NVML holds the device open, which counts as a use, and every query restarts the wait for
suspension (about 10 s); once it is closed the GPU is suspended within seconds. amdgpu waits 5 s after any
file was read. So the polling of an unused GPU is paused now and then; whether it is suspended depends on others (a
display, a program that holds it open), which is why it is polled as usual in between.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from modelhost_exporter.gpu import families

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from modelhost_exporter.gpu.contract import Value

_CHANCE_SECONDS = 30.0
_BETWEEN_SECONDS = 600.0
_UNUSED_BYTES = 200 * 2**20  # what NVIDIA's driver takes as little enough to switch the memory off, too


class PollingPause:
    """When one GPU sleeps, and when it is left alone so that it can."""

    def __init__(
        self, is_suspended: Callable[[], bool], may_suspend: Callable[[], bool], clock: Callable[[], float]
    ) -> None:
        """Prepare; ``is_suspended`` and ``may_suspend`` return the system's state without waking the GPU."""
        self._is_suspended = is_suspended
        self._may_suspend = may_suspend
        self._clock = clock
        self._until = self._next = -math.inf

    @property
    def active(self) -> bool:
        """Whether it is left alone now."""
        return self._clock() < self._until

    def is_suspended(self) -> bool:
        """Return whether it is suspended. Once awake it is polled at once, and may be paused again at once."""
        suspended = self._is_suspended()
        if suspended:
            self._until = self._next = -math.inf
        return suspended

    def update(self, values: Iterable[Value]) -> None:
        """Evaluate a reading: for an unused GPU that may be suspended a pause begins, if one is due."""
        now = self._clock()
        if now >= self._next and _unused(values) and self._may_suspend():
            self._until = now + _CHANCE_SECONDS
            self._next = self._until + _BETWEEN_SECONDS


def _unused(values: Iterable[Value]) -> bool:
    """Return whether the GPU is known to be unused; a loaded model is a use, and a little memory is always in use."""
    utilization = used = None
    for family, _, number in values:
        if family is families.UTILIZATION:
            utilization = number
        elif family is families.MEMORY_USED:
            used = number
    return utilization == 0 and used is not None and used < _UNUSED_BYTES
