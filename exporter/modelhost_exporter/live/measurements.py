"""Counters of the last seconds, from which rates are computed."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from modelhost_exporter.live import host
from modelhost_exporter.live.cores import core_percent
from modelhost_exporter.live.host import Traffic
from modelhost_exporter.live.request_totals import NO_REQUESTS, total
from modelhost_exporter.live.token_progress import tokens_between

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from modelhost_exporter.live.cores import CoreTime
    from modelhost_exporter.live.host import CpuWork
    from modelhost_exporter.live.request_totals import ModelKey, RequestCounts
    from modelhost_exporter.live.token_progress import TokenReading
    from modelhost_exporter.requests.series_by_model import ByModel

_TOLERANCE_SECONDS = 1.0


class Measurement(NamedTuple):
    """The counters at one moment."""

    at: float
    """Seconds of the monotonic clock, which changes of the time of day do not affect."""
    cpu: CpuWork
    cores: Mapping[str, CoreTime]
    network: Traffic
    disk: Traffic
    requests: Mapping[ModelKey, RequestCounts]
    in_flight: ByModel
    tokens: TokenReading


class Measurements:
    """The measurements of the last ``max_age_seconds``, the newest last."""

    def __init__(self, max_age_seconds: float) -> None:
        self._max_age = max_age_seconds
        self._measurements: deque[Measurement] = deque()

    def add(self, measurement: Measurement) -> None:
        """Append the newest measurement and drop those that are too old."""
        self._measurements.append(measurement)
        while self._measurements[0].at < measurement.at - self._max_age - _TOLERANCE_SECONDS:
            self._measurements.popleft()

    @property
    def newest(self) -> Measurement:
        """The measurement that was added last; IndexError before the first."""
        return self._measurements[-1]

    def cpu_percent(self, seconds: float) -> float | None:
        """Return the mean CPU use in percent over the last seconds; None without two measurements."""
        span = [measurement for measurement in self._last(seconds) if measurement.cpu.seconds is not None]
        if len(span) < 2 or self.newest.cpu.seconds is None:  # noqa: PLR2004 - a span has two ends
            return None
        return host.cpu_percent([measurement.cpu for measurement in span])

    def core_percent(self, seconds: float) -> list[int] | None:
        """Return the mean use of each CPU in percent over the last seconds; None without two measurements."""
        span = [measurement for measurement in self._last(seconds) if measurement.cores]
        if len(span) < 2 or not self.newest.cores:  # noqa: PLR2004 - likewise
            return None
        return core_percent(span[0].cores, span[-1].cores)

    def network_rates(self, seconds: float) -> Traffic:
        """Return the bytes received and sent per second over the last seconds; None without two measurements."""
        return _rates([(measurement.at, measurement.network) for measurement in self._last(seconds)])

    def disk_rates(self, seconds: float) -> Traffic:
        """Return the bytes read and written per second over the last seconds; None without two measurements."""
        return _rates([(measurement.at, measurement.disk) for measurement in self._last(seconds)])

    def requests_span(self, seconds: float) -> RequestsSpan | None:
        """Return the requests of the last seconds; None without two measurements."""
        span = self._last(seconds)
        if len(span) < 2:  # noqa: PLR2004 - likewise
            return None
        return RequestsSpan(span[0].requests, span[-1].requests, span[-1].at - span[0].at)

    def tokens_per_second(self, key: ModelKey, seconds: float) -> float | None:
        """Return the output tokens per second of a model over the last seconds; None if it never had any."""
        span = self._last(seconds)
        if len(span) < 2 or not self.newest.tokens.has_tokens(key):  # noqa: PLR2004 - likewise
            return None
        first, last = span[0], span[-1]
        return tokens_between(key, first.at, first.tokens, last.at, last.tokens) / (last.at - first.at)

    def _last(self, seconds: float) -> Sequence[Measurement]:
        """Return the measurements of at most this age: after a pause, older ones do not count."""
        since = self.newest.at - seconds - _TOLERANCE_SECONDS
        return [measurement for measurement in self._measurements if measurement.at >= since]


def _rates(readings: Sequence[tuple[float, Traffic]]) -> Traffic:
    """Return the bytes per second of readings with their times; None without two, or where the last is not known."""
    span = [(at, traffic) for at, traffic in readings if traffic.is_known]
    if len(span) < 2 or not readings[-1][1].is_known:  # noqa: PLR2004 - likewise
        return Traffic(None, None)
    duration = span[-1][0] - span[0][0]
    received, sent = host.transferred([traffic for _, traffic in span])
    return Traffic(None if received is None else received / duration, None if sent is None else sent / duration)


class RequestsSpan(NamedTuple):
    """The requests of a span of time. A model that is new in it counts from 0, as does one that was removed in it."""

    first: Mapping[ModelKey, RequestCounts]
    last: Mapping[ModelKey, RequestCounts]
    seconds: float

    def of(self, key: ModelKey) -> RequestCounts:
        """Return the requests of one model."""
        first, last = self.first.get(key, NO_REQUESTS), self.last.get(key, NO_REQUESTS)
        return last - first if last.requests >= first.requests else last

    def total(self) -> RequestCounts:
        """Return the requests of all models."""
        return total(self.last.values()) - total(self.first.values())
