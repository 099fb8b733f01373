"""Compute the message of the live feed from families and measurements."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from modelhost_exporter import __version__
from modelhost_exporter.live import host, models, servers
from modelhost_exporter.live.file_systems import disk_usage, file_systems
from modelhost_exporter.live.gpus import detection, missing_gpus
from modelhost_exporter.live.request_totals import total

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modelhost_exporter.live.family_lookup import Families
    from modelhost_exporter.live.last_minute import MinuteReading
    from modelhost_exporter.live.measurements import Measurements
    from modelhost_exporter.live.message import (
        ApiStats,
        DiskTrouble,
        EnergyMessage,
        GpuMessage,
        GpuSummary,
        LiveMessage,
    )
    from modelhost_exporter.live.meter import MachineReading

RATE_SECONDS = 10.0


class MessageConstants(NamedTuple):
    """The fields that are the same in every message."""

    interval_seconds: float
    demo: bool
    version: str

    @classmethod
    def of_this_exporter(cls, interval_seconds: float, *, demo: bool) -> MessageConstants:
        """Return the constants of this process and machine."""
        return cls(interval_seconds, demo, __version__)


class Tracked(NamedTuple):
    """The parts of the message that depend on earlier readings in ways of their own."""

    gpus: Sequence[GpuMessage]
    disk_troubles: list[DiskTrouble]
    energy: EnergyMessage | None


def build_message(  # noqa: PLR0913 - everything that a message is computed from
    families: Families,
    measurements: Measurements,
    tracked: Tracked,
    reading: MachineReading,
    *,
    when: float,
    constants: MessageConstants,
) -> LiveMessage:
    """Return the message of the newest measurement; ``when`` is its time in seconds since 1970."""
    network, disk = measurements.network_rates(RATE_SECONDS), measurements.disk_rates(RATE_SECONDS)
    load = [families.one(f"load{minutes}") for minutes in (1, 5, 15)]
    memory, gpus = host.memory_use(families), tracked.gpus
    return {
        "timestamp": _iso(when),
        "interval": constants.interval_seconds,
        "demo": constants.demo,
        "version": constants.version,
        "host": reading.host,
        "limits": host.container_limits(families),
        "cpuUsage": measurements.cpu_percent(RATE_SECONDS),
        "cpuCores": families.one("host_cpu_cores"),
        "cpuCoreUsage": measurements.core_percent(RATE_SECONDS),
        "loadAverage": load[0],
        "loadAverages": _if_all_known(load),
        "memoryUsage": memory.percent,
        "memoryUsed": memory.used,
        "memoryAvailable": memory.available,
        "memoryTotal": memory.total,
        "swapUsed": families.one("swap_used_bytes"),
        "swapTotal": families.one("swap_total_bytes"),
        "gpuUsage": gpus[0]["usage"] if gpus else None,
        "gpuInfo": _summary(gpus[0]) if gpus else None,
        "gpus": list(gpus),
        "gpusMissing": missing_gpus(families),
        "gpuDetection": detection(families, reading.gpu),
        "energy": tracked.energy,
        "networkStats": {"bytesInPerSecond": network.received, "bytesOutPerSecond": network.sent},
        "diskUsage": disk_usage(families),
        "diskStats": {"bytesReadPerSecond": disk.received, "bytesWrittenPerSecond": disk.sent},
        "fileSystems": file_systems(families, reading.model_folders),
        "diskTroubles": tracked.disk_troubles,
        "apiStats": _api_stats(measurements, reading.minute),
        "servers": servers.servers(families, reading.servers),
        "models": models.models(families, measurements, reading.minute_by_model, RATE_SECONDS),
    }


def _if_all_known(values: Sequence[float | None]) -> list[float] | None:
    known = [value for value in values if value is not None]
    return known if len(known) == len(values) else None


def _summary(gpu: GpuMessage) -> GpuSummary:
    return {
        "id": gpu["id"],
        "name": gpu["name"],
        "usage": gpu["usage"],
        "memoryUsed": gpu["memoryUsed"],
        "memoryTotal": gpu["memoryTotal"],
        "temperature": gpu["temperature"],
    }


def _api_stats(measurements: Measurements, minute: MinuteReading) -> ApiStats:
    """Return the requests of all models."""
    since_start = total(measurements.newest.requests.values())
    rate_span = measurements.requests_span(RATE_SECONDS)
    by_range = since_start.by_range()
    recent = minute.current
    return {
        "totalRequests": since_start.requests,
        "requestsPerSecond": rate_span.total().requests / rate_span.seconds if rate_span else 0.0,
        "avgResponseTime": recent.mean_ms or 0.0,
        "errorRate": recent.error_percent or 0.0,
        "rateSeconds": rate_span.seconds if rate_span else 0.0,
        "recentRequests": recent.requests,
        "eligibleRequests": recent.eligible,
        "p50": recent.p50_ms,
        "p95": recent.p95_ms,
        "p99": recent.p99_ms,
        "last": models.before_pause(minute),
        "responseTimeDistribution": by_range,
        "maxDistributionCount": max(1, *by_range.values()),
    }


def _iso(when: float) -> str:
    return datetime.fromtimestamp(when, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
