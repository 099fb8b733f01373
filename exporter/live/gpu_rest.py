"""Letting GPUs fall asleep: asking one that is awake keeps it awake, which costs a laptop its battery."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from exporter.gpu.sleep import PciDevices, may_sleep

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_REST_SECONDS = 30.0


class GpuRest:
    """Decides when GPUs are asked: always while somebody watches, now and then while nobody does and one may sleep."""

    def __init__(self, any_may_sleep: Callable[[], bool], clock: Callable[[], float] = time.monotonic) -> None:
        self._any_may_sleep = any_may_sleep
        self._clock = clock
        self._asked_at = -_REST_SECONDS

    def is_over(self, *, watched: bool) -> bool:
        """Tell whether the GPUs are to be asked now."""
        now = self._clock()
        if not watched and now - self._asked_at < _REST_SECONDS and self._any_may_sleep():
            return False
        self._asked_at = now
        return True


def any_may_sleep(sysfs: Path) -> bool:
    """Tell whether the system may put any GPU to sleep."""
    nvidia = PciDevices(sysfs, "nvidia")
    return any(nvidia.may_sleep(address) for address in nvidia.addresses()) or any(
        may_sleep(card / "device") for card in sysfs.glob("class/drm/card[0-9]*")
    )
