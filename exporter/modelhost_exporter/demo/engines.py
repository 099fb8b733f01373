"""A simulated model server: its queue, batch, models and counters."""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Sequence

    from modelhost_exporter.demo.specs import ModelSpec, ServerSpec
    from modelhost_exporter.demo.traffic import SimulatedRequest
    from modelhost_exporter.requests.observation import Outcome

KEEP_ALIVE_SECONDS = 180.0
_BATCH_COST = 1.0  # additional time per token in a full batch, as a share
_RUSH, _GROWTH = 1.3, 0.4  # overload: multiple of the capacity until a queue forms, then its growth per second
_PACE_SHARE = 0.02
_DRAFT_TOKENS, _DRAFT_KEPT = 3, 0.7
_PREEMPTED = 0.02
_PATIENCE_SECONDS = 120.0  # after which clients of a stuck engine give up
_CUT_OFF: tuple[Outcome, str] = ("stream_error", "200")
_NO_ANSWER: tuple[Outcome, str] = ("upstream_unreachable", "502")
_SECONDS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)


class Distribution:
    """An engine's histogram, in seconds."""

    def __init__(self) -> None:
        self._counts = [0.0] * (len(_SECONDS) + 1)
        self.sum = 0.0

    def add(self, seconds: float, times: float = 1.0) -> None:
        """Add a value ``count`` times."""
        self._counts[bisect_left(_SECONDS, seconds)] += times
        self.sum += seconds * times

    def buckets(self) -> Iterator[tuple[str, float]]:
        """Yield formatted bounds with cumulative counts."""
        return zip((*map(str, _SECONDS), "+Inf"), accumulate(self._counts), strict=True)

    @property
    def count(self) -> float:
        """The number of values."""
        return sum(self._counts)


LATENCIES = ("ttft", "inter_token", "per_output_token", "duration", "queue", "prefill", "decode")


class Tally:
    """An engine's counters since its start."""

    def __init__(self) -> None:
        self.prompt_miss = self.prompt_hit = self.generated = 0
        self.preemptions = self.drafts = 0
        self.finished: Counter[str] = Counter()
        self.latencies = {name: Distribution() for name in LATENCIES}

    def finish(self, request: SimulatedRequest) -> None:
        """Count a finished request."""
        reason = {"ok": "stop", "client_disconnect": "abort"}.get(request.outcome, "error")
        self.finished["length" if reason == "stop" and request.output_tokens % 13 == 0 else reason] += 1
        times = {
            "ttft": request.first - request.arrived,
            "duration": request.ended - request.arrived,
            "queue": request.started - request.arrived,
            "prefill": request.first - request.started,
            "decode": request.ended - request.first,
        }
        for name, seconds in times.items():
            self.latencies[name].add(max(0.0, seconds))
        if request.output_tokens > 1:
            self.latencies["per_output_token"].add(request.token_seconds)
            self.latencies["inter_token"].add(request.token_seconds, request.output_tokens - 1)


@dataclass
class Loaded:
    """A model in memory, with the time at which it is unloaded unless it is used."""

    model: ModelSpec
    ready: float
    used: float

    @property
    def expires(self) -> float:
        """Time at which the server unloads it."""
        return self.used + KEEP_ALIVE_SECONDS


@dataclass
class Work:
    """An engine's work in the last step, in tokens and seconds."""

    prefilled: int = 0
    generated: int = 0
    loading_bytes: float = 0.0
    seconds: float = 1.0


class SimulatedEngine:
    """A simulated model server."""

    def __init__(self, spec: ServerSpec, models: Sequence[ModelSpec], rng: random.Random, started: float) -> None:
        self.spec = spec
        self.models = tuple(model for model in models if model.server == spec.name)
        self.slowness = 1.0
        """Factor by which everything is slower than on healthy GPUs."""
        self.stuck = False
        """Whether it accepts requests, but does not process them."""
        self._rng = rng
        self.start(started)

    def start(self, at: float) -> None:
        """Start with all counters at zero and every model loaded, except on a server that loads on request."""
        self.up = True
        self.tally = Tally()
        self.requests: list[SimulatedRequest] = []
        self.work = Work()
        self.loaded = (
            {} if self.spec.loads_on_request else {model.name: Loaded(model, at, math.inf) for model in self.models}
        )
        self._slots: list[float] = []
        self._pace = 0.0

    def stop(self, at: float) -> list[SimulatedRequest]:
        """Stop at once; return the requests that this ends."""
        self.up = False
        self.loaded = {}
        ended, self.requests = self.requests, []
        for request in ended:
            request.ended = at
            request.outcome, request.code = _CUT_OFF if self._began(request, at) else _NO_ANSWER
            request.output_tokens = request.produced
        return ended

    def accept(self, request: SimulatedRequest) -> None:
        """Set all times of a request."""
        request.load = self._load(request)
        while self._slots and self._slots[0] <= request.arrived:
            heapq.heappop(self._slots)
        free = heapq.heappop(self._slots) if len(self._slots) >= self.spec.capacity else request.arrived
        started = max(request.arrived, free) + request.load
        fill = len(self._slots) / self.spec.capacity
        model, jitter = request.model, self._rng.lognormvariate(0, 0.12)
        miss = request.input_tokens - request.cached
        request.started = started
        request.first = started + (0.012 + miss / model.prefill_rate * (1 + fill)) * self.slowness * jitter
        request.token_seconds = model.token_seconds * (1 + _BATCH_COST * fill) * self.slowness * jitter
        if request.outcome in ("client_disconnect", "stream_error"):
            request.output_tokens = max(1, request.output_tokens // 3)
        request.ended = request.first + max(0, request.output_tokens - 1) * request.token_seconds
        heapq.heappush(self._slots, request.ended)
        self.requests.append(request)

    def run(self, since: float, until: float) -> list[SimulatedRequest]:
        """Simulate an interval; return the requests that ended, in order. Call it after all were accepted."""
        self.work = Work(seconds=until - since)
        for loaded in self.loaded.values():
            start = loaded.ready - loaded.model.load_seconds
            seconds = min(until, loaded.ready) - max(since, start)
            if seconds > 0 and loaded.model.load_seconds:
                self.work.loading_bytes += loaded.model.bytes * seconds / loaded.model.load_seconds
        if self.stuck:
            self._postpone(since, until)
        over = []
        for request in self.requests:
            self._progress(request, until)
            if request.ended <= until:
                self.tally.finish(request)
                request.over = True
                over.append(request)
        self._pace += (len(over) / self.work.seconds - self._pace) * _PACE_SHARE
        if over:
            self.requests = [request for request in self.requests if not request.over]
        if self.spec.loads_on_request:
            self._expire(until)
        return sorted(over, key=lambda request: request.ended)

    def _postpone(self, since: float, until: float) -> None:
        """Delay everything that requests have not done yet, and end those whose clients give up."""
        seconds = until - since
        for request in self.requests:
            request.started += seconds if request.started > since else 0.0
            if request.first > since:
                request.first += seconds
            else:
                request.stalled += seconds
            request.ended += seconds
            if until - request.arrived > _PATIENCE_SECONDS:
                request.ended, request.outcome, request.output_tokens = until, "client_disconnect", request.produced
        self._slots = heapq.nlargest(self.spec.capacity, (one.ended for one in self.requests if one.ended > until))
        heapq.heapify(self._slots)

    def running(self, at: float) -> int:
        """Return the number of running requests."""
        return sum(request.started <= at for request in self.requests)

    def waiting(self, at: float) -> int:
        """Return the number of queued requests."""
        return sum(request.started > at for request in self.requests)

    def kv_tokens(self, at: float) -> int:
        """Return the number of tokens in the KV cache."""
        held = sum(r.input_tokens + r.produced for r in self.requests if r.started <= at)
        return min(held, self.spec.kv_tokens)

    def resident_bytes(self, at: float) -> int:
        """Return the GPU memory of its models in bytes, those that are being loaded included."""
        loaded = list(self.loaded.values())  # a scrape reads it while the world advances
        return sum(one.model.bytes for one in loaded if at >= one.ready - one.model.load_seconds)

    def overload(self, at: float) -> float:
        """Return the request rate of its first model that makes the queue grow: fast at first, then steadily."""
        if self.waiting(at):
            return self._pace + _GROWTH
        model = self.models[0]
        seconds = model.output_tokens * model.token_seconds * (1 + _BATCH_COST) * self.slowness
        return _RUSH * self.spec.capacity / max(seconds, 1.0)

    def evict(self) -> None:
        """Unload every model without a running request."""
        busy = {request.model.name for request in self.requests}
        self.loaded = {name: loaded for name, loaded in self.loaded.items() if name in busy}

    def _began(self, request: SimulatedRequest, at: float) -> bool:
        return request.stream and request.first <= at

    def _load(self, request: SimulatedRequest) -> float:
        """Return how long a request waits for its model; start to load it if necessary."""
        name, at = request.model.name, request.arrived
        loaded = self.loaded.get(name)
        if loaded is None:
            seconds = request.model.load_seconds * self._rng.uniform(0.9, 1.2)
            loaded = self.loaded[name] = Loaded(request.model, at + seconds, at)
        loaded.used = max(loaded.used, at)
        return max(0.0, loaded.ready - at)

    def _expire(self, at: float) -> None:
        busy = {request.model.name: at for request in self.requests}
        for name, loaded in list(self.loaded.items()):
            loaded.used = max(loaded.used, busy.get(name, 0.0))
            if loaded.expires <= at:
                del self.loaded[name]

    def _progress(self, request: SimulatedRequest, until: float) -> None:
        """Count a request's new tokens; its input counts with the first output token."""
        if request.first > until:
            return
        if not request.produced:
            self.tally.prompt_hit += request.cached
            self.tally.prompt_miss += request.input_tokens - request.cached
            self.work.prefilled += request.input_tokens - request.cached
        done = request.output_tokens
        if until < request.ended and request.token_seconds:
            done = min(done, 1 + int((until - request.first - request.stalled) / request.token_seconds))
        step = done - request.produced
        request.produced = done
        self.tally.generated += step
        self.tally.drafts += step // _DRAFT_TOKENS
        self.work.generated += step
        if len(self.requests) > self.spec.capacity and step:  # with a queue the cache is full
            self.tally.preemptions += self._rng.random() < _PREEMPTED

    @property
    def draft_tokens(self) -> tuple[int, int]:
        """Return the numbers of drafted and accepted tokens."""
        guessed = self.tally.drafts * _DRAFT_TOKENS
        return guessed, int(guessed * _DRAFT_KEPT)
