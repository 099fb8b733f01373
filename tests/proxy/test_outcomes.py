"""Every way in which a server can end a request, over real sockets: what the client gets, and the one observation."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.config.duration import Seconds
from modelhost_exporter.requests.slo import Objective, Objectives
from tests.proxy.client import BrokenReply, request
from tests.proxy.dialects import (
    BLOCKING,
    DONE,
    EVENT_STREAM,
    JSON,
    STREAM,
    ask,
    ask_stream,
    completion,
    event,
    finish,
    stream,
    token,
)
from tests.proxy.upstream import CHUNKED, DEADLINE_SECONDS, LAST_CHUNK, Call, always, chunk, head, reply

if TYPE_CHECKING:
    from tests.proxy.conftest import StartProxied
    from tests.proxy.upstream import Script

UNREACHABLE = "the model server at http://127.0.0.1:%d cannot be reached: nothing listens there"
OPENAI_ERROR = {"error": {"message": UNREACHABLE, "type": "upstream_unreachable", "param": None, "code": 502}}


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        ("400 Bad Request", "client_error"),
        ("404 Not Found", "client_error"),
        ("429 Too Many Requests", "client_error"),
        ("500 Internal Server Error", "server_error"),
        ("503 Service Unavailable", "server_error"),
    ],
)
async def test_a_refusal_is_passed_on(start_proxied: StartProxied, status: str, outcome: str) -> None:
    """The server's error reaches the client as it is, gives the model no place, and makes no success."""
    proxied = await start_proxied(always(reply(b'{"error": {"message": "no"}}', JSON, status=status)))
    async with proxied.client() as client:
        await client.send(request(body=ask_stream()))
        got = await client.reply()
        assert (got.status, got.body) == (status, b'{"error": {"message": "no"}}')
    assert await proxied.one() == {**STREAM, "outcome": outcome, "code": status[:3]}
    for name in ("request_time_to_first_token_seconds_count", "requests_by_usage_source_total", "output_tokens_total"):
        assert proxied.total(name) == 0


@pytest.mark.parametrize(
    ("path", "operation", "shape"),
    [
        ("/v1/chat/completions", "chat", OPENAI_ERROR),
        ("/v1/completions", "text_completion", OPENAI_ERROR),
        ("/v1/embeddings", "embeddings", OPENAI_ERROR),
        ("/v1/messages", "messages", {"type": "error", "error": {"type": "api_error", "message": UNREACHABLE}}),
        ("/api/chat", "chat", {"error": UNREACHABLE}),
        ("/api/generate", "generate", {"error": UNREACHABLE}),
        ("/api/embed", "embeddings", {"error": UNREACHABLE}),
        ("/anything", "other", None),
    ],
)
async def test_an_unreachable_server_is_a_bad_gateway(
    start_proxied: StartProxied, dead_port: int, path: str, operation: str, shape: object
) -> None:
    """Nobody listens: 502 with an error body in the dialect's own shape, and the connection goes on."""
    proxied = await start_proxied(always(reply()), port=dead_port)
    async with proxied.client() as client:
        for _ in range(2):
            await client.send(request(path, ask(stream=False)))
            got = await client.reply()
            assert got.status == "502 Bad Gateway"
            if shape is None:
                assert got.values("Content-Type") == ["text/plain; charset=utf-8"]
                assert got.body == f"{UNREACHABLE % dead_port}\n".encode()
            else:
                assert got.values("Content-Type") == ["application/json"]
                body = json.dumps(shape).replace(UNREACHABLE, UNREACHABLE % dead_port)
                assert got.body == body.encode()
            assert [name for name, _ in got.fields] == ["Content-Type", "Content-Length", "Date"]
    model = "unknown" if operation == "other" else "other"
    expected = {"model": model, "operation": operation, "stream": "false"}
    assert await proxied.observed(2) == [{**expected, "outcome": "upstream_unreachable", "code": "502"}] * 2


async def test_a_server_that_hangs_up_is_unreachable(start_proxied: StartProxied) -> None:
    """The connection ends before a head: 502."""

    async def script(call: Call) -> None:
        await call.body()
        call.close()

    proxied = await start_proxied(script)
    async with proxied.client() as client:
        await client.send(request(body=ask()))
        assert (await client.reply()).code == 502
    assert await proxied.one() == {**BLOCKING, "outcome": "upstream_unreachable", "code": "502"}


async def test_a_server_that_resets_is_unreachable(start_proxied: StartProxied) -> None:
    """The connection is reset before a head, or in its middle: 502."""

    async def script(call: Call) -> None:
        await call.body()
        await call.send(b"HTTP/1.1 200 OK\r\nX-")
        call.reset()

    proxied = await start_proxied(script)
    async with proxied.client() as client:
        await client.send(request(body=ask()))
        assert (await client.reply()).code == 502
    assert await proxied.one() == {**BLOCKING, "outcome": "upstream_unreachable", "code": "502"}


@pytest.mark.parametrize("how", ["cut", "reset"])
@pytest.mark.parametrize("framing", ["chunked", "length"])
async def test_a_stream_that_breaks_off_breaks_off(start_proxied: StartProxied, how: str, framing: str) -> None:
    """The client gets what came and a broken reply, not a complete one; the outcome is stream_error."""
    seen = asyncio.Event()

    async def script(call: Call) -> None:
        await call.body()
        if framing == "chunked":
            await call.send(head(EVENT_STREAM, CHUNKED), chunk(token("a")))
        else:
            await call.send(head(EVENT_STREAM, "Content-Length: 99999"), token("a"))
        await asyncio.wait_for(seen.wait(), DEADLINE_SECONDS)
        call.close() if how == "cut" else call.reset()

    proxied = await start_proxied(script)
    async with proxied.client() as client:
        await client.send(request(body=ask_stream()))
        await proxied.until("stream_chunks_total", 1)
        seen.set()
        with pytest.raises(BrokenReply) as broken:
            await client.reply()
        assert broken.value.args[0] in (token("a"), b"")  # in whole chunks, or what came of a length
    assert await proxied.one() == {**STREAM, "model": "m", "outcome": "stream_error", "code": "200"}
    assert proxied.total("request_time_to_first_token_seconds_count") == 0
    assert proxied.total("request_stream_max_gap_seconds_count") == 0


@pytest.mark.parametrize(
    "events",
    [
        [token("a")],
        [token("a"), b"data: {half"],
        [],
        [event(error={"message": "out of memory", "code": 500}), DONE],
        [token("a"), b"event: error\ndata: {}\n\n", DONE],
        [token("a"), b'error: {"message": "x"}\n\n'],
    ],
    ids=["no end", "half a frame", "nothing", "an error frame", "an error event", "an error field"],
)
async def test_a_stream_that_does_not_end_well_is_an_error(start_proxied: StartProxied, events: list[bytes]) -> None:
    """A 200 that HTTP calls whole but that lacks its end, or holds an error, is passed on and a stream_error."""
    sent = b"".join(events)
    proxied = await start_proxied(always(reply(sent, EVENT_STREAM)))
    async with proxied.client() as client:
        await client.send(request(body=ask_stream()))
        assert (await client.reply()).body == sent
    assert {**await proxied.one(), "model": "m"} == {**STREAM, "model": "m", "outcome": "stream_error", "code": "200"}


UNREADABLE = [
    b"RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB\n",
    b'Traceback (most recent call last):\n  File "engine.py", line 1\nValueError: x\n\n',
    b"<html><body><h1>502 Bad Gateway</h1></body></html>\n",
    b'data: {"model":"m","choices":[{"index":0,"delta":{"conte',
    b'{"error":{"message":"out of memory","type":"server_error"}}\n',
    b"data: \xff\xfe\n\n",
]


@pytest.mark.parametrize("last", UNREADABLE)
async def test_a_stream_that_dies_with_an_unreadable_line_is_an_error(start_proxied: StartProxied, last: bytes) -> None:
    """Though HTTP ends it cleanly: without the dialect's own end it is no success, and met no objective."""
    objectives = Objectives(ttft=Objective(Seconds(60.0)))
    proxied = await start_proxied(always(reply(token("a") + last, EVENT_STREAM)), slo=objectives)
    async with proxied.client() as client:
        await client.send(request(body=ask_stream()))
        assert (await client.reply()).body == token("a") + last
    assert await proxied.one() == {**STREAM, "model": "m", "outcome": "stream_error", "code": "200"}
    assert proxied.total("request_time_to_first_token_seconds_count") == 0
    assert proxied.value("slo_requests_total", model="m", operation="chat", slo="ttft") == 1
    assert proxied.value("slo_good_requests_total", model="m", operation="chat", slo="ttft") == 0


async def test_what_cannot_be_read_meets_and_misses_no_objective(start_proxied: StartProxied) -> None:
    """Of a response in an unknown encoding nobody can say how fast its tokens came."""
    objectives = Objectives(ttft=Objective(Seconds(60.0)), duration=Objective(Seconds(60.0)))
    answer = reply(b"packed", EVENT_STREAM, "Content-Encoding: zzz")
    proxied = await start_proxied(always(answer), slo=objectives)
    async with proxied.client() as client:
        await client.send(request(body=ask_stream()))
        await client.reply()
    assert (await proxied.one())["outcome"] == "ok"
    assert proxied.total("slo_requests_total") == 0


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_client_that_leaves_after_the_dialects_end_is_a_success(start_proxied: StartProxied, how: str) -> None:
    """Some clients close after [DONE], before HTTP has ended the response: they have got all that they asked for."""

    async def script(call: Call) -> None:
        await call.body()
        await call.send(head(EVENT_STREAM, CHUNKED), chunk(token("a") + finish() + DONE))
        await call.peer_gone()
        call.close()

    proxied = await start_proxied(script)
    async with proxied.client() as client:
        await client.send(request(body=ask_stream()))
        await client.head()
        assert await client.chunk() == token("a") + finish() + DONE
        if how == "reset":
            client.reset()
    await proxied.upstream.idle()
    assert await proxied.one() == {**STREAM, "model": "m", "outcome": "ok", "code": "200"}
    assert proxied.total("request_time_to_first_token_seconds_count") == 1


@pytest.mark.parametrize(
    ("path", "kind", "body", "stream"),
    [
        (
            "/v1/messages",
            EVENT_STREAM,
            b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error"}}\n\n',
            "true",
        ),
        (
            "/v1/messages",
            EVENT_STREAM,
            b'event: message_start\ndata: {"type":"message_start","message":{}}\n\n',
            "true",
        ),
        ("/api/chat", "Content-Type: application/x-ndjson", b'{"error":"model requires more memory"}\n', "true"),
        ("/api/chat", "Content-Type: application/x-ndjson", b'{"message":{"content":"a"},"done":false}\n', "true"),
        ("/v1/responses", EVENT_STREAM, b'data: {"type":"response.failed","response":{"status":"failed"}}\n\n', "true"),
        ("/v1/chat/completions", JSON, b'{"error":{"message":"x"}}', "false"),
    ],
)
async def test_an_error_inside_a_200_is_one_in_every_dialect(
    start_proxied: StartProxied, path: str, kind: str, body: bytes, stream: str
) -> None:
    """Each dialect's own way to fail after the head is a stream_error."""
    proxied = await start_proxied(always(reply(body, kind)))
    async with proxied.client() as client:
        await client.send(request(path, ask(stream=stream == "true")))
        assert (await client.reply()).body == body
    labels = await proxied.one()
    assert (labels["outcome"], labels["stream"], labels["code"]) == ("stream_error", stream, "200")


async def test_json_that_is_cut_where_http_cannot_tell_is_an_error(start_proxied: StartProxied) -> None:
    """Half a JSON document that only the connection's end delimits is no success."""

    async def script(call: Call) -> None:
        await call.body()
        await call.send(
            b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + completion().split(b"\r\n\r\n")[1][:-5]
        )
        call.close()

    proxied = await start_proxied(script)
    async with proxied.client() as client:
        await client.send(request(body=ask()))
        await client.reply()
    assert (await proxied.one())["outcome"] == "stream_error"


@pytest.mark.parametrize(
    "script", [always(completion()), always(stream(token(), finish(), DONE))], ids=["whole", "stream"]
)
async def test_a_success_is_one(start_proxied: StartProxied, script: Script) -> None:
    """What goes well is ok, with the model that the client asked for."""
    proxied = await start_proxied(script)
    async with proxied.client() as client:
        await client.send(request(body=ask_stream("asked")))
        assert (await client.reply()).code == 200
    assert (await proxied.one()) == {**STREAM, "model": "asked", "outcome": "ok", "code": "200"}


@pytest.mark.parametrize("method", ["OPTIONS", "HEAD", "GET"])
async def test_only_a_post_asks_a_model(start_proxied: StartProxied, method: str) -> None:
    """A browser's preflight of a known path, or a look at it, is no request to a model: it would flatter all rates."""
    proxied = await start_proxied(always(head("Access-Control-Allow-Methods: POST", "Content-Length: 0")))
    async with proxied.client() as client:
        await client.send(request(method=method))
        await client.reply(bodiless=True)
    other = {"model": "unknown", "operation": "other", "stream": "false", "outcome": "ok", "code": "200"}
    assert await proxied.one() == other
    assert proxied.samples("requests_by_usage_source_total") == {}


async def test_a_fault_of_the_proxy_is_told_without_its_innards(
    start_proxied: StartProxied, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Should the proxy itself fail, the client gets a 500 without a traceback, the log gets one line, metrics one."""

    def fail(*_: object) -> None:
        raise RuntimeError("a fault")

    proxied = await start_proxied(always(reply(b"x")))
    monkeypatch.setattr("modelhost_exporter.proxy.headers.to_client", fail)
    async with proxied.client() as client:
        await client.send(request(body=ask()))
        got = await client.reply()
        assert got.code == 500
        assert b"fault" not in got.body
        assert b"Traceback" not in got.body
    assert await proxied.one() == {**BLOCKING, "outcome": "proxy_error", "code": "500"}
    assert [record.getMessage() for record in caplog.records] == ["a request could not be handled"]
    caplog.clear()


async def test_nothing_of_a_request_is_logged(start_proxied: StartProxied, caplog: pytest.LogCaptureFixture) -> None:
    """Keys, prompts and addresses stay out of the log, at any level, whatever is wrong with the request."""
    caplog.set_level("DEBUG")
    proxied = await start_proxied(always(b"garbage\r\n\r\n"))
    for sent in (
        request(
            body=ask("secret-model", prompt="secret-prompt"),
        ).replace(b"Host", b"Authorization: secret-key\r\nHost"),
        b"GET /secret-path HTTP/1.1\r\nAuthorization: secret-key\x00\r\n\r\n",
        b"secret secret secret\r\n\r\n",
    ):
        async with proxied.client() as client:
            await client.send(sent)
            assert (await client.reply()).code in (400, 501, 502)
    await proxied.observed(3)
    said = caplog.text
    for word in ("secret", "127.0.0.1"):
        assert word not in said
    assert LAST_CHUNK
