"""Models: how fast they answer, how much they do, what goes wrong; all compared, then each in a row of its own."""

from __future__ import annotations

from grafana import model_rows, objectives
from grafana import recorded as r
from grafana import style as s
from grafana.board import MODEL, SERVER, Board, row
from grafana.panels import heat, history

NO_REQUESTS = "No requests seen yet"


def board() -> Board:
    """Return the dashboard."""
    return Board(
        "modelhost-models",
        "Model host / Models",
        "How fast the models answer, as their users see it at the proxy.",
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
    """Draw one line for each model."""
    ttft, tpot, duration = "time_to_first_token_seconds", "time_per_output_token_seconds", "request_duration_seconds"
    lines = (
        ("Requests/s", "Requests that ended. Good: what users send.", r.by_model("requests:rate5m"), s.REQUESTS),
        ("Response time p95", "19 of 20 requests were faster. Good: steady.", r.quantile_by_model(duration), s.SECONDS),
        ("Time to first token p95", "Good for a chat: below 1 s.", r.quantile_by_model(ttft), s.SECONDS),
        (
            "Time per output token p95",
            "Good: steady, below 50 ms.",
            r.quantile_by_model(tpot),
            s.SECONDS,
        ),
        ("Output tokens/s", "Good: high while requests are in flight.", r.by_model("output_tokens:rate5m"), s.TOKENS),
        (
            "Input tokens/s",
            "Cached ones included. Good: as requests.",
            r.by_model("input_tokens:rate5m"),
            s.TOKENS,
        ),
        ("Requests in flight", "Good: below what the servers take.", r.by_model("requests_in_flight:sum"), s.COUNT),
        ("Mean response time", "Good: well below p95, and steady.", r.mean_by_model(duration), s.SECONDS),
        ("Error rate", "Failures on the server's side. Good: below 1 %.", r.error_ratio_by_model(), s.RATIO),
    )
    more = f"By model over 5 minutes, the {r.DRAWN} highest; times of the slowest chosen host, or of all together."
    return tuple(
        history(title, f"{text} {more}", query, unit=unit, empty=NO_REQUESTS) for title, text, query, unit in lines
    )


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
