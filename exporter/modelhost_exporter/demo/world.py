"""The simulated world, advanced in small steps and reproducible from seed and start."""

from __future__ import annotations

import heapq
import itertools
import random
from typing import TYPE_CHECKING, Protocol

from modelhost_exporter.demo.engines import SimulatedEngine, Tally
from modelhost_exporter.demo.gpus import SimulatedCard
from modelhost_exporter.demo.incidents import Situation
from modelhost_exporter.demo.machine import SimulatedLoad, SimulatedMachine
from modelhost_exporter.demo.routing import Router
from modelhost_exporter.demo.traffic import SimulatedTraffic

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from modelhost_exporter.demo.clock import SimulatedClock
    from modelhost_exporter.demo.incidents import IncidentSchedule
    from modelhost_exporter.demo.profiles import Profile
    from modelhost_exporter.demo.specs import ModelSpec, ServerSpec
    from modelhost_exporter.demo.traffic import SimulatedRequest

_REFUSED_SECONDS = {"client_error": 0.012, "server_error": 0.03, "upstream_unreachable": 0.004, "timeout": 120.0}
_STARTING_SECONDS, _CRASH_SECONDS = 480.0, 120.0  # a crash loop: a start of eight minutes, and two until it ends


class RequestListener(Protocol):
    """A listener for the progress of each request."""

    def arrived(self, request: SimulatedRequest) -> None:
        """Handle the arrival of a request."""

    def streams(self, request: SimulatedRequest) -> None:
        """Handle a request's first token."""

    def progressed(self, request: SimulatedRequest, tokens: int) -> None:
        """Handle more tokens of a request."""

    def ended(self, request: SimulatedRequest) -> None:
        """Handle the end of a request."""


class SimulatedWorld:
    """The machine, its GPUs, model servers and clients."""

    def __init__(self, clock: SimulatedClock, profile: Profile, schedule: IncidentSchedule, *, seed: int) -> None:
        self.profile = profile
        self.clock = clock
        self.now = clock()
        self.situation = Situation(schedule)
        rng = random.Random(seed)  # noqa: S311 - no secret
        models = profile.models
        servers = [server for server in profile.servers if any(m.server == server.name for m in models)]
        self.engines = [
            SimulatedEngine(spec, models, rng, self.now) for server in servers for spec in server.replicas()
        ]
        self.routers = {
            server.name: Router(
                [engine for engine in self.engines if engine.spec.name == server.name], lambda: self.now
            )
            for server in servers
        }
        """How each server's requests reach its replicas."""
        self.machine = SimulatedMachine(profile.host, self.now, rng)
        self.cards = [
            SimulatedCard(profile.card, index, rng, mig=index == profile.mig_gpu) for index in range(profile.gpus)
        ]
        for engine in self.engines:
            for index in engine.spec.gpus:
                self.cards[index].engines.append(engine)
        self._traffic = SimulatedTraffic(self._overload, rng, profile)
        self._order = itertools.count()
        self._refused: list[tuple[float, int, SimulatedRequest]] = []
        self._first_tokens: list[tuple[float, int, SimulatedRequest]] = []

    def running_servers(self) -> Iterator[ServerSpec]:
        """Yield the running model servers."""
        return (engine.spec for engine in self.engines if engine.up)

    def step(self, until: float, listener: RequestListener) -> Sequence[tuple[SimulatedCard, int]]:
        """Advance to a time, about a second later; return the XIDs reported in between."""
        since, self.now = self.now, until
        self.situation.go_to(until)
        over = self._start_and_stop(until)
        arrivals = list(self._traffic.between(since, until, self.situation))
        for request in arrivals:
            self._accept(request)
        working = [(request, request.produced) for engine in self.engines for request in engine.requests]
        for engine in self.engines:
            over += engine.run(since, until)
        while self._refused and self._refused[0][0] <= until:
            over.append(heapq.heappop(self._refused)[2])
        for request, before in working:
            if request.produced > before:
                listener.progressed(request, request.produced - before)
        for request in over:
            self.routers[request.model.server].end(request)
        self._notify(until, listener, arrivals, over)
        return self._move_hardware(until, len(arrivals))

    def reset_counters(self) -> None:
        """Set the counters of the machine, its GPUs and its model servers to zero, as after a boot."""
        self.machine.reset_counters()
        for card in self.cards:
            card.reset_counters()
        for engine in self.engines:
            engine.tally = Tally()

    def _overload(self, model: ModelSpec, at: float) -> float | None:
        engine = self.routers[model.server].replicas[0].upstream
        return engine.overload(at) if model is engine.models[0] else None

    def _accept(self, request: SimulatedRequest) -> None:
        """Pass a request to its engine, or mark it as refused."""
        server = request.model.server
        cut_off = self.situation.has("upstream_unreachable", server)
        engine = self.routers[server].route(request, lambda engine: engine.up and not cut_off)
        if engine is None:
            request.outcome, request.code = "upstream_unreachable", "502"
        if engine is not None and engine.stuck:
            request.outcome, request.code = "ok", "200"  # it does not even refuse
        seconds = _REFUSED_SECONDS.get(request.outcome)
        if engine is not None and seconds is None:
            engine.accept(request)
            if request.stream:
                heapq.heappush(self._first_tokens, (request.first, next(self._order), request))
            return
        request.output_tokens = 0
        request.ended = request.arrived + (seconds or 0.0)
        heapq.heappush(self._refused, (request.ended, next(self._order), request))

    def _start_and_stop(self, at: float) -> list[SimulatedRequest]:
        """Stop and start engines; return the requests that this ends."""
        over: list[SimulatedRequest] = []
        for engine in self.engines:
            name, down = engine.spec.name, self._is_down(engine)
            pressed = any(one.kind == "memory_pressure" for one in self.situation.ended)
            killed = pressed and engine.spec.is_killed_by_memory_pressure
            if engine.up and (down or killed):
                over += engine.stop(at)
            elif not engine.up and not down:
                engine.start(at)
            if self.situation.has("models_evicted", name):
                engine.evict()
            engine.stuck = self.situation.has("server_stuck", name)
        return over

    def _is_down(self, engine: SimulatedEngine) -> bool:
        spec = engine.spec
        return (
            self.situation.has("server_down", spec.name)
            or self._is_restarting(spec.name)
            or (spec.is_replica and self.situation.has("replica_down", spec.name))
            or any(not self.cards[index].on_bus for index in spec.gpus)
        )

    def _is_restarting(self, server: str) -> bool:
        elapsed = self.situation.elapsed("server_crash_loop", server)
        return elapsed is not None and elapsed % (_STARTING_SECONDS + _CRASH_SECONDS) < _STARTING_SECONDS

    def _notify(
        self,
        until: float,
        listener: RequestListener,
        arrivals: Sequence[SimulatedRequest],
        over: Sequence[SimulatedRequest],
    ) -> None:
        """Notify the listener of all events, in the order of time."""
        events = [(request.arrived, 0, next(self._order), request) for request in arrivals]
        while self._first_tokens and self._first_tokens[0][0] <= until:
            first, order, request = heapq.heappop(self._first_tokens)
            if first < request.first:  # a stuck engine postponed it
                heapq.heappush(self._first_tokens, (request.first, order, request))
            elif first <= request.ended:  # otherwise it was cut off before
                events.append((first, 1, order, request))
        events += [(request.ended, 2, next(self._order), request) for request in over]
        handlers = (listener.arrived, listener.streams, listener.ended)
        for at, kind, _, request in sorted(events):
            self.clock.go_to(at)
            handlers[kind](request)
        self.clock.go_to(until)

    def _move_hardware(self, until: float, arrivals: int) -> list[tuple[SimulatedCard, int]]:
        reported = [(card, xid) for card in self.cards for xid in card.go_to(until, self.situation)]
        for engine in self.engines:
            engine.slowness = engine.spec.slowness * max(
                (self.cards[index].slowness for index in engine.spec.gpus), default=1.0
            )
        work = [engine.work for engine in self.engines if engine.up]
        load = SimulatedLoad(
            tokens=sum(one.generated / one.seconds for one in work),
            requests=arrivals,
            loading_bytes=sum(one.loading_bytes for one in work),
            resident_bytes=sum(server.ram_bytes for server in self.running_servers()),
            connections=sum(2 * len(engine.requests) for engine in self.engines),
            gpu_watts=sum(card.power for card in self.cards),
        )
        self.machine.go_to(until, load, self.situation)
        return reported
