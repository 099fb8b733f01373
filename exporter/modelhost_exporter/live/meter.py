"""Measure the machine and compute one message after the other."""

from __future__ import annotations

import time
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, Protocol

from modelhost_exporter.config.cost import Cost
from modelhost_exporter.live import gpus, host
from modelhost_exporter.live.cores import core_times
from modelhost_exporter.live.disk_troubles import DiskWatch
from modelhost_exporter.live.energy import EnergyToday
from modelhost_exporter.live.family_lookup import Families
from modelhost_exporter.live.last_minute import NO_READING
from modelhost_exporter.live.measurements import Measurement, Measurements
from modelhost_exporter.live.message_builder import RATE_SECONDS, Tracked, build_message
from modelhost_exporter.requests.series_by_model import chunks_by_model, in_flight_by_model

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

    from modelhost_exporter.config.model import Config
    from modelhost_exporter.config.servers import Server
    from modelhost_exporter.live.host_sources import HostSources
    from modelhost_exporter.live.last_minute import LastMinute, MinuteReading
    from modelhost_exporter.live.message import GpuMessage, HostIdentity, LiveMessage
    from modelhost_exporter.live.message_builder import MessageConstants
    from modelhost_exporter.live.model_folders import ModelFolder
    from modelhost_exporter.live.request_totals import ModelKey, RequestCounts, RequestTotals
    from modelhost_exporter.live.token_progress import TokenProgress, TokenReading
    from modelhost_exporter.requests.series_by_model import ByModel
    from modelhost_exporter.scraping.outcome import Outcome
    from modelhost_exporter.scraping.scrape import Scrape

INTERVAL_SECONDS = 2

_COLLECTORS = frozenset({"cpu", "disk", "engines", "filesystem", "gpu", "load", "memory", "network", "rapl"})
_TIMEOUT_SECONDS = 1.5


UNKNOWN_HOST: HostIdentity = {
    "name": "",
    "system": "",
    "release": None,
    "kernel": "",
    "cpuModel": None,
    "bootTime": None,
}


class MeterSource(Protocol):
    """The parts of the running exporter that a message is computed from."""

    registry: CollectorRegistry
    """The registry of the proxy's metrics."""
    request_totals: RequestTotals
    last_minute: LastMinute
    token_progress: TokenProgress
    scrape: Scrape
    config: Config
    host: HostSources
    demo: bool
    earlier_readings: Sequence[TimedReading]
    """Readings of the time before the start, the oldest first; empty once they are in the history."""


class MachineReading(NamedTuple):
    """The values that one message is computed from."""

    families: Iterable[Metric]
    silent: Collection[str]
    """The collectors that did not finish in time or failed."""
    requests: Mapping[ModelKey, RequestCounts]
    in_flight: ByModel
    tokens: TokenReading
    minute: MinuteReading = NO_READING
    """The requests of all models."""
    minute_by_model: Mapping[ModelKey, MinuteReading] = MappingProxyType({})
    servers: Sequence[Server] = ()
    """Those of the configuration, and those that were found."""
    gpu: Outcome | None = None
    """What became of the collector of GPUs; None where it is off."""
    host: HostIdentity = UNKNOWN_HOST
    model_folders: Sequence[ModelFolder] = ()
    cost: Cost = Cost()


class TimedReading(NamedTuple):
    """A reading with its time: in seconds of the monotonic clock, and since 1970."""

    at: float
    when: float
    reading: MachineReading


class TimedMessage(NamedTuple):
    """A message with its time in seconds since 1970."""

    when: float
    message: LiveMessage


class Meter:
    """Measures for as long as messages are wanted; used by one thread at a time."""

    def __init__(
        self,
        read: Callable[[], MachineReading],
        constants: MessageConstants,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Start without measurements. ``read`` may block; ``clock`` is monotonic, ``now`` is the time of day."""
        self._read = read
        self._constants = constants
        self._clock = clock
        self._now = now
        self._measurements = Measurements(RATE_SECONDS)
        self._gpus: list[GpuMessage] = []
        self._disks = DiskWatch()
        self._energy = EnergyToday()

    def measure(self) -> TimedMessage:
        """Measure and return the message; the first one has no rates. Blocks."""
        reading = self._read()
        return self.message_of(TimedReading(self._clock(), self._now(), reading))

    def message_of(self, timed: TimedReading) -> TimedMessage:
        """Return the message of a reading that is newer than the last one."""
        at, when, reading = timed
        families = Families(reading.families)
        self._measurements.add(
            Measurement(
                at,
                host.cpu_work(families),
                core_times(families),
                host.network_traffic(families),
                host.disk_traffic(families),
                reading.requests,
                reading.in_flight,
                reading.tokens,
            )
        )
        self._gpus = gpus.without_numbers(self._gpus) if "gpu" in reading.silent else gpus.gpus(families)
        tracked = Tracked(
            self._gpus, self._disks.troubles(families), self._energy.message(at, when, families, reading.cost)
        )
        message = build_message(families, self._measurements, tracked, reading, when=when, constants=self._constants)
        return TimedMessage(when, message)


def read_source(source: MeterSource) -> MachineReading:
    """Run the collectors that the message needs, and read the totals of requests. Blocks."""
    measured = source.scrape.measure(_COLLECTORS, min(_TIMEOUT_SECONDS, source.scrape.timeout_seconds))
    in_flight, chunks = in_flight_by_model(source.registry), chunks_by_model(source.registry)
    reading = reading_of(source, measured.families, measured.silent, in_flight, chunks)
    return reading._replace(
        gpu=measured.outcomes.get("gpu"), host=source.host.identity(), model_folders=source.host.model_folders()
    )


def reading_of(
    source: MeterSource, families: Iterable[Metric], silent: Collection[str], in_flight: ByModel, chunks: ByModel
) -> MachineReading:
    """Return a reading of these families, requests in flight and chunks, and of the requests that have finished."""
    return MachineReading(
        families,
        silent,
        source.request_totals.by_model(),
        in_flight,
        source.token_progress.read(chunks),
        source.last_minute.all_models(),
        source.last_minute.by_model(),
        source.config.servers,
        cost=source.config.cost,
    )
