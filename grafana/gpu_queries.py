"""What the panels about GPUs share: which GPUs, and how their lines are called."""

from __future__ import annotations

from grafana import queries as q
from grafana.queries import Query

CHOSEN = 'gpu=~"$gpu"'
KEYS = ("instance", "gpu")
LEGEND = "{{instance}} GPU {{gpu}}"
NO_GPU = "No GPU detected"
NOT_MEASURED = "No GPU detected, or it does not measure this"


def line(metric: str, legend: str = LEGEND, *, by: tuple[str, ...] = KEYS) -> Query:
    """Ask for a gauge of the chosen GPUs."""
    return Query(q.highest(q.select(f"modelhost_gpu_{metric}", CHOSEN), *by), legend)


def flow(counter: str, legend: str = LEGEND, *, by: tuple[str, ...] = KEYS) -> Query:
    """Ask for the rate of a counter of the chosen GPUs."""
    return Query(q.total(q.rate(f"modelhost_gpu_{counter}_total", CHOSEN), *by), legend)
