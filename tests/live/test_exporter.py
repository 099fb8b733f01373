"""The feed of a real exporter, compared with its metrics."""

from __future__ import annotations

import asyncio
import json
import math
import signal
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from tests.live.client import Connection, check_message, get
from tests.support.programs import fetch
from tests.support.readings import Page
from tests.support.stand_in import standing_in, status

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import StartExporter
    from tests.support.programs import Exporter

ANSWER = json.dumps(
    {
        "object": "chat.completion",
        "model": "tiny",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hi"}}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 40, "total_tokens": 43},
    }
).encode()
PATH = "/v1/chat/completions"


def _ask(exporter: Exporter, times: int) -> None:
    """Send requests through the proxy."""
    said = next(line for line in exporter.lines if '"msg": "proxying"' in line)
    body = json.dumps({"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}).encode()
    for _ in range(times):
        url, headers = json.loads(said)["url"] + PATH, {"Content-Type": "application/json"}
        assert fetch(urllib.request.Request(url, body, headers)) == ANSWER  # noqa: S310 - our own


async def _page(exporter: Exporter) -> Page:
    return Page((await asyncio.to_thread(exporter.page)).decode())


async def _next(viewer: Connection, wanted: int) -> dict[str, Any]:
    """Return the first message with that many requests."""
    while True:
        message = await viewer.message()
        if message["apiStats"]["totalRequests"] >= wanted:
            return message


async def test_requests_are_those_of_the_metrics(start_exporter: StartExporter) -> None:
    """Totals, distribution, quantiles, mean and tokens of proxied requests equal those of /metrics."""
    with standing_in({PATH: status(200, ANSWER, **{"Content-Type": "application/json"})}) as upstream:
        exporter = start_exporter(f"--proxy=it=127.0.0.1:0={upstream.url}")
        async with Connection(exporter.address) as viewer:
            await (await viewer.watch()).message()
            await asyncio.to_thread(_ask, exporter, 25)
            message = await _next(viewer, 25)
            page = await _page(exporter)
        _, model = await get(exporter.address, "/api/models/metrics?model=tiny")
        _, listed = await get(exporter.address, "/api/models")
        _, history = await get(exporter.address, "/api/history")
        _, requests = await get(exporter.address, "/api/requests")
    check_message(message)
    stats = message["apiStats"]
    duration = "modelhost_request_duration_seconds"
    buckets = sorted((float(le), count) for (le,), count in page.by(f"{duration}_bucket", "le").items())
    assert buckets[-1][0] == math.inf
    within = dict(buckets)
    assert stats["totalRequests"] == page.one("modelhost_requests_total") == 25
    assert stats["responseTimeDistribution"] == {
        "<100ms": within[0.1],
        "100-500ms": within[0.5] - within[0.1],
        "500ms-1s": within[1] - within[0.5],
        "1-5s": within[5] - within[1],
        ">5s": within[math.inf] - within[5],
    }
    recent = [request["duration"] for request in requests["requests"]]
    for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        assert stats[name] == sorted(recent)[math.ceil(share * 25) - 1]
    assert stats["avgResponseTime"] == pytest.approx(page.one(f"{duration}_sum") / 25 * 1e3, abs=1e-3)
    assert stats["errorRate"] == 0
    (shown,) = message["models"]
    assert (shown["id"], shown["totalRequests"], shown["successRate"], shown["inFlight"]) == ("it/tiny", 25, 100.0, 0)
    assert shown["tokensPerSecond"] == pytest.approx(40 * shown["requestsPerSecond"])
    assert page.one("modelhost_output_tokens_total") == 25 * 40
    assert model["totalRequests"] == 25
    assert [each["id"] for each in listed["models"]] == ["it/tiny"]
    assert history["models"]["it/tiny"]["p50"][-1] == pytest.approx(stats["p50"], abs=1e-3)


async def test_the_machine_is_that_of_the_metrics(start_exporter: StartExporter) -> None:
    """CPU and network equal the counters over the same ten seconds; memory, load and disk equal the gauges."""
    exporter = start_exporter("--collector.filesystem")
    async with Connection(exporter.address) as viewer:
        await (await viewer.watch()).message()
        before = await _page(exporter)
        for _ in range(5):
            message = await viewer.message()
        after = await _page(exporter)
    check_message(message)

    def rise(name: str, *labels: str, **where: str) -> float:
        first, last = before.by(name, *labels, where=where), after.by(name, *labels, where=where)
        return sum(last.values()) - sum(first[key] for key in last)

    seconds = "modelhost_cpu_seconds_total"
    idle = sum(rise(seconds, "cpu", mode=mode) for mode in ("idle", "iowait", "steal"))
    assert message["cpuUsage"] == pytest.approx(100 * (1 - idle / rise(seconds, "cpu", "mode")), abs=8)
    assert message["cpuCores"] == after.one("modelhost_host_cpu_cores")
    total = message["memoryTotal"]
    assert total == after.one("modelhost_host_memory_total_bytes")
    assert message["memoryUsed"] == pytest.approx(total - after.one("modelhost_host_memory_available_bytes"), rel=0.2)
    assert message["loadAverage"] == pytest.approx(after.one("modelhost_load1"), abs=0.5)
    if message["diskUsage"]:
        assert message["diskUsage"]["total"] in after.by("modelhost_filesystem_size_bytes", "mountpoint").values()


async def test_a_reload_changes_collectors_history_and_origins(start_exporter: StartExporter, tmp_path: Path) -> None:
    """SIGHUP: numbers of a disabled collector are null, a disabled history is empty, a listed origin is allowed."""
    file = tmp_path / "config.yaml"
    file.write_text("")
    exporter = start_exporter(f"--config.file={file}")
    async with Connection(exporter.address) as viewer:
        assert (await (await viewer.watch()).message())["loadAverage"] is not None
        origin = "Origin: https://dashboard.example.com"
        assert (await get(exporter.address, "/api/history", origin))[0] == 403
        file.write_text(
            "collectors: {load: {enabled: false}}\nlive: {history: false}\n"
            "web: {allowed_origins: ['https://dashboard.example.com']}\n"
        )
        exporter.process.send_signal(signal.SIGHUP)
        await asyncio.to_thread(exporter.wait_for_message, "configuration reloaded")
        await viewer.message()  # may have been under way
        message = await viewer.message()
        assert message["loadAverage"] is None
        assert message["memoryUsed"] is not None
        status_, history = await get(exporter.address, "/api/history", origin)
        assert (status_, history["timestamps"]) == (200, [])


async def test_connections_are_closed_when_the_exporter_stops(start_exporter: StartExporter) -> None:
    """A WebSocket is closed with 1001, events end, and stopping does not wait for clients."""
    exporter = start_exporter()
    async with Connection(exporter.address) as viewer, Connection(exporter.address) as listener:
        await (await viewer.watch()).message()
        await (await listener.listen()).event()
        stopped = asyncio.ensure_future(asyncio.to_thread(exporter.stop))
        assert await viewer.closed() == 1001
        await listener.ended()
        assert await stopped < 3
    assert exporter.process.returncode == 0
    assert '"level": "error"' not in exporter.output()


async def test_another_protocol_is_a_scrape(start_exporter: StartExporter) -> None:
    """An upgrade to another protocol than WebSocket returns the metrics as text."""
    exporter = start_exporter()
    async with Connection(exporter.address) as client:
        code, head = await client.ask("/metrics", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c")
        assert code == 200
        assert "Content-Type: text/plain; version=0.0.4" in head
