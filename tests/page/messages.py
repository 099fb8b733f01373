"""Messages of the feed, and an hour of history, as the page receives them."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

GIB = 1024.0**3
INTERVAL = 2
START = 1_750_000_000


def stamp(seconds: float) -> str:
    """Return a time in seconds since 1970 in the format of the feed."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def gpu(index: int, usage: float = 40.0) -> dict[str, Any]:
    """Return one GPU of a message."""
    return {
        "id": str(index),
        "uuid": f"GPU-{index}",
        "name": "NVIDIA H100 80GB HBM3",
        "state": "ok",
        "usage": usage,
        "memoryUsed": (20 + 6 * index) * GIB,
        "memoryTotal": 80 * GIB,
        "memoryUsers": [],
        "temperature": 48 + 3 * index,
        "temperatureLimit": 87.0,
        "throttledBy": [],
        "powerWatts": 210.0 + 40 * index,
        "powerLimitWatts": 700.0,
    }


def file_system(mountpoint: str, percent: float = 33.5, **fields: Any) -> dict[str, Any]:
    """Return one file system of a message."""
    used = 9.31 * GIB * percent
    return {
        "mountpoint": mountpoint,
        "used": used,
        "total": 930 * GIB,
        "available": 930 * GIB - used,
        "percent": percent,
        "readOnly": False,
        "models": [],
        **fields,
    }


def model(name: str, **fields: Any) -> dict[str, Any]:
    """Return one model of a message, served by ``chat``."""
    return {
        "id": f"chat/{name}",
        "server": "chat",
        "model": name,
        "name": name,
        "requestsPerSecond": 3.2,
        "avgResponseTime": 840.0,
        "p50": 610.0,
        "p95": 2100.0,
        "p99": 3900.0,
        "successRate": 99.2,
        "recentRequests": 190,
        "eligibleRequests": 188,
        "last": None,
        "tokensPerSecond": 214.0,
        "lastStreamTokensPerSecond": 58.0,
        "timeToFirstToken": 120.0,
        "inFlight": 4,
        "totalRequests": 5120,
        "requestsWaiting": 2,
        "contextLength": 131072,
        "kvCacheUsage": 42.0,
        "memoryUsage": 6.4 * GIB,
        "gpuMemoryUsage": 5.6 * GIB,
        "loaded": True,
        **fields,
    }


def message(at: float = START, **fields: Any) -> dict[str, Any]:
    """Return a message of the time ``at`` (seconds since 1970); ``fields`` replace those of the message."""
    gpus = fields.get("gpus", [])
    return {
        "timestamp": stamp(at),
        "interval": INTERVAL,
        "demo": False,
        "host": {
            "name": "workbench",
            "system": "Linux",
            "release": "Debian GNU/Linux 13 (trixie)",
            "kernel": "6.12.0",
            "cpuModel": "AMD Ryzen 7 9700X 8-Core Processor",
            "bootTime": stamp(START - 200_000),
        },
        "limits": {"cpuCores": None, "memoryBytes": None},
        "version": "0.1.0",
        "cpuUsage": 37.4,
        "cpuCores": 16,
        "cpuCoreUsage": [(7 * core) % 101 for core in range(16)],
        "loadAverage": 5.21,
        "loadAverages": [5.21, 4.87, 4.02],
        "memoryUsage": 61.5,
        "memoryUsed": 39.4 * GIB,
        "memoryAvailable": 24.6 * GIB,
        "memoryTotal": 64 * GIB,
        "swapUsed": 0.5 * GIB,
        "swapTotal": 8 * GIB,
        "gpuUsage": gpus[0]["usage"] if gpus else None,
        "gpuInfo": gpus[0] if gpus else None,
        "gpus": gpus,
        "gpusMissing": 0 if gpus else None,
        "gpuDetection": {"state": "found", "detail": None} if gpus else {"state": "none", "detail": "no GPU"},
        "energy": {
            "powerWatts": 512.0,
            "parts": ["GPUs", "processors"],
            "todayKwh": 3.42,
            "todaySince": stamp(START - 7200),
            "todayCost": 1.094,
            "currency": "EUR",
        },
        "networkStats": {"bytesInPerSecond": 1.9 * 1024**2, "bytesOutPerSecond": 640 * 1024.0},
        "diskUsage": {"used": 312 * GIB, "total": 930 * GIB, "percent": 33.5},
        "diskStats": {"bytesReadPerSecond": 12 * 1024.0**2, "bytesWrittenPerSecond": 3 * 1024.0**2},
        "fileSystems": [file_system("/", models=["Ollama"])],
        "diskTroubles": [],
        "apiStats": {
            "totalRequests": 18240,
            "requestsPerSecond": 5.4,
            "avgResponseTime": 712.0,
            "errorRate": 0.8,
            "rateSeconds": 10.0,
            "recentRequests": 320,
            "eligibleRequests": 318,
            "last": None,
            "p50": 520.0,
            "p95": 2300.0,
            "p99": 4100.0,
            "responseTimeDistribution": {
                "<100ms": 3120,
                "100-500ms": 6480,
                "500ms-1s": 5210,
                "1-5s": 3105,
                ">5s": 325,
            },
            "maxDistributionCount": 6480,
        },
        "servers": [],
        "models": [],
        **fields,
    }


def server(name: str, **fields: Any) -> dict[str, Any]:
    """Return one model server of a message."""
    return {
        "name": name,
        "kind": "ollama",
        "version": "0.13.5",
        "up": True,
        "address": "127.0.0.1:11434",
        "proxyAddress": None,
        "requestsRunning": None,
        "requestsWaiting": None,
        **fields,
    }


def hour(end: float, gpus: int = 0, models: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return an hour of history that ends at ``end``: waves that differ from one column to the next."""
    times = [end - INTERVAL * back for back in range(1799, -1, -1)]

    def wave(number: int, middle: float, swing: float) -> list[float]:
        return [
            round(
                middle
                + swing * 0.6 * math.sin(time / (170.0 + 37 * number))
                + swing * 0.4 * math.sin(time / (9.0 + 5 * number)) * math.sin(time / 61.0),
                3,
            )
            for time in times
        ]

    return {
        "interval": INTERVAL,
        "timestamps": [round(time * 1000) for time in times],
        "series": {
            "cpuUsage": wave(0, 42, 34),
            "memoryUsage": wave(1, 61, 5),
            "memoryUsed": wave(1, 39 * GIB, 3 * GIB),
            "networkIn": wave(2, 2.2e6, 1.9e6),
            "networkOut": wave(3, 0.8e6, 0.6e6),
            "requestsPerSecond": wave(4, 5, 3),
            "avgResponseTime": wave(5, 700, 300),
            "p50": wave(5, 500, 200),
            "p95": wave(6, 2000, 800),
            "p99": wave(7, 3900, 900),
            "errorRate": wave(8, 1, 1),
        },
        "gpus": [
            {"id": str(n), "usage": wave(n, 55, 40), "memoryUsed": wave(n, 3e10, 1e9), "temperature": wave(n, 60, 9)}
            for n in range(gpus)
        ],
        "models": {
            f"chat/{name}": {
                "p50": wave(n + 1, 620, 180),
                "p95": wave(n + 2, 2100, 700),
                "p99": wave(n + 3, 3700, 900),
                "requestsPerSecond": wave(n, 3, 2),
                "tokensPerSecond": wave(n + 4, 210, 120),
            }
            for n, name in enumerate(models)
        },
    }
