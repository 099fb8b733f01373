"""The table of the Model servers dashboard: how each server, or each of its replicas, is."""

from __future__ import annotations

from grafana import queries as q
from grafana import style as s
from grafana.engine_queries import CHOSEN, NO_SERVER, REPLICA, together
from grafana.panels import POLLED, Column, heading, listing
from grafana.queries import Query, now

STATES = {0: ("down", s.RED), 1: ("up", s.GREEN)}
_STALE = ((None, s.GREEN), (60, s.AMBER), (300, s.RED))
"""Seconds since the last poll that succeeded."""
_WAITING = ((None, s.GREEN), (1, s.AMBER))


def at_a_glance() -> s.Builder:
    """Show how each server is."""
    this = s.link("Only this server", "modelhost-model-servers", server=s.field(heading("server")))
    output = q.total(q.rate("modelhost_engine_output_tokens_total", CHOSEN), *REPLICA)
    since = f"time() - {_each('last_success_timestamp_seconds')}"
    return (
        listing(
            "Servers",
            "A row per model server, or per replica of one, those that are down first; click one to see it alone. "
            "Preempted: requests that lost their place in the KV cache in the time range. Good: up, nothing waits, the "
            "KV cache below 90 %.",
            Column("State", s.COUNT, now(_up()), texts=STATES),
            Column("Running", s.COUNT, _now("requests_running")),
            Column("Waiting", s.COUNT, _now("requests_waiting"), _WAITING),
            Column("KV cache", s.RATIO, _now("kv_cache_usage_ratio"), s.FULL, full=1),
            Column("Preempted", s.COUNT, now(_preempted()), least=95),
            Column("Output", s.TOKENS, now(output), least=85),
            Column("Loaded", s.COUNT, now(q.total(q.select("modelhost_model_loaded", CHOSEN), *REPLICA))),
            Column("Data age", s.SECONDS, now(since), _STALE, least=85),
            labels=(*REPLICA, "kind", "version"),
            empty=NO_SERVER,
            links={"server": this},
            first="State",
            lowest=True,
        )
        .height(8)
        .interval(POLLED)
    )


def _each(metric: str) -> str:
    return together(f"modelhost_engine_{metric}", *REPLICA)


def _now(metric: str) -> Query:
    return now(_each(metric))


def _up() -> str:
    """Return whether each server is up, with kind and version, which one that was never up does not have."""
    info = together("modelhost_engine_info", *REPLICA, "kind", "version")
    return q.labelled_where_known(_each("up"), info, *REPLICA)


def _preempted() -> str:
    lost = q.total(q.increase("modelhost_engine_preemptions_total", CHOSEN, window=q.RANGE), *REPLICA)
    return f"ceil({lost})"
