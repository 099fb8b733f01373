"""The connections to the server: when one is used again, when it is not, and that none is left."""

from __future__ import annotations

import asyncio
import gc
import shutil
import socket
import ssl
import subprocess
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
from aiohttp import ClientPayloadError, HttpVersion10

from modelhost_exporter.config.http_url import ServerUrl
from modelhost_exporter.proxy.relaying import cut_off
from modelhost_exporter.proxy.upstream import ConnectTimeout, Upstream
from modelhost_exporter.proxy.upstream_call import UpstreamCall
from tests.proxy.client import BrokenReply, request
from tests.proxy.dialects import EVENT_STREAM, ask, ask_stream, completion, token
from tests.proxy.upstream import CHUNKED, DEADLINE_SECONDS, Call, always, chunk, head, in_turn, reply
from tests.proxy.upstream import Upstream as Scripted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from aiohappyeyeballs import AddrInfoType
    from aiohttp import web

    from tests.proxy.conftest import Proxied, StartProxied

OK = {"model": "unknown", "operation": "other", "stream": "false", "outcome": "ok", "code": "200"}
LONG, SHORT = 60.0, 0.05


async def _ask(upstream: Upstream) -> bytes:
    """Ask once, on a connection that was kept or on a new one."""
    connection = upstream.kept()
    call = UpstreamCall(upstream, await upstream.open() if connection is None else connection, bodiless=False)
    call.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await call.answered()
    body = await call.content.read()
    call.end()
    return body


async def test_a_connection_is_kept_for_a_while() -> None:
    """It serves the next request; unused for the given time it is closed, though nobody asks for it."""
    async with Scripted(always(reply(b"x"))) as server:
        upstream = Upstream(ServerUrl(server.url), 1.0, None, keepalive_seconds=LONG)
        assert [await _ask(upstream) for _ in range(3)] == [b"x"] * 3
        assert (server.connections, server.open) == (1, 1)
        upstream.close()
        await server.idle()
        upstream = Upstream(ServerUrl(server.url), 1.0, None, keepalive_seconds=SHORT)
        await _ask(upstream)
        await server.idle()
        assert upstream.kept() is None


async def test_a_connection_that_was_kept_too_long_is_not_used() -> None:
    """Also when the loop was too busy to close it in time."""
    async with Scripted(always(reply(b"x"))) as server:
        upstream = Upstream(ServerUrl(server.url), 1.0, None, keepalive_seconds=0.0)
        assert [await _ask(upstream) for _ in range(2)] == [b"x"] * 2
        assert server.connections == 2
        upstream.close()


UNASKED = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("more", "late"),
    [
        (UNASKED, False),
        (UNASKED, True),
        (UNASKED[:20], True),
        (b"H", True),
        (b"x", True),
        (b"\r\n\r\n!", True),
        (b"\r\n", True),
    ],
    ids=["a reply at once", "a reply", "half a head", "a letter", "garbage", "lines", "a line's end"],
)
async def test_a_server_that_says_more_gets_a_new_connection(more: bytes, late: bool) -> None:
    """What nobody asked for is not taken for the next request's reply."""
    said = asyncio.Event()

    async def script(call: Call) -> None:
        await call.send(reply(b"x"), b"" if late else more)
        if late:
            await said.wait()
            await call.send(more)

    async with Scripted(in_turn(script, always(reply(b"x")))) as server:
        upstream = Upstream(ServerUrl(server.url), 1.0, None, keepalive_seconds=LONG)
        assert await _ask(upstream) == b"x"
        said.set()
        await asyncio.sleep(SHORT)
        assert await _ask(upstream) == b"x"
        assert server.connections == 2
        upstream.close()


async def test_what_came_before_a_break_can_be_read() -> None:
    """Its reader says only that it broke; the last words of a server that fails are not lost on a slow client."""

    async def script(call: Call) -> None:
        await call.send(head("Content-Length: 99"), b"last words")
        call.close()

    async with Scripted(script) as server:
        upstream = Upstream(ServerUrl(server.url), 1.0, None)
        call = UpstreamCall(upstream, await upstream.open(), bodiless=False)
        call.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await call.answered()
        await server.idle()
        async with asyncio.timeout(DEADLINE_SECONDS):
            while call.content.exception() is None:  # noqa: ASYNC110 - there is no event
                await asyncio.sleep(0)
        with pytest.raises(ClientPayloadError):
            await call.content.readany()
        assert call.rest() == b"last words"
        assert call.rest() == b""
        call.end()
        assert upstream.kept() is None


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """Make a certificate for localhost that is trusted here."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl to make a certificate")
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    made = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", key, "-out", cert)
    name = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
    subprocess.run([openssl, *made, *name], check=True, capture_output=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    return context


async def _get(proxied: Proxied) -> int:
    async with proxied.client() as client:
        await client.send(request("/a"))
        return (await client.reply()).code


async def test_https_is_spoken(start_proxied: StartProxied, certificate: ssl.SSLContext) -> None:
    """A server with a certificate that is trusted is reached by TLS, and its connection is kept."""
    proxied = await start_proxied(always(reply(b"x")), host="localhost", tls=certificate)
    assert [await _get(proxied) for _ in range(2)] == [200, 200]
    assert proxied.upstream.connections == 1
    assert proxied.upstream.calls[0].values("Host") == [f"localhost:{proxied.upstream.port}"]
    assert await proxied.observed(2) == [OK, OK]


async def test_a_certificate_of_another_is_refused(start_proxied: StartProxied, certificate: ssl.SSLContext) -> None:
    """A certificate that is not for the server's name makes it unreachable; it sees no byte of the request."""
    proxied = await start_proxied(always(reply(b"x")), host="127.0.0.1", tls=certificate)
    assert await _get(proxied) == 502
    assert proxied.upstream.calls == []
    assert (await proxied.one())["outcome"] == "upstream_unreachable"


async def test_a_name_that_is_looked_up_for_ever_is_asked_for_once() -> None:
    """Everybody's time runs out, nobody adds a thread, and as soon as there is an answer connections are made."""
    answer = threading.Event()
    asked: list[str] = []

    async with Scripted(always(reply(b"x"))) as server:

        def look_up(host: str, _: int) -> Sequence[AddrInfoType]:
            asked.append(host)
            answer.wait(DEADLINE_SECONDS)
            return socket.getaddrinfo("127.0.0.1", server.port, type=socket.SOCK_STREAM)

        upstream = Upstream(ServerUrl("http://model.test:1"), SHORT, None, look_up=look_up)
        for error in await asyncio.gather(*(upstream.open() for _ in range(3)), return_exceptions=True):
            assert isinstance(error, ConnectTimeout)
        waiting = asyncio.ensure_future(upstream.open())
        await asyncio.sleep(0)
        answer.set()
        (await waiting).abort()
        assert asked == ["model.test"]
        await server.idle()


async def test_a_look_up_that_fails_when_nobody_waits_is_not_told(start_proxied: StartProxied) -> None:
    """It is a time-out for who waited; that it failed in the end is not an error of the program."""
    assert start_proxied  # it watches what the loop is told
    answer, failed = threading.Event(), threading.Event()

    def look_up(_: str, __: int) -> Sequence[AddrInfoType]:
        answer.wait(DEADLINE_SECONDS)
        failed.set()
        raise socket.gaierror

    upstream = Upstream(ServerUrl("http://model.test:1"), SHORT, None, look_up=look_up)
    with pytest.raises(ConnectTimeout):
        await upstream.open()
    answer.set()
    await asyncio.to_thread(failed.wait, DEADLINE_SECONDS)
    await asyncio.sleep(SHORT)
    del upstream
    gc.collect()
    await asyncio.sleep(0)


async def test_a_connection_that_is_closing_is_not_touched() -> None:
    """Its socket may be closed already, and its number another connection's."""
    async with Scripted(always(reply(b"x"))) as server:
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, "127.0.0.1", server.port)
        transport.abort()
        await server.idle()
        cut_off(cast("web.BaseRequest", SimpleNamespace(transport=transport, version=HttpVersion10)))


async def test_a_name_without_an_address_is_unreachable(start_proxied: StartProxied) -> None:
    """A name that cannot be looked up is a 502."""
    proxied = await start_proxied(always(reply(b"x")), host="no-such-host.invalid")
    assert await _get(proxied) == 502
    assert (await proxied.one())["outcome"] == "upstream_unreachable"


async def test_a_body_that_breaks_under_a_reply_cuts_it(start_proxied: StartProxied) -> None:
    """A request whose chunks turn out broken after the reply began ends both, and the server is not blamed."""

    async def script(call: Call) -> None:
        await call.some()
        await call.send(head(EVENT_STREAM, CHUNKED), chunk(token()))
        await call.peer_gone()
        call.close()

    proxied = await start_proxied(script)
    async with proxied.client() as client:
        await client.send(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", chunk(b"{")
        )
        await proxied.until("stream_chunks_total", 1)
        await client.send(b"nonsense\r\n")
        with pytest.raises(BrokenReply):
            await asyncio.wait_for(client.reply(), DEADLINE_SECONDS)
    await proxied.upstream.idle()
    assert (await proxied.one())["outcome"] == "client_error"


async def test_two_kinds_of_reply_share_a_connection(start_proxied: StartProxied) -> None:
    """Replies to HEAD, without a body, chunked and with a length follow one another on one connection."""
    scripts = (
        always(head("Content-Length: 5")),
        always(head(status="304 Not Modified")),
        always(head(CHUNKED), chunk(b"a"), chunk(b"b"), b"0\r\n\r\n"),
        always(completion()),
        always(reply(b"")),
    )
    proxied = await start_proxied(in_turn(*scripts))
    async with proxied.client() as client:
        await client.send(request("/a", method="HEAD"))
        assert (await client.reply(bodiless=True)).values("Content-Length") == ["5"]
        for body in (b"", b"ab", completion().split(b"\r\n\r\n", 1)[1], b""):
            await client.send(request("/v1/chat/completions", ask()))
            assert (await client.reply()).body == body
    assert proxied.upstream.connections == 1
    assert len(await proxied.observed(5)) == 5


async def test_a_server_that_answers_in_pieces(start_proxied: StartProxied) -> None:
    """A head that comes byte by byte is a head."""

    async def script(call: Call) -> None:
        await call.body()
        for byte in completion():
            await call.send(bytes([byte]))
            await asyncio.sleep(0)

    proxied = await start_proxied(script)
    async with proxied.client() as client:
        await client.send(request("/v1/chat/completions", ask_stream()))
        assert (await client.reply()).body == completion().split(b"\r\n\r\n", 1)[1]
    assert (await proxied.one())["outcome"] == "ok"
