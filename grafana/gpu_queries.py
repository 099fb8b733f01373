"""Queries and texts shared by the panels about GPUs."""

from __future__ import annotations

from grafana import queries as q
from grafana.queries import Query

CHOSEN = 'gpu=~"$gpu"'
KEYS = ("instance", "gpu")
LEGEND = "{{instance}} GPU {{gpu}}"
NOT_MEASURED = "No GPU detected, or not reported by the driver"


def gauge(metric: str, legend: str = LEGEND, *, by: tuple[str, ...] = KEYS) -> Query:
    """Return a query for a gauge of the selected GPUs."""
    return Query(q.highest(q.select(f"modelhost_gpu_{metric}", CHOSEN), *by), legend)


def rate(counter: str, legend: str = LEGEND, *, by: tuple[str, ...] = KEYS) -> Query:
    """Return a query for the rate of a counter of the selected GPUs."""
    return Query(q.total(q.rate(f"modelhost_gpu_{counter}_total", CHOSEN), *by), legend)
