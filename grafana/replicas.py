"""Panels of the Model servers dashboard about servers with several upstreams: the proxy's view, and the engines'."""

from __future__ import annotations

from grafana import queries as q
from grafana import style as s
from grafana.engine_queries import CHOSEN, REPLICA, REPLICA_LEGEND, together
from grafana.panels import graph, states
from grafana.queries import Query

_SEVERAL = 'upstream!=""'
_NONE = "No server has several urls"
_NO_PROXY = "No proxied server has several urls"


def replicas() -> tuple[s.Builder, ...]:
    """Show each upstream of the servers that have several."""
    return (
        *(upstreams(), requests().span(6), failures().span(6), ejections().span(6)),
        *(in_flight(), running(), cache()),
    )


def upstreams() -> s.Builder:
    """Draw when upstreams were ejected."""
    return states(
        "Upstreams",
        "Whether the proxy sends requests to each upstream; an ejected one gets trials only. Good: always up.",
        Query(together("modelhost_proxy_upstream_up", *REPLICA), REPLICA_LEGEND),
        texts={0: ("ejected", s.RED), 1: ("up", s.GREEN)},
        empty=_NO_PROXY,
    ).span(6)


def requests() -> s.Builder:
    """Draw requests by upstream."""
    return graph(
        "Requests/s by upstream",
        "Requests that the proxy sent to each upstream. Good: more to faster ones.",
        Query(_sent(), REPLICA_LEGEND),
        unit=s.REQUESTS,
        empty=_NO_PROXY,
    )


def failures() -> s.Builder:
    """Draw the share of failures by upstream."""
    counted = _sent(q.COUNTED)
    failed = f"({_sent(q.ERRORS)} or 0 * {counted})"
    return graph(
        "Failures by upstream",
        "Share of the requests to each upstream that failed because of it. Good: 0; an upstream is ejected at 50 %.",
        Query(q.ratio(failed, f"({counted} > 0)"), REPLICA_LEGEND),
        unit=s.RATIO,
        empty=_NO_PROXY,
        max_=1,
    )


def ejections() -> s.Builder:
    """Draw ejections by upstream."""
    return graph(
        "Ejections",
        "Ejections of each upstream, failed trials included. Good: 0.",
        Query(q.total(q.increase("modelhost_proxy_upstream_ejections_total", CHOSEN), *REPLICA), REPLICA_LEGEND),
        unit=s.COUNT,
        empty=_NO_PROXY,
    )


def in_flight() -> s.Builder:
    """Draw requests in flight by upstream."""
    return graph(
        "In flight by upstream",
        "Requests of the proxy that each upstream works on. Good: equal, unless requests are bound to an upstream.",
        Query(together("modelhost_proxy_upstream_requests_in_flight", *REPLICA), REPLICA_LEGEND),
        unit=s.COUNT,
        empty=_NO_PROXY,
    )


def running() -> s.Builder:
    """Draw requests that run by upstream."""
    return graph(
        "Running by upstream",
        "Requests that each replica's engine processes. Good: as many as the proxy has in flight there.",
        Query(together("modelhost_engine_requests_running", *REPLICA, matchers=(_SEVERAL,)), REPLICA_LEGEND),
        unit=s.COUNT,
        empty=_NONE,
    )


def cache() -> s.Builder:
    """Draw the KV cache by upstream."""
    return graph(
        "KV cache by upstream",
        "Used share of each replica's KV cache. Good: below 90 %, and similar.",
        Query(together("modelhost_engine_kv_cache_usage_ratio", *REPLICA, matchers=(_SEVERAL,)), REPLICA_LEGEND),
        unit=s.RATIO,
        empty=_NONE,
        max_=1,
        steps=s.FULL,
    )


def _sent(*matchers: str) -> str:
    return q.total(q.rate("modelhost_proxy_upstream_requests_total", CHOSEN, *matchers), *REPLICA)
