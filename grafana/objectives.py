"""Panels of a model's row about its objectives: attainment, burn rates of the error budget, goodput."""

from __future__ import annotations

from grafana import queries as q
from grafana import recorded as r
from grafana import style as s
from grafana.panels import POINTS, graph, history
from grafana.queries import Query

NO_OBJECTIVES = "No objectives configured"
SCOPE = "For the worst of the selected hosts, or for all hosts together."


def panels() -> tuple[s.Builder, ...]:
    """Draw attainment, burn rates and goodput."""
    return (attainment(), burn_fast(), burn_slow(), goodput())


def attainment() -> s.Builder:
    """Draw the attainment of each objective."""
    return history(
        "SLO attainment",
        f"Share of requests of the last 5 minutes within each objective, and its target. {SCOPE} Good: above the "
        "target.",
        Query(r.attained(), "{{slo}}"),
        Query(r.target(), "target: {{slo}}"),
        unit=s.RATIO,
        empty=NO_OBJECTIVES,
    ).span(6)


def burn_fast() -> s.Builder:
    """Draw the burn rate that pages."""
    return _burn("Budget burn over 1 hour", "1h", 14.4, "the budget of 30 days would last two days")


def burn_slow() -> s.Builder:
    """Draw the slower burn rate."""
    return _burn("Budget burn over 6 hours", "6h", 6, "the budget of 30 days would last five days")


def _burn(title: str, window: str, red: float, meaning: str) -> s.Builder:
    return (
        graph(
            title,
            f"Burn rate: how many times faster than allowed the error budget is used. {SCOPE} "
            f"Good: below 1. At {red}, {meaning}.",
            Query(r.burn(window), "{{slo}}"),
            unit=s.COUNT,
            empty=NO_OBJECTIVES,
            steps=((None, s.GREEN), (1, s.AMBER), (red, s.RED)),
        )
        .span(6)
        .max_data_points(POINTS)
    )


def goodput() -> s.Builder:
    """Draw the share of requests that met every objective."""
    worst = q.over("min", q.select("model:goodput:ratio_rate5m", *q.MODEL), "server")
    return history(
        "Goodput",
        "Share of requests within every objective that applies to them, for the worst of the selected hosts. Good: "
        "above the highest target.",
        Query(worst, "{{server}}"),
        unit=s.RATIO,
        empty=NO_OBJECTIVES,
    ).span(6)
