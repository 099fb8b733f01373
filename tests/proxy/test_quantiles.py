"""Quantiles that a real Prometheus computes from the proxy's histograms are those of the requests."""

from __future__ import annotations

import asyncio
import bisect
import json
from time import perf_counter
from typing import TYPE_CHECKING

from modelhost_exporter.requests.metrics import PHASE, TOKENS, TTFT
from tests.proxy.client import Client, request
from tests.proxy.dialects import DONE, EVENT_STREAM, JSON, ask, ask_stream, finish, token
from tests.proxy.upstream import CHUNKED, LAST_CHUNK, Call, Upstream, chunk, head, reply
from tests.support.programs import wait_until
from tests.support.prometheus_server import running_prometheus

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.conftest import StartExporter

# what the server reports of each request: a skewed distribution over many buckets
SECONDS = [0.004 * 1.1**number for number in range(100)]
COUNTS = [1 + number * number for number in range(100)]
# when the first token of each stream comes, amid buckets that are far apart
FIRST = [0.17] * 16 + [0.42] * 4
QUANTILES = (0.1, 0.5, 0.9, 0.95, 0.99)


def _bucket(bounds: Sequence[float], value: float) -> tuple[float, float]:
    index = bisect.bisect_left(bounds, value)
    return (bounds[index - 1] if index else 0.0, bounds[index])


async def _script(call: Call) -> None:
    asked = json.loads(await call.body())
    number = asked["options"]["number"]
    if call.target == "/api/chat":
        answer = {"model": "m", "message": {"content": "a"}, "done": True, "done_reason": "stop"}
        counted = {"eval_count": COUNTS[number], "eval_duration": SECONDS[number] * 1e9}
        await call.send(reply(json.dumps({**answer, **counted}).encode(), JSON))
        return
    await call.send(head(EVENT_STREAM, CHUNKED))
    await asyncio.sleep(FIRST[number])
    await call.send(chunk(token() + finish() + DONE), LAST_CHUNK)


def _to_localhost(sent: bytes) -> bytes:
    return sent.replace(b"Host: proxy.test", b"Host: localhost")


async def _ask(port: int, sent: bytes) -> float:
    """Send a request and return how long its response took, in seconds."""
    async with Client(port) as client:
        begun = perf_counter()
        await client.send(sent)
        await client.reply()
        return perf_counter() - begun


async def test_quantiles_land_in_the_right_bucket(start_exporter: StartExporter, tmp_path: Path) -> None:
    """histogram_quantile over a known distribution of times and tokens is in the bucket of the true quantile."""
    async with Upstream(_script) as upstream:
        exporter = start_exporter(f"--proxy=it=127.0.0.1:0={upstream.url}")
        said = next(line for line in exporter.lines if '"msg": "proxying"' in line)
        port = int(said.split("http://127.0.0.1:")[1].partition('"')[0])
        for number in range(len(COUNTS)):
            await _ask(port, _to_localhost(request("/api/chat", ask(stream=False, options={"number": number}))))
        streams = (request(body=ask_stream(options={"number": number})) for number in range(len(FIRST)))
        took = await asyncio.gather(*(_ask(port, _to_localhost(sent)) for sent in streams))
    with running_prometheus(exporter.address, tmp_path) as prometheus:
        for name, bounds, true, most in (
            ("request_decode_seconds", PHASE, SECONDS, SECONDS),
            ("request_output_tokens", TOKENS, COUNTS, COUNTS),
            ("request_time_to_first_token_seconds", TTFT, FIRST, took),  # a busy machine is late
        ):
            buckets = f'modelhost_{name}_bucket{{server="it",model="m",operation="chat"}}'
            wait_until(
                lambda name=name, true=true: prometheus.value(f"modelhost_{name}_count") == len(true),  # type: ignore[misc]
                f"{name} is scraped",
            )
            for quantile in QUANTILES:
                estimate = prometheus.value(f"histogram_quantile({quantile}, {buckets})")
                assert estimate is not None
                rank = int(quantile * len(true))
                low, _ = _bucket(bounds, sorted(true)[rank])
                _, high = _bucket(bounds, sorted(most)[rank])
                assert low <= estimate <= high, f"{name} {quantile}"
