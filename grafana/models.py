"""The Models dashboard: latency, throughput and errors, compared for all models and in a row per model."""

from __future__ import annotations

from grafana import model_rows, objectives
from grafana import recorded as r
from grafana import style as s
from grafana.board import MODEL, SERVER, Board, row
from grafana.panels import NO_REQUESTS, heat, history


def board() -> Board:
    """Return the dashboard."""
    return Board(
        "modelhost-models",
        "Model host / Models",
        "Latency, throughput and errors of the models, measured at the proxy.",
        (
            row("Compared", *compared()),
            row("Latency on all hosts of the job together", *heatmaps()),
            row(
                "$model",
                *model_rows.latencies(),
                *objectives.panels(),
                *model_rows.work(),
                *model_rows.ends(),
                *model_rows.details(),
                repeat="model",
            ),
        ),
        (SERVER, MODEL),
    )


def compared() -> tuple[s.Builder, ...]:
    """Draw one line per model."""
    ttft, tpot, duration = "time_to_first_token_seconds", "time_per_output_token_seconds", "request_duration_seconds"
    lines = (
        ("Requests/s", "Finished requests. Good: as many as users send.", r.by_model("requests:rate5m"), s.REQUESTS),
        ("Response time p95", "19 of 20 requests are faster. Good: steady.", r.quantile_by_model(duration), s.SECONDS),
        (
            "Time to first token p95",
            "Time until the first token. Good: below 1 s for a chat.",
            r.quantile_by_model(ttft),
            s.SECONDS,
        ),
        (
            "Time per output token p95",
            "Good: steady, below 50 ms.",
            r.quantile_by_model(tpot),
            s.SECONDS,
        ),
        ("Output tokens/s", "Good: high while requests are in flight.", r.by_model("output_tokens:rate5m"), s.TOKENS),
        (
            "Input tokens/s",
            "Including cached tokens. Good: follows the requests.",
            r.by_model("input_tokens:rate5m"),
            s.TOKENS,
        ),
        (
            "Requests in flight",
            "Good: below the number that the servers process at a time.",
            r.by_model("requests_in_flight:sum"),
            s.COUNT,
        ),
        ("Mean response time", "Good: well below p95, and steady.", r.mean_by_model(duration), s.SECONDS),
        (
            "Error rate",
            "Requests that failed because of the server. Good: below 1 %.",
            r.error_ratio_by_model(),
            s.RATIO,
        ),
    )
    more = f"By model over 5 minutes, the {r.DRAWN} highest; times of the slowest selected host, or of all hosts."
    return tuple(
        history(title, f"{text} {more}", query, unit=unit, empty=NO_REQUESTS) for title, text, query, unit in lines
    )


def heatmaps() -> tuple[s.Builder, ...]:
    """Draw latency heatmaps of all selected models."""
    return tuple(
        heat(
            title,
            f"{text} All hosts of the job, over 5 minutes; the row of a model is limited to the selected hosts.",
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
