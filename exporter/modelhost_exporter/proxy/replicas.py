"""The upstreams of a proxied server, the attempts of a request to reach one of them, and their metrics."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from modelhost_exporter.config.http_url import upstream_labels
from modelhost_exporter.proxy.balancing import Balancer, Replica

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from modelhost_exporter.config.http_url import ServerUrl
    from modelhost_exporter.proxy.balancing import Choice
    from modelhost_exporter.proxy.self_metrics import SelfMetrics
    from modelhost_exporter.proxy.settings import ProxiedServer
    from modelhost_exporter.proxy.upstream import Upstream
    from modelhost_exporter.requests.observation import Outcome

log = logging.getLogger(__name__)

_SUCCEEDED = frozenset({"ok", "client_error"})
_FAILED = frozenset({"server_error", "timeout", "upstream_unreachable", "stream_error"})


class Replicas:
    """The upstreams of one server; used on the event loop.

    A single upstream needs no choice, and has no metrics of its own: those of its server say the same.
    """

    def __init__(
        self,
        server: ProxiedServer,
        connect: Callable[[ServerUrl], Upstream],
        metrics: SelfMetrics,
        now: Callable[[], float],
    ) -> None:
        """Prepare; ``connect`` makes the pool of connections to a URL, ``now`` returns monotonic seconds."""
        self._server = server.name
        self._metrics = metrics.upstreams
        self._is_retired = False
        pairs = zip(server.upstreams, upstream_labels(server.upstreams), strict=True)
        self.balancer = Balancer([Replica(connect(url), label) for url, label in pairs], server.balance, now)
        self.by_url = dict(zip(server.upstreams, self.balancer.replicas, strict=True))
        self.single = self.balancer.replicas[0].upstream if len(server.upstreams) == 1 else None
        """The only upstream; None where there are several."""
        if self.single is None:
            for replica in self.balancer.replicas:
                self._metrics.add(self._server, replica.key)

    def begin(self, sticky: bytes | None, tokens: int, tried: Sequence[Replica[Upstream]]) -> Choice[Upstream]:
        """Choose an upstream that was not tried yet, and count the request there; there must be one."""
        choice = self.balancer.begin(sticky, tokens, tried)
        if choice is None:
            raise LookupError("every upstream was tried")
        self._metrics.begin(self._server, choice.replica.key)
        return choice

    def end(self, choice: Choice[Upstream], outcome: Outcome, *, failed: bool | None) -> None:
        """Count the end of an attempt."""
        replica = choice.replica
        before = replica.all_ejections, replica.is_ejected
        self.balancer.end(choice, failed=failed)
        self._metrics.end(self._server, replica.key, outcome)
        self._on_health(replica, *before)

    def judge(self, choice: Choice[Upstream], *, failed: bool) -> None:
        """Note the success or failure of an attempt that goes on."""
        replica = choice.replica
        before = replica.all_ejections, replica.is_ejected
        self.balancer.judge(choice, failed=failed)
        self._on_health(replica, *before)

    def _on_health(self, replica: Replica[Upstream], ejections: int, was_ejected: bool) -> None:
        """Report an ejection, or its end."""
        fields = {"server": self._server, "upstream": replica.key}
        if replica.all_ejections > ejections:
            self._metrics.ejected(self._server, replica.key)
            if replica.ejections == 1:  # those that follow come at most every few seconds, and say nothing new
                log.warning("upstream ejected", extra={"fields": {**fields, "failures": replica.failures}})
        elif was_ejected and not replica.is_ejected:
            log.info("upstream receives requests again", extra={"fields": fields})
        if was_ejected != replica.is_ejected and not self._is_retired:
            self._metrics.up(self._server, replica.key, is_up=not replica.is_ejected)

    def put_in_force(self, before: Replicas | None = None) -> None:
        """Report the health of these upstreams; one whose URL is not new keeps that of the settings before."""
        if self.single is None:
            known = {} if before is None else before.by_url
            for url in self.by_url.keys() & known.keys():
                self.by_url[url].inherit_health(known[url])
            for replica in self.balancer.replicas:
                self._metrics.up(self._server, replica.key, is_up=not replica.is_ejected)

    def retire(self) -> None:
        """Report no health any more: other settings are in force."""
        self._is_retired = True

    def close(self) -> None:
        """Close the kept connections, and end the series that no other settings have."""
        for replica in self.balancer.replicas:
            replica.upstream.close()
            if self.single is None:
                self._metrics.remove(self._server, replica.key)


class Attempts:
    """The attempts of one request; each is counted exactly once."""

    __slots__ = ("_choice", "_replicas", "_tried", "upstream")

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas
        self._choice: Choice[Upstream] | None = None
        self._tried: list[Replica[Upstream]] = []
        self.upstream: Upstream | None = replicas.single
        """Where the request goes; None while nothing was chosen."""

    def begin(self, sticky: bytes | None, tokens: int) -> Upstream:
        """Choose an upstream that was not tried yet; there must be one."""
        choice = self._choice = self._replicas.begin(sticky, tokens, self._tried)
        self._tried.append(choice.replica)
        self.upstream = choice.replica.upstream
        return self.upstream

    @property
    def may_fail_over(self) -> bool:
        """Whether there is an upstream that was not tried yet."""
        return self._choice is not None and len(self._tried) < len(self._replicas.balancer.replicas)

    def end(self, outcome: Outcome, *, has_response: bool) -> None:
        """Count the end of the current attempt, if there is one; what the client or the proxy did says nothing."""
        choice, self._choice = self._choice, None
        if choice is None:
            return
        if outcome in _SUCCEEDED and has_response:
            self._replicas.end(choice, outcome, failed=False)
        else:
            self._replicas.end(choice, outcome, failed=True if outcome in _FAILED else None)

    def on_switched(self) -> None:
        """Note that a WebSocket was accepted: it may stay open for days, which a trial does not wait for."""
        if self._choice is not None:
            self._replicas.judge(self._choice, failed=False)
