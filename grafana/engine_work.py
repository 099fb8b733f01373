"""The part of the Model servers dashboard about work: latencies beside the proxy's, tokens, and how requests end."""

from __future__ import annotations

from grafana import queries as q
from grafana import recorded as r
from grafana import style as s
from grafana.engine_queries import CHOSEN, LEGEND, UNTOLD, flow, line
from grafana.panels import graph, per_request
from grafana.queries import Query


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
            "As the engine sees it, and as users felt it at the proxy over 5 minutes. "
            "Good: close together; a gap is time in front of the engine.",
            Query(q.quantile(0.95, f"modelhost_engine_{engine}", CHOSEN, by=by), "engine {{server}}"),
            Query(r.quantile_by(proxy, *by, matchers=(CHOSEN,)), "proxy {{server}}"),
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
        unit=s.COUNT,
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


def unproxied() -> s.Builder:
    """Draw what went around the proxy."""
    return graph(
        "Share that went around the proxy",
        "Tokens of the last hour that did not pass the proxy. Good: near 0; else the Models dashboard sees only "
        "a part.",
        line("unproxied_tokens_ratio"),
        unit=s.RATIO,
        empty="No proxied server that counts tokens",
        most=1,
    )
