"""Turns families into messages, one after the other, and remembers what that takes."""

from __future__ import annotations

import platform
import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

from modelhost_exporter import __version__
from modelhost_exporter.live import gpus, host
from modelhost_exporter.live.family_lookup import Families
from modelhost_exporter.live.measurements import Measurement, Measurements
from modelhost_exporter.live.message import MEAN_SECONDS, message
from modelhost_exporter.requests.in_flight import in_flight_by_model

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

    from modelhost_exporter.live.gpus import Gpu
    from modelhost_exporter.live.message import Message
    from modelhost_exporter.live.request_totals import ModelKey, RequestCounts, RequestTotals
    from modelhost_exporter.requests.in_flight import InFlight
    from modelhost_exporter.scrape import Scrape

INTERVAL_SECONDS = 2

_COLLECTORS = frozenset({"cpu", "filesystem", "gpu", "load", "memory", "model_servers", "network"})
_TIMEOUT_SECONDS = 1.5


class FamilySource(Protocol):
    """Where families come from: the running exporter."""

    registry: CollectorRegistry
    """Where the proxy counts."""
    request_totals: RequestTotals
    scrape: Scrape
    demo: bool


class MachineReading(NamedTuple):
    """What one message is computed from."""

    families: Iterable[Metric]
    silent: Collection[str]
    """Collectors that did not finish in time."""
    requests: Mapping[ModelKey, RequestCounts]
    in_flight: InFlight


class Meter:
    """One message after the other; to be used by one thread at a time."""

    def __init__(
        self,
        measured: Callable[[], MachineReading],
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
        self._readings.add(
            Measurement(
                self._clock(), host.cpus(families), host.devices(families), measured.requests, measured.in_flight
            )
        )
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


def measured_by(source: FamilySource) -> MachineReading:
    """Run the collectors that the message needs and read the totals of requests; blocks."""
    measured = source.scrape.measure(_COLLECTORS, min(_TIMEOUT_SECONDS, source.scrape.timeout_seconds))
    return MachineReading(
        measured.families, measured.silent, source.request_totals.by_model(), in_flight_by_model(source.registry)
    )
