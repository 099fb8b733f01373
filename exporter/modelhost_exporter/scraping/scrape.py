"""Run collectors, each with a deadline, and render the page of their families.

A failure of a collector costs only its own families, while in prometheus_client one exception costs the whole page.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, NamedTuple

from modelhost_exporter import sequential_runs, threads
from modelhost_exporter.collectors import close
from modelhost_exporter.logs.state_log import StateLog
from modelhost_exporter.metrics.families import gauge
from modelhost_exporter.process.run import Run, SingleRun
from modelhost_exporter.scraping.outcome import Outcome, outcome_of
from modelhost_exporter.scraping.page import ScrapePage

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from prometheus_client.metrics_core import Metric

    from modelhost_exporter.collector import Collector
    from modelhost_exporter.metrics.exposition import Format
    from modelhost_exporter.scraping.outcome import State

log = logging.getLogger(__name__)

_HEAD_START_SECONDS = 0.01
_SHARE_FOR_HEAD_STARTS = 0.3

SUCCESS = gauge(
    "scrape_collector_success",
    "1 when the collector's metrics are on this page, else 0.",
    "collector",
    note="0 when it failed, missed its deadline or found nothing to measure.",
)
AVAILABLE = gauge(
    "scrape_collector_available",
    "0 when the collector has nothing to measure, else 1.",
    "collector",
    note="The machine lacks it, or no device is selected. scrape_collector_success is then 0 as well.",
)
DURATION = gauge(
    "scrape_collector_duration_seconds",
    "Duration of the collector's run, without rendering.",
    "collector",
    note="For one that missed its deadline, the time since its start.",
)
TIMEOUT = gauge("scrape_timeout_seconds", "Deadline of each collector in this scrape.")
FAMILIES = (SUCCESS, AVAILABLE, DURATION, TIMEOUT)

# the level at which a change to each state is logged
_LEVELS: Mapping[State, int] = {
    "ok": logging.INFO,
    "unavailable": logging.INFO,
    "failed": logging.WARNING,
    "timeout": logging.WARNING,
}


class Measured(NamedTuple):
    """The result of a measurement between scrapes."""

    families: Sequence[Metric]
    silent: Collection[str]
    """Names of collectors that failed or missed their deadline, so that their families are missing."""
    outcomes: Mapping[str, Outcome]
    """What became of each collector that ran."""


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

        ``own`` collects the exporter's own metrics, which are on every page, in the calling thread. Collectors that are
        also in ``previous`` (the same objects) share their runs. A collector that replaces another of the same name
        starts only once that one's run has ended, so that a hanging call is never repeated. States are kept by name, so
        that a reload does not log them again.
        """
        self.timeout_seconds = timeout_seconds
        self._own = own
        self.collectors = dict(collectors)
        self._single_runs = {
            name: previous.successor(name, collector) if previous else _single_run(collector)
            for name, collector in self.collectors.items()
        }
        self.states: StateLog[State] = previous.states if previous else StateLog("ok")

    @property
    def names(self) -> tuple[str, ...]:
        """The collectors' names, in the order of the page."""
        return tuple(self.collectors)

    def page(self, format_: Format, only: Collection[str] | None = None, timeout_seconds: float | None = None) -> bytes:
        """Return the page of the collectors in ``only`` (None: all), within the deadline. Blocks; for any thread.

        ``timeout_seconds`` can shorten the configured deadline, not lengthen it.
        """
        timeout = min(self.timeout_seconds, timeout_seconds or self.timeout_seconds)
        began = time.monotonic()
        runs = self._start(only, began + timeout * _SHARE_FOR_HEAD_STARTS)
        page = ScrapePage(format_)
        if self._own is not None:
            self._report("exporter", page.add("exporter", outcome_of(_run_here(self._own), timeout, began)))
        outcomes = {name: page.add(name, outcome_of(run, timeout, began)) for name, run in runs.items()}
        for name, outcome in outcomes.items():
            if not self._missed_only_a_clients_deadline(outcome, timeout):
                self._report(name, outcome)
        page.add("scrape", Outcome("ok", 0.0, families=list(_self_metrics(outcomes, timeout))))
        return page.bytes()

    def measure(self, only: Collection[str], timeout_seconds: float) -> Measured:
        """Return what the collectors in ``only`` measure, within the deadline. Blocks; for any thread.

        Unlike a scrape it renders nothing, and neither keeps nor logs states. It shares runs that a scrape started.
        """
        outcomes = self.outcomes(only, timeout_seconds)
        return Measured(
            [family for outcome in outcomes.values() for family in outcome.families],
            [name for name, outcome in outcomes.items() if outcome.state in ("failed", "timeout")],
            outcomes,
        )

    def outcomes(self, only: Collection[str], timeout_seconds: float) -> dict[str, Outcome]:
        """Return what becomes of the collectors in ``only`` within the deadline. Blocks; for any thread."""
        began = time.monotonic()
        runs = self._start(only, began + timeout_seconds * _SHARE_FOR_HEAD_STARTS)
        return {name: outcome_of(run, timeout_seconds, began) for name, run in runs.items()}

    def _start(self, only: Collection[str] | None, head_starts_until: float) -> dict[str, Run[list[Metric]]]:
        """Start the collectors, each as soon as the one before is done or has had its head start (10 ms).

        Head starts end at ``head_starts_until`` (monotonic): then all that are left start at once.
        """
        chosen = [(name, run) for name, run in self._single_runs.items() if only is None or name in only]
        return sequential_runs.start_in_order(chosen, threads.COLLECTORS, _HEAD_START_SECONDS, head_starts_until)

    def start(self, name: str) -> Run[list[Metric]] | None:
        """Run a collector between scrapes; a scrape during the run shares it. Return None for an unknown name."""
        one = self._single_runs.get(name)
        return sequential_runs.start(one, threads.COLLECTORS) if one is not None else None

    def successor(self, name: str, collector: Collector) -> SingleRun[list[Metric]]:
        """Return the runs of a collector after a reload: the present ones, or new ones that wait for them."""
        before = self._single_runs.get(name)
        if before is not None and self.collectors[name] is collector:
            return before
        return _single_run(collector, before)

    def close(self, successor: Scrape | None = None) -> None:
        """Close the collectors, except those that are also in ``successor``."""
        kept = [] if successor is None else list(successor.collectors.values())
        for name, collector in self.collectors.items():
            if not any(collector is one for one in kept):
                close(name, collector)

    def _missed_only_a_clients_deadline(self, outcome: Outcome, timeout: float) -> bool:
        """Return whether a collector only missed a deadline shorter than the configured one.

        Clients choose such deadlines, and must not be able to fill the log.
        """
        return outcome.state == "timeout" and max(timeout, outcome.seconds) < self.timeout_seconds

    def _report(self, name: str, outcome: Outcome) -> None:
        """Log a change of a collector's state once; the initial state is ``ok``."""
        if self.states.changed(outcome.state, name):
            log.log(
                _LEVELS[outcome.state],
                "collector %s",
                "recovered" if outcome.state == "ok" else outcome.state,
                extra={"fields": {"collector": name, "detail": outcome.detail}},
            )


def _single_run(collector: Collector, before: SingleRun[list[Metric]] | None = None) -> SingleRun[list[Metric]]:
    return SingleRun(lambda: list(collector.collect()), before)


def _run_here(collector: Collector) -> Run[list[Metric]]:
    run: Run[list[Metric]] = Run()
    run.execute(lambda: list(collector.collect()))
    return run


def _self_metrics(outcomes: Mapping[str, Outcome], timeout: float) -> Iterable[Metric]:
    yield from SUCCESS.by(((name,), float(outcome.state == "ok")) for name, outcome in outcomes.items())
    yield from AVAILABLE.by(((name,), float(outcome.state != "unavailable")) for name, outcome in outcomes.items())
    yield from DURATION.by(((name,), outcome.seconds) for name, outcome in outcomes.items())
    yield from TIMEOUT.of(timeout)
