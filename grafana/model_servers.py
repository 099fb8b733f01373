"""Model servers: what the engines say, beside what users felt at the proxy."""

from __future__ import annotations

from grafana import queries as q
from grafana import style as s
from grafana.board import Board, Variable, row
from grafana.engine_models import loaded, models
from grafana.panels import graph, listing, number, per_request, states
from grafana.queries import Query, now

SERVER = Variable("server", "Server", q.values_of("server", "modelhost_engine_up"))
CHOSEN = 'server=~"$server"'
KEYS = ("instance", "server")
LEGEND = "{{instance}} {{server}}"
NO_SERVER = "No model server is watched"
UNTOLD = "The engines do not say"


def board() -> Board:
    """Return the dashboard."""
    return Board(
        "modelhost-model-servers",
        "Model host / Model servers",
        "What the engines say: queues, caches, latencies, loaded models.",
        (
            row("Now", up(), running_now(), waiting_now(), preempted_now(), *loaded(), servers()),
            row("Load", up_states(), running(), waiting(), cache(), capacity(), preemptions()),
            row("Latency: engine beside proxy", *latencies(), queue(), phases(), inter_token()),
            row("Tokens", tokens_in(), tokens_out(), work_time(), speculation(), finished(), unobserved()),
            row("Models", *models()),
            row("Polls and probes", age(), polls(), failures(), probes(), probe_time()),
        ),
        (SERVER,),
    )


def line(metric: str) -> Query:
    """Ask for a gauge of the chosen servers."""
    return Query(q.highest(q.select(f"modelhost_engine_{metric}", CHOSEN), *KEYS), LEGEND)


def flow(counter: str, *by: str) -> Query:
    """Ask for the rate of a counter of the chosen servers."""
    legend = " ".join((LEGEND, *(f"{{{{{label}}}}}" for label in by)))
    return Query(q.total(q.rate(f"modelhost_engine_{counter}_total", CHOSEN), *KEYS, *by), legend)


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


def latencies() -> tuple[s.Builder, ...]:
    """Draw the engine's p95 beside the proxy's."""
    kinds = (
        ("Time to first token p95", "time_to_first_token_seconds", "time_to_first_token_seconds"),
        ("Time per output token p95", "time_per_output_token_seconds", "time_per_output_token_seconds"),
        ("Response time p95", "request_duration_seconds", "request_duration_seconds"),
    )
    by = ("server",)
    return tuple(
        per_request(
            title,
            "As the engine sees it, and as users felt it at the proxy, of the slowest model over 5 minutes. "
            "Good: close together; a gap is time in front of the engine.",
            Query(q.quantile(0.95, f"modelhost_engine_{engine}", CHOSEN, by=by), "engine {{server}}"),
            Query(q.highest(q.select(f"model:{proxy}:p95_5m", CHOSEN), *by), "proxy {{server}}"),
            empty="Neither engine nor proxy saw requests yet",
        )
        for title, engine, proxy in kinds
    )


def queue() -> s.Builder:
    """Draw the time in the queue."""
    return _quantile(
        "Time in the queue p95", "How long requests wait in the engine. Good: near 0.", "request_queue_seconds"
    )


def inter_token() -> s.Builder:
    """Draw the time between outputs."""
    return _quantile(
        "Time between outputs p95",
        "As the engine sees it; one output may hold several tokens. Good: below 0.1 s.",
        "inter_token_latency_seconds",
    )


def _quantile(title: str, text: str, histogram: str) -> s.Builder:
    expr = q.quantile(0.95, f"modelhost_engine_{histogram}", CHOSEN, by=("server",))
    return per_request(title, text, Query(expr, "{{server}}"), empty=UNTOLD)


def phases() -> s.Builder:
    """Draw the phases."""
    return per_request(
        "Prefill and decode",
        "Mean time of a request on its prompt and on its answer. Good: prefill short beside decode.",
        *(
            Query(
                q.mean(f"modelhost_engine_request_{phase}_seconds", CHOSEN, by=("server",)), f"{phase} {{{{server}}}}"
            )
            for phase in ("prefill", "decode")
        ),
        empty=UNTOLD,
    )


def tokens_in() -> s.Builder:
    """Draw input tokens."""
    return graph(
        "Input tokens/s by cache",
        "Tokens read: hits cost almost nothing. Good: hits where prompts share a beginning.",
        flow("input_tokens", "cache"),
        unit=s.TOKENS,
        empty=UNTOLD,
    )


def tokens_out() -> s.Builder:
    """Draw output tokens."""
    return graph(
        "Output tokens/s",
        "Tokens written, as the engine counts. Good: high while requests run.",
        flow("output_tokens"),
        unit=s.TOKENS,
        empty=UNTOLD,
    )


def work_time() -> s.Builder:
    """Draw the time that engines spend on prompts and on output."""
    return graph(
        "Time on prompts and on output",
        "Seconds a second, of all requests side by side. Good: more on output than on prompts.",
        *(Query(flow(f"{phase}_seconds").expr, f"{phase} {LEGEND}") for phase in ("prefill", "decode")),
        unit=s.SECONDS,
        empty=UNTOLD,
    )


def speculation() -> s.Builder:
    """Draw speculative decoding."""
    accepted, drafted, drafts = (
        flow(f"speculative_{what}").expr for what in ("accepted_tokens", "draft_tokens", "drafts")
    )
    return graph(
        "Speculative decoding",
        "Share of guessed tokens that were kept, and tokens kept for each guess. Good: above half; else it costs "
        "more than it gains.",
        Query(q.ratio(accepted, f"({drafted} > 0)"), f"kept {LEGEND}"),
        Query(q.ratio(accepted, f"({drafts} > 0)"), f"tokens a guess {LEGEND}"),
        unit=s.RATIO,
        empty="Not used, or the engines do not say",
    ).override_by_regexp("tokens.*", s.unit_of(s.COUNT))


def finished() -> s.Builder:
    """Draw finish reasons."""
    return graph(
        "Requests by finish reason",
        "Good: stop; length means cut off, abort that clients left.",
        flow("requests_finished", "finish_reason"),
        unit=s.REQUESTS,
        empty=UNTOLD,
    )


def unobserved() -> s.Builder:
    """Draw what went around the proxy."""
    return graph(
        "Share that went around the proxy",
        "Tokens of the last hour that did not pass the proxy. Good: near 0; else the Models dashboard sees only "
        "a part.",
        line("unobserved_ratio"),
        unit=s.RATIO,
        empty="No proxied server that counts tokens",
        most=1,
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
