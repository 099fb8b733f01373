"""Pause the polling of a GPU, so that the system can suspend it: queries and an open driver keep it awake.

NVML holds NVIDIA's device open, which counts as a use, and every query restarts the wait for suspension (about 10 s);
once NVML is closed the GPU is suspended within seconds. amdgpu waits 5 s after any of its files was read. So polling of
an unused GPU is paused now and then. A display, or a program that holds the GPU open, may still prevent its suspension,
so that it is polled as usual between the pauses.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from modelhost_exporter.gpu import families

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from modelhost_exporter.gpu.contract import Value

_PAUSE_SECONDS = 30.0
_INTERVAL_SECONDS = 600.0
_UNUSED_BYTES = 200 * 2**20  # below this NVIDIA's driver also switches the memory off


class PollingPause:
    """The pauses in the polling of one GPU, in which the system can suspend it."""

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
        """Whether polling is paused now."""
        return self._clock() < self._until

    def is_suspended(self) -> bool:
        """Return whether the GPU is suspended; if so, end the pause, and allow another one at any time."""
        suspended = self._is_suspended()
        if suspended:
            self._until = self._next = -math.inf
        return suspended

    def update(self, values: Iterable[Value]) -> None:
        """Begin a pause if one is due, and the reading shows an unused GPU that may be suspended."""
        now = self._clock()
        if now >= self._next and _unused(values) and self._may_suspend():
            self._until = now + _PAUSE_SECONDS
            self._next = self._until + _INTERVAL_SECONDS


def _unused(values: Iterable[Value]) -> bool:
    """Return whether the GPU is known to be unused: no utilisation, and no loaded model (little memory)."""
    utilization = used = None
    for family, _, number in values:
        if family is families.UTILIZATION:
            utilization = number
        elif family is families.MEMORY_USED:
            used = number
    return utilization == 0 and used is not None and used < _UNUSED_BYTES
