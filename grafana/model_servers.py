"""The Model servers dashboard: metrics of the engines, compared with those of the proxy."""

from __future__ import annotations

from grafana import energy, engine_table
from grafana import engine_models as models
from grafana import engine_work as work
from grafana import queries as q
from grafana import style as s
from grafana.board import Board, Variable, row
from grafana.engine_queries import (
    CHOSEN,
    LEGEND,
    NO_SERVER,
    REPLICA,
    REPLICA_LEGEND,
    gauge,
    rate,
    together,
)
from grafana.panels import NOT_REPORTED, graph, per_request, states
from grafana.queries import Query
from grafana.replicas import replicas

SERVER = Variable("server", "Server", q.values_of("server", "modelhost_engine_up"))


def board() -> Board:
    """Return the dashboard."""
    return Board(
        "modelhost-model-servers",
        "Model host / Model servers",
        "Metrics reported by the engines: queues, caches, latencies, loaded models.",
        (
            row("Now", engine_table.at_a_glance(), up_states(), waiting(), cache()),
            row("Load", running(), capacity(), preemptions()),
            row("Latency: engine and proxy", *(panel.span(6) for panel in (*work.latencies(), work.queue()))),
            row("Tokens", work.tokens_in(), work.tokens_out(), work.finished()),
            row("Models", models.listed(), models.loads(), models.memory()),
            row("Replicas", *replicas(), collapsed=True),
            row(
                "Phases and speculative decoding",
                *(panel.span(6) for panel in (work.phases(), work.inter_token(), work.work_time(), work.speculation())),
                collapsed=True,
            ),
            row("Energy and cost", *energy.of_models(), collapsed=True),
            row("Loads and unproxied tokens", models.moves(), work.unproxied(), collapsed=True),
            row("Polls and probes", age(), polls(), failures(), probes(), probe_time(), collapsed=True),
        ),
        (SERVER,),
    )


def up_states() -> s.Builder:
    """Draw when servers were up."""
    return states(
        "Up",
        "Whether the last poll of each server or replica succeeded. Good: always up.",
        Query(together("modelhost_engine_up", *REPLICA), REPLICA_LEGEND),
        texts=engine_table.STATES,
        empty=NO_SERVER,
    ).span(8)


def running() -> s.Builder:
    """Draw requests that run."""
    return graph(
        "Running",
        "Requests that each server processes, with replicas all together. Good: below its capacity.",
        gauge("requests_running"),
        unit=s.COUNT,
        empty=NOT_REPORTED,
    )


def waiting() -> s.Builder:
    """Draw requests that wait."""
    return graph(
        "Waiting",
        "Requests in the queues of each server. Good: 0, or short peaks; add a server if the queue grows.",
        gauge("requests_waiting"),
        unit=s.COUNT,
        empty=NOT_REPORTED,
    )


def cache() -> s.Builder:
    """Draw the KV cache."""
    return graph(
        "KV cache in use",
        "Used share of the KV cache, of the fullest replica. Good: below 90 %; when it is full, requests wait or lose "
        "their place.",
        gauge("kv_cache_usage_ratio"),
        unit=s.RATIO,
        empty=NOT_REPORTED,
        max_=1,
        steps=s.FULL,
    )


def capacity() -> s.Builder:
    """Draw how full the engines are."""
    share = q.ratio(gauge("requests_running").expr, f"({gauge('request_capacity').expr} > 0)")
    return graph(
        "Share of the slots in use",
        "Running requests as a share of the capacity. Good: below 1.",
        Query(share, LEGEND),
        unit=s.RATIO,
        empty=NOT_REPORTED,
    )


def preemptions() -> s.Builder:
    """Draw preemptions."""
    return graph(
        "Preemptions",
        "Requests that lost their place in the KV cache, per second. Good: 0; otherwise reduce parallel requests "
        "or their lengths.",
        rate("preemptions"),
        unit=s.REQUESTS,
        empty=NOT_REPORTED,
    )


def age() -> s.Builder:
    """Draw the age of the poll data."""
    return graph(
        "Age of poll data",
        "Time since the last successful poll, of the replica with the oldest. Good: at most slightly above the poll "
        "interval.",
        Query(f"time() - {gauge('last_success_timestamp_seconds').expr}", LEGEND),
        unit=s.SECONDS,
        empty=NO_SERVER,
    )


def polls() -> s.Builder:
    """Draw how long polls take."""
    return graph(
        "Poll duration",
        "Duration of the last poll, of the slowest replica. Good: milliseconds; a busy engine responds late.",
        gauge("poll_duration_seconds"),
        unit=s.SECONDS,
        empty=NO_SERVER,
    ).span(6)


def failures() -> s.Builder:
    """Draw polls that failed."""
    return graph(
        "Poll failures",
        "Polls or pages that failed, per second, by reason. Good: 0.",
        rate("poll_failures", "reason"),
        unit=s.REQUESTS,
        empty="No failures yet",
    ).span(6)


def probes() -> s.Builder:
    """Draw probes."""
    ended = q.total(q.rate("modelhost_probes_total", CHOSEN), "server", "model", "outcome")
    return graph(
        "Probes",
        "Requests for one token sent by the exporter, by outcome. Good: ok only.",
        Query(ended, "{{server}} {{model}} {{outcome}}"),
        unit=s.REQUESTS,
        empty="Probes are off",
    ).span(6)


def probe_time() -> s.Builder:
    """Draw how long probes took."""
    took = q.mean("modelhost_probe_duration_seconds", CHOSEN, by=("server", "model"))
    return per_request(
        "Probe duration",
        "Mean time of a request for one token. Good: steady; it is the lower bound of the time to first token.",
        Query(took, "{{server}} {{model}}"),
        empty="Probes are off",
    ).span(6)
