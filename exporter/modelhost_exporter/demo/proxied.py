"""Record the simulated requests in the proxy's own metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.demo.observations import Observations, chunks_of, labels_of
from modelhost_exporter.demo.simulated_upstreams import SimulatedUpstreams
from modelhost_exporter.requests.model_names import UNKNOWN
from modelhost_exporter.requests.observation import OTHER_OPERATION, RequestObservation

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

    from modelhost_exporter.demo.routing import Router
    from modelhost_exporter.demo.traffic import SimulatedRequest
    from modelhost_exporter.metrics.instruments import Gauge
    from modelhost_exporter.proxy.self_metrics import SelfMetrics
    from modelhost_exporter.proxy.settings import ProxiedServer
    from modelhost_exporter.requests.metrics import RequestMetrics

_ASIDE = 0.02  # requests without a model (a list of models, a health check) per request with one
_UNREADABLE = 0.0006


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
        self._observations = Observations(routers, rng)
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
                labels_of(request.model)._replace(model=UNKNOWN, operation=OTHER_OPERATION),
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
            self._metrics.chunks(labels_of(request.model)).inc(
                chunks_of(request.produced) - chunks_of(request.produced - tokens)
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
        self._record(self._observations.of(request))
        self._health.overhead(server, "request").observe(self._rng.lognormvariate(-8.1, 0.4))
        if request.outcome == "ok":
            self._health.overhead(server, "response").observe(self._rng.lognormvariate(-8.6, 0.6))
        if self._rng.random() < _UNREADABLE:
            self._health.parse_error(server, "openai_chat", "json")

    def _enter(self, request: SimulatedRequest, phase: str) -> None:
        labels = labels_of(request.model)
        gauge = self._phases[request] = self._metrics.in_flight(labels, phase)
        gauge.inc()
        self._metrics.running.enter(request, labels, phase)

    def _record(self, observed: RequestObservation) -> None:
        server, model = observed.labels.server, observed.labels.model
        self._metrics.record(observed, self._servers[server].objectives_of(model))
