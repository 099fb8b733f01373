"""The row of the Models dashboard that is repeated for each selected model, from raw series of the selected hosts."""

from __future__ import annotations

from grafana import queries as q
from grafana import style as s
from grafana.panels import NO_REQUESTS, NOT_REPORTED, graph, heat, per_request
from grafana.queries import Query

NO_STREAMS = "No streamed responses yet"
TTFT = "modelhost_request_time_to_first_token_seconds"
ANSWER = "modelhost_request_time_to_first_answer_token_seconds"
TPOT = "modelhost_request_time_per_output_token_seconds"
DURATION = "modelhost_request_duration_seconds"
OUTCOMES = {
    "ok": "green",
    "client_error": "orange",
    "client_disconnect": "light-orange",
    "server_error": "red",
    "stream_error": "semi-dark-red",
    "timeout": "dark-red",
    "upstream_unreachable": "light-red",
    "proxy_error": "super-light-red",
}
"""The colour of each outcome: green where it is good, red where the server failed."""
SUCCESSFUL = (*q.MODEL, q.API, q.OK)


def latencies() -> tuple[s.Builder, ...]:
    """Draw latencies: heatmaps, and below them quantiles with the configured threshold."""
    kinds = (
        ("Response time", DURATION, SUCCESSFUL, "duration", NO_REQUESTS, "until the last byte of the response"),
        (
            "Time to first token",
            TTFT,
            q.MODEL,
            "ttft",
            NO_STREAMS,
            "until the first token (good for a chat: below 1 s)",
        ),
        (
            "Time per output token",
            TPOT,
            q.MODEL,
            "tpot",
            NO_STREAMS,
            "between two tokens (0.05 s are 20 tokens a second)",
        ),
    )
    heatmaps = (
        heat(
            f"{title}, heatmap",
            f"Distribution of the time {text}. Good: one narrow band.",
            q.buckets(name, *matchers),
            unit=s.SECONDS,
            empty=empty,
        )
        for title, name, matchers, _, empty, text in kinds
    )
    lines = (
        per_request(
            f"{title}, quantiles",
            f"Time {text}. Good: p99 near p95, both below the objective.",
            *q.quantiles(name, *matchers),
            Query(q.highest(q.select("modelhost_slo_threshold_seconds", *q.MODEL, f'slo="{slo}"')), "objective"),
            empty=empty,
        )
        for title, name, matchers, slo, empty, text in kinds
    )
    return (*heatmaps, *lines)


def work() -> tuple[s.Builder, ...]:
    """Draw the throughput of the model."""
    return (
        per_request(
            "Output tokens/s",
            "Tokens generated, by type; reasoning tokens precede the answer. Good: high while requests are in flight.",
            Query(q.total(q.rate("modelhost_output_tokens_total", *q.MODEL), "type"), "{{type}}"),
            unit=s.TOKENS,
            empty=NO_REQUESTS,
            stacked=True,
        ),
        per_request(
            "Input tokens/s by cache",
            "Prompt tokens: hits come from the prefix cache and cost almost nothing. Good: mostly hits if prompts "
            "share a prefix.",
            Query(q.total(q.rate("modelhost_input_tokens_total", *q.MODEL), "cache"), "{{cache}}"),
            unit=s.TOKENS,
            empty=NO_REQUESTS,
            stacked=True,
        ),
        per_request(
            "Tokens per request",
            "Mean tokens of a request. Good: steady; longer prompts delay the first token, longer answers the end.",
            Query(q.mean("modelhost_request_input_tokens", *q.MODEL), "input"),
            Query(q.mean("modelhost_request_output_tokens", *q.MODEL), "output"),
            unit=s.COUNT,
            empty=NO_REQUESTS,
        ),
        graph(
            "In flight and queue",
            "Requests in progress: waiting for the first token, streaming, or waiting for a whole response. Good: "
            "few wait.",
            Query(q.total(q.select("modelhost_requests_in_flight", *q.MODEL, q.API), "state"), "{{state}}"),
            unit=s.COUNT,
            empty=NO_REQUESTS,
            stacked=True,
        ),
        per_request(
            "Cache hit share",
            "Share of the input tokens from the prefix cache, where the server reports it. Good: as high as "
            "prompts repeat.",
            Query(cache_hits(), "hits"),
            unit=s.RATIO,
            empty=NOT_REPORTED,
            max_=1,
        ),
        graph(
            "Stream chunks/s",
            "Chunks of streamed responses, counted while requests run. Good: above 0 while requests are in flight.",
            Query(q.total(q.rate("modelhost_stream_chunks_total", *q.MODEL)), "chunks"),
            unit=s.TOKENS,
            empty=NO_STREAMS,
        ),
    )


def cache_hits() -> str:
    """Return the share of cached input tokens; absent where the server does not report it."""
    hits, reported = (
        q.total(q.rate("modelhost_input_tokens_total", *q.MODEL, f'cache=~"{cache}"'))
        for cache in ("hit", "hit|miss|write")
    )
    return q.ratio(hits, f"({reported} > 0)")


def ends() -> tuple[s.Builder, ...]:
    """Draw how requests end."""
    outcomes = per_request(
        "Outcomes",
        "Requests by how they ended. Good: ok; client_error and client_disconnect are not the server's fault.",
        Query(q.request_rate(*q.MODEL, by=("outcome", "code")), "{{outcome}} {{code}}"),
        unit=s.REQUESTS,
        empty=NO_REQUESTS,
        stacked=True,
    )
    for outcome, color in OUTCOMES.items():
        outcomes.override_by_regexp(f"/^{outcome}/", s.colored(color))
    return (
        outcomes,
        per_request(
            "Finish reasons",
            "Responses by finish reason. Good: stop and tool_calls; length means that they were cut off.",
            Query(q.total(q.rate("modelhost_choices_finished_total", *q.MODEL), "finish_reason"), "{{finish_reason}}"),
            unit=s.REQUESTS,
            empty=NO_REQUESTS,
            stacked=True,
        ),
        per_request(
            "Error rate",
            "Share of requests that failed because of the server. Good: below 1 %.",
            Query(q.error_ratio(*q.MODEL), "errors"),
            unit=s.RATIO,
            empty=NO_REQUESTS,
            steps=s.FAILING,
        ),
    )


def details() -> tuple[s.Builder, ...]:
    """Draw the phases of requests, cold starts and token sources."""
    cold = "modelhost_request_cold_start_time_to_first_token_seconds"
    return (
        per_request(
            "Prefill and decode time",
            "Mean time of a request in each phase, as reported by the server. Good: no queue; prefill grows "
            "with the prompt, "
            "decode with the answer.",
            *phases("queue", "load", "prefill", "decode"),
            empty=NOT_REPORTED,
            stacked=True,
        ),
        graph(
            "Cold starts",
            "Requests per second whose model was not loaded. Good: 0; otherwise keep the model loaded.",
            Query(q.total(q.rate("modelhost_request_cold_starts_total", *q.MODEL)), "cold starts"),
            unit=s.REQUESTS,
            empty="No cold starts yet",
        ),
        per_request(
            "First token after a cold start",
            "Mean time to first token of requests that waited for a load. Good: seconds; minutes mean a slow disk.",
            Query(q.mean(cold, *q.MODEL), "cold"),
            empty="No cold starts yet",
        ),
        per_request(
            "First answer token p95",
            "Time to the first token that is not reasoning. Good: near the time to first token.",
            Query(q.quantile(0.95, ANSWER, *q.MODEL), "answer"),
            Query(q.quantile(0.95, TTFT, *q.MODEL), "any token"),
            empty=NO_STREAMS,
        ),
        per_request(
            "Longest gap in a stream p95",
            "The longest gap between two chunks of a stream. Good: below 0.5 s; more looks like a stall.",
            Query(q.quantile(0.95, "modelhost_request_stream_max_gap_seconds", *q.MODEL), "p95"),
            empty=NO_STREAMS,
        ),
        per_request(
            "Sources of token counts",
            "Successful requests by the source of their token counts. Good: no 'none', which are missing in the "
            "token metrics.",
            Query(q.total(q.rate("modelhost_requests_by_usage_source_total", *q.MODEL), "source"), "{{source}}"),
            unit=s.REQUESTS,
            empty=NO_REQUESTS,
            stacked=True,
        ),
    )


def phases(*names: str) -> tuple[Query, ...]:
    """Return a query for the mean time in each phase of a request."""
    return tuple(Query(q.mean(f"modelhost_request_{name}_seconds", *q.MODEL), name) for name in names)
