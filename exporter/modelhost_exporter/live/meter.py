"""Measure the machine and compute one message after the other."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

from modelhost_exporter.live import gpus, host
from modelhost_exporter.live.cores import core_times
from modelhost_exporter.live.family_lookup import Families
from modelhost_exporter.live.measurements import Measurement, Measurements
from modelhost_exporter.live.message_builder import MEAN_SECONDS, build_message
from modelhost_exporter.requests.series_by_model import chunks_by_model, in_flight_by_model

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

    from modelhost_exporter.config.model import Config
    from modelhost_exporter.config.servers import Server
    from modelhost_exporter.live.host_sources import HostSources
    from modelhost_exporter.live.message import GpuMessage, HostIdentity, LiveMessage
    from modelhost_exporter.live.message_builder import MessageConstants
    from modelhost_exporter.live.model_folders import ModelFolder
    from modelhost_exporter.live.request_totals import ModelKey, RequestCounts, RequestTotals
    from modelhost_exporter.live.token_progress import TokenProgress, TokenReading
    from modelhost_exporter.requests.series_by_model import ByModel
    from modelhost_exporter.scraping.outcome import Outcome
    from modelhost_exporter.scraping.scrape import Scrape

INTERVAL_SECONDS = 2

_COLLECTORS = frozenset({"cpu", "disk", "engines", "filesystem", "gpu", "load", "memory", "network"})
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
    token_progress: TokenProgress
    scrape: Scrape
    config: Config
    host: HostSources
    demo: bool


class MachineReading(NamedTuple):
    """The values that one message is computed from."""

    families: Iterable[Metric]
    silent: Collection[str]
    """The collectors that did not finish in time or failed."""
    requests: Mapping[ModelKey, RequestCounts]
    in_flight: ByModel
    tokens: TokenReading
    servers: Sequence[Server] = ()
    """Those of the configuration, and those that were found."""
    gpu: Outcome | None = None
    """What became of the collector of GPUs; None where it is off."""
    host: HostIdentity = UNKNOWN_HOST
    model_folders: Sequence[ModelFolder] = ()


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
        self._measurements = Measurements(MEAN_SECONDS)
        self._gpus: list[GpuMessage] = []

    def measure(self) -> TimedMessage:
        """Measure and return the message; the first one has no rates. Blocks."""
        reading = self._read()
        families = Families(reading.families)
        self._measurements.add(
            Measurement(
                self._clock(),
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
        when = self._now()
        message = build_message(families, self._measurements, self._gpus, reading, when=when, constants=self._constants)
        return TimedMessage(when, message)


def read_source(source: MeterSource) -> MachineReading:
    """Run the collectors that the message needs, and read the totals of requests. Blocks."""
    measured = source.scrape.measure(_COLLECTORS, min(_TIMEOUT_SECONDS, source.scrape.timeout_seconds))
    return MachineReading(
        measured.families,
        measured.silent,
        source.request_totals.by_model(),
        in_flight_by_model(source.registry),
        source.token_progress.read(chunks_by_model(source.registry)),
        source.config.servers,
        measured.outcomes.get("gpu"),
        source.host.identity(),
        source.host.model_folders(),
    )
