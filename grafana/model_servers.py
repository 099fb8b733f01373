"""Model servers: what the engines say, beside what users felt at the proxy."""

from __future__ import annotations

from grafana import engine_work as work
from grafana import queries as q
from grafana import style as s
from grafana.board import Board, Variable, row
from grafana.engine_models import loaded, models
from grafana.engine_queries import CHOSEN, KEYS, LEGEND, NO_SERVER, UNTOLD, flow, line
from grafana.panels import graph, listing, number, per_request, states
from grafana.queries import Query, now

SERVER = Variable("server", "Server", q.values_of("server", "modelhost_engine_up"))


def board() -> Board:
    """Return the dashboard."""
    return Board(
        "modelhost-model-servers",
        "Model host / Model servers",
        "What the engines say: queues, caches, latencies, loaded models.",
        (
            row("Now", up(), running_now(), waiting_now(), preempted_now(), *loaded(), servers()),
            row("Load", up_states(), running(), waiting(), cache(), capacity(), preemptions()),
            row("Latency: engine beside proxy", *work.latencies(), work.queue(), work.phases(), work.inter_token()),
            row(
                "Tokens",
                work.tokens_in(),
                work.tokens_out(),
                work.work_time(),
                work.speculation(),
                work.finished(),
                work.unproxied(),
            ),
            row("Models", *models()),
            row("Polls and probes", age(), polls(), failures(), probes(), probe_time()),
        ),
        (SERVER,),
    )


def up() -> s.Builder:
    """Count servers that answer."""
    return number(
        "Servers up",
        "Model servers whose last poll succeeded, as a share of those watched. Good: all.",
        now(q.over("avg", q.select("modelhost_engine_up", CHOSEN))),
        unit=s.RATIO,
        steps=s.ALL_IS_WELL,
        empty=NO_SERVER,
    )


def running_now() -> s.Builder:
    """Show requests that run."""
    return _now("Running", "Requests that the engines work on. Good: more than 0 while users wait.", "requests_running")


def waiting_now() -> s.Builder:
    """Show requests that wait."""
    return _now("Waiting", "Requests in the engines' own queues. Good: 0, or soon again 0.", "requests_waiting")


def _now(title: str, text: str, metric: str) -> s.Builder:
    return number(title, text, now(q.total(q.select(f"modelhost_engine_{metric}", CHOSEN))), unit=s.COUNT, empty=UNTOLD)


def preempted_now() -> s.Builder:
    """Show preemptions in the range."""
    moved = q.total(q.increase("modelhost_engine_preemptions_total", CHOSEN, window=q.RANGE))
    return number(
        "Preemptions",
        "Requests within the time range above that had to give up their place in the KV cache. Good: 0.",
        now(moved),
        unit=s.COUNT,
        empty=UNTOLD,
        decimals=0,
    )


def servers() -> s.Builder:
    """List the servers."""
    labels = (*KEYS, "kind", "version")
    info = q.total(q.select("modelhost_engine_info", CHOSEN), *labels)

    def told(metric: str) -> Query:
        return now(f"{line(metric).expr} * on (instance, server) group_right () {info}")

    return listing(
        "Servers",
        "What runs where, how many requests it works on at a time, and how many tokens fit in its KV cache. "
        "Good: all up.",
        ("Up", s.YES_NO, told("up"), s.ALL_IS_WELL),
        ("Requests at a time", s.COUNT, told("request_capacity"), s.NONE),
        ("KV cache tokens", s.COUNT, told("kv_cache_capacity_tokens"), s.NONE),
        labels=labels,
        empty=NO_SERVER,
    ).height(6)


def up_states() -> s.Builder:
    """Draw when servers were up."""
    return states(
        "Up",
        "Whether each server answered its last poll. Good: up all the time.",
        line("up"),
        texts={0: ("down", s.RED), 1: ("up", s.GREEN)},
        empty=NO_SERVER,
    ).span(8)


def running() -> s.Builder:
    """Draw requests that run."""
    return graph(
        "Running",
        "Requests that each engine works on. Good: below its capacity.",
        line("requests_running"),
        unit=s.COUNT,
        empty=UNTOLD,
    )


def waiting() -> s.Builder:
    """Draw requests that wait."""
    return graph(
        "Waiting",
        "Requests in each engine's queue. Good: 0, or short peaks; a queue that grows needs another server.",
        line("requests_waiting"),
        unit=s.COUNT,
        empty=UNTOLD,
    )


def cache() -> s.Builder:
    """Draw the KV cache."""
    return graph(
        "KV cache in use",
        "Used share of the KV cache. Good: below 90 %; a full one makes requests wait or lose their place.",
        line("kv_cache_usage_ratio"),
        unit=s.RATIO,
        empty=UNTOLD,
        most=1,
        steps=s.FULL,
    )


def capacity() -> s.Builder:
    """Draw how full the engines are."""
    share = q.ratio(line("requests_running").expr, f"({line('request_capacity').expr} > 0)")
    return graph(
        "Share of the slots in use",
        "Running requests over those that fit. Good: below 1.",
        Query(share, LEGEND),
        unit=s.RATIO,
        empty=UNTOLD,
    )


def preemptions() -> s.Builder:
    """Draw preemptions."""
    return graph(
        "Preemptions",
        "Requests that lost their place in the KV cache, per second. Good: 0; else lower the number of requests "
        "or lengths.",
        flow("preemptions"),
        unit=s.REQUESTS,
        empty=UNTOLD,
    )


def age() -> s.Builder:
    """Draw the age of what servers said."""
    return graph(
        "Age of what the servers said",
        "Time since the last successful poll. Good: below the poll interval and a little.",
        Query(f"time() - {line('last_success_timestamp_seconds').expr}", LEGEND),
        unit=s.SECONDS,
        empty=NO_SERVER,
    )


def polls() -> s.Builder:
    """Draw how long polls take."""
    return graph(
        "Poll duration",
        "How long the last poll took. Good: milliseconds; an engine that is busy answers late.",
        line("poll_duration_seconds"),
        unit=s.SECONDS,
        empty=NO_SERVER,
    ).span(4)


def failures() -> s.Builder:
    """Draw polls that failed."""
    return graph(
        "Poll failures",
        "Polls or pages that failed, per second, by reason. Good: 0.",
        flow("poll_failures", "reason"),
        unit=s.REQUESTS,
        empty="No failures seen",
    ).span(4)


def probes() -> s.Builder:
    """Draw probes."""
    ended = q.total(q.rate("modelhost_probes_total", CHOSEN), "server", "model", "outcome")
    return graph(
        "Probes",
        "Tiny requests that the exporter sent, by outcome. Good: ok alone.",
        Query(ended, "{{server}} {{model}} {{outcome}}"),
        unit=s.REQUESTS,
        empty="Probes are off",
    ).span(4)


def probe_time() -> s.Builder:
    """Draw how long probes took."""
    took = q.mean("modelhost_probe_duration_seconds", CHOSEN, by=("server", "model"))
    return per_request(
        "Probe duration",
        "Mean time of a request for one token. Good: steady; it is the floor of the time to first token.",
        Query(took, "{{server}} {{model}}"),
        empty="Probes are off",
    ).span(4)
