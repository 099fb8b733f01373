"""Asking for usage on a client's behalf: what the server sees, and what the client must not."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.proxy.include_usage import UsageRequests
from tests.proxy.client import request
from tests.proxy.dialects import DONE, EVENT_STREAM, JSON, ask, ask_stream, completion, finish, token, usage
from tests.proxy.upstream import CHUNKED, DEADLINE_SECONDS, LAST_CHUNK, Call, always, chunk, head, in_turn, reply

if TYPE_CHECKING:
    from tests.proxy.client import Reply
    from tests.proxy.conftest import Proxied, StartProxied
    from tests.proxy.upstream import Script

STREAM = {"model": "m", "operation": "chat", "stream": "true", "outcome": "ok", "code": "200"}
EVENTS = (token("a"), token("b"), finish())
ACCEPTING = ["vllm", "sglang", "ollama", "lmstudio", "tgi", "openai"]
OTHERS = ["auto", "llamacpp", "litellm", "anthropic", "other"]


async def vllm(call: Call) -> None:
    """Answer as vLLM does: with usage where it is asked for; 400 for what it does not understand."""
    asked = json.loads(await call.body())
    wants = (asked.get("stream_options") or {}).get("include_usage")
    events = (*EVENTS, *((usage(),) if wants else ()), DONE)
    await call.send(head("Date: Sun, 22 Nov 2026 10:00:00 GMT", EVENT_STREAM, CHUNKED))
    for sent in events:
        await call.send(chunk(sent))
        await asyncio.sleep(0)
    await call.send(LAST_CHUNK)


async def _post(proxied: Proxied, body: bytes, *fields: str, path: str = "/v1/chat/completions") -> Reply:
    async with proxied.client() as client:
        await client.send(request(path, body, *fields))
        return await client.reply()


async def _direct(proxied: Proxied, body: bytes) -> Reply:
    async with proxied.direct() as client:
        await client.send(request(body=body))
        return await client.reply()


@pytest.mark.parametrize("kind", ACCEPTING)
async def test_usage_is_asked_for_and_hidden(start_proxied: StartProxied, kind: str) -> None:
    """The server is asked from the second stream on, the first having shown that it sends no usage by itself.

    The client gets, byte for byte, what a direct call that asks gets, less the one frame.
    """
    proxied = await start_proxied(vllm, kind=kind)
    body = ask_stream()
    assert _state(proxied) == "trial"
    assert (await _post(proxied, body)).body == b"".join((*EVENTS, DONE))
    assert await proxied.upstream.calls[0].body() == body
    assert _state(proxied) == "requested"
    got = await _post(proxied, body, "Content-Type: application/json")
    call = proxied.upstream.calls[1]
    sent = json.loads(await call.body())
    assert sent.pop("stream_options") == {"include_usage": True}
    assert sent == json.loads(body)
    assert call.values("Content-Length") == [str(len(await call.body()))]
    direct = await _direct(proxied, ask_stream(stream_options={"include_usage": True}))
    assert direct.body.count(usage()) == 1
    assert got.body == direct.body.replace(usage(), b"")
    assert got.fields == direct.fields
    model = "m:latest" if kind == "ollama" else "m"
    assert await proxied.observed(2) == [{**STREAM, "model": model}] * 2
    assert proxied.value("requests_by_usage_source_total", model=model, operation="chat", source="usage") == 1
    assert proxied.total("output_tokens_total") == 3


async def test_ollamas_text_completions(start_proxied: StartProxied) -> None:
    """Ollama then writes zeros into every frame, which its clients do not get."""
    frame = b'data: {"choices":[{"text":"%b","index":0}],"model":"m","system_fingerprint":"fp_ollama"%b}\n\n'
    zeros = b',"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}'

    async def ollama(call: Call) -> None:
        asked = b"include_usage" in await call.body()
        events = [frame % (text, zeros if asked else b"") for text in (b"a", b"b")]
        await call.send(reply(b"".join((*events, *((usage(),) if asked else ()), DONE)), EVENT_STREAM))

    proxied = await start_proxied(ollama, kind="ollama")
    unasked = b"".join((frame % (b"a", b""), frame % (b"b", b""), DONE))
    for _ in range(2):
        assert (await _post(proxied, ask_stream(), path="/v1/completions")).body == unasked
    assert [b"include_usage" in await call.body() for call in proxied.upstream.calls] == [False, True]
    assert proxied.total("output_tokens_total") == 3


def _state(proxied: Proxied) -> str:
    (state,) = (dict(labels)["state"] for labels, value in proxied.samples("proxy_include_usage").items() if value)
    return state


async def test_a_server_that_sends_usage_unasked_is_left_alone(start_proxied: StartProxied) -> None:
    """VLLM's --enable-force-include-usage: clients keep the frame that they would have got directly.

    Should it stop to, usage is requested.
    """
    events = b"".join((*EVENTS, usage(), DONE))
    proxied = await start_proxied(always(reply(events, EVENT_STREAM)), kind="vllm")
    for _ in range(3):
        assert (await _post(proxied, ask_stream())).body == events
        assert _state(proxied) == "unrequested"
    assert [await call.body() for call in proxied.upstream.calls] == [ask_stream()] * 3
    assert proxied.total("output_tokens_total") == 9
    proxied.upstream.script = vllm
    for _ in range(2):
        await _post(proxied, ask_stream())
    assert _state(proxied) == "requested"
    assert proxied.total("output_tokens_total") == 12


@pytest.mark.parametrize(
    "first",
    [
        always(reply(b"no", JSON, status="503 Service Unavailable")),
        always(reply(b"".join(EVENTS[:1]), EVENT_STREAM)),
        always(completion()),
    ],
    ids=["an error", "a broken stream", "no stream"],
)
async def test_only_a_whole_stream_is_a_trial(start_proxied: StartProxied, first: Script) -> None:
    """What failed shows nothing; nor does a stream whose client asked for usage itself."""
    proxied = await start_proxied(in_turn(first, vllm, vllm, vllm), kind="vllm")
    await _post(proxied, ask_stream())
    await _post(proxied, ask_stream(stream_options={"include_usage": True}))
    await proxied.observed(2)
    assert _state(proxied) in ("trial", "unrequested")
    await _post(proxied, ask_stream())
    assert _state(proxied) == "requested"


@pytest.mark.parametrize(
    "frame",
    [
        b"event: usage\ndata: %b\n\n",
        b"id: 7\nretry: 5\ndata: %b\n\n",
        b": a comment\ndata:%b\n\n",
    ],
    ids=["event", "id", "comment"],
)
@pytest.mark.parametrize("choices", [{}, {"choices": None}, {"choices": []}], ids=["absent", "null", "empty"])
async def test_the_frame_is_recognized(start_proxied: StartProxied, frame: bytes, choices: dict[str, object]) -> None:
    """Whatever fields and comments it has, and however it says that it has no choices."""
    counts = {"usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}}
    extra = frame % json.dumps({"model": "m", **choices, **counts}).encode()
    proxied = await start_proxied(always(reply(b"".join((*EVENTS, extra, DONE)), EVENT_STREAM)), include_usage="on")
    assert (await _post(proxied, ask_stream())).body == b"".join((*EVENTS, DONE))
    assert proxied.total("output_tokens_total") == 3


async def test_a_failed_compressed_response_changes_nothing(start_proxied: StartProxied) -> None:
    """A proxy in front of the server that compresses its 503 says nothing about streams."""
    failed = reply(gzip.compress(b"no"), JSON, "Content-Encoding: gzip", status="503 Service Unavailable")
    proxied = await start_proxied(in_turn(always(failed), vllm), include_usage="on")
    assert (await _post(proxied, ask_stream())).code == 503
    assert (await _post(proxied, ask_stream())).code == 200
    bodies = [await call.body() for call in proxied.upstream.calls]
    assert [b"include_usage" in body for body in bodies] == [True, True]


def test_a_refusal_is_old_after_ten_minutes() -> None:
    """A server may have been replaced by one that accepts."""
    states: list[str] = []
    now = [0.0]
    usage_requests = UsageRequests("auto", lambda: now[0], states.append)
    usage_requests.set_kind("vllm")
    usage_requests.on_unchanged_stream(has_usage=False)
    usage_requests.on_refusal()
    now[0] = 599.9
    usage_requests.retry_when_due()
    assert usage_requests.state == "refused"
    now[0] = 600.0
    usage_requests.retry_when_due()
    usage_requests.set_kind("auto")
    assert states == ["off", "trial", "requested", "refused", "requested", "off"]


async def test_nothing_but_the_frame_is_held_back(start_proxied: StartProxied) -> None:
    """With the frame being looked for, each whole frame still arrives before the next is sent."""
    go = asyncio.Queue[None]()

    async def script(call: Call) -> None:
        await call.body()
        await call.send(head(EVENT_STREAM, CHUNKED))
        for sent in (*EVENTS, usage(), DONE):
            await asyncio.wait_for(go.get(), DEADLINE_SECONDS)
            await call.send(chunk(sent))
        await call.send(LAST_CHUNK)

    proxied = await start_proxied(script, include_usage="on")
    async with proxied.client() as client:
        await client.send(request(body=ask_stream()))
        await client.head()
        for sent in EVENTS:
            go.put_nowait(None)
            assert await client.chunk() == sent
        go.put_nowait(None)
        go.put_nowait(None)
        assert await client.chunk() == DONE
        assert await client.chunk() == b""
    assert await proxied.one() == STREAM


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
async def test_the_frame_is_found_in_pieces(start_proxied: StartProxied, size: int) -> None:
    """However the stream is cut into pieces, exactly the one frame is missing."""
    whole = b"".join((*EVENTS, usage(), DONE))

    async def script(call: Call) -> None:
        await call.body()
        await call.send(head(EVENT_STREAM, CHUNKED))
        for start in range(0, len(whole), size):
            await call.send(chunk(whole[start : start + size]))
            await asyncio.sleep(0)
        await call.send(LAST_CHUNK)

    proxied = await start_proxied(script, include_usage="on")
    assert (await _post(proxied, ask_stream())).body == whole.replace(usage(), b"")
    assert proxied.total("output_tokens_total") == 3


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (ask(), "/v1/chat/completions"),
        (ask(stream=False), "/v1/chat/completions"),
        (ask_stream(stream_options={"include_usage": True}), "/v1/chat/completions"),
        (ask_stream(stream_options={"include_usage": False}), "/v1/chat/completions"),
        (ask_stream(), "/v1/responses"),
        (ask_stream(), "/v1/messages"),
        (ask_stream(), "/api/chat"),
        (b'{"stream":true,"stream":false}', "/v1/chat/completions"),
        (b'{"stream":true', "/v1/chat/completions"),
    ],
    ids=[
        *("no stream", "explicitly none", "the client asks", "the client declines", "responses", "messages", "ollama"),
        *("twice a key", "no JSON"),
    ],
)
async def test_other_requests_are_not_touched(start_proxied: StartProxied, body: bytes, path: str) -> None:
    """Where there is nothing to ask, the body is the client's and so is every byte of the reply."""
    answer = b"".join((*EVENTS, usage(), DONE))
    proxied = await start_proxied(always(reply(answer, EVENT_STREAM)), include_usage="on")
    assert (await _post(proxied, body, path=path)).body == answer
    assert await proxied.upstream.calls[0].body() == body


@pytest.mark.parametrize(("kind", "option"), [*((kind, "auto") for kind in OTHERS), ("vllm", "off")])
async def test_servers_that_may_not_be_asked_are_not(start_proxied: StartProxied, kind: str, option: str) -> None:
    """Unknown kinds, llama.cpp and usage: off leave every request as it is."""
    proxied = await start_proxied(vllm, kind=kind, include_usage=option)
    for number in range(2):
        got = await _post(proxied, ask_stream())
        assert await proxied.upstream.calls[number].body() == ask_stream()
        assert got.body == b"".join((*EVENTS, DONE))
    assert _state(proxied) == "off"
    assert await proxied.observed(2) == [STREAM] * 2
    assert proxied.value("requests_by_usage_source_total", model="m", operation="chat", source="none") == 2


@pytest.mark.parametrize("status", ["400 Bad Request", "422 Unprocessable Entity"])
async def test_a_server_that_refuses_is_asked_once(start_proxied: StartProxied, status: str) -> None:
    """A 400 or 422 is sent once more as the client wrote it, and that server is not asked again."""

    async def script(call: Call) -> None:
        if b"include_usage" in await call.body():
            await call.send(reply(b'{"error":"stream_options"}', JSON, status=status))
        else:
            await vllm(call)

    proxied = await start_proxied(script, include_usage="on")
    for _ in range(3):
        got = await _post(proxied, ask_stream(), "Content-Type: application/json", "X-A: 1")
        assert (got.code, got.body) == (200, b"".join((*EVENTS, DONE)))
    bodies = [await call.body() for call in proxied.upstream.calls]
    assert [b"include_usage" in body for body in bodies] == [True, False, False, False]
    assert bodies[1:] == [ask_stream()] * 3
    assert proxied.upstream.calls[1].fields == proxied.upstream.calls[2].fields
    assert await proxied.observed(3) == [STREAM] * 3


async def test_a_refusal_that_stays_is_passed_on(start_proxied: StartProxied) -> None:
    """When the request as the client wrote it is refused too, the client gets that refusal, counted once."""
    proxied = await start_proxied(always(reply(b"no", JSON, status="400 Bad Request")), include_usage="on")
    got = await _post(proxied, ask_stream())
    assert (got.code, got.body) == (400, b"no")
    assert [await call.body() for call in proxied.upstream.calls][1] == ask_stream()
    assert len(proxied.upstream.calls) == 2
    assert await proxied.one() == {**STREAM, "model": "other", "outcome": "client_error", "code": "400"}


@pytest.mark.parametrize("status", ["503 Service Unavailable", "429 Too Many Requests", "400 Bad Request"])
async def test_only_a_success_shows_that_asking_was_refused(start_proxied: StartProxied, status: str) -> None:
    """A server that takes the request unchanged no better is asked again the next time."""
    failing = always(reply(b"no", JSON, status=status))
    proxied = await start_proxied(
        in_turn(always(reply(b"no", JSON, status="400 Bad Request")), failing, vllm), include_usage="on"
    )
    assert (await _post(proxied, ask_stream())).status == status
    assert (await _post(proxied, ask_stream())).code == 200
    bodies = [await call.body() for call in proxied.upstream.calls]
    assert [b"include_usage" in body for body in bodies] == [True, False, True]


async def test_a_refusal_of_something_else_meanwhile_changes_nothing(start_proxied: StartProxied) -> None:
    """A request that is bad in itself, under way while another one found out, does not make the proxy ask again."""
    arrived, learnt = asyncio.Event(), asyncio.Event()

    async def script(call: Call) -> None:
        body = await call.body()
        if b"bad" in body and b"include_usage" in body:
            arrived.set()
            await learnt.wait()
        if b"bad" in body or b"include_usage" in body:
            await call.send(reply(b"no", JSON, status="400 Bad Request"))
        else:
            await vllm(call)

    proxied = await start_proxied(script, include_usage="on")
    bad = asyncio.ensure_future(_post(proxied, ask_stream("bad")))
    await arrived.wait()
    assert (await _post(proxied, ask_stream())).code == 200
    learnt.set()
    assert (await bad).code == 400
    assert (await _post(proxied, ask_stream())).code == 200
    assert b"include_usage" not in await proxied.upstream.calls[-1].body()
    assert len(proxied.upstream.calls) == 5


async def test_sending_again_is_no_overhead(start_proxied: StartProxied) -> None:
    """The request's leg is measured once: until it was passed on, not until the server had refused it."""

    async def refuse(call: Call) -> None:
        await call.body()
        await asyncio.sleep(0.2)
        await call.send(reply(b"no", JSON, status="400 Bad Request"))

    proxied = await start_proxied(in_turn(refuse, vllm), include_usage="on")
    await _post(proxied, ask_stream())
    assert proxied.value("proxy_overhead_seconds_count", leg="request") == 1
    assert (proxied.value("proxy_overhead_seconds_sum", leg="request") or 0.0) < 0.2


@pytest.mark.parametrize("status", ["404 Not Found", "401 Unauthorized", "500 Internal Server Error"])
async def test_other_refusals_are_not_sent_again(start_proxied: StartProxied, status: str) -> None:
    """Only 400 and 422 can mean that the question was not understood."""
    proxied = await start_proxied(always(reply(b"no", JSON, status=status)), include_usage="on")
    assert (await _post(proxied, ask_stream())).status == status
    assert len(proxied.upstream.calls) == 1


async def test_an_asked_stream_is_not_compressed(start_proxied: StartProxied) -> None:
    """A request that asks says that it takes no compression, since the frame could not be taken out of that."""
    proxied = await start_proxied(vllm, include_usage="on")
    got = await _post(proxied, ask_stream(), "Accept-Encoding: gzip, br")
    assert got.body == b"".join((*EVENTS, DONE))
    assert proxied.upstream.calls[0].values("Accept-Encoding") == ["identity"]
    await _post(proxied, ask(), "Accept-Encoding: gzip, br")
    assert proxied.upstream.calls[1].values("Accept-Encoding") == ["gzip, br"]


async def test_a_server_that_compresses_all_the_same_is_not_asked_again(start_proxied: StartProxied) -> None:
    """A compressed reply passes untouched, the frame with it, and is read; the next request is left as it is."""
    packed = gzip.compress(b"".join((*EVENTS, usage(), DONE)))
    proxied = await start_proxied(always(reply(packed, EVENT_STREAM, "Content-Encoding: gzip")), include_usage="on")
    for _ in range(2):
        assert (await _post(proxied, ask_stream())).body == packed
    bodies = [await call.body() for call in proxied.upstream.calls]
    assert [b"include_usage" in body for body in bodies] == [True, False]
    assert await proxied.observed(2) == [STREAM] * 2
    assert proxied.total("output_tokens_total") == 6


async def test_a_whole_reply_to_an_asked_stream_passes(start_proxied: StartProxied) -> None:
    """A server that does not stream after all is passed on as it is, with its length."""
    proxied = await start_proxied(always(completion()), include_usage="on")
    got = await _post(proxied, ask_stream())
    assert got.body == completion().split(b"\r\n\r\n")[1]
    assert got.values("Content-Length") == [str(len(got.body))]


@pytest.mark.parametrize("fields", [("Content-Encoding: gzip",), ("Transfer-Encoding: chunked",)])
async def test_bodies_that_cannot_be_read_at_once_are_left(start_proxied: StartProxied, fields: tuple[str]) -> None:
    """A compressed or chunked request is forwarded as it is."""
    proxied = await start_proxied(always(reply(b"x")), include_usage="on")
    body = gzip.compress(ask_stream()) if "gzip" in fields[0] else ask_stream()
    async with proxied.client() as client:
        if "chunked" in fields[0]:
            await client.send(request("/v1/chat/completions", None, *fields, method="POST"), chunk(body), LAST_CHUNK)
        else:
            await client.send(request("/v1/chat/completions", body, *fields))
        await client.reply()
    assert await proxied.upstream.calls[0].body() == body


async def test_a_prompt_beyond_the_limit_is_left(start_proxied: StartProxied) -> None:
    """A body larger than inspect_bytes is not held back to be changed."""
    proxied = await start_proxied(always(reply(b"x")), include_usage="on", max_inspected_body_bytes=10)
    await _post(proxied, ask_stream())
    assert await proxied.upstream.calls[0].body() == ask_stream()


async def test_a_length_of_the_stream_is_dropped(start_proxied: StartProxied) -> None:
    """A stream of known length becomes a chunked one, since it will be shorter."""
    proxied = await start_proxied(always(reply(b"".join((*EVENTS, usage(), DONE)), EVENT_STREAM)), include_usage="on")
    got = await _post(proxied, ask_stream())
    assert got.body == b"".join((*EVENTS, DONE))
    assert got.values("Content-Length") == []
