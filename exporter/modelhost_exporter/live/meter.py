"""Turns families into messages, one after the other, and remembers what that takes."""

from __future__ import annotations

import platform
import time
from typing import TYPE_CHECKING, Protocol

from modelhost_exporter import __version__
from modelhost_exporter.live import gpus, requests
from modelhost_exporter.live.family_lookup import Families
from modelhost_exporter.live.message import MEAN_SECONDS, message
from modelhost_exporter.live.readings import Measurements

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from prometheus_client import CollectorRegistry

    from modelhost_exporter.live.gpus import Gpu
    from modelhost_exporter.live.message import Message
    from modelhost_exporter.scrape import Measured, Scrape

INTERVAL_SECONDS = 2

_COLLECTORS = frozenset({"cpu", "engines", "filesystem", "gpu", "load", "memory", "network"})
_TIMEOUT_SECONDS = 1.5


class FamilySource(Protocol):
    """Where families come from: the running exporter."""

    registry: CollectorRegistry
    """Where the proxy counts."""
    scrape: Scrape
    demo: bool


class Meter:
    """One message after the other; to be used by one thread at a time."""

    def __init__(
        self,
        measured: Callable[[], Measured],
        keep: Callable[[float, Message], None],
        about: Mapping[str, object],
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Prepare; ``measured`` may block, ``keep`` is given each message with its time in seconds since 1970.

        ``about`` is what is the same in every message.
        """
        self._measured = measured
        self._keep = keep
        self._clock = clock
        self._now = now
        self._about = about
        self._readings = Measurements(MEAN_SECONDS)
        self._gpus: list[Gpu] = []

    def read(self) -> Message:
        """Measure and return a message; the first one has no rates."""
        measured = self._measured()
        families = Families(measured.families)
        self._readings.add(self._clock(), families)
        self._gpus = gpus.silent(self._gpus) if "gpu" in measured.silent else gpus.gpus(families)
        when = self._now()
        result = message(families, self._readings, self._gpus, when, self._about)
        self._keep(when, result)
        return result


def about(interval_seconds: float, demo: bool) -> Mapping[str, object]:
    """Return what is the same in every message."""
    return {
        "interval": interval_seconds,
        "demo": demo,
        "version": __version__,
        "host": {"name": platform.node(), "system": platform.system()},
    }


def measured_by(source: FamilySource) -> Measured:
    """Return what the collectors that are needed measure, with what the proxy counts; blocks."""
    measured = source.scrape.measure(_COLLECTORS, min(_TIMEOUT_SECONDS, source.scrape.timeout_seconds))
    counted = source.registry.restricted_registry(requests.SAMPLES).collect()
    return measured._replace(families=[*measured.families, *counted])
