"""Compare the balancer with round robin: ``python -m benchmarks.balancing`` simulates both in virtual time.

Three replicas, each with slots for several requests and a queue: one is slow all the time, one fails every request for
two minutes, and later one hangs for two minutes, so that its requests end with the proxy's ``idle_timeout``. Clients
send requests at random times, the same for both policies.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import count, cycle
from typing import NamedTuple

from modelhost_exporter.proxy.balancing import LEAST_REQUESTS, Balancer, Replica

_SECONDS, _REQUESTS_PER_SECOND, _REQUEST_SECONDS, _SLOTS = 600.0, 3.6, 2.0, 8
_SLOWNESS = 3.0
_FAILS, _HANGS = (100.0, 220.0), (350.0, 470.0)
_ERROR_SECONDS, _IDLE_TIMEOUT_SECONDS = 0.05, 10.0

End = Callable[[bool], None]
"""Reports the end of a request, with whether it failed."""


class Request(NamedTuple):
    """One request: when it is sent, and how long a replica of normal speed works on it."""

    sent: float
    tokens: int
    seconds: float


class Result(NamedTuple):
    """What clients saw; times in seconds, of requests that succeeded."""

    p50: float
    p95: float
    error_share: float


class Upstream:
    """A simulated model server."""

    def __init__(
        self,
        name: str,
        slowness: float = 1.0,
        fails: tuple[float, float] = (0.0, 0.0),
        hangs: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        self.name = name
        self.slowness = slowness
        self.fails = fails
        self.hangs = hangs
        self.free = _SLOTS
        self.queue: deque[Callable[[], None]] = deque()


Policy = Callable[[Request], tuple[Upstream, End]]
"""Chooses the replica for a request."""


class Simulation:
    """Three replicas and their clients, in virtual time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.upstreams = (
            Upstream("slow", _SLOWNESS),
            Upstream("failing", fails=_FAILS),
            Upstream("hangs", hangs=_HANGS),
        )
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._times: list[float] = []
        self._errors = 0

    def run(self, policy: Policy) -> Result:
        """Send all requests and return what became of them."""
        for request in _requests():
            self._at(request.sent, partial(self._send, policy, request))
        while self._events:
            self.now, _, event = heapq.heappop(self._events)
            event()
        times = sorted(self._times)
        share = self._errors / (len(times) + self._errors)
        return Result(times[len(times) // 2], times[int(len(times) * 0.95)], share)

    def _at(self, when: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), event))

    def _send(self, policy: Policy, request: Request) -> None:
        upstream, end = policy(request)
        if upstream.hangs[0] <= self.now < upstream.hangs[1]:
            self._at(self.now + _IDLE_TIMEOUT_SECONDS, partial(self._fail, end))
        elif upstream.fails[0] <= self.now < upstream.fails[1]:
            self._at(self.now + _ERROR_SECONDS, partial(self._fail, end))
        elif upstream.free:
            self._work(upstream, request, end)
        else:
            upstream.queue.append(partial(self._work, upstream, request, end))

    def _work(self, upstream: Upstream, request: Request, end: End) -> None:
        upstream.free -= 1
        self._at(self.now + request.seconds * upstream.slowness, partial(self._succeed, upstream, request, end))

    def _succeed(self, upstream: Upstream, request: Request, end: End) -> None:
        upstream.free += 1
        self._times.append(self.now - request.sent)
        end(False)
        if upstream.queue:
            upstream.queue.popleft()()

    def _fail(self, end: End) -> None:
        self._errors += 1
        end(True)


def _requests() -> list[Request]:
    """Return the same requests each time: Poisson arrivals, log-normal lengths."""
    rng = random.Random(15)  # noqa: S311 - no secret
    now, found = 0.0, []
    while (now := now + rng.expovariate(_REQUESTS_PER_SECOND)) < _SECONDS:
        length = rng.lognormvariate(-0.25, 0.7)  # mean 1
        found.append(Request(now, int(500 * length), _REQUEST_SECONDS * length))
    return found


def round_robin() -> Result:
    """Simulate each replica in turn, whatever happens."""
    simulation = Simulation()
    turns = cycle(simulation.upstreams)
    return simulation.run(lambda _: (next(turns), lambda _: None))


def balanced() -> Result:
    """Simulate the proxy's balancer."""
    simulation = Simulation()
    replicas = [Replica(upstream, upstream.name) for upstream in simulation.upstreams]
    balancer = Balancer(replicas, LEAST_REQUESTS, lambda: simulation.now)

    def policy(request: Request) -> tuple[Upstream, End]:
        choice = balancer.begin(tokens=request.tokens)
        if choice is None:
            raise LookupError("no replica")
        return choice.replica.upstream, lambda failed: balancer.end(choice, failed=failed)

    return simulation.run(policy)


def main() -> None:
    """Print both results."""
    print(f"{'':16}{'p50':>8}{'p95':>8}{'errors':>9}")
    for name, result in (("round robin", round_robin()), (LEAST_REQUESTS, balanced())):
        print(f"{name:16}{result.p50:6.2f} s{result.p95:6.2f} s{result.error_share:9.2%}")


if __name__ == "__main__":
    main()
