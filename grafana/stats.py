"""Stat panels that several dashboards share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana import queries as q
from grafana import recorded as r
from grafana import style as s
from grafana.panels import MINUTE, NO_GPU, NO_REQUESTS, NO_RULES, number
from grafana.queries import now

if TYPE_CHECKING:
    from grafana_foundation_sdk.builders import stat


def alerts_firing() -> stat.Panel:
    """Show the number of firing alerts of the selected hosts."""
    return number(
        "Alerts firing",
        "Alerts of the selected hosts that are firing now. Good: 0.",
        now(q.or_zero(q.alerts_firing(), q.select(r.CPU))),
        unit=s.COUNT,
        empty=NO_RULES,
        steps=s.ANY_IS_BAD,
    )


def hosts_down() -> stat.Panel:
    """Show the number of hosts that are down."""
    return number(
        "Hosts down",
        "Hosts whose last scrape failed, or whose target went within the last day. Good: 0.",
        now(q.hosts_down()),
        unit=s.COUNT,
        steps=s.ANY_IS_BAD,
    )


def data_age() -> stat.Panel:
    """Show the age of the oldest data."""
    return number(
        "Data age",
        "Time since the last scrape that succeeded, of the host for which that is longest. Good: less than two scrape "
        "intervals.",
        now(q.highest(q.age())),
        unit=s.SECONDS,
        steps=((None, s.GREEN), (35, s.AMBER), (120, s.RED)),
    )


def gpus() -> stat.Panel:
    """Show the number of GPUs."""
    return number(
        "GPUs",
        "GPUs that are available on the selected hosts. Good: all that are installed.",
        now(q.or_zero(q.total(q.select("modelhost_gpu_devices")))),
        unit=s.COUNT,
        texts={0: (NO_GPU, s.GREY)},
    )


def gpus_missing() -> stat.Panel:
    """Show the number of GPUs that are expected and not available."""
    expected, available = (q.total(q.select(f"modelhost_gpu_devices{end}")) for end in ("_expected", ""))
    return number(
        "GPUs missing",
        "GPUs that are expected and not available, such as one that has fallen off the bus. Good: 0.",
        now(q.or_zero(f"{expected} - {available}")),
        unit=s.COUNT,
        steps=s.ANY_IS_BAD,
    )


def of_requests(
    title: str,
    description: str,
    expr: str,
    unit: str,
    *,
    steps: s.Limits = s.NONE,
    decimals: int | None = None,
    legend: str = "",
    empty: str = NO_REQUESTS,
) -> stat.Panel:
    """Show a value of requests, averaged over at least a minute, as a tall panel."""
    query = now(expr, legend)
    panel = number(title, description, query, unit=unit, empty=empty, steps=steps, decimals=decimals)
    return panel.height(6).interval(MINUTE)
