"""The Models dashboard: all models in a table and a few graphs, and below them one model in detail."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana import alerts, model_rows, model_table, objectives
from grafana import recorded as r
from grafana import style as s
from grafana.board import MODEL_OF_SERVER, SERVER, Board, row
from grafana.panels import NO_REQUESTS, heat, history

if TYPE_CHECKING:
    from grafana.queries import Query

_DURATION = "request_duration_seconds"


def board() -> Board:
    """Return the dashboard."""
    return Board(
        "modelhost-models",
        "Model host / Models",
        "Latency, throughput and errors of the models, measured at the proxy.",
        (
            row("All models", alerts.lane(), model_table.compared(), *compared()),
            row("More of all models", *more_compared(), collapsed=True),
            row("Model: $model", *model_rows.latencies(), *model_rows.work(), *model_rows.ends()),
            row("Objectives of $model", *objectives.panels(), collapsed=True),
            row("Phases, cold starts and counting of $model", *model_rows.details(), collapsed=True),
            row("Latency of $model on all hosts of the job together", *heatmaps(), collapsed=True),
        ),
        (SERVER, MODEL_OF_SERVER),
    )


def compared() -> tuple[s.Builder, ...]:
    """Draw the graphs that compare models, one line each."""
    ttft, tpot = "time_to_first_token_seconds", "time_per_output_token_seconds"
    return _lines(
        ("Requests/s", "Finished requests. Good: as many as users send.", r.by_model("requests:rate5m"), s.REQUESTS),
        ("Response time p95", "19 of 20 are faster. Good: steady.", r.quantile_by_model(_DURATION), s.SECONDS),
        ("Error rate", "Requests that the server failed. Good: below 1 %.", r.error_ratio_by_model(), s.RATIO),
        ("Time to first token p95", "Good: below 1 s for a chat.", r.quantile_by_model(ttft), s.SECONDS),
        ("Time per output token p95", "Good: steady, below 50 ms.", r.quantile_by_model(tpot), s.SECONDS),
        ("Output tokens/s", "Good: high while requests are in flight.", r.by_model("output_tokens:rate5m"), s.TOKENS),
    )


def more_compared() -> tuple[s.Builder, ...]:
    """Draw further comparisons."""
    in_flight = r.by_model("requests_in_flight:sum")
    return _lines(
        ("Mean response time", "Good: well below p95, and steady.", r.mean_by_model(_DURATION), s.SECONDS),
        ("Input tokens/s", "With cached ones. Good: follows requests.", r.by_model("input_tokens:rate5m"), s.TOKENS),
        ("Requests in flight", "Good: below what the servers process at a time.", in_flight, s.COUNT),
    )


def _lines(*lines: tuple[str, str, Query, str]) -> tuple[s.Builder, ...]:
    more = "By model over 5 minutes; times of the slowest selected host, or of all hosts."
    return tuple(
        history(title, f"{text} {more}", query, unit=unit, empty=NO_REQUESTS) for title, text, query, unit in lines
    )


def heatmaps() -> tuple[s.Builder, ...]:
    """Draw latency heatmaps of all selected models."""
    return tuple(
        heat(
            title,
            f"{text} All hosts of the job, over 5 minutes; the row of the model is limited to the selected hosts.",
            r.heat(series),
            unit=s.SECONDS,
            empty=NO_REQUESTS,
        )
        for title, text, series in (
            ("Response time", "Distribution of response times. Good: one narrow band.", "request_duration_seconds"),
            (
                "Time to first token",
                "Good: one narrow band; a second one is a cold start or a queue.",
                "time_to_first_token_seconds",
            ),
            (
                "Time per output token",
                "Good: one narrow band that does not move under load.",
                "time_per_output_token_seconds",
            ),
        )
    )
