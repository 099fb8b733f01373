"""The message of the live feed, with the field names that dashboards use."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from modelhost_exporter.live import host, models
from modelhost_exporter.live.gpus import missing
from modelhost_exporter.live.request_totals import NO_REQUESTS, total

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from modelhost_exporter.live.family_lookup import Families
    from modelhost_exporter.live.gpus import Gpu
    from modelhost_exporter.live.measurements import Measurements
    from modelhost_exporter.live.request_totals import RequestCounts

Message = dict[str, Any]

RATE_SECONDS = 10.0
MEAN_SECONDS = 60.0

_GPU_INFO = ("id", "name", "usage", "memoryUsed", "memoryTotal", "temperature")


def message(
    families: Families, readings: Measurements, gpus: Sequence[Gpu], when: float, about: Mapping[str, Any]
) -> Message:
    """Return everything that is known now; what is not known is None. ``when`` is in seconds since 1970."""
    received, sent = readings.network_rates(RATE_SECONDS)
    load = [families.one(f"load{minutes}") for minutes in (1, 5, 15)]
    return {
        "timestamp": _iso(when),
        **about,
        "cpuUsage": readings.cpu_percent(RATE_SECONDS),
        "cpuCores": families.one("cpu_logical_cores"),
        "loadAverage": load[0],
        "loadAverages": None if None in load else load,
        **host.memory(families),
        "gpuUsage": gpus[0]["usage"] if gpus else None,
        "gpuInfo": {field: gpus[0][field] for field in _GPU_INFO} if gpus else None,
        "gpus": gpus,
        "gpusMissing": missing(families),
        "networkStats": {"bytesInPerSecond": received, "bytesOutPerSecond": sent},
        "diskUsage": host.disk(families),
        "apiStats": _api_stats(readings),
        "models": models.models(families, readings, RATE_SECONDS, MEAN_SECONDS),
    }


def _api_stats(readings: Measurements) -> dict[str, Any]:
    """Return all models' requests together."""
    ever = total(readings.newest.requests.values())
    rate, recent = readings.requests_span(RATE_SECONDS), readings.requests_span(MEAN_SECONDS)
    lately: RequestCounts = recent.total() if recent else NO_REQUESTS
    by_range = ever.by_range()
    return {
        "totalRequests": int(ever.requests),
        "requestsPerSecond": rate.total().requests / rate.seconds if rate else None,
        "avgResponseTime": lately.mean_ms(),
        "errorRate": lately.error_percent(),
        **lately.quantiles_ms(),
        "responseTimeDistribution": by_range,
        "maxDistributionCount": max(by_range.values()),
    }


def _iso(when: float) -> str:
    return datetime.fromtimestamp(when, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
