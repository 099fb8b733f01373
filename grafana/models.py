"""Models: how fast they answer, how much they do, what goes wrong; all compared, then each in a row of its own."""

from __future__ import annotations

from grafana import model_rows
from grafana import queries as q
from grafana import recorded as r
from grafana import style as s
from grafana.board import MODEL, SERVER, Board, row
from grafana.panels import graph, heat, history
from grafana.queries import Query

NO_REQUESTS = "No requests seen yet"
NO_OBJECTIVES = "No objectives configured"
BY_OBJECTIVE = "{{model}} · {{slo}}"


def board() -> Board:
    """Return the dashboard."""
    return Board(
        "modelhost-models",
        "Model host / Models",
        "How fast the models answer, as their users see it at the proxy.",
        (
            row("Compared", *compared()),
            row("Objectives", attainment(), burn_fast(), burn_slow(), goodput()),
            row("Latency on all hosts of the job together", *heatmaps()),
            row(
                "$model",
                *model_rows.latencies(),
                *model_rows.work(),
                *model_rows.ends(),
                *model_rows.details(),
                repeat="model",
            ),
        ),
        (SERVER, MODEL),
    )


def compared() -> tuple[s.Builder, ...]:
    """Draw one line for each model."""
    lines = (
        ("Requests/s", "Requests that ended, per second. Good: what users send.", "requests:rate5m", s.REQUESTS, "sum"),
        (
            "Response time p95",
            "19 of 20 requests were faster. Good: steady.",
            "request_duration_seconds:p95_5m",
            s.SECONDS,
            "max",
        ),
        (
            "Time to first token p95",
            "What a person waits until something appears. Good: below 1 s for a chat.",
            "time_to_first_token_seconds:p95_5m",
            s.SECONDS,
            "max",
        ),
        (
            "Time per output token p95",
            "Pace of the answers: 0.05 s are 20 tokens a second, as fast as people read. Good: steady.",
            "time_per_output_token_seconds:p95_5m",
            s.SECONDS,
            "max",
        ),
        (
            "Output tokens/s",
            "Tokens written. Good: high while requests are in flight.",
            "output_tokens:rate5m",
            s.TOKENS,
            "sum",
        ),
        (
            "Input tokens/s",
            "Tokens read, cached ones included. Good: it follows the requests.",
            "input_tokens:rate5m",
            s.TOKENS,
            "sum",
        ),
        (
            "Requests in flight",
            "Requests under way. Good: below what the server works on at a time.",
            "requests_in_flight:sum",
            s.COUNT,
            "sum",
        ),
        (
            "Mean response time",
            "Mean time of successful requests. Good: well below p95 and steady.",
            "request_duration_seconds:mean_5m",
            s.SECONDS,
            "max",
        ),
    )
    more = f"By model, over 5 minutes; of several hosts {{}}. The {r.DRAWN} highest."
    drawn = tuple(
        history(
            title,
            f"{text} {more.format('the sum' if operator == 'sum' else 'the slowest')}",
            r.by_model(f"model:{series}", operator=operator),
            unit=unit,
            empty=NO_REQUESTS,
        )
        for title, text, series, unit, operator in lines
    )
    return (*drawn, errors())


def errors() -> s.Builder:
    """Draw error ratios."""
    return history(
        "Error rate",
        "Share of requests that failed for a reason on the server's side, by model. Good: below 1 %.",
        r.error_ratio_by_model(),
        unit=s.RATIO,
        empty=NO_REQUESTS,
    )


def attainment() -> s.Builder:
    """Draw the share of requests that met their objective."""
    return history(
        "Objectives met",
        "Share of requests of the last 5 minutes that met each objective; the dashed lines are what was promised. "
        "Good: above its line.",
        Query(q.top(r.DRAWN, r.attained()), BY_OBJECTIVE),
        Query(
            q.highest(q.select("modelhost_slo_objective_ratio", *q.MODEL), "model", "slo"), "promised: " + BY_OBJECTIVE
        ),
        unit=s.RATIO,
        empty=NO_OBJECTIVES,
    ).span(6)


def burn_fast() -> s.Builder:
    """Draw the burn rate that pages."""
    return _burn("Budget burn over 1 hour", "1h", 14.4, "it would be gone within two days of thirty")


def burn_slow() -> s.Builder:
    """Draw the slower burn rate."""
    return _burn("Budget burn over 6 hours", "6h", 6, "it would be gone within five days of thirty")


def _burn(title: str, window: str, most: float, meaning: str) -> s.Builder:
    return graph(
        title,
        f"How many times faster than allowed the error budget is used. Good: below 1. At {most}, {meaning}.",
        Query(q.top(r.DRAWN, r.burn(window)), BY_OBJECTIVE),
        unit=s.COUNT,
        empty=NO_OBJECTIVES,
        steps=((None, s.GREEN), (1, s.AMBER), (most, s.RED)),
    ).span(6)


def goodput() -> s.Builder:
    """Draw the share of requests that met every objective."""
    return history(
        "Goodput",
        "Share of requests that met every objective that applies to them. Good: above the strictest objective.",
        r.by_model("model:goodput:ratio_rate5m", operator="min"),
        unit=s.RATIO,
        empty=NO_OBJECTIVES,
    ).span(6)


def heatmaps() -> tuple[s.Builder, ...]:
    """Draw latency heatmaps of everything that is chosen."""
    return tuple(
        heat(
            title,
            f"{text} All hosts of the job, over 5 minutes; the row of a model shows the chosen hosts alone.",
            r.heat(series),
            unit=s.SECONDS,
            empty=NO_REQUESTS,
        )
        for title, text, series in (
            ("Response time", "How many requests took how long. Good: one narrow band.", "request_duration_seconds"),
            (
                "Time to first token",
                "Good: one narrow band; a second one is a cold start or a queue.",
                "time_to_first_token_seconds",
            ),
            (
                "Time per output token",
                "Good: one narrow band that stays where it is under load.",
                "time_per_output_token_seconds",
            ),
        )
    )
