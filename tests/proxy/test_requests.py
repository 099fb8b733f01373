"""What arrives at the server is what the client sent."""

from __future__ import annotations

import asyncio
import gzip
from typing import TYPE_CHECKING

import pytest

from tests.proxy.client import request
from tests.proxy.dialects import ask, completion
from tests.proxy.upstream import LAST_CHUNK, Call, always, chunk, reply

if TYPE_CHECKING:
    from tests.proxy.conftest import Proxied, StartProxied

OTHER = {"model": "unknown", "operation": "other", "stream": "false", "outcome": "ok", "code": "200"}
CHAT = {"model": "m", "operation": "chat", "stream": "false", "outcome": "ok", "code": "200"}


async def _exchange(proxied: Proxied, *pieces: bytes, bodiless: bool = False) -> Call:
    """Send bytes, wait for the reply, and return what the upstream got."""
    async with proxied.client() as client:
        await client.send(*pieces)
        await client.reply(bodiless=bodiless)
    return proxied.upstream.calls[-1]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"])
async def test_the_method_arrives(start_proxied: StartProxied, method: str) -> None:
    """Any method is passed on."""
    proxied = await start_proxied(always(b"HTTP/1.1 204 No Content\r\n\r\n"))
    call = await _exchange(proxied, request("/thing", method=method))
    assert call.line == f"{method} /thing HTTP/1.1"
    assert await proxied.one() == {**OTHER, "code": "204"}


TARGETS = [
    "/",
    "/a?",
    "/a?b",
    "/a?b=c&b=d&&=",
    "/a%2Fb/%2e%2E/c",
    "/a//b/./../c",
    "//a/b",
    "/a%2fb?c=%2F%2f+%20",
    "/a;b=c,d:e@f!$&'()*+=~",
    "/%C3%A9/%FF/%00",
    "/%zz/%",
    "/a?b=http://c/d?e",
    '/a?b=[]{}|\\^`<>"',
]


@pytest.mark.parametrize("target", TARGETS)
async def test_the_target_arrives_as_sent(start_proxied: StartProxied, target: str) -> None:
    """Path and query reach the server byte for byte, however they are encoded."""
    proxied = await start_proxied(always(reply()))
    assert (await _exchange(proxied, request(target))).target == target
    assert await proxied.one() == OTHER


@pytest.mark.parametrize("target", TARGETS)
async def test_a_prefix_of_the_upstream_comes_first(start_proxied: StartProxied, target: str) -> None:
    """A path in the upstream's URL is put in front of the client's, which stays as it is."""
    proxied = await start_proxied(always(reply()), prefix="/pre%2Ffix/")
    assert (await _exchange(proxied, request(target))).target == "/pre%2Ffix" + target


@pytest.mark.parametrize(
    ("target", "arrives"),
    [
        ("http://proxy.test/a%2Fb?c", "/a%2Fb?c"),
        ("http://proxy.test", "/"),
        ("http://proxy.test?a=/b", "/?a=/b"),
        ("HTTP://proxy.test:80/a", "/a"),
    ],
)
async def test_an_absolute_target_keeps_its_path(start_proxied: StartProxied, target: str, arrives: str) -> None:
    """Of an absolute-form target only path and query reach the server."""
    proxied = await start_proxied(always(reply()))
    assert (await _exchange(proxied, request(target))).target == arrives


async def test_tunnels_are_refused(start_proxied: StartProxied) -> None:
    """CONNECT is answered with 405 and nothing reaches the server: the proxy opens no tunnels."""
    proxied = await start_proxied(always(reply()))
    async with proxied.client() as client:
        await client.send(request("example.test:443", method="CONNECT"))
        assert (await client.reply()).code == 405
    assert proxied.upstream.calls == []
    assert await proxied.one() == {**OTHER, "outcome": "client_error", "code": "405"}


async def test_fields_arrive_in_order(start_proxied: StartProxied) -> None:
    """Fields keep their order, their values and their repetitions; Host is the server's own and nothing is added."""
    proxied = await start_proxied(always(reply()))
    fields = ("X-B: 1", "Cookie: a=b; c=d", "X-A: 2", "X-B: 3", "Authorization: Bearer k", "X-Empty:", 'x-b: q="a, b"')
    call = await _exchange(proxied, request("/a", None, *fields))
    sent = [(name.lower(), value.strip()) for name, _, value in (field.partition(":") for field in fields)]
    host = ("host", f"127.0.0.1:{proxied.upstream.port}")
    assert [(name.lower(), value) for name, value in call.fields] == [host, *sent]


async def test_a_body_brings_no_fields(start_proxied: StartProxied) -> None:
    """A POST without Content-Type, User-Agent, Accept and the like arrives without them."""
    proxied = await start_proxied(always(completion()))
    call = await _exchange(proxied, request("/v1/chat/completions", ask()))
    assert [name.lower() for name, _ in call.fields] == ["host", "content-length"]
    assert await call.body() == ask()
    assert await proxied.one() == CHAT


async def test_fields_of_the_hop_stay(start_proxied: StartProxied) -> None:
    """Connection, what it names, and the other hop-by-hop fields end at the proxy."""
    proxied = await start_proxied(always(reply()))
    call = await _exchange(
        proxied,
        request(
            "/a",
            None,
            "Connection: keep-alive, X-Hop",
            "connection: x-other ,",
            "X-Hop: 1",
            "X-Other: 2",
            "X-Stays: 3",
            "Keep-Alive: timeout=5",
            "Proxy-Connection: keep-alive",
            "Proxy-Authorization: Basic eA==",
            "TE: trailers",
            "Trailer: X-T",
            "Upgrade: foo/2",
        ),
    )
    assert [name.lower() for name, _ in call.fields] == ["host", "x-stays"]


async def test_an_upgrade_is_ignored(start_proxied: StartProxied) -> None:
    """A request that would rather speak h2c is answered in HTTP/1.1, body and all; so is the next on its connection."""
    proxied = await start_proxied(always(completion()))
    upgrade = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAA")
    async with proxied.client() as client:
        for _ in range(2):
            await client.send(request("/v1/chat/completions", ask(), *upgrade))
            assert (await client.reply()).code == 200
    assert [await call.body() for call in proxied.upstream.calls] == [ask(), ask()]
    assert [name.lower() for name, _ in proxied.upstream.calls[0].fields] == ["host", "content-length"]
    assert await proxied.observed(2) == [CHAT, CHAT]


@pytest.mark.parametrize("fields", [("Upgrade: websocket",), ("Connection: upgrade", "Upgrade: websockets")])
async def test_a_post_is_no_websocket(start_proxied: StartProxied, fields: tuple[str, ...]) -> None:
    """A POST that half claims to be a WebSocket is forwarded as the request that it is."""
    proxied = await start_proxied(always(completion()))
    call = await _exchange(proxied, request("/v1/chat/completions", ask(), *fields))
    assert await call.body() == ask()
    assert await proxied.one() == CHAT


async def test_a_chunked_body_arrives(start_proxied: StartProxied) -> None:
    """A chunked body arrives whole, and is looked at."""
    proxied = await start_proxied(always(completion(None)))
    body = ask("named")
    chunks = chunk(body[:5]) + b'%X;ext="1"\r\n' % len(body[5:]) + body[5:] + b"\r\n0\r\nX-Trailer: 1\r\n\r\n"
    head = request("/v1/chat/completions", None, "Transfer-Encoding: chunked", method="POST")
    assert await (await _exchange(proxied, head, chunks)).body() == body
    assert await proxied.one() == {**CHAT, "model": "named"}


async def test_a_chunked_body_that_comes_late_arrives(start_proxied: StartProxied) -> None:
    """A body is passed on chunk by chunk as it comes, its head before any of it."""
    first, second = asyncio.Event(), asyncio.Event()

    async def script(call: Call) -> None:
        first.set()
        got = b""
        while b"one" not in got:
            got += await call.some()
        second.set()
        while b"0\r\n\r\n" not in got:
            got += await call.some()
        assert got == chunk(b"one") + chunk(b"two") + b"0\r\n\r\n"
        await call.send(reply())
        call.close()

    proxied = await start_proxied(script)
    async with proxied.client() as client:
        await client.send(request("/upload", None, "Transfer-Encoding: chunked", method="POST"))
        await asyncio.wait_for(first.wait(), 5)
        await client.send(chunk(b"one"))
        await asyncio.wait_for(second.wait(), 5)
        await client.send(chunk(b"two"), b"0\r\n\r\n")
        assert (await client.reply()).code == 200
    assert await proxied.one() == OTHER


async def test_a_body_with_a_length_keeps_it(start_proxied: StartProxied) -> None:
    """A body that comes in pieces but with a length arrives with that length, not chunked."""
    proxied = await start_proxied(always(completion()))
    body = ask("m", pad="x" * 5000)
    async with proxied.client() as client:
        await client.send(request("/v1/chat/completions", body)[:-4000])
        await asyncio.sleep(0.01)
        await client.send(body[-4000:])
        await client.reply()
    (call,) = proxied.upstream.calls
    assert call.values("Content-Length") == [str(len(body))]
    assert call.raw_body == body
    assert await proxied.one() == CHAT


@pytest.mark.parametrize(
    "option", ["content-length", "close, Content-Length", "host, CONTENT-LENGTH", "transfer-encoding"]
)
@pytest.mark.parametrize("late", [False, True], ids=["at once", "late"])
async def test_a_body_is_never_read_as_a_request(start_proxied: StartProxied, option: str, *, late: bool) -> None:
    """Connection cannot name what frames the body: the server would take the body for the next request."""
    proxied = await start_proxied(always(reply()))
    body = request("/smuggled")
    if option == "transfer-encoding":
        sent = b"POST /a HTTP/1.1\r\nHost: a\r\nConnection: %b\r\nTransfer-Encoding: chunked\r\n\r\n" % option.encode()
        framed = chunk(body) + LAST_CHUNK
    else:
        sent = request("/a", body, f"Connection: {option}").removesuffix(body)
        framed = body
    async with proxied.client() as client:
        await client.send(sent, b"" if late else framed)
        if late:
            await proxied.until("requests_in_flight", 1)
            await client.send(framed)
        assert (await client.reply()).code == 200
    await proxied.one()
    (call,) = proxied.upstream.calls
    assert await call.body() == body
    assert call.values("Host") == [f"127.0.0.1:{proxied.upstream.port}"]


async def test_a_get_with_a_body_arrives(start_proxied: StartProxied) -> None:
    """A body arrives whatever the method is."""
    proxied = await start_proxied(always(reply()))
    assert await (await _exchange(proxied, request("/a", b"body", method="GET"))).body() == b"body"


async def test_a_compressed_body_is_not_touched(start_proxied: StartProxied) -> None:
    """A gzip'ed request arrives as it is."""
    proxied = await start_proxied(always(completion()))
    packed = gzip.compress(ask())
    call = await _exchange(proxied, request("/v1/chat/completions", packed, "Content-Encoding: gzip"))
    assert call.raw_body == packed
    assert call.values("Content-Encoding") == ["gzip"]
    assert await proxied.one() == CHAT


@pytest.mark.parametrize("end", ["", " ", " \t"], ids=["nothing", "a space", "a tab"])
async def test_a_client_that_expects_a_go_ahead_gets_it(start_proxied: StartProxied, end: str) -> None:
    """Expect: 100-continue is answered before the body is sent, once; space after values is no part of them."""
    proxied = await start_proxied(always(completion()))
    body = ask()
    async with proxied.client() as client:
        whole = request("/v1/chat/completions", body, f"Expect: 100-Continue{end}")
        length = f"Content-Length: {len(body)}"
        await client.send(whole[: -len(body)].replace(length.encode(), f"{length}{end}".encode()))
        assert (await client.head()).status == "100 Continue"
        await client.send(body)
        assert (await client.reply()).code == 200
    assert proxied.upstream.calls[0].values("Expect") == []
    assert await proxied.upstream.calls[0].body() == body
    assert await proxied.one() == CHAT


async def test_an_old_client_is_served(start_proxied: StartProxied) -> None:
    """HTTP/1.0 without keep-alive gets an unframed body and the end of the connection, and no 100 Continue."""
    proxied = await start_proxied(
        always(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", chunk(b"one"), chunk(b"two"), b"0\r\n\r\n")
    )
    async with proxied.client() as client:
        await client.send(b"POST /a HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi")
        got = await client.reply()
        assert got.head.startswith(b"HTTP/1.0 200 OK\r\n")
        assert (got.body, got.values("Transfer-Encoding")) == (b"onetwo", [])
    assert await proxied.one() == OTHER


async def test_an_old_client_can_keep_its_connection(start_proxied: StartProxied) -> None:
    """HTTP/1.0 with keep-alive and a reply of known length keeps the connection."""
    proxied = await start_proxied(always(reply(b"hi")))
    async with proxied.client() as client:
        for _ in range(2):
            await client.send(b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            got = await client.reply()
            assert (got.body, [value.lower() for value in got.values("Connection")]) == (b"hi", ["keep-alive"])
    assert await proxied.observed(2) == [OTHER, OTHER]


async def test_large_fields_arrive(start_proxied: StartProxied) -> None:
    """A token of 40 kB and a query of 20 kB pass."""
    proxied = await start_proxied(always(reply()))
    token, query = "t" * 40_000, "q" * 20_000
    call = await _exchange(proxied, request(f"/a?{query}", None, f"Authorization: Bearer {token}"))
    assert call.values("Authorization") == [f"Bearer {token}"]
    assert call.target == f"/a?{query}"


@pytest.mark.parametrize("value", ["\xc3\xa9\xe2\x82\xac", "caf\xe9 \xff"], ids=["UTF-8", "Latin-1"])
async def test_bytes_in_a_field_arrive(start_proxied: StartProxied, value: str) -> None:
    """Bytes above 127 in a value arrive unchanged: a proxy does not interpret them (RFC 9110, section 5.5)."""
    proxied = await start_proxied(always(reply()))
    call = await _exchange(proxied, request("/a", None, f"X-Title: {value}"))
    assert call.values("X-Title") == [value]


async def test_pipelined_requests_are_answered_in_order(start_proxied: StartProxied) -> None:
    """Requests sent at once are forwarded one after the other and answered in order."""

    async def script(call: Call) -> None:
        await call.send(reply(call.target.encode() + await call.body()))

    proxied = await start_proxied(script)
    async with proxied.client() as client:
        await client.send(request("/1"), request("/2", b"body"), request("/3"))
        assert [(await client.reply()).body for _ in range(3)] == [b"/1", b"/2body", b"/3"]
    assert await proxied.observed(3) == [OTHER] * 3


@pytest.mark.parametrize("framing", ["a length", "chunks"])
async def test_the_rest_of_a_pipelined_request_follows(start_proxied: StartProxied, framing: str) -> None:
    """A request that began in the bytes of the one before goes on with those that came while that was answered."""
    go = asyncio.Event()

    async def script(call: Call) -> None:
        body = await call.body()
        await go.wait()
        await call.send(reply(call.target.encode() + body))

    proxied = await start_proxied(script)
    head, body = b"POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n", b"body"
    if framing == "chunks":
        head = head.replace(b"Content-Length: 4", b"Transfer-Encoding: chunked")
        body = chunk(body) + b"0\r\n\r\n"
    async with proxied.client() as client:
        await client.send(request("/1"), head)
        await proxied.until("requests_in_flight", 1)
        await client.send(body, request("/3"))
        await asyncio.sleep(0.01)  # until the proxy has read that, which nobody sees
        go.set()
        assert [(await client.reply()).body for _ in range(3)] == [b"/1", b"/2body", b"/3"]
    await proxied.observed(3)


async def test_connection_close_is_obeyed(start_proxied: StartProxied) -> None:
    """A client that asks to close gets its reply, is told so, and the connection ends; the server's own stays."""
    proxied = await start_proxied(always(reply(b"hi")))
    for _ in range(2):
        async with proxied.client() as client:
            await client.send(request("/a", None, "Connection: close"))
            got = await client.reply()
            assert (got.body, got.values("Connection")) == (b"hi", ["close"])
            assert await client.closed() == b""
    assert proxied.upstream.connections == 1
