"""What the panels about engines share: which servers, and how their lines are called."""

from __future__ import annotations

from grafana import queries as q
from grafana.queries import Query

CHOSEN = 'server=~"$server"'
KEYS = ("instance", "server")
LEGEND = "{{instance}} {{server}}"
NO_SERVER = "No model server is watched"
UNTOLD = "The engines do not say"


def line(metric: str) -> Query:
    """Ask for a gauge of the chosen servers."""
    return Query(q.highest(q.select(f"modelhost_engine_{metric}", CHOSEN), *KEYS), LEGEND)


def flow(counter: str, *by: str) -> Query:
    """Ask for the rate of a counter of the chosen servers."""
    legend = " ".join((LEGEND, *(f"{{{{{label}}}}}" for label in by)))
    return Query(q.total(q.rate(f"modelhost_engine_{counter}_total", CHOSEN), *KEYS, *by), legend)
