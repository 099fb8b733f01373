"""The engine's counters, the proxy's and the usage that clients receive agree to the token, and nothing is changed.

The number of requests is ENGINE_REQUESTS (200 unless it is set).
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING, NamedTuple

import aiohttp
import pytest

from tests.real_engines.mixed import Mixed, mix, send, without_usage
from tests.support.programs import Exporter, running, wait_until
from tests.support.readings import Page

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.real_engines.conftest import RealEngine
    from tests.real_engines.mixed import Answer

REQUESTS = int(os.environ.get("ENGINE_REQUESTS", "200"))
_MANY = 700
_TIMEOUT = aiohttp.ClientTimeout(60)


@pytest.fixture(params=["llamacpp", "vllm", "litellm"])
def engine(request: pytest.FixtureRequest) -> RealEngine:
    """Return each engine in turn."""
    found: RealEngine = request.getfixturevalue(request.param)
    return found


class Watched(NamedTuple):
    """An exporter that proxies and polls one engine."""

    exporter: Exporter
    proxy: str

    def page(self) -> Page:
        """Return its metrics after a poll that begins now: after the second one that ends from now on."""
        seen: set[float] = set()

        def is_polled() -> bool:
            polls = Page(self.exporter.page().decode()).by("modelhost_engine_last_success_timestamp_seconds")
            seen.update(polls.values())
            return len(seen) > 2  # the first may have ended before

        wait_until(is_polled, "two polls")
        return Page(self.exporter.page().decode())


@pytest.fixture
def watched(engine: RealEngine, tmp_path: Path) -> Iterator[Watched]:
    """Return a real exporter in front of the engine, whose kind it detects."""
    config = tmp_path / "config.yaml"
    server = {
        "name": "it",
        "url": engine.url,
        "proxy": {"listen": "127.0.0.1:0"},
        "poll": {"interval": "1s", "timeout": "5s"},
    }
    config.write_text(json.dumps({"servers": [server]}), encoding="utf-8")
    with running(Exporter(f"--config.file={config}")) as exporter:
        assert isinstance(exporter, Exporter)
        proxying = next(json.loads(line) for line in exporter.lines if '"msg": "proxying"' in line)
        yield Watched(exporter, proxying["url"])


class Counters(NamedTuple):
    """Token counters of both sides."""

    engine_input: float
    engine_output: float
    proxy_input: float
    proxy_output: float

    @classmethod
    def of(cls, page: Page) -> Counters:
        """Read them."""
        names = ("engine_input_tokens", "engine_output_tokens", "input_tokens", "output_tokens")
        return cls(*(sum(page.by(f"modelhost_{name}_total", *_LABELS[name]).values()) for name in names))

    def __sub__(self, before: Counters) -> Counters:
        return Counters(*(after - value for after, value in zip(self, before, strict=True)))


_LABELS = {
    "engine_input_tokens": ("server", "cache"),
    "engine_output_tokens": ("server",),
    "input_tokens": ("server", "model", "operation", "cache"),
    "output_tokens": ("server", "model", "operation", "type"),
}


async def _send_all(requests: list[Mixed], url: str) -> list[Answer]:
    connector = aiohttp.TCPConnector(force_close=True)  # llama.cpp closes kept connections under a request
    async with aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT) as session:
        return [await send(session, url, each) for each in requests]


async def _warm_up(engine: RealEngine, watched: Watched) -> None:
    """Send streams until the proxy requests usage: the first shows whether it arrives without."""
    await asyncio.to_thread(watched.page)  # its kind is known
    await _send_all(without_usage(engine), watched.proxy)


def _repeated_prompts(requests: list[Mixed], answers: list[Answer]) -> int:
    """Return the input tokens that vLLM counts and usage does not: the prompt of each further sequence."""
    return sum(
        (sent.choices - 1) * (answer.usage or {}).get("prompt_tokens", 0)
        for sent, answer in zip(requests, answers, strict=True)
    )


async def test_nothing_is_changed_and_all_is_counted(engine: RealEngine, watched: Watched) -> None:
    """Clients get what they get directly; tokens are those of the engine, but for prompts that it counts repeatedly."""
    await _warm_up(engine, watched)
    requests = list(mix(engine, REQUESTS))
    direct = await _send_all(requests, engine.url)
    page = await asyncio.to_thread(watched.page)
    before, requests_before = Counters.of(page), _requests(page)
    proxied = await _send_all(requests, watched.proxy)
    page = await asyncio.to_thread(watched.page)
    risen = Counters.of(page) - before
    differing = [
        (sent.path, sent.body, one.merged(), other.merged())
        for sent, one, other in zip(requests, direct, proxied, strict=True)
        if one.comparable() != other.comparable() and one.merged() != other.merged()
    ]
    assert not differing, f"{len(differing)} of {len(requests)} differ, such as {differing[0]}"
    assert _requests(page) - requests_before == len(requests)
    assert sum(page.by("modelhost_requests_in_flight", "server", "model", "operation", "state").values()) == 0
    assert list(page.by("modelhost_engine_info", "kind")) == [(engine.kind,)]
    assert risen.proxy_output == risen.engine_output > 0
    assert risen.proxy_input == risen.engine_input - _repeated_prompts(requests, proxied)


def _requests(page: Page) -> float:
    labels = ("server", "model", "operation", "stream", "outcome", "code")
    return sum(page.by("modelhost_requests_total", *labels).values())


@pytest.mark.parametrize("engine", ["llamacpp", "vllm"], indirect=True)
async def test_an_aborted_stream_has_tokens_of_the_engine_only(engine: RealEngine, watched: Watched) -> None:
    """The engine counts its prompt and what it generated until then; usage never arrives, so that the proxy cannot."""
    await _warm_up(engine, watched)
    prompt = "Count from one to nine hundred."
    body = {"model": engine.model, "prompt": prompt, "temperature": 0, "ignore_eos": True, "max_tokens": 2}
    (whole,) = await _send_all([Mixed("/v1/completions", json.dumps(body).encode())], watched.proxy)
    before = Counters.of(await asyncio.to_thread(watched.page))
    body |= {"max_tokens": _MANY, "stream": True}
    async with (
        aiohttp.ClientSession(timeout=_TIMEOUT) as session,
        session.post(f"{watched.proxy}/v1/completions", json=body) as response,
    ):
        frames = [await response.content.readuntil(b"\n\n") for _ in range(5)]
        response.close()
    page = await asyncio.to_thread(watched.page)
    risen = Counters.of(page) - before
    assert whole.usage is not None
    assert (risen.proxy_input, risen.proxy_output) == (0, 0)
    assert risen.engine_input == whole.usage["prompt_tokens"]
    assert len(frames) <= risen.engine_output < _MANY


@pytest.mark.parametrize("engine", ["llamacpp"], indirect=True)
async def test_llama_servers_usage_of_several_choices_is_not_believed(llamacpp: RealEngine, watched: Watched) -> None:
    """Its response counts the tokens of the first choice; its counters those of all; the proxy none."""
    before = Counters.of(await asyncio.to_thread(watched.page))
    body = {"model": llamacpp.model, "prompt": ["one two three", "four"], "max_tokens": 3, "ignore_eos": True}
    (whole,) = await _send_all([Mixed("/v1/completions", json.dumps(body).encode())], watched.proxy)
    risen = Counters.of(await asyncio.to_thread(watched.page)) - before
    assert (risen.proxy_input, risen.proxy_output) == (0, 0)
    assert whole.usage is not None
    assert whole.usage["completion_tokens"] == 3
    assert risen.engine_output == 6
    assert risen.engine_input > whole.usage["prompt_tokens"]


@pytest.mark.parametrize("engine", ["litellm"], indirect=True)
async def test_litellm_estimates_streams_without_usage(engine: RealEngine, watched: Watched) -> None:
    """The proxy counts none: the zeros of its text completions are not believed."""
    before = Counters.of(await asyncio.to_thread(watched.page))
    answers = await _send_all(without_usage(engine), watched.proxy)
    risen = Counters.of(await asyncio.to_thread(watched.page)) - before
    assert [answer.status for answer in answers] == [200, 200]
    assert (risen.proxy_input, risen.proxy_output) == (0, 0)
    assert risen.engine_output > 0
