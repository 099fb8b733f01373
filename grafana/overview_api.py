"""The part of the Overview about all models: totals, rates, and how response times are distributed."""

from __future__ import annotations

from grafana import queries as q
from grafana import style as s
from grafana.panels import MINUTE, bars, number
from grafana.queries import now

DURATION = "modelhost_request_duration_seconds"
NO_REQUESTS = "No requests seen yet"


def statistics() -> tuple[s.Builder, ...]:
    """Show the API's numbers over all models."""
    return (
        number(
            "Total requests",
            "Requests to models within the time range above. Good: what you expect of your users.",
            now(q.total(q.increase("modelhost_requests_total", q.API, window=q.RANGE))),
            unit=s.COUNT,
            empty=NO_REQUESTS,
            decimals=0,
        )
        .span(2)
        .height(6)
        .interval(MINUTE),
        number(
            "All requests/s",
            "Requests to all models, per second. Good: as many as your users send.",
            now(q.request_rate()),
            unit=s.REQUESTS,
            empty=NO_REQUESTS,
        )
        .span(2)
        .height(6)
        .interval(MINUTE),
        number(
            "Mean response time",
            "Mean time of successful requests to all models. Good: steady.",
            now(q.mean(DURATION, q.API, q.OK)),
            unit=s.SECONDS,
            empty=NO_REQUESTS,
        )
        .span(2)
        .height(6)
        .interval(MINUTE),
        number(
            "Error rate",
            "Share of requests that failed for a reason on the server's side. Good: below 1 %; red above 5 %.",
            now(q.error_ratio()),
            unit=s.RATIO,
            empty=NO_REQUESTS,
            steps=s.FAILING,
        )
        .span(2)
        .height(6)
        .interval(MINUTE),
    )


def distribution() -> s.Builder:
    """Show how many requests fell into each range of response times."""
    return (
        bars(
            "Response time distribution",
            "Successful requests within the time range above, by how long they took. Good: nothing in the last bar.",
            *(now(within(above, up_to), label) for label, above, up_to in RANGES),
            unit=s.COUNT,
            empty=NO_REQUESTS,
        )
        .span(8)
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
    return upper if above is None else f"{upper} - {lower}"
