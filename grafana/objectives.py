"""The part of a model's row about objectives: how many requests met them, and how fast the error budget burns."""

from __future__ import annotations

from grafana import queries as q
from grafana import recorded as r
from grafana import style as s
from grafana.panels import POINTS, graph, history
from grafana.queries import Query

NO_OBJECTIVES = "No objectives configured"
WHOSE = "Of the chosen host that fares worst, or of all together."


def panels() -> tuple[s.Builder, ...]:
    """Draw attainment, burn rates and goodput."""
    return (attainment(), burn_fast(), burn_slow(), goodput())


def attainment() -> s.Builder:
    """Draw the share of requests that met their objective."""
    promised = q.highest(q.select("modelhost_slo_objective_ratio", *q.MODEL), "slo")
    return history(
        "Objectives met",
        f"Share of requests of the last 5 minutes that met each objective, beside what was promised. {WHOSE} "
        "Good: above the promise.",
        Query(r.attained(), "{{slo}}"),
        Query(promised, "promised: {{slo}}"),
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
    return (
        graph(
            title,
            f"How many times faster than allowed the error budget is used. {WHOSE} "
            f"Good: below 1. At {most}, {meaning}.",
            Query(r.burn(window), "{{slo}}"),
            unit=s.COUNT,
            empty=NO_OBJECTIVES,
            steps=((None, s.GREEN), (1, s.AMBER), (most, s.RED)),
        )
        .span(6)
        .max_data_points(POINTS)
    )


def goodput() -> s.Builder:
    """Draw the share of requests that met every objective."""
    worst = q.over("min", q.select("model:goodput:ratio_rate5m", *q.MODEL), "server")
    return history(
        "Goodput",
        "Share of requests that met every objective that applies to them, on the chosen host that fares worst. "
        "Good: above the strictest objective.",
        Query(worst, "{{server}}"),
        unit=s.RATIO,
        empty=NO_OBJECTIVES,
    ).span(6)
