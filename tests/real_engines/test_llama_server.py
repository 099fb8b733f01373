"""What the proxy measures agrees with what a real llama.cpp server says of itself."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry
from yarl import URL

from modelhost_exporter.config.address import Address
from modelhost_exporter.config.http_url import ServerUrl
from modelhost_exporter.proxy.server import Proxy
from modelhost_exporter.proxy.settings import ProxiedServer
from tests.proxy.client import Client, request
from tests.proxy.conftest import SERVER, Proxied
from tests.support.programs import fetch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.real_engines.conftest import RealEngine

PROMPT = "Write the numbers from one to twenty in words."
COUNTERS = ("prompt_tokens", "prompt_tokens_cached", "tokens_predicted", "prompt_seconds", "tokens_predicted_seconds")


@pytest.fixture
async def proxied(llamacpp: RealEngine) -> AsyncIterator[Proxied]:
    """Give a proxy in front of the real server."""
    registry = CollectorRegistry()
    server = ProxiedServer(
        SERVER,
        Address("127.0.0.1", 0),
        (ServerUrl.from_text(llamacpp.url),),
        kind="llamacpp",
        allowed_hosts=frozenset("*"),
    )
    proxy = Proxy(registry)
    yield Proxied(proxy, None, await proxy.listen(server), registry)  # type: ignore[arg-type] # there is no scripted one
    await proxy.close()


async def _counters(llamacpp: RealEngine) -> dict[str, float]:
    page = (await asyncio.to_thread(fetch, str(URL(llamacpp.url) / "metrics"))).decode()
    return {name: float(value) for name, value in re.findall(r"^llamacpp:(\w+?)(?:_total)? (\S+)$", page, re.MULTILINE)}


async def _ask(proxied: Proxied, path: str, **members: Any) -> list[dict[str, Any]]:
    """Return what the server answered: the frames of a stream, or the one document."""
    async with Client(proxied.port) as client:
        await client.send(request(path, json.dumps(members).encode(), "Content-Type: application/json"))
        async with asyncio.timeout(60):
            answer = (await client.reply()).body.decode()
    if not members.get("stream"):
        return [json.loads(answer)]
    return [json.loads(line[6:]) for line in answer.splitlines() if line.startswith("data: {")]


def _sum(proxied: Proxied, name: str) -> float:
    return proxied.total(f"request_{name}_sum")


@pytest.mark.parametrize("stream", [False, True])
async def test_chat_agrees_with_the_servers_numbers(llamacpp: RealEngine, proxied: Proxied, *, stream: bool) -> None:
    """Tokens by cache and phase and the server's seconds are the reply's own usage and timings; its counters agree."""
    before = await _counters(llamacpp)
    said = [{"role": "user", "content": PROMPT}]
    frames = await _ask(proxied, "/v1/chat/completions", model="any", messages=said, max_tokens=40, stream=stream)
    await proxied.one()
    timings = frames[-1]["timings"]
    assert _sum(proxied, "input_tokens") == timings["prompt_n"] + timings["cache_n"]
    assert _sum(proxied, "output_tokens") == timings["predicted_n"]
    assert _sum(proxied, "prefill_seconds") == pytest.approx(timings["prompt_ms"] / 1000)
    assert _sum(proxied, "decode_seconds") == pytest.approx(timings["predicted_ms"] / 1000)
    by_cache = {dict(labels)["cache"]: value for labels, value in proxied.samples("input_tokens_total").items()}
    assert by_cache.get("hit", 0) == timings["cache_n"]
    assert by_cache.get("miss", 0) == timings["prompt_n"]
    after = await _counters(llamacpp)
    risen = {name: after[name] - before[name] for name in COUNTERS if name in after}
    assert risen["tokens_predicted"] == timings["predicted_n"]
    assert risen["prompt_tokens"] == timings["prompt_n"]
    assert risen["tokens_predicted_seconds"] == pytest.approx(timings["predicted_ms"] / 1000, abs=0.01)
    if "usage" in frames[-1]:
        assert _sum(proxied, "output_tokens") == frames[-1]["usage"]["completion_tokens"]
    duration = _sum(proxied, "duration_seconds")
    assert duration >= _sum(proxied, "prefill_seconds") + _sum(proxied, "decode_seconds") - 0.01
    if stream:
        first = _sum(proxied, "time_to_first_token_seconds")
        assert _sum(proxied, "prefill_seconds") - 0.01 <= first < duration
        per_token = timings["predicted_ms"] / 1000 / timings["predicted_n"]
        assert _sum(proxied, "time_per_output_token_seconds") == pytest.approx(per_token, rel=0.25, abs=0.003)


@pytest.mark.parametrize(
    ("path", "members", "operation"),
    [
        ("/completion", {"prompt": PROMPT, "n_predict": 20}, "text_completion"),
        ("/v1/completions", {"prompt": PROMPT, "max_tokens": 20}, "text_completion"),
        ("/v1/messages", {"messages": [{"role": "user", "content": PROMPT}], "max_tokens": 20}, "messages"),
        ("/v1/responses", {"input": PROMPT, "max_output_tokens": 20}, "responses"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_every_dialect_counts_the_servers_tokens(  # noqa: PLR0913 - one for each column
    llamacpp: RealEngine, proxied: Proxied, path: str, members: dict[str, Any], operation: str, *, stream: bool
) -> None:
    """In each dialect the output that the proxy counts is what the server's own counter rose by."""
    before = await _counters(llamacpp)
    await _ask(proxied, path, model="any", stream=stream, **members)
    labels = await proxied.one()
    assert (labels["operation"], labels["outcome"], labels["stream"]) == (operation, "ok", str(stream).lower())
    risen = (await _counters(llamacpp))["tokens_predicted"] - before["tokens_predicted"]
    assert proxied.total("output_tokens_total") == risen > 0
    assert proxied.total("request_time_to_first_token_seconds_count") == stream


async def test_leaving_stops_the_server(llamacpp: RealEngine, proxied: Proxied) -> None:
    """When the client leaves a stream, the server stops computing: its slot is free soon."""
    async with Client(proxied.port) as client:
        said = {
            "messages": [{"role": "user", "content": PROMPT}],
            "max_tokens": 1500,
            "stream": True,
            "ignore_eos": True,
        }
        await client.send(request(body=json.dumps(said).encode()))
        await proxied.until("stream_chunks_total", 3)
    async with asyncio.timeout(10):
        while (await _counters(llamacpp))["requests_processing"]:  # noqa: ASYNC110 - a server's state has no event
            await asyncio.sleep(0.05)
    assert (await proxied.one())["outcome"] == "client_disconnect"
