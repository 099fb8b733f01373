"""The table of all models, a row for each: on the Overview, and first on the Models dashboard."""

from __future__ import annotations

from grafana import queries as q
from grafana import style as s
from grafana.panels import MINUTE, NO_REQUESTS, Column, heading, listing
from grafana.queries import now

KEYS = ("server", "model")
_P95 = 118
"""Pixels that the headings of quantiles need."""
_DURATION = "modelhost_request_duration_seconds"
_TTFT = "modelhost_request_time_to_first_token_seconds"
_TPOT = "modelhost_request_time_per_output_token_seconds"
_WHEN = "Rates are of now, times and errors of the selected time range."
LOADED = {1: ("loaded", s.GREEN), 0: ("not loaded", s.GREY)}


def overview() -> s.Builder:
    """Show which models are loaded, and how fast they answer."""
    return _table(
        "Models",
        "Models that are loaded or had requests, the busiest first; click one for all about it. Speed: output tokens "
        f"per second of one stream. {_WHEN} Good: no errors, and times that suit your users.",
        Column("State", s.COUNT, now(_loaded()), texts=LOADED),
        *_rates(),
        Column("First token p95", s.SECONDS, now(_quantile(_TTFT)), least=_P95),
        Column("Response p95", s.SECONDS, now(_quantile(_DURATION, q.API, q.OK)), least=_P95),
        Column("Speed", s.TOKENS, now(_speed())),
        Column("Errors", s.RATIO, now(_errors()), s.FAILING),
        Column("Memory", s.BYTES, now(q.total(q.select("modelhost_model_memory_bytes"), *KEYS))),
    )


def compared() -> s.Builder:
    """Show all models of the selected servers beside each other."""
    chosen = (q.SERVER,)
    return _table(
        "All models",
        f"A row per model, the busiest first; click one to see it below. {_WHEN} Good: objectives met, no errors.",
        *_rates(*chosen),
        Column("First token p95", s.SECONDS, now(_quantile(_TTFT, *chosen)), least=_P95),
        Column("Per token p95", s.SECONDS, now(_quantile(_TPOT, *chosen)), least=_P95),
        Column("Response p95", s.SECONDS, now(_quantile(_DURATION, q.API, q.OK, *chosen)), least=_P95),
        Column("Errors", s.RATIO, now(_errors(*chosen)), s.FAILING, full=1),
        Column("Objective met", s.RATIO, now(_met(*chosen)), s.SUCCEEDING, full=1),
    )


def _rates(*matchers: str) -> tuple[Column, ...]:
    return (
        Column("Requests/s", s.COUNT, now(q.request_rate(*matchers, by=KEYS))),
        Column("In flight", s.COUNT, now(q.total(q.select("modelhost_requests_in_flight", q.API, *matchers), *KEYS))),
        Column("Tokens/s", s.COUNT, now(q.total(q.rate("modelhost_output_tokens_total", *matchers), *KEYS))),
    )


def _table(title: str, text: str, *columns: Column) -> s.Builder:
    details = s.link("All about this model", "modelhost-models", model=s.field(heading("model")))
    table = listing(
        title, text, *columns, labels=KEYS[::-1], empty=NO_REQUESTS, links={"model": details}, first="Requests/s"
    )
    return table.interval(MINUTE).height(7)


def _loaded() -> str:
    """Return whether a model is loaded by any server of that name."""
    return q.highest(q.select("modelhost_model_loaded"), *KEYS)


def _quantile(histogram: str, *matchers: str) -> str:
    buckets = q.total(q.increase(f"{histogram}_bucket", *matchers, window=q.RANGE), *KEYS, "le")
    return f"histogram_quantile(0.95, {buckets})"


def _speed() -> str:
    """Return how many tokens a second the mean stream has."""
    count, seconds = (q.total(q.increase(f"{_TPOT}_{part}", window=q.RANGE), *KEYS) for part in ("count", "sum"))
    return q.ratio(count, f"({seconds} > 0)")


def _errors(*matchers: str) -> str:
    counted, failed = (
        q.total(q.increase("modelhost_requests_total", q.API, kind, *matchers, window=q.RANGE), *KEYS)
        for kind in (q.COUNTED, q.ERRORS)
    )
    return q.ratio(f"({failed} or 0 * {counted})", f"({counted} > 0)")


def _met(*matchers: str) -> str:
    """Return the share of requests within their objectives, for the objective that is met the least."""
    good, all_ = (
        q.total(q.increase(f"modelhost_slo_{kind}requests_total", *matchers, window=q.RANGE), *KEYS, "slo")
        for kind in ("good_", "")
    )
    return q.over("min", q.ratio(good, f"({all_} > 0)"), *KEYS)
