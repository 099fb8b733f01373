"""Queries and texts shared by the panels about engines.

Replicas of a server are put together as the family declares: ``combine`` in modelhost_exporter.
"""

from __future__ import annotations

from grafana import queries as q
from grafana.queries import Query
from modelhost_exporter.engines import metrics
from modelhost_exporter.proxy import self_metrics

CHOSEN = 'server=~"$server"'
KEYS = ("instance", "server")
LEGEND = "{{instance}} {{server}}"
REPLICA = (*KEYS, "upstream")
REPLICA_LEGEND = f"{LEGEND} {{{{upstream}}}}"
NO_SERVER = "No model server configured"
_COMBINE = {family.name: family.combine for family in (*metrics.FAMILIES, *self_metrics.FAMILIES)}


def together(metric: str, *by: str, matchers: tuple[str, ...] = ()) -> str:
    """Return a gauge of the selected servers, put together as declared unless ``by`` has the upstream."""
    combine = _COMBINE[metric]
    if combine == "each" and "upstream" not in by:
        raise ValueError(f"{metric} is shown for each upstream")
    return q.over("max" if combine in ("", "each") else combine, q.select(metric, CHOSEN, *matchers), *by)


def gauge(metric: str) -> Query:
    """Return a query for a gauge of the selected servers."""
    return Query(together(f"modelhost_engine_{metric}", *KEYS), LEGEND)


def rate(counter: str, *by: str) -> Query:
    """Return a query for the rate of a counter of the selected servers."""
    legend = " ".join((LEGEND, *(f"{{{{{label}}}}}" for label in by)))
    return Query(q.total(q.rate(f"modelhost_engine_{counter}_total", CHOSEN), *KEYS, *by), legend)
