"""The requests of a day, drawn from a seed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

    from modelhost_exporter.demo.incidents import Situation
    from modelhost_exporter.demo.profiles import Profile
    from modelhost_exporter.demo.specs import ModelSpec
    from modelhost_exporter.requests.observation import Outcome

_DAY, _HOUR, _BUSIEST_HOUR = 86_400.0, 3_600.0, 15
_DIRECT = 0.08
_STREAMS = 0.9
_BURST_OF_ERRORS = 0.85
_OF_STREAMS = ("client_disconnect", "stream_error")


@dataclass(eq=False, slots=True)
class SimulatedRequest:
    """A simulated request; its times (seconds since 1970) are set when an engine accepts it."""

    model: ModelSpec
    arrived: float
    direct: bool
    """Whether it bypasses the proxy."""
    stream: bool
    input_tokens: int
    cached: int
    output_tokens: int
    outcome: Outcome = "ok"
    code: str = "200"
    load: float = 0.0
    """Seconds that it waits for its model to be loaded."""
    started: float = 0.0
    """Time at which it leaves the queue."""
    first: float = 0.0
    """Time of its first token."""
    ended: float = 0.0
    token_seconds: float = 0.0
    stalled: float = 0.0
    """Seconds for which the engine was stuck after the first token."""
    produced: int = 0
    """Output tokens so far."""
    over: bool = False
    upstream: str | None = None
    """The replica that the proxy sent it to; None where it reached none."""
    unreachable: tuple[str, ...] = ()
    """The replicas that the proxy tried in vain."""

    @property
    def reasoning(self) -> int:
        """Output tokens that are reasoning."""
        return int(self.output_tokens * self.model.reasoning)

    @property
    def works(self) -> bool:
        """Return whether an engine processes it at all."""
        return self.started > 0


class SimulatedTraffic:
    """A generator of requests for some models."""

    def __init__(
        self,
        overload: Callable[[ModelSpec, float], float | None],
        rng: random.Random,
        profile: Profile,
    ) -> None:
        """Prepare; ``overload`` returns a model's request rate at a time at which its server's queue grows.

        None for a model that does not cause the overload. The rest is of the profile.
        """
        self._models = profile.models
        self._mishaps = profile.mishaps
        self._overload = overload
        self._rng = rng
        self._quietest = profile.quietest
        self._phases = [rng.uniform(0, math.tau) for _ in profile.models]

    def between(self, since: float, until: float, situation: Situation) -> Iterator[SimulatedRequest]:
        """Yield the requests of a short interval, in order."""
        arrivals = [
            (self._rng.uniform(since, until), model)
            for model, phase in zip(self._models, self._phases, strict=True)
            for _ in range(self._poisson(self._rate(model, phase, until, situation) * (until - since)))
        ]
        for at, model in sorted(arrivals, key=lambda arrival: arrival[0]):
            yield self._request(model, at, situation)

    def _rate(self, model: ModelSpec, phase: float, at: float, situation: Situation) -> float:
        if model.in_bursts and (at / model.burst_seconds + phase / math.tau) % 1 > model.burst_share:
            return 0.0
        if situation.has("queue_growing", model.server) and (rate := self._overload(model, at)) is not None:
            return rate
        return model.rate * day_curve(at, self._quietest) * (1 + 0.25 * math.sin(at / 67 + phase))

    def _poisson(self, mean: float) -> int:
        """Draw a number of arrivals (Knuth); ``mean`` is small."""
        limit, product, count = math.exp(-mean), self._rng.random(), 0
        while product > limit:
            product *= self._rng.random()
            count += 1
        return count

    def _request(self, model: ModelSpec, at: float, situation: Situation) -> SimulatedRequest:
        rng = self._rng
        wanted = min(int(self._about(model.input_tokens, 0.8)) + 1, model.context // 2)
        cached = int(wanted * min(0.95, rng.expovariate(1 / model.cache_hit))) if model.cache_hit else 0
        output = int(self._about(model.output_tokens, 0.7)) + 2 if model.output_tokens else 0
        request = SimulatedRequest(
            model,
            at,
            direct=rng.random() < _DIRECT,
            stream=bool(output) and rng.random() < _STREAMS,
            input_tokens=wanted,
            cached=cached,
            output_tokens=min(output, model.context // 2),
        )
        request.outcome, request.code = self._fate(request, situation)
        return request

    def _about(self, mean: float, spread: float) -> float:
        return self._rng.lognormvariate(math.log(mean) - spread**2 / 2, spread)

    def _fate(self, request: SimulatedRequest, situation: Situation) -> tuple[Outcome, str]:
        chance = self._rng.random()
        if situation.has("server_errors", request.model.server) and chance < _BURST_OF_ERRORS:
            return "server_error", "503"
        for outcome, code, share in self._mishaps:
            if chance < share and (request.stream or outcome not in _OF_STREAMS):
                return outcome, code
            chance -= share
        return "ok", "200"


def day_curve(at: float, quietest: float) -> float:
    """Return the traffic at a time of the day (UTC) as a share of the busiest hour's; ``quietest`` is the lowest."""
    hours = at % _DAY / _HOUR
    return quietest + (1 - quietest) * (0.5 + 0.5 * math.cos((hours - _BUSIEST_HOUR) / 24 * math.tau))
