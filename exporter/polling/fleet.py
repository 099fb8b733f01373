"""All model servers: a thread each, so that a server that is slow or dead delays none of the others."""

from __future__ import annotations

import logging
import random
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

from prometheus_client import CollectorRegistry

from exporter.instruments import live_counter, live_histogram
from exporter.model_server_metrics import COLD_STARTS, COLD_TTFT, FAMILIES
from exporter.polling.probes import ProbeMetrics, Prober
from exporter.polling.proxied import ProxyCounts
from exporter.polling.server_watch import ServerWatch, Surroundings
from exporter.written import joined

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from prometheus_client.metrics_core import Metric

    from exporter.http_url import ServerUrl
    from exporter.observation import RequestObservation
    from exporter.polling.energy import GpuUses
    from exporter.polling.settings import ModelServer

log = logging.getLogger(__name__)

_JITTER = 0.1
_LONGEST_BACK_OFF = 16


class Fleet:
    """The model servers that are watched now; a reload replaces those that changed and leaves the others alone."""

    def __init__(
        self,
        proxy_registry: CollectorRegistry,
        gpus: GpuUses | None = None,
        *,
        around: Surroundings | None = None,
        schedule: Schedule | None = None,
    ) -> None:
        """Watch nothing yet. ``gpus`` is where energy and memory of models come from; None where there are no GPUs.

        ``around`` takes the place of the whole rest of the machine, and ``schedule`` that of the threads.
        """
        self._live = CollectorRegistry()
        """What is counted as it happens."""
        self._around = around or Surroundings(gpus=gpus)
        self._schedule = schedule or run_schedule
        self._counts = ProxyCounts(proxy_registry, self._around.now)
        self._probe_metrics = ProbeMetrics(self._live)
        self._cold_starts = live_counter(COLD_STARTS, self._live)
        self._cold_ttft = live_histogram(COLD_TTFT, self._live)
        self._watched: list[_Watched] = []
        self._by_name: dict[str, ServerWatch] = {}

    def watch(self, servers: Sequence[ModelServer], upstreams: dict[str, ServerUrl], interval_seconds: float) -> None:
        """Watch these servers and no others; ``upstreams`` are the proxied servers by name."""
        wanted = [
            _Wanted(server, server.url or upstreams[server.name], server.name in upstreams, interval_seconds)
            for server in servers
        ]
        before = {one.wanted.server.name: one for one in self._watched}
        kept = {name: one for name, one in before.items() if one.wanted in wanted}
        for name in before.keys() - kept.keys():
            before[name].stop()
        self._watched = [kept.get(one.server.name) or self._start(one) for one in wanted]
        self._by_name = {one.wanted.server.name: one.watch for one in self._watched}

    def close(self) -> None:
        """Let every thread end."""
        self.watch((), {}, 1.0)

    def collect(self) -> Iterable[Metric]:
        """Yield what was heard last of every server; asks nobody."""
        yield from joined(FAMILIES, [one.watch.parts for one in self._watched])
        for family in self._live.collect():
            family.samples = [sample for sample in family.samples if sample.labels["server"] in self._by_name]
            if family.samples:
                yield family

    def recorded(self, server: str, observed: RequestObservation) -> None:
        """Take note of a request that passed the proxy: whether it found its model not loaded."""
        watch = self._by_name.get(server)
        if watch is None or not observed.is_inference or observed.outcome != "ok":
            return
        now = self._around.now()
        accepted = now - observed.duration
        first_answer = accepted + (observed.time_to_first_token or observed.duration)
        if watch.history.is_cold(observed.model, accepted, first_answer):
            labels = (server, observed.model, observed.operation)
            self._cold_starts.labels(*labels).inc()
            if observed.time_to_first_token is not None:
                self._cold_ttft.labels(*labels).observe(observed.time_to_first_token)
            if observed.server_seconds.load is not None:
                watch.history.note_load(observed.model, accepted, observed.server_seconds.load)

    def _start(self, wanted: _Wanted) -> _Watched:
        server = wanted.server
        around = replace(self._around, is_proxied=wanted.is_proxied, passed=lambda: self._counts.of(server.name))
        watch = ServerWatch(server, wanted.url, around)
        prober = self._prober(wanted, watch) if server.probe else None
        return _Watched(wanted, watch, prober, self._schedule)

    def _prober(self, wanted: _Wanted, watch: ServerWatch) -> Prober:
        around = self._around
        return Prober(wanted.server, wanted.url, watch, self._probe_metrics, now=around.now, connect=around.connect)


class _Wanted(NamedTuple):
    """A server that is to be watched, and how."""

    server: ModelServer
    url: ServerUrl
    is_proxied: bool
    interval_seconds: float


class _Watched:
    """One server's threads."""

    def __init__(self, wanted: _Wanted, watch: ServerWatch, prober: Prober | None, schedule: Schedule) -> None:
        self.wanted = wanted
        self.watch = watch
        self._stopped = threading.Event()
        schedule(watch.poll, wanted.interval_seconds, self._stopped, f"poll-{watch.server.name}", watch.close)
        if prober is not None:
            name = f"probe-{watch.server.name}"
            schedule(prober.probe, prober.interval, self._stopped, name, prober.close, at_once=False)

    def stop(self) -> None:
        self._stopped.set()


class Schedule(Protocol):
    """Runs an action again and again."""

    def __call__(  # noqa: PLR0913 - what, when, until when, and how it is called
        self,
        action: Callable[[], bool],
        interval_seconds: float,
        stopped: threading.Event,
        name: str,
        close: Callable[[], None],
        *,
        at_once: bool = True,
    ) -> object:
        """Run an action, at once or after an interval, and then every so often, until it is stopped; then close."""
        ...


def run_schedule(  # noqa: PLR0913 - what, when, until when, and how it is called
    action: Callable[[], bool],
    interval_seconds: float,
    stopped: threading.Event,
    name: str,
    close: Callable[[], None],
    *,
    at_once: bool = True,
) -> threading.Thread:
    """Run an action in a daemon thread, at once or after an interval, and then every so often, until it is stopped."""

    def work() -> None:
        failures = 0
        if not at_once:
            stopped.wait(pause(interval_seconds, 0, random.random()))  # noqa: S311 - no secret
        while not stopped.is_set():
            failures = 0 if _succeeds(action) else failures + 1
            stopped.wait(pause(interval_seconds, failures, random.random()))  # noqa: S311 - no secret
        close()

    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    return thread


def _succeeds(action: Callable[[], bool]) -> bool:
    """Do it; an error that nobody foresaw must not end the schedule."""
    try:
        return action()
    except Exception:
        log.exception("a schedule goes on after a failure")
        return False


def pause(interval_seconds: float, failures: int, chance: float) -> float:
    """Return how long to wait: an interval a tenth longer or shorter; doubled with each failure in a row, up to 16."""
    factor = min(_LONGEST_BACK_OFF, 2 ** max(0, failures - 1)) if failures else 1
    return interval_seconds * factor * (1 + _JITTER * (2 * chance - 1))
