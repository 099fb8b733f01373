"""All model servers: a thread for each replica, so that a server that is slow or dead delays none of the others."""

from __future__ import annotations

import contextlib
import random
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

from prometheus_client import CollectorRegistry

from modelhost_exporter.engines.metrics import COLD_STARTS, COLD_TTFT, FAMILIES, UNPROXIED
from modelhost_exporter.engines.polling.probes import OUTCOMES, ProbeMetrics, Prober
from modelhost_exporter.engines.polling.proxy_totals import ProxyTotals, unproxied_ratio
from modelhost_exporter.engines.polling.server_poller import PollDependencies, ServerPoller
from modelhost_exporter.metrics.instruments import live_counter, live_histogram
from modelhost_exporter.metrics.prerendered import joined, written
from modelhost_exporter.process.periodic_thread import PeriodicThread, WakeableEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from prometheus_client.metrics_core import Metric

    from modelhost_exporter.engines.energy import GpuUses
    from modelhost_exporter.engines.polling.settings import PolledServer
    from modelhost_exporter.requests.observation import RequestObservation

_JITTER = 0.1
_MAX_BACK_OFF_SECONDS = 60.0
_MAX_DOUBLINGS = 8


class Pollers:
    """The pollers of all servers; a reload replaces those of changed servers and leaves the others alone."""

    def __init__(
        self,
        proxy_registry: CollectorRegistry,
        gpus: GpuUses | None = None,
        *,
        dependencies: PollDependencies | None = None,
        schedule: Schedule | None = None,
    ) -> None:
        """Start without servers. ``gpus`` provides energy and memory of models; None where there are no GPUs.

        ``dependencies`` replaces the rest of the machine, and ``schedule`` the threads.
        """
        self._live = CollectorRegistry()
        """What is counted as it happens."""
        self._dependencies = dependencies or PollDependencies(gpus=gpus)
        self._schedule = schedule or run_schedule
        self._counts = ProxyTotals(proxy_registry, self._dependencies.now)
        self._probe_metrics = ProbeMetrics(self._live, self._expected_probes)
        self._cold_starts = live_counter(COLD_STARTS, self._live)
        self._cold_ttft = live_histogram(COLD_TTFT, self._live)
        self._watched: list[_Watched] = []
        self._by_name: dict[str, list[ServerPoller]] = {}
        """The pollers of each server's replicas."""

    def watch(self, servers: Sequence[PolledServer], proxied: Collection[str] = ()) -> None:
        """Poll these servers and no others; ``proxied`` are the names of those that have a proxy."""
        self.prepare(servers, proxied).put_in_force()

    def prepare(self, servers: Sequence[PolledServer], proxied: Collection[str] = ()) -> PollChange:
        """Start to poll what is new among these servers; what is in force stays until the change is put in force.

        Raises what the schedule does where it cannot start (RuntimeError: no thread left); nothing has changed then.
        """
        wanted = [_Wanted(server, server.name in proxied) for server in servers]
        kept = {one.wanted.server.key: one for one in self._watched if one.wanted in wanted and one.is_polled()}
        change = PollChange(self._replace)
        for one in wanted:
            watched = kept.get(one.server.key)
            if watched is None:
                with change.undone_by_an_error():
                    change.add_new(self._watched_anew(one))
            else:
                change.add_kept(watched)
        return change

    def _replace(self, watched: list[_Watched]) -> None:
        before, self._watched = self._watched, watched
        by_name: dict[str, list[ServerPoller]] = {}
        for one in watched:
            by_name.setdefault(one.wanted.server.name, []).append(one.watch)
        self._by_name = by_name
        for one in before:
            if one not in watched:
                one.stop()

    def close(self) -> None:
        """Stop polling every server, and end the threads."""
        self.watch(())

    def collect(self) -> Iterable[Metric]:
        """Yield the last result of every server; polls nothing."""
        parts = [watch.current_parts(watch.server.interval) for watches in self._by_name.values() for watch in watches]
        yield from joined(FAMILIES, [*parts, written(self._unproxied())])
        for family in self._live.collect():
            family.samples = [sample for sample in family.samples if self._is_polled(sample.labels)]
            if family.samples:
                yield family

    def _unproxied(self) -> Iterable[Metric]:
        """Yield the share of each server's tokens that did not pass the proxy, which counts for all replicas together.

        It is not known where a replica is up whose engine does not count tokens.
        """
        ratios: dict[str, float | None] = {}
        for name, watches in self._by_name.items():
            up = [watch.tokens for watch in watches if watch.is_up(watch.server.interval)]
            if up and None not in up:
                ratios[name] = unproxied_ratio([watch.tokens for watch in watches if watch.tokens is not None])
        return UNPROXIED.by(((name,), ratio) for name, ratio in ratios.items())

    def _expected_probes(self) -> Iterator[tuple[str, ...]]:
        """Yield the label values of probes that start at 0: of every model that the next round probes."""
        for one in self._watched:
            for model in one.prober.labels() if one.prober is not None else ():
                for outcome in OUTCOMES:
                    yield *one.wanted.server.key, model, outcome

    def _is_polled(self, labels: Mapping[str, str]) -> bool:
        """Return whether a series is of a server, and of a replica where it has that label, that is polled."""
        watches = self._by_name.get(labels["server"], ())
        return any(labels.get("upstream", watch.server.upstream) == watch.server.upstream for watch in watches)

    def note_request(self, observed: RequestObservation) -> None:
        """Add a request that passed the proxy to its server's totals and cold starts; a ``ObservationListener``."""
        self._counts.add(observed)
        labels = observed.labels
        watches = self._by_name.get(labels.server, ())
        if observed.outcome == "ok":
            for watch in watches:
                watch.note_response()
        answering = [watch for watch in watches if watch.snapshot is not None] or watches
        if answering and labels.is_inference and observed.outcome == "ok":
            self._note_cold_start(answering, observed)

    def _note_cold_start(self, watches: Sequence[ServerPoller], observed: RequestObservation) -> None:
        """Count a successful request whose model was not loaded when it was accepted.

        Which replica it went to is not known, so that the model must have been loaded by none.
        """
        labels = observed.labels
        now = self._dependencies.now()
        accepted = now - observed.duration
        first_answer = accepted + (observed.time_to_first_token or observed.duration)
        cold = [watch.history.is_cold(labels.model, accepted, first_answer) for watch in watches]  # each notes it
        if all(cold):
            self._cold_starts.labels(*labels).inc()
            if observed.time_to_first_token is not None:
                self._cold_ttft.labels(*labels).observe(observed.time_to_first_token)
            if observed.server_seconds.load is not None and len(watches) == 1:
                watches[0].history.note_load(labels.model, accepted, observed.server_seconds.load)

    def remove_model(self, server: str, model: str) -> None:
        """Remove what is kept of the requests to a model whose series were removed; a ``RemovalListener``."""
        self._counts.remove_model(server, model)
        self._cold_starts.remove(server=server, model=model)
        self._cold_ttft.remove(server=server, model=model)
        for watch in self._by_name.get(server, ()):
            watch.history.remove_requests(model)

    def is_listed(self, server: str, name: str) -> bool:
        """Return whether an engine of the server listed a model of this name in its last poll."""
        snapshots = [poller.snapshot for poller in self._by_name.get(server, ())]
        return any(snapshot is not None and name in snapshot.model_names for snapshot in snapshots)

    def listed_models(self, server: str) -> set[str]:
        """Return the labels of the models that the engines of a server listed in their last poll."""
        snapshots = [(poller, poller.snapshot) for poller in self._by_name.get(server, ())]
        names = [(poller, model.name) for poller, snapshot in snapshots if snapshot for model in snapshot.models]
        found = {poller.history.labels.get(name) for poller, name in names}
        return {label for label in found if label is not None}

    def label_of(self, server: str, name: str) -> str | None:
        """Return the label under which polls of a server show the model with this name or alias; None if none has."""
        for poller in self._by_name.get(server, ()):
            label = poller.history.labels.get(name)
            if label is not None:
                return label
        return None

    def kind_of(self, server: str) -> str | None:
        """Return the kind of a server's engine: of its last poll, else as detected before and kept over failed polls.

        None where it is not known, or where its replicas differ.
        """
        pollers = self._by_name.get(server, ())
        if len(pollers) == 1:  # called for each request
            return pollers[0].kind
        found = {poller.kind for poller in pollers} - {None}
        return found.pop() if len(found) == 1 else None

    def _watched_anew(self, wanted: _Wanted) -> _Watched:
        server = wanted.server
        dependencies = replace(
            self._dependencies, is_proxied=wanted.is_proxied, passed=lambda: self._counts.of(*server.key)
        )
        watch = ServerPoller(server, dependencies)
        prober = self._prober(wanted, watch) if server.probe else None
        return _Watched(wanted, watch, prober, self._schedule)

    def _prober(self, wanted: _Wanted, watch: ServerPoller) -> Prober:
        dependencies = self._dependencies
        return Prober(wanted.server, watch, self._probe_metrics, now=dependencies.now, connect=dependencies.connect)


class _Wanted(NamedTuple):
    """A server or replica that is to be polled."""

    server: PolledServer
    is_proxied: bool


class _Watched:
    """The threads of one server or replica."""

    def __init__(self, wanted: _Wanted, watch: ServerPoller, prober: Prober | None, schedule: Schedule) -> None:
        self.wanted = wanted
        self.watch = watch
        self.prober = prober
        self._stopped, self._probes_stopped = WakeableEvent(), threading.Event()
        watch.wake = self._stopped.wake
        self._threads: list[object] = []
        name = watch.server.thread_name
        try:
            self._threads.append(
                schedule(watch.poll, wanted.server.interval, self._stopped, f"poll-{name}", watch.close)
            )
            if prober is not None:
                self._threads.append(
                    schedule(
                        prober.probe,
                        prober.interval,
                        self._probes_stopped,
                        f"probe-{name}",
                        prober.close,
                        at_once=False,
                    )
                )
        except BaseException:
            self.stop()
            raise

    def is_polled(self) -> bool:
        """Return whether none of the threads has died."""
        return all(getattr(thread, "is_alive", _always)() for thread in self._threads)

    def stop(self) -> None:
        self._stopped.set()
        self._probes_stopped.set()


def _always() -> bool:
    return True


class PollChange:
    """The servers of a new configuration, the new ones already polled: put in force, or undone."""

    def __init__(self, replace_watched: Callable[[list[_Watched]], None]) -> None:
        self._replace_watched = replace_watched
        self._watched: list[_Watched] = []
        self._new: list[_Watched] = []

    def add_kept(self, watched: _Watched) -> None:
        """Add a server that is polled already."""
        self._watched.append(watched)

    def add_new(self, watched: _Watched) -> None:
        """Add a server that is polled for this change."""
        self._watched.append(watched)
        self._new.append(watched)

    def put_in_force(self) -> None:
        """Show these servers, and stop polling all others."""
        self._replace_watched(self._watched)

    def undo(self) -> None:
        """Stop polling what is new."""
        for one in self._new:
            one.stop()

    @contextlib.contextmanager
    def undone_by_an_error(self) -> Iterator[None]:
        """Undo the change when the block raises."""
        try:
            yield
        except BaseException:
            self.undo()
            raise


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
        """Run an action, at once or after an interval, and then every so often, until it is stopped; then close.

        The result may have an ``is_alive()``. RuntimeError where no thread is left.
        """
        ...


def run_schedule(  # noqa: PLR0913 - what, when, until when, and how it is called
    action: Callable[[], bool],
    interval_seconds: float,
    stopped: threading.Event,
    name: str,
    close: Callable[[], None],
    *,
    at_once: bool = True,
) -> PeriodicThread:
    """Run an action in a daemon thread, at once or after an interval, and then every so often, until it is stopped."""
    return PeriodicThread(
        action,
        lambda failures: pause(interval_seconds, failures, random.random()),  # noqa: S311 - no secret
        name,
        stopped=stopped,
        at_once=at_once,
        close=close,
    )


def pause(interval_seconds: float, failures: int, chance: float) -> float:
    """Return the seconds to wait: an interval, doubled with each further failure up to a minute, with jitter."""
    doubled = interval_seconds * 2.0 ** min(max(0, failures - 1), _MAX_DOUBLINGS)
    return min(doubled, max(interval_seconds, _MAX_BACK_OFF_SECONDS)) * (1 + _JITTER * (2 * chance - 1))
