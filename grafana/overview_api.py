"""Panels of the Overview about all models: totals, rates, and the distribution of response times."""

from __future__ import annotations

from grafana import queries as q
from grafana import stats
from grafana import style as s
from grafana.panels import NO_REQUESTS, bars
from grafana.queries import now

DURATION = "modelhost_request_duration_seconds"


def statistics() -> tuple[s.Builder, ...]:
    """Return the stat panels of all models together."""
    total = q.total(q.increase("modelhost_requests_total", q.API, window=q.RANGE))
    return (
        stats.of_requests(
            "Total requests",
            "Requests to models in the selected time range. Good: as many as expected.",
            total,
            s.COUNT,
            decimals=0,
        ),
        stats.of_requests(
            "All requests/s",
            "Requests to all models per second. Good: as many as users send.",
            q.request_rate(),
            s.REQUESTS,
        ),
        stats.of_requests(
            "Mean response time",
            "Mean duration of successful requests to all models. Good: steady.",
            q.mean(DURATION, q.API, q.OK),
            s.SECONDS,
        ).span(4),
        stats.of_requests(
            "Error rate",
            "Share of requests that failed because of the server. Good: below 1 %; red above 5 %.",
            q.error_ratio(),
            s.RATIO,
            steps=s.FAILING,
        ),
    )


def distribution() -> s.Builder:
    """Show the number of requests in each range of response times."""
    return (
        bars(
            "Response time distribution",
            "Successful requests in the selected time range, by duration. Good: none in the last bar.",
            *(now(within(above, up_to), label) for label, above, up_to in RANGES),
            unit=s.COUNT,
            empty=NO_REQUESTS,
        )
        .span(11)
        .height(6)
        .decimals(0)
    )


RANGES = (
    ("< 100 ms", None, "0.1"),
    ("100–500 ms", "0.1", "0.5"),
    ("500 ms–1 s", "0.5", "1(.0)?"),
    ("1–5 s", "1(.0)?", "5(.0)?"),
    ("> 5 s", "5(.0)?", "[+]Inf"),
)


def within(above: str | None, up_to: str) -> str:
    """Return the number of requests between two bounds of the histogram, over the time range."""
    upper, lower = (
        q.total(q.increase(f"{DURATION}_bucket", q.API, q.OK, f'le=~"{bound}"', window=q.RANGE))
        for bound in (up_to, above)
    )
    # VictoriaMetrics guesses what each bucket of a new series began with, and so has less in a larger one
    return upper if above is None else f"clamp_min({upper} - {lower}, 0)"
