"""The lane of firing alerts at the top of the dashboards."""

from __future__ import annotations

from grafana import queries as q
from grafana import recorded
from grafana import style as s
from grafana.panels import NO_RULES, states
from grafana.queries import Query

_SEVERITIES = {"critical": 3, "warning": 2}
_OTHERS = f'severity!~"{"|".join(_SEVERITIES)}"'
_ROWS = {4: 6, 5: 9}
"""How many rows are legible at a height."""
_HOST = s.link(
    "Open the host",
    "modelhost-overview",
    cluster=f"${{__field.labels.{s.CHOSEN_CLUSTER}:percentencode}}",
    instance="${__field.labels.instance:percentencode}",
)
_RULE = {"title": "Rule and runbook", "url": "/alerting/list?queryString=${__field.labels.alertname:percentencode}"}


def lane(height: int = 5) -> s.Builder:
    """Draw one row per alert and host, while it fires, in the colour of its severity: as many as are legible.

    Those that fire now come first, the most severe of them before others.
    """
    rows = _ROWS[height]
    panel = states(
        "Alerts",
        "Alerts of the selected hosts while they fire. Click one for its rule with the runbook, or for its host. "
        "Good: none.",
        Query(_severity(), "{{alertname}} {{instance}}"),
        texts={0: ("no alert fires", s.GREEN), 1: ("info", s.BLUE), 2: ("warning", s.AMBER), 3: ("critical", s.RED)},
        empty=NO_RULES,
        rank="latest",
        most=rows,
    )
    return panel.override_by_regexp("/.*/", s.links(_RULE, _HOST)).span(24).height(height)


def _severity() -> str:
    """Return the number of each alert's severity, by name and host."""
    by = ("alertname", "instance")
    matchers = {f'severity="{name}"': value for name, value in _SEVERITIES.items()} | {_OTHERS: 1}
    firing = (f"{value} * {q.highest(q.firing(matcher), *by)}" for matcher, value in matchers.items())
    # a row of its own while none fires, if the rules are evaluated at all: else silence would look like health
    none = f'label_replace(0 * count({q.select(recorded.CPU)}), "alertname", "None", "", "")'
    return q.chosen(" or ".join((*firing, f"({none} unless on () ({q.firing()}))")))
