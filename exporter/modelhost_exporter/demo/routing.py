"""Distribute a server's simulated requests among its replicas, with the proxy's own balancer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.config.http_url import ServerUrl, upstream_labels
from modelhost_exporter.proxy.balancing import LEAST_REQUESTS, Balancer, Replica

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from modelhost_exporter.demo.engines import SimulatedEngine
    from modelhost_exporter.demo.specs import ServerSpec
    from modelhost_exporter.demo.traffic import SimulatedRequest
    from modelhost_exporter.proxy.balancing import Choice

_SAYS_NOTHING = frozenset({"client_disconnect"})
_SUCCEEDED = frozenset({"ok", "client_error"})


def server_url(spec: ServerSpec) -> ServerUrl:
    """Return the URL of a simulated server or replica."""
    return ServerUrl(f"http://127.0.0.1:{spec.port}")


class Router:
    """The replicas of one server, and the requests that each works on."""

    def __init__(self, engines: Sequence[SimulatedEngine], now: Callable[[], float]) -> None:
        labels = upstream_labels([server_url(engine.spec) for engine in engines])
        self.balancer = Balancer(
            [Replica(engine, label) for engine, label in zip(engines, labels, strict=True)], LEAST_REQUESTS, now
        )
        self._choices: dict[SimulatedRequest, Choice[SimulatedEngine]] = {}

    @property
    def replicas(self) -> Sequence[Replica[SimulatedEngine]]:
        """The replicas, and what is known of their health."""
        return self.balancer.replicas

    def route(
        self, request: SimulatedRequest, is_reachable: Callable[[SimulatedEngine], bool]
    ) -> SimulatedEngine | None:
        """Return the engine that a request reaches; None for none.

        One that cannot be reached is passed over, as the proxy does. What bypasses the proxy goes to the first replica.
        """
        if request.direct:
            engine = self.replicas[0].upstream
            return engine if is_reachable(engine) else None
        tried: list[Replica[SimulatedEngine]] = []
        while (choice := self.balancer.begin(tokens=request.input_tokens, tried=tried)) is not None:
            if is_reachable(choice.replica.upstream):
                self._choices[request] = choice
                request.upstream = choice.replica.key
                return choice.replica.upstream
            self.balancer.end(choice, failed=True)
            tried.append(choice.replica)
            request.unreachable = tuple(replica.key for replica in tried)
        return None

    def end(self, request: SimulatedRequest) -> None:
        """Count the end of a request that reached a replica."""
        choice = self._choices.pop(request, None)
        if choice is not None:
            outcome = request.outcome
            self.balancer.end(choice, failed=None if outcome in _SAYS_NOTHING else outcome not in _SUCCEEDED)
