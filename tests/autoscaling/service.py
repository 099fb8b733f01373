"""A model service in closed loop with an autoscaler: what its exporters show, and the signals worked out by hand.

Requests arrive at a given rate, wait in one queue, and run for ten seconds each; a replica runs 16 at a time. A new
replica is ready after a minute. While none is ready, a request fails in the proxy.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections import defaultdict, deque
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tests.autoscaling.manifests import Scaling

INTERVAL = 15
RULES_LATER, SCALING_LATER = 5, 10
"""Seconds after a scrape, so that no sample lies on the edge of a window."""
CAPACITY, SECONDS_EACH, START_SECONDS = 16, 10.0, 60
PREFILL_SECONDS = 0.3
BOUNDS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
_LAST = 0.01
"""So little of a request is finished at once, so that the last one ends."""
_OLD = 1e6
"""What the histogram counted before: rate() does not extrapolate a counter below 0."""
_QUEUE = tuple(f"model:autoscaling_{name}:sum" for name in ("requests_waiting", "requests_running", "requests"))


class Scaler(Protocol):
    """An autoscaler."""

    def scale(self, now: float, replicas: int, values: Sequence[float | None]) -> int:
        """Return the number of replicas from now on."""
        ...


class Step(NamedTuple):
    """What happened after one scrape."""

    time: int
    signals: dict[str, float | None]
    """Of each recorded series, by hand."""
    replicas: int
    """As scaled by these signals."""


class Service:
    """One simulated service."""

    def __init__(self, namespace: str, arrivals: Callable[[int], float], replicas: int) -> None:
        self._target = f'namespace="{namespace}",job="modelhost"'
        self._arrivals = arrivals
        self._ready_at = [-START_SECONDS] * replicas
        self._waiting = self._running = 0.0
        self._finished, self._failed, self._arrived = 0.0, 0.0, 0.0
        self._buckets = [0.0] * (len(BOUNDS) + 1)
        self._engines: deque[dict[int, tuple[float, float]]] = deque(maxlen=60 // INTERVAL)
        self._started: deque[bool] = deque(maxlen=60 // INTERVAL)
        self._counted: deque[tuple[float, list[float]]] = deque(maxlen=120 // INTERVAL)

    def scale(self, now: int, replicas: int) -> None:
        """Start or stop replicas; the youngest stop first."""
        del self._ready_at[replicas:]
        self._ready_at += [now + START_SECONDS] * (replicas - len(self._ready_at))
        overflow = max(0.0, self._running - self._slots(now))
        self._running -= overflow
        self._waiting += overflow

    def pass_second(self, now: int) -> None:
        """Let requests arrive, start and finish."""
        arrived = self._arrivals(now)
        self._arrived += arrived
        slots = self._slots(now)
        if not slots:
            self._failed += arrived
            return
        finished = self._running / SECONDS_EACH if self._running >= _LAST else self._running
        self._finished += finished
        self._running -= finished
        self._waiting += arrived
        started = max(0.0, min(self._waiting, slots - self._running))
        if started:
            wait = PREFILL_SECONDS + (self._waiting - started) / max(started, 1e-9)
            self._buckets[bisect.bisect_left(BOUNDS, wait)] += started
        self._waiting -= started
        self._running += started

    def _slots(self, now: int) -> int:
        return CAPACITY * len(self._ready(now))

    def _ready(self, now: int) -> list[int]:
        return [number for number, at in enumerate(self._ready_at) if at <= now]

    def scrape(self, now: int) -> Iterator[str]:
        """Yield the samples of a scrape, and remember what the rules will read of them."""
        ready = self._ready(now)
        share = (self._waiting / len(ready), self._running / len(ready)) if ready else (0.0, 0.0)
        self._engines.append(dict.fromkeys(ready, share))
        self._started.append(bool(self._ready_at))
        for number, at in enumerate(self._ready_at):
            labels = f'{self._target},instance="replica-{number}",server="chat"'
            yield f"modelhost_engine_up{{{labels}}} {int(at <= now)} {now}\n"
        for number in ready:
            labels = f'{self._target},instance="replica-{number}",server="chat"'
            for family, value in zip(("waiting", "running"), share, strict=True):
                yield f"modelhost_engine_requests_{family}{{{labels}}} {value!r} {now}\n"
        self._counted.append((self._finished + self._failed, list(self._buckets)))
        yield from self._proxy(now)

    def _proxy(self, now: int) -> Iterator[str]:
        target = f'{self._target},instance="proxy"'
        model = f'{target},server="chat",model="m",operation="chat"'
        yield f'modelhost_build_info{{{target},version="1",python="3"}} 1 {now}\n'
        yield f'modelhost_request_errors_total{{{model},outcome="upstream_unreachable"}} {self._failed!r} {now}\n'
        for outcome, code, value in (
            ("ok", "200", self._finished),
            ("upstream_unreachable", "502", self._failed),
        ):
            if value:
                labels = f'{model},stream="true",outcome="{outcome}",code="{code}"'
                yield f"modelhost_requests_total{{{labels}}} {value!r} {now}\n"
        in_flight = self._waiting + self._running
        yield f'modelhost_requests_in_flight{{{model},state="waiting"}} {in_flight!r} {now}\n'
        total = 0.0
        for bound, count in zip((*BOUNDS, "+Inf"), self._buckets, strict=True):
            total += count
            name = "modelhost_request_time_to_first_token_seconds"
            yield f'{name}_bucket{{{model},le="{bound}"}} {_OLD + total!r} {now}\n'
        yield f"{name}_count{{{model}}} {_OLD + total!r} {now}\n"

    def signals(self) -> dict[str, float | None]:
        """Return what the rules should record now, worked out from the scrapes of the last minutes."""
        if any(self._started) and not any(self._engines):
            queue: dict[str, float | None] = {**dict.fromkeys(_QUEUE), _QUEUE[2]: 0.0}  # of the proxy
        else:
            waiting, running = (self._mean_of_a_minute(family) for family in (0, 1))
            queue = dict(zip(_QUEUE, (waiting, running, waiting + running), strict=True))
        is_active = self._counted[-1][0] > self._counted[0][0] or any(queue.values())
        return {
            **queue,
            "model:autoscaling_active:bool": float(is_active),
            "model:autoscaling_time_to_first_token_seconds:p95_2m": self._quantile(0.95),
        }

    def _mean_of_a_minute(self, family: int) -> float:
        """Return the sum of each replica's mean over the scrapes in which it was there."""
        seen = defaultdict(list)
        for scrape in self._engines:
            for number, values in scrape.items():
                seen[number].append(values[family])
        return math.fsum(sum(values) / len(values) for values in seen.values())

    def _quantile(self, share: float) -> float:
        first, last = self._counted[0][1], self._counted[-1][1]
        counts = [after - before for before, after in zip(first, last, strict=True)]
        # increase() is extrapolated to the whole window
        if sum(counts) * len(self._counted) / max(len(self._counted) - 1, 1) < 10:
            return 0.0
        rank = share * sum(counts)
        for number, count in enumerate(counts[:-1]):
            if rank <= count:
                low = BOUNDS[number - 1] if number else 0.0
                return low + (BOUNDS[number] - low) * rank / count
            rank -= count
        return BOUNDS[-1]


class Course(NamedTuple):
    """The whole of a simulation."""

    samples: list[str]
    steps: list[Step]


class Scenario(NamedTuple):
    """A manifest with the autoscaler that it is for, and the traffic: requests per second by the second."""

    scaling: Scaling
    scaler: Callable[[Scaling], Scaler]
    arrivals: Callable[[int], float]


def simulate(namespace: str, scenario: Scenario, start: int, seconds: int) -> Course:
    """Run a service and its autoscaler in closed loop."""
    scaling, scaler = scenario.scaling, scenario.scaler(scenario.scaling)
    replicas = scaling.minimum
    service = Service(namespace, lambda now: scenario.arrivals(now - start), replicas)
    course = Course([], [])
    for now in range(start, start + seconds):
        service.pass_second(now)
        if (now - start) % INTERVAL == 0:
            course.samples.extend(service.scrape(now))
        if (now - start) % INTERVAL == SCALING_LATER:
            signals = service.signals()
            replicas = scaler.scale(now, replicas, read(scaling, signals))
            service.scale(now, replicas)
            course.steps.append(Step(now - start, signals, replicas))
    return course


def read(scaling: Scaling, signals: Mapping[str, float | None]) -> list[float | None]:
    """Return the values of the signals that a manifest reads."""
    return [next(value for name, value in signals.items() if name in signal.query) for signal in scaling.signals]


def changes(replicas: Sequence[int]) -> list[int]:
    """Return the numbers of replicas one after the other."""
    return [number for index, number in enumerate(replicas) if index == 0 or replicas[index - 1] != number]


def turns(replicas: Sequence[int]) -> int:
    """Return how often scaling changed its direction."""
    course = changes(replicas)
    ups = [later > earlier for earlier, later in itertools.pairwise(course)]
    return sum(before != after for before, after in itertools.pairwise(ups))
