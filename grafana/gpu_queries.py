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


def power_share() -> str:
    """Return the power of each GPU as a share of its limit."""
    return q.ratio(gauge("power_watts").expr, gauge("power_limit_watts").expr)


def margin() -> str:
    """Return the degrees until the sensor of each GPU that is nearest to its limit reaches it.

    AMD and Intel have a critical temperature for each sensor; NVIDIA has two limits, for GPU and memory.
    """
    limit = q.select("modelhost_gpu_temperature_limit_celsius", CHOSEN, 'type!="gpu_max"')
    named = f'label_replace({limit}, "sensor", "$1", "type", "(.+)_(?:critical|max)")'
    limits = f'label_replace({named}, "sensor", "gpu", "type", "slowdown")'
    keys = (*KEYS, "sensor")
    lowest = q.over("min", limits, *keys)
    left = f"{lowest} - on ({q.labels(*keys)}) {gauge('temperature_celsius', by=keys).expr}"
    return q.over("min", f"{q.select('modelhost_gpu_temperature_margin_celsius', CHOSEN)} or {left}", *KEYS)


def rate(counter: str, legend: str = LEGEND, *, by: tuple[str, ...] = KEYS) -> Query:
    """Return a query for the rate of a counter of the selected GPUs."""
    return Query(q.total(q.rate(f"modelhost_gpu_{counter}_total", CHOSEN), *by), legend)
