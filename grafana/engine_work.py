"""Panels of the Model servers dashboard about latencies, tokens and finished requests."""

from __future__ import annotations

from grafana import queries as q
from grafana import recorded as r
from grafana import style as s
from grafana.engine_queries import CHOSEN, LEGEND, gauge, rate
from grafana.panels import NOT_REPORTED, graph, per_request
from grafana.queries import Query


def latencies() -> tuple[s.Builder, ...]:
    """Draw p95 latencies of the engine and of the proxy."""
    kinds = (
        ("Time to first token p95", "time_to_first_token_seconds", "time_to_first_token_seconds"),
        ("Time per output token p95", "time_per_output_token_seconds", "time_per_output_token_seconds"),
        ("Response time p95", "request_duration_seconds", "request_duration_seconds"),
    )
    by = ("server",)
    return tuple(
        per_request(
            title,
            "Measured by the engine, and by the proxy over 5 minutes. Good: close together; a gap is time spent in "
            "front of the engine.",
            Query(q.quantile(0.95, f"modelhost_engine_{engine}", CHOSEN, by=by), "engine {{server}}"),
            Query(r.quantile_by(proxy, *by, matchers=(CHOSEN,)), "proxy {{server}}"),
            empty="No requests yet",
        )
        for title, engine, proxy in kinds
    )


def queue() -> s.Builder:
    """Draw the time in the queue."""
    return _quantile(
        "Time in the queue p95", "Time that requests wait in the engine. Good: near 0.", "request_queue_seconds"
    )


def inter_token() -> s.Builder:
    """Draw the time between outputs."""
    return _quantile(
        "Time between outputs p95",
        "Measured by the engine; one output may contain several tokens. Good: below 0.1 s.",
        "inter_token_latency_seconds",
    )


def _quantile(title: str, text: str, histogram: str) -> s.Builder:
    expr = q.quantile(0.95, f"modelhost_engine_{histogram}", CHOSEN, by=("server",))
    return per_request(title, text, Query(expr, "{{server}}"), empty=NOT_REPORTED)


def phases() -> s.Builder:
    """Draw the phases."""
    return per_request(
        "Prefill and decode",
        "Mean time of a request in prefill and decode. Good: prefill is short compared with decode.",
        *(
            Query(
                q.mean(f"modelhost_engine_request_{phase}_seconds", CHOSEN, by=("server",)), f"{phase} {{{{server}}}}"
            )
            for phase in ("prefill", "decode")
        ),
        empty=NOT_REPORTED,
    )


def tokens_in() -> s.Builder:
    """Draw input tokens."""
    return graph(
        "Input tokens/s by cache",
        "Prompt tokens; cache hits cost almost nothing. Good: hits if prompts share a prefix.",
        rate("input_tokens", "cache"),
        unit=s.TOKENS,
        empty=NOT_REPORTED,
    )


def tokens_out() -> s.Builder:
    """Draw output tokens."""
    return graph(
        "Output tokens/s",
        "Generated tokens, counted by the engine. Good: high while requests run.",
        rate("output_tokens"),
        unit=s.TOKENS,
        empty=NOT_REPORTED,
    )


def work_time() -> s.Builder:
    """Draw the time that engines spend on prefill and decode."""
    return graph(
        "Prefill and decode time",
        "Seconds per second, summed over parallel requests. Good: more decode than prefill.",
        *(Query(rate(f"{phase}_seconds").expr, f"{phase} {LEGEND}") for phase in ("prefill", "decode")),
        unit=s.COUNT,
        empty=NOT_REPORTED,
    )


def speculation() -> s.Builder:
    """Draw speculative decoding."""
    accepted, drafted, drafts = (
        rate(f"speculative_{what}").expr for what in ("accepted_tokens", "draft_tokens", "drafts")
    )
    return graph(
        "Speculative decoding",
        "Share of draft tokens that were accepted, and accepted tokens per draft. Good: above 50 %; otherwise it "
        "costs more than it gains.",
        Query(q.ratio(accepted, f"({drafted} > 0)"), f"accepted {LEGEND}"),
        Query(q.ratio(accepted, f"({drafts} > 0)"), f"tokens per draft {LEGEND}"),
        unit=s.RATIO,
        empty="Not used, or not reported by the model server",
    ).override_by_regexp("tokens.*", s.unit_of(s.COUNT))


def finished() -> s.Builder:
    """Draw finish reasons."""
    return graph(
        "Requests by finish reason",
        "Requests by finish reason. Good: stop; length means cut off, abort means that the client disconnected.",
        rate("requests_finished", "finish_reason"),
        unit=s.REQUESTS,
        empty=NOT_REPORTED,
    )


def unproxied() -> s.Builder:
    """Draw the share of tokens that bypassed the proxy."""
    return graph(
        "Share of unproxied tokens",
        "Share of the tokens of the last hour that did not pass the proxy. Good: near 0; otherwise the Models "
        "dashboard is incomplete.",
        gauge("unproxied_tokens_ratio"),
        unit=s.RATIO,
        empty="No proxied server that counts tokens",
        max_=1,
    )
