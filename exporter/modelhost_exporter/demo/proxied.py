"""Record the simulated requests in the proxy's own metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.demo.catalogue import SERVERS
from modelhost_exporter.demo.simulated_upstreams import SimulatedUpstreams
from modelhost_exporter.requests.model_names import UNKNOWN
from modelhost_exporter.requests.observation import (
    NO_REPLY,
    OTHER_OPERATION,
    RequestLabels,
    RequestObservation,
    ServerSeconds,
    Tokens,
)

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

    from modelhost_exporter.demo.routing import Router
    from modelhost_exporter.demo.specs import ModelSpec
    from modelhost_exporter.demo.traffic import SimulatedRequest
    from modelhost_exporter.metrics.instruments import Gauge
    from modelhost_exporter.proxy.self_metrics import SelfMetrics
    from modelhost_exporter.proxy.settings import ProxiedServer
    from modelhost_exporter.requests.metrics import RequestMetrics

_ASIDE = 0.02  # requests without a model (a list of models, a health check) per request with one
_UNREADABLE = 0.0006
_CHUNK_TOKENS = 1.25
_LOADED_SECONDS = 0.0005  # what a response reports as load time when the model is loaded
_SERVERS = {server.name: server for server in SERVERS}


class Proxied:
    """Records every request that passes the proxy in its metrics."""

    def __init__(
        self,
        servers: Mapping[str, ProxiedServer],
        metrics: RequestMetrics,
        health: SelfMetrics,
        rng: random.Random,
        routers: Mapping[str, Router],
    ) -> None:
        self._servers = servers
        self._upstreams = {
            name: SimulatedUpstreams(name, router, health.upstreams)
            for name, router in routers.items()
            if len(router.replicas) > 1
        }
        self._metrics = metrics
        self._health = health
        self._rng = rng
        self._phases: dict[SimulatedRequest, Gauge] = {}

    def arrived(self, request: SimulatedRequest) -> None:
        """Count a request as waiting."""
        if request.direct:
            return
        self._enter(request, "waiting" if request.stream else "blocking")
        if (upstreams := self._upstreams.get(request.model.server)) is not None:
            upstreams.arrived(request)
        if self._rng.random() < _ASIDE:
            aside = RequestObservation(
                _labels(request.model)._replace(model=UNKNOWN, operation=OTHER_OPERATION),
                stream=False,
                outcome="ok",
                code="200",
                duration=self._rng.uniform(0.002, 0.009),
            )
            self._record(aside)

    def streams(self, request: SimulatedRequest) -> None:
        """Count a request as streaming."""
        if not request.direct and request in self._phases:
            self._phases.pop(request).dec()
            self._enter(request, "streaming")

    def progressed(self, request: SimulatedRequest, tokens: int) -> None:
        """Count the chunks of a stream."""
        if not request.direct and request.stream:
            self._metrics.chunks(_labels(request.model)).inc(
                _chunks(request.produced) - _chunks(request.produced - tokens)
            )

    def ended(self, request: SimulatedRequest) -> None:
        """Record a finished request."""
        if request.direct:
            return
        self._phases.pop(request).dec()
        self._metrics.running.leave(request)
        server = request.model.server
        if (upstreams := self._upstreams.get(server)) is not None:
            upstreams.ended(request)
        self._record(self._observation(request))
        self._health.overhead(server, "request").observe(self._rng.lognormvariate(-8.1, 0.4))
        if request.outcome == "ok":
            self._health.overhead(server, "response").observe(self._rng.lognormvariate(-8.6, 0.6))
        if self._rng.random() < _UNREADABLE:
            self._health.parse_error(server, "openai_chat", "json")

    def _enter(self, request: SimulatedRequest, phase: str) -> None:
        labels = _labels(request.model)
        gauge = self._phases[request] = self._metrics.in_flight(labels, phase)
        gauge.inc()
        self._metrics.running.enter(request, labels, phase)

    def _record(self, observed: RequestObservation) -> None:
        server, model = observed.labels.server, observed.labels.model
        self._metrics.record(observed, self._servers[server].objectives_of(model))

    def _observation(self, request: SimulatedRequest) -> RequestObservation:
        duration = max(0.0, request.ended - request.arrived)
        code = request.code
        if request.outcome == "client_disconnect" and request.ended <= request.first:
            code = NO_REPLY
        plain = RequestObservation(_labels(request.model), request.stream, request.outcome, code, duration)
        return self._with_answer(plain, request) if request.outcome == "ok" else plain

    def _with_answer(self, plain: RequestObservation, request: SimulatedRequest) -> RequestObservation:
        model, ttft = request.model, request.first - request.arrived
        thinking = request.reasoning * request.token_seconds
        timed = request.stream
        return plain._replace(
            time_to_first_token=ttft if timed else None,
            time_to_first_answer_token=ttft + thinking if timed else None,
            time_per_output_token=request.token_seconds if timed and request.output_tokens > 1 else None,
            max_gap=request.token_seconds * self._rng.uniform(1.5, 6) if timed else None,
            finish_reasons=(("length" if request.output_tokens % 13 == 0 else "stop"),)
            if request.output_tokens
            else (),
            tokens=Tokens(
                request.input_tokens,
                request.cached if model.cache_hit else None,
                None,
                request.output_tokens or None,
                request.reasoning if model.reasoning else None,
                "usage",
            ),
            server_seconds=self._server_seconds(request),
            chunks=_chunks(request.output_tokens) if timed else 0,
            decode_seconds=request.ended - request.first if timed and request.output_tokens > 1 else None,
        )

    def _server_seconds(self, request: SimulatedRequest) -> ServerSeconds:
        times = {
            "queue": request.started - request.arrived,
            "prefill": request.first - request.started,
            "decode": request.ended - request.first if request.output_tokens else None,
            "load": request.load or _LOADED_SECONDS,
        }
        contained = _SERVERS[request.model.server].response_times
        return ServerSeconds(**{name: seconds for name, seconds in times.items() if name in contained})


def _chunks(tokens: int) -> int:
    return int(tokens / _CHUNK_TOKENS + 0.5)


def _labels(model: ModelSpec) -> RequestLabels:
    return RequestLabels(model.server, model.name, model.operation)
