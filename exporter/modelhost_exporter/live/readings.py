"""What was measured a moment ago and up to a minute before that: what rates and quantiles are computed from."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from modelhost_exporter.live import host, requests

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from modelhost_exporter.live.family_lookup import Families
    from modelhost_exporter.live.host import Cpus, Devices
    from modelhost_exporter.live.requests import Counts, Key

_TOLERANCE_SECONDS = 1.0


class Measurement(NamedTuple):
    """The counters of one moment."""

    at: float
    """Seconds of the monotonic clock, which no change of the time of day moves."""
    cpus: Cpus
    devices: Devices
    requests: Mapping[Key, Counts]


class Measurements:
    """The readings of the last ``longest_seconds``, the newest last."""

    def __init__(self, longest_seconds: float) -> None:
        self._longest = longest_seconds
        self._readings: deque[Measurement] = deque()
        self._requests_from = 0.0

    def add(self, at: float, families: Families) -> None:
        """Keep what there is now; requests that were counted down began anew, and are compared with nothing older."""
        before = self._readings[-1].requests if self._readings else {}
        counts = requests.by_model(families, before)
        self._readings.append(Measurement(at, host.cpus(families), host.devices(families), counts))
        if not all(counts.get(key, requests.NOTHING).follows(older) for key, older in before.items()):
            self._requests_from = at
        while self._readings[0].at < at - self._longest - _TOLERANCE_SECONDS:
            self._readings.popleft()

    @property
    def newest(self) -> Measurement:
        """The last one that was added."""
        return self._readings[-1]

    def cpu_percent(self, seconds: float) -> float | None:
        """Return how busy the CPUs were."""
        span = [reading for reading in self._last(seconds) if reading.cpus]
        if len(span) < 2 or not self.newest.cpus:  # noqa: PLR2004 - a span has two ends
            return None
        return host.cpu_percent(span[0].cpus, span[-1].cpus)

    def network_rates(self, seconds: float) -> tuple[float | None, float | None]:
        """Return the bytes that came in and went out in a second."""
        span = [reading for reading in self._last(seconds) if reading.devices]
        if len(span) < 2 or not self.newest.devices:  # noqa: PLR2004 - likewise
            return None, None
        taken = span[-1].at - span[0].at
        received, sent = host.moved([reading.devices for reading in span])
        return (None if received is None else received / taken, None if sent is None else sent / taken)

    def requests_span(self, seconds: float) -> RequestsSpan | None:
        """Return what requests there were; None where there is nothing to compare with."""
        span = [reading for reading in self._last(seconds) if reading.at >= self._requests_from]
        if len(span) < 2:  # noqa: PLR2004 - likewise
            return None
        return RequestsSpan(span[0].requests, span[-1].requests, span[-1].at - span[0].at)

    def _last(self, seconds: float) -> Sequence[Measurement]:
        """Return the readings of at most this age: after a gap, older ones do not count."""
        since = self.newest.at - seconds - _TOLERANCE_SECONDS
        return [reading for reading in self._readings if reading.at >= since]


class RequestsSpan(NamedTuple):
    """The requests of a span of time; those of a model that was not there before count from 0."""

    first: Mapping[Key, Counts]
    last: Mapping[Key, Counts]
    seconds: float

    def of(self, key: Key) -> Counts:
        """Return those of a model."""
        return self.last.get(key, requests.NOTHING) - self.first.get(key, requests.NOTHING)

    def total(self) -> Counts:
        """Return all of them."""
        return requests.together(self.last.values()) - requests.together(self.first.values())
