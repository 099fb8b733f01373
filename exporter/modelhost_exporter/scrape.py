"""Running collectors side by side, each with a deadline, and containing their failures.

The only place that catches what a collector raises: prometheus_client loses the whole page to one exception.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from modelhost_exporter.collector import Unavailable
from modelhost_exporter.collectors import close
from modelhost_exporter.logs.state_log import StateLog
from modelhost_exporter.metrics.families import gauge
from modelhost_exporter.process.error_frames import described
from modelhost_exporter.threads import Run, Worker

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from prometheus_client.metrics_core import Metric

    from modelhost_exporter.collector import Collector
    from modelhost_exporter.metrics.exposition import Format

log = logging.getLogger(__name__)

_HEAD_START_SECONDS = 0.01
_SHARE_FOR_HEAD_STARTS = 0.3

SUCCESS = gauge(
    "scrape_collector_success",
    "1 when the collector's metrics are on this page; 0 when it failed, missed its deadline or found nothing to"
    " measure.",
    "collector",
)
AVAILABLE = gauge(
    "scrape_collector_available",
    "0 when there is nothing to measure: the machine lacks it, or no device is selected. Success is then 0 too.",
    "collector",
)
DURATION = gauge(
    "scrape_collector_duration_seconds",
    "How long the collector ran, rendering not counted; for one that missed its deadline, how long it has been"
    " running.",
    "collector",
)
TIMEOUT = gauge("scrape_timeout_seconds", "The deadline each collector had in this scrape.")
FAMILIES = (SUCCESS, AVAILABLE, DURATION, TIMEOUT)

State = Literal["ok", "unavailable", "failed", "timeout"]

# how a change into each state is logged
_LEVELS: Mapping[State, int] = {
    "ok": logging.INFO,
    "unavailable": logging.INFO,
    "failed": logging.WARNING,
    "timeout": logging.WARNING,
}


@dataclass(frozen=True)
class _Outcome:
    """The outcome of one collector in one scrape."""

    state: State
    seconds: float
    detail: str = ""
    families: Sequence[Metric] = ()


class Measured(NamedTuple):
    """The result of a measurement between scrapes."""

    families: Sequence[Metric]
    silent: Collection[str]
    """The collectors that failed or missed their deadline, so that their families are missing."""


class Scrape:
    """Collectors that are run together, and the page of their families."""

    def __init__(
        self,
        collectors: Mapping[str, Collector],
        timeout_seconds: float,
        own: Collector | None = None,
        previous: Scrape | None = None,
    ) -> None:
        """Prepare; nothing runs yet.

        ``own`` are the exporter's own metrics: on every page, collected in the calling thread. Collectors that are also
        in ``previous`` (the same objects) keep their threads. A collector that replaces another of the same name starts
        only when that one's run has ended, so that a hanging call is never repeated. States are kept by name, so that
        a reload does not log them again.
        """
        self.timeout_seconds = timeout_seconds
        self._own = own
        self._collectors = dict(collectors)
        self._workers = {
            name: previous.successor(name, collector) if previous else _worker(name, collector)
            for name, collector in self._collectors.items()
        }
        self.states: StateLog[State] = previous.states if previous else StateLog("ok")

    def prepare(self) -> None:
        """Start the threads of the collectors, so that no scrape needs a new one.

        RuntimeError when the machine has none left; close() ends those that were started.
        """
        for worker in self._workers.values():
            worker.prepare()

    @property
    def names(self) -> tuple[str, ...]:
        """The collectors' names, in the order of the page."""
        return tuple(self._workers)

    def page(self, format_: Format, only: Collection[str] | None = None, timeout_seconds: float | None = None) -> bytes:
        """Return a page of the collectors named in ``only`` (None: all), within the deadline. Blocks; any thread.

        ``timeout_seconds`` shortens the configured deadline, it never lengthens it.
        """
        timeout = min(self.timeout_seconds, timeout_seconds or self.timeout_seconds)
        began = time.monotonic()
        runs = self._start(only, began + timeout * _SHARE_FOR_HEAD_STARTS)
        page = _Page(format_)
        if self._own is not None:
            self._report("exporter", page.add("exporter", _outcome(_run_here(self._own), timeout, began)))
        outcomes = {name: page.add(name, _outcome(run, timeout, began)) for name, run in runs.items()}
        for name, outcome in outcomes.items():
            if not self._missed_only_a_clients_deadline(outcome, timeout):
                self._report(name, outcome)
        page.add("scrape", _Outcome("ok", 0.0, families=list(_self_metrics(outcomes, timeout))))
        return page.bytes()

    def measure(self, only: Collection[str], timeout_seconds: float) -> Measured:
        """Return what the collectors named in ``only`` measure, within the deadline. Blocks; any thread.

        Unlike a scrape it renders nothing, and neither keeps nor logs a state. A run that a scrape started is shared.
        """
        began = time.monotonic()
        runs = self._start(only, began + timeout_seconds * _SHARE_FOR_HEAD_STARTS)
        outcomes = {name: _outcome(run, timeout_seconds, began) for name, run in runs.items()}
        return Measured(
            [family for outcome in outcomes.values() for family in outcome.families],
            [name for name, outcome in outcomes.items() if outcome.state in ("failed", "timeout")],
        )

    def _start(self, only: Collection[str] | None, head_starts_until: float) -> dict[str, Run[list[Metric]]]:
        """Start the collectors side by side, each as soon as the one before is done or has had its head start.

        Started all at once, a dozen threads that need a fraction of a millisecond each fight for the interpreter, which
        costs twice the CPU of the whole page. After ``head_starts_until`` (monotonic) there are none any more.
        """
        runs = {}
        for name, worker in self._workers.items():
            if only is None or name in only:
                runs[name] = worker.start()
                if time.monotonic() < head_starts_until:
                    runs[name].wait(_HEAD_START_SECONDS)
        return runs

    def start(self, name: str) -> Run[list[Metric]] | None:
        """Run a collector between scrapes; a scrape during the run shares it. None for an unknown name."""
        worker = self._workers.get(name)
        return worker.start() if worker is not None else None

    def successor(self, name: str, collector: Collector) -> Worker[list[Metric]]:
        """Return a collector's worker after a reload: the same one, or one that waits for its predecessor."""
        before = self._workers.get(name)
        if before is not None and self._collectors[name] is collector:
            return before
        return _worker(name, collector, before)

    def close(self, successor: Scrape | None = None) -> None:
        """End the threads except those that ``successor`` took over."""
        kept = set() if successor is None else successor.workers()
        self.close_workers(successor)
        for name, worker in self._workers.items():
            if worker not in kept:
                close(name, self._collectors[name])

    def close_workers(self, other: Scrape | None) -> None:
        """End the collectors' threads except those that are also in ``other``."""
        kept = set() if other is None else other.workers()
        for worker in self.workers() - kept:
            worker.close()

    def workers(self) -> set[Worker[list[Metric]]]:
        """Return the workers of the collectors."""
        return set(self._workers.values())

    def _missed_only_a_clients_deadline(self, outcome: _Outcome, timeout: float) -> bool:
        """Return whether a collector only missed a deadline that is shorter than the configured one.

        Clients choose such a deadline, and must not be able to fill the log.
        """
        return outcome.state == "timeout" and max(timeout, outcome.seconds) < self.timeout_seconds

    def _report(self, name: str, outcome: _Outcome) -> None:
        """Log a change of a collector's state once; ``ok`` at the start is no change."""
        if self.states.changed(outcome.state, name):
            log.log(
                _LEVELS[outcome.state],
                "collector %s",
                "recovered" if outcome.state == "ok" else outcome.state,
                extra={"fields": {"collector": name, "detail": outcome.detail}},
            )


class _Page:
    """The rendered parts of a page, on which each family's name occurs once."""

    def __init__(self, format_: Format) -> None:
        self._format = format_
        self._parts: list[bytes] = []
        self._owners: dict[str, str] = {}

    def add(self, name: str, outcome: _Outcome) -> _Outcome:
        """Add a collector's families; return a failure when names clash or rendering fails."""
        if outcome.state != "ok":
            return outcome
        try:
            self._claim(name, outcome.families)
            self._parts.append(self._format.render(outcome.families))
        except Exception as error:  # noqa: BLE001 - a collector's bad value must not cost the page
            return _Outcome("failed", outcome.seconds, described(error))
        return outcome

    def bytes(self) -> bytes:
        """Return the page."""
        return self._format.page(self._parts)

    def _claim(self, name: str, families: Iterable[Metric]) -> None:
        claimed: dict[str, str] = {}
        for family in families:
            for sample_name in _sample_names(family):
                owner = claimed.get(sample_name) or self._owners.get(sample_name)
                if owner is not None:
                    raise ValueError(f"{family.name} is already on the page, from {owner}")
                claimed[sample_name] = name
        self._owners |= claimed


_SUFFIXES: Mapping[str, tuple[str, ...]] = {
    "counter": ("", "_total"),
    "histogram": ("", "_bucket", "_count", "_sum"),
    "summary": ("", "_count", "_sum"),
    "info": ("", "_info"),
}


def _sample_names(family: Metric) -> list[str]:
    """Return the sample names that a family occupies on a page."""
    return [family.name + suffix for suffix in _SUFFIXES.get(family.type, ("",))]


def _worker(name: str, collector: Collector, before: Worker[list[Metric]] | None = None) -> Worker[list[Metric]]:
    return Worker(lambda: list(collector.collect()), f"collector-{name}", before)


def _run_here(collector: Collector) -> Run[list[Metric]]:
    run: Run[list[Metric]] = Run()
    run.execute(lambda: list(collector.collect()))
    return run


def _outcome(run: Run[list[Metric]], timeout: float, began: float) -> _Outcome:
    """Wait for a run, until ``timeout`` seconds after its start or the page's, and return its outcome."""
    if not run.wait(timeout - max(0.0, run.started - began)):
        return _Outcome("timeout", run.age(), f"no answer within {timeout:g} s")
    if isinstance(run.error, Unavailable):
        return _Outcome("unavailable", run.seconds, str(run.error))
    if run.error is not None:
        return _Outcome("failed", run.seconds, described(run.error))
    if not run.value:
        return _Outcome("unavailable", run.seconds, "nothing to measure")
    return _Outcome("ok", run.seconds, families=run.value)


def _self_metrics(outcomes: Mapping[str, _Outcome], timeout: float) -> Iterable[Metric]:
    yield from SUCCESS.by(((name,), float(outcome.state == "ok")) for name, outcome in outcomes.items())
    yield from AVAILABLE.by(((name,), float(outcome.state != "unavailable")) for name, outcome in outcomes.items())
    yield from DURATION.by(((name,), outcome.seconds) for name, outcome in outcomes.items())
    yield from TIMEOUT.of(timeout)
