"""Record what the proxy does with the replicas of a simulated server in the proxy's own metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelhost_exporter.demo.routing import Router
    from modelhost_exporter.demo.traffic import SimulatedRequest
    from modelhost_exporter.proxy.self_metrics import UpstreamMetrics


class SimulatedUpstreams:
    """The metrics of one server's upstreams."""

    def __init__(self, server: str, router: Router, metrics: UpstreamMetrics) -> None:
        self._server = server
        self._replicas = router.replicas
        self._metrics = metrics
        self._ejections = {replica.key: replica.all_ejections for replica in self._replicas}
        for replica in self._replicas:
            metrics.add(server, replica.key)

    def arrived(self, request: SimulatedRequest) -> None:
        """Count a request in flight where it was sent, and an attempt at each upstream that could not be reached."""
        for upstream in request.unreachable:
            self._metrics.begin(self._server, upstream)
            self._metrics.end(self._server, upstream, "upstream_unreachable")
        if request.upstream is not None:
            self._metrics.begin(self._server, request.upstream)
        self._show_health()

    def ended(self, request: SimulatedRequest) -> None:
        """Count the end of a request where it was sent."""
        if request.upstream is not None:
            self._metrics.end(self._server, request.upstream, request.outcome)
        self._show_health()

    def _show_health(self) -> None:
        for replica in self._replicas:
            self._metrics.up(self._server, replica.key, is_up=not replica.is_ejected)
            for _ in range(replica.all_ejections - self._ejections[replica.key]):
                self._metrics.ejected(self._server, replica.key)
            self._ejections[replica.key] = replica.all_ejections
