"""Queries and texts shared by the panels about engines."""

from __future__ import annotations

from grafana import queries as q
from grafana.queries import Query

CHOSEN = 'server=~"$server"'
KEYS = ("instance", "server")
LEGEND = "{{instance}} {{server}}"
NO_SERVER = "No model server configured"


def gauge(metric: str) -> Query:
    """Return a query for a gauge of the selected servers."""
    return Query(q.highest(q.select(f"modelhost_engine_{metric}", CHOSEN), *KEYS), LEGEND)


def rate(counter: str, *by: str) -> Query:
    """Return a query for the rate of a counter of the selected servers."""
    legend = " ".join((LEGEND, *(f"{{{{{label}}}}}" for label in by)))
    return Query(q.total(q.rate(f"modelhost_engine_{counter}_total", CHOSEN), *KEYS, *by), legend)
