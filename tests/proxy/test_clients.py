"""The clients that people use get the same objects through the proxy as from the server itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anthropic
import ollama
import openai
import pytest

from tests.proxy.dialects import JSON
from tests.proxy.upstream import CHUNKED, LAST_CHUNK, Call, chunk, head, reply

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.proxy.conftest import StartProxied

CAPTURES = Path(__file__).parent.parent / "captures/llama-server"
MODEL = "gemma-3-270m"
SAY = [{"role": "user", "content": "hi"}]
LINES = [
    {
        "model": MODEL,
        "created_at": "2026-01-01T00:00:00Z",
        "message": {"role": "assistant", "content": text},
        "done": False,
    }
    for text in ("Hel", "lo")
]
LAST_LINE = {
    "model": MODEL,
    "created_at": "2026-01-01T00:00:01Z",
    "message": {"role": "assistant", "content": ""},
    "done": True,
    "done_reason": "stop",
    "total_duration": 5,
    "load_duration": 1,
    "prompt_eval_count": 11,
    "prompt_eval_duration": 1,
    "eval_count": 2,
    "eval_duration": 2,
}


def _captured(name: str) -> bytes:
    return (CAPTURES / name).read_bytes()


async def server(call: Call) -> None:
    """Replay what a real llama.cpp server answered, and what Ollama does."""
    asked = json.loads(await call.body() or b"{}")
    path = call.target.partition("?")[0]
    if path == "/api/chat":
        lines = [*LINES, LAST_LINE] if asked.get("stream") is not False else [{**LAST_LINE, **LINES[0], **LAST_LINE}]
        kind = "application/x-ndjson" if len(lines) > 1 else "application/json"
        pieces = [json.dumps(line).encode() + b"\n" for line in lines]
    elif asked.get("max_tokens") == 1_000_000:
        return await call.send(reply(_captured("error-context.json"), JSON, status="400 Bad Request"))
    else:
        wants = (asked.get("stream_options") or {}).get("include_usage")
        names = {"/v1/chat/completions": "chat", "/v1/completions": "completions"}
        names |= {"/v1/messages": "anthropic-messages", "/v1/responses": "responses"}
        suffix = ("-stream-usage.sse" if wants else "-stream.sse") if asked.get("stream") else ".json"
        kind = "text/event-stream" if asked.get("stream") else "application/json"
        pieces = _captured(names[path] + suffix).splitlines(keepends=True)
    await call.send(head(f"Content-Type: {kind}", CHUNKED))
    for piece in pieces:
        await call.send(chunk(piece))
    return await call.send(LAST_CHUNK)


async def _all(stream: AsyncIterator[Any]) -> list[Any]:
    return [_plain(item) async for item in stream]


def _plain(value: Any) -> Any:
    return value.model_dump() if hasattr(value, "model_dump") else value


def _openai(url: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0)


async def openai_chat(url: str) -> Any:
    """Ask for a whole answer."""
    async with _openai(url) as client:
        return _plain(await client.chat.completions.create(model=MODEL, messages=SAY))  # type: ignore[arg-type]


async def openai_chat_stream(url: str) -> Any:
    """Ask for a stream."""
    async with _openai(url) as client:
        return await _all(await client.chat.completions.create(model=MODEL, messages=SAY, stream=True))  # type: ignore[arg-type]


async def openai_chat_usage(url: str) -> Any:
    """Ask for a stream with usage."""
    async with _openai(url) as client:
        options = {"include_usage": True}
        return await _all(
            await client.chat.completions.create(model=MODEL, messages=SAY, stream=True, stream_options=options)  # type: ignore[call-overload]
        )


async def openai_completions_stream(url: str) -> Any:
    """Ask for a text completion."""
    async with _openai(url) as client:
        return await _all(await client.completions.create(model=MODEL, prompt="hi", stream=True))


async def openai_responses(url: str) -> Any:
    """Ask for a whole response."""
    async with _openai(url) as client:
        return _plain(await client.responses.create(model=MODEL, input="hi"))


async def openai_responses_stream(url: str) -> Any:
    """Ask for a response's events."""
    async with _openai(url) as client:
        return await _all(await client.responses.create(model=MODEL, input="hi", stream=True))


async def openai_refused(url: str) -> Any:
    """Ask for too much."""
    async with _openai(url) as client:
        with pytest.raises(openai.BadRequestError) as refused:
            await client.chat.completions.create(model=MODEL, messages=SAY, max_tokens=1_000_000)  # type: ignore[arg-type]
        return refused.value.body


def _anthropic(url: str) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(base_url=url, api_key="k", max_retries=0)


async def anthropic_messages(url: str) -> Any:
    """Ask for a whole message."""
    async with _anthropic(url) as client:
        return _plain(await client.messages.create(model=MODEL, max_tokens=9, messages=SAY))  # type: ignore[arg-type]


async def anthropic_messages_stream(url: str) -> Any:
    """Ask for a message's events."""
    async with _anthropic(url) as client, client.messages.stream(model=MODEL, max_tokens=9, messages=SAY) as stream:  # type: ignore[arg-type]
        return [*await _all(stream), _plain(await stream.get_final_message())]


async def ollama_chat(url: str) -> Any:
    """Ask Ollama for a whole answer."""
    async with ollama.AsyncClient(host=url) as client:
        return _plain(await client.chat(model=MODEL, messages=SAY))


async def ollama_chat_stream(url: str) -> Any:
    """Ask Ollama for a stream."""
    async with ollama.AsyncClient(host=url) as client:
        return await _all(await client.chat(model=MODEL, messages=SAY, stream=True))


CALLS: dict[Callable[[str], Awaitable[Any]], tuple[str, str, str]] = {
    openai_chat: ("chat", "false", "ok"),
    openai_chat_stream: ("chat", "true", "ok"),
    openai_chat_usage: ("chat", "true", "ok"),
    openai_completions_stream: ("text_completion", "true", "ok"),
    openai_responses: ("responses", "false", "ok"),
    openai_responses_stream: ("responses", "true", "ok"),
    openai_refused: ("chat", "false", "client_error"),
    anthropic_messages: ("messages", "false", "ok"),
    anthropic_messages_stream: ("messages", "true", "ok"),
    ollama_chat: ("chat", "false", "ok"),
    ollama_chat_stream: ("chat", "true", "ok"),
}


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
async def test_clients_get_the_same_objects(start_proxied: StartProxied, call: Callable[[str], Awaitable[Any]]) -> None:
    """Through the proxy and without it, streaming or not, a client builds equal objects; the proxy counts it once."""
    proxied = await start_proxied(server)
    direct = await call(proxied.upstream.url)
    assert direct
    assert await call(f"http://127.0.0.1:{proxied.port}") == direct
    operation, stream, outcome = CALLS[call]
    labels = await proxied.one()
    assert (labels["operation"], labels["stream"], labels["outcome"]) == (operation, stream, outcome)
    if outcome == "ok":
        assert labels["model"] == MODEL
        assert proxied.total("output_tokens_total") > 0
    mine, theirs = proxied.upstream.calls[1], proxied.upstream.calls[0]
    hop = {"host", "connection"}
    assert [field for field in _lower(mine) if field[0] not in hop] == [
        field for field in _lower(theirs) if field[0] not in hop
    ]
    assert await mine.body() == await theirs.body()


def _lower(call: Call) -> list[tuple[str, str]]:
    return [(name.lower(), value) for name, value in call.fields]


async def test_a_client_that_did_not_ask_for_usage_sees_none(start_proxied: StartProxied) -> None:
    """With a server that is asked, openai's objects equal those of a direct call that asks, less the last."""
    proxied = await start_proxied(server, include_usage="on")
    asking = await openai_chat_usage(proxied.upstream.url)
    assert asking[-1]["choices"] == []
    assert await openai_chat_stream(f"http://127.0.0.1:{proxied.port}") == asking[:-1]


async def test_clients_understand_our_errors(start_proxied: StartProxied, dead_port: int) -> None:
    """With no server behind the proxy each client raises its own error for a server's fault, with our words."""
    proxied = await start_proxied(server, port=dead_port)
    url = f"http://127.0.0.1:{proxied.port}"
    with pytest.raises(openai.InternalServerError, match=r"the model server at .* cannot be reached"):
        await openai_chat(url)
    with pytest.raises(anthropic.InternalServerError, match=r"the model server at .* cannot be reached"):
        await anthropic_messages(url)
    with pytest.raises(ollama.ResponseError, match=r"the model server at .* cannot be reached"):
        await ollama_chat(url)
    with pytest.raises(ollama.ResponseError, match=r"the model server at .* cannot be reached"):
        await ollama_chat_stream(url)
