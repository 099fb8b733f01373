"""The connections to the server: when one is used again, when it is not, and that none is left."""

from __future__ import annotations

import asyncio
import gc
import shutil
import socket
import ssl
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry

from modelhost_exporter.config.http_url import ServerUrl
from modelhost_exporter.proxy import reachability
from modelhost_exporter.proxy.downstream import DownstreamConnections
from modelhost_exporter.proxy.errors import ConnectTimeout
from modelhost_exporter.proxy.self_metrics import SelfMetrics
from modelhost_exporter.proxy.settings import ProxySettings
from modelhost_exporter.proxy.upstream import Upstream
from tests.proxy.client import BrokenReply, request
from tests.proxy.dialects import DONE, EVENT_STREAM, ask, ask_stream, completion, finish, token
from tests.proxy.upstream import CHUNKED, DEADLINE_SECONDS, LAST_CHUNK, Call, always, chunk, head, in_turn, reply
from tests.proxy.upstream import Upstream as Scripted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from aiohappyeyeballs import AddrInfoType

    from modelhost_exporter.proxy.upstream import LookUp, ResponseHead, UpstreamFailure
    from tests.proxy.conftest import Proxied, StartProxied

OK = {"model": "unknown", "operation": "other", "stream": "false", "outcome": "ok", "code": "200"}
LONG, SHORT = 60.0, 0.05


def upstream_of(
    url: str, connect_timeout: float = 1.0, keepalive_seconds: float = LONG, look_up: LookUp | None = None
) -> Upstream:
    """Return the connections to a URL."""
    connections = DownstreamConnections(None, SelfMetrics(CollectorRegistry()), ProxySettings)
    return Upstream(ServerUrl(url), connections, connect_timeout, keepalive_seconds, look_up)


class Received:
    """A receiver that collects a response and waits for its end."""

    def __init__(self) -> None:
        self.body = b""
        self.over = asyncio.Event()
        self.failure: UpstreamFailure | None = None

    def on_response(self, head: ResponseHead | None, data: bytes, *, complete: bool) -> None:
        """Collect the body."""
        del head
        self.body += data
        if complete:
            self.over.set()

    def on_chunk(self, data: bytes, content: bytes) -> None:
        """Collect its content."""
        del data
        self.body += content

    def on_interim_response(self, head: ResponseHead) -> None:
        """Ignore it."""

    def on_upstream_failure(self, failure: UpstreamFailure) -> None:
        """Keep the failure."""
        self.failure = failure
        self.over.set()

    def on_upstream_writable(self, *, writable: bool) -> None:
        """Ignore it: requests here are short."""

    def on_upgraded_data(self, data: bytes) -> None:
        """Ignore it: nothing is upgraded."""


async def _ask(upstream: Upstream) -> bytes:
    """Ask once, on a connection that was kept or on a new one."""
    connection = upstream.take() or await upstream.connect()
    received = Received()
    connection.start(received, is_head_request=False)
    connection.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    async with asyncio.timeout(DEADLINE_SECONDS):
        await received.over.wait()
    assert received.failure is None
    connection.release(is_streamed=False)
    return received.body


async def test_a_connection_is_kept_for_a_while() -> None:
    """It serves the next request; unused for the given time it is closed, though nobody asks for it."""
    async with Scripted(always(reply(b"x"))) as server:
        upstream = upstream_of(server.url)
        assert [await _ask(upstream) for _ in range(3)] == [b"x"] * 3
        assert (server.connections, server.open) == (1, 1)
        upstream.close()
        await server.idle()
        upstream = upstream_of(server.url, keepalive_seconds=SHORT)
        await _ask(upstream)
        await server.idle()
        assert upstream.take() is None


async def test_a_connection_that_was_kept_too_long_is_not_used() -> None:
    """Also when the loop was too busy to close it in time."""
    async with Scripted(always(reply(b"x"))) as server:
        upstream = upstream_of(server.url, keepalive_seconds=0.0)
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
        upstream = upstream_of(server.url)
        assert await _ask(upstream) == b"x"
        said.set()
        await asyncio.sleep(SHORT)
        assert await _ask(upstream) == b"x"
        assert server.connections == 2
        upstream.close()


async def test_what_came_before_a_break_is_delivered() -> None:
    """The last words of a server that fails may be the reason."""

    async def script(call: Call) -> None:
        await call.send(head("Content-Length: 99"), b"last words")
        call.close()

    async with Scripted(script) as server:
        upstream = upstream_of(server.url)
        connection = await upstream.connect()
        received = Received()
        connection.start(received, is_head_request=False)
        connection.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        async with asyncio.timeout(DEADLINE_SECONDS):
            await received.over.wait()
        assert received.body == b"last words"
        assert received.failure is not None
        assert not received.failure.is_malformed
        assert upstream.take() is None


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


async def _get_text(proxied: Proxied) -> str:
    async with proxied.client() as client:
        await client.send(request("/a"))
        got = await client.reply()
        assert got.code == 502
        return got.body.decode()


async def test_a_certificate_of_another_is_refused(start_proxied: StartProxied, certificate: ssl.SSLContext) -> None:
    """A certificate that is not for the server's name makes it unreachable; it sees no byte of the request."""
    proxied = await start_proxied(always(reply(b"x")), host="127.0.0.1", tls=certificate)
    assert "cannot be reached: its certificate is not trusted: IP address mismatch" in await _get_text(proxied)
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

        upstream = upstream_of("http://model.test:1", SHORT, look_up=look_up)
        for error in await asyncio.gather(*(upstream.connect() for _ in range(3)), return_exceptions=True):
            assert isinstance(error, ConnectTimeout)
        waiting = asyncio.ensure_future(upstream.connect())
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

    upstream = upstream_of("http://model.test:1", SHORT, look_up=look_up)
    with pytest.raises(ConnectTimeout):
        await upstream.connect()
    answer.set()
    await asyncio.to_thread(failed.wait, DEADLINE_SECONDS)
    await asyncio.sleep(SHORT)
    del upstream
    gc.collect()
    await asyncio.sleep(0)


def _logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, str]]:
    """Return level, upstream and reason of what was logged about reaching upstreams; nothing else was."""
    fields = [getattr(record, "fields", {}) for record in caplog.records if record.name == reachability.__name__]
    assert {each["server"] for each in fields} <= {"it"}
    records = [record for record in caplog.records if record.name == reachability.__name__]
    return [
        (record.levelname, each["upstream"], each.get("reason", ""))
        for record, each in zip(records, fields, strict=True)
    ]


async def test_an_upstream_that_comes_and_goes_is_logged_once_per_change(
    start_proxied: StartProxied, dead_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    """With address and reason; and when it responds again."""
    caplog.set_level("INFO")
    addresses: list[Sequence[AddrInfoType]] = []

    proxied = await start_proxied(always(reply(b"x")), host="model.test", port=9)

    def look_up(*_: object) -> Sequence[AddrInfoType]:
        if not addresses[-1]:
            raise socket.gaierror
        return addresses[-1]

    context = next(iter(proxied.proxy._listeners)).context
    assert context.replicas.single is not None
    context.replicas.single._look_up_name = look_up
    refusing, listening = (
        socket.getaddrinfo("127.0.0.1", port, type=socket.SOCK_STREAM) for port in (dead_port, proxied.upstream.port)
    )
    for addresses_now, code in ((refusing, 502), ((), 502), (listening, 200), (listening, 200), (refusing, 502)):
        addresses.append(addresses_now)
        upstream = context.replicas.single.take()
        if upstream is not None:
            upstream.abort()
        assert [await _get(proxied) for _ in range(2 if code == 502 else 1)] == [code] * (2 if code == 502 else 1)
    url = "http://model.test:9"
    assert _logged(caplog) == [
        ("WARNING", url, "nothing listens there: start it, or correct the URL"),
        ("WARNING", url, "its name has no address: correct the URL"),
        ("INFO", url, ""),
        ("WARNING", url, "nothing listens there: start it, or correct the URL"),
    ]
    await proxied.observed(8)


async def test_http_where_tls_was_expected_is_named(
    start_proxied: StartProxied, caplog: pytest.LogCaptureFixture, certificate: ssl.SSLContext
) -> None:
    """The client and the log are told, once."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(5)
        writer.write(reply(status="400 Bad Request"))
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    proxied = await start_proxied(always(reply()), tls=certificate, port=port)
    expected = f"the model server at https://127.0.0.1:{port} cannot be reached: it does not speak TLS (plain HTTP?)\n"
    assert [await _get_text(proxied) for _ in range(2)] == [expected] * 2
    reason = "it does not speak TLS (plain HTTP?): write http:// instead of https://"
    assert _logged(caplog) == [("WARNING", f"https://127.0.0.1:{port}", reason)]
    server.close()


async def test_tls_where_http_was_expected_is_named(
    start_proxied: StartProxied, caplog: pytest.LogCaptureFixture
) -> None:
    """The client and the log are told, once: rustls and others answer with an alert."""
    proxied = await start_proxied(always(b"\x15\x03\x01\x00\x02\x02\x46"))
    where = f"http://127.0.0.1:{proxied.upstream.port}"
    expected = f"invalid HTTP response from the model server at {where}: it speaks TLS, not plain HTTP\n"
    assert [await _get_text(proxied) for _ in range(2)] == [expected] * 2
    reason = "it speaks TLS, not plain HTTP: write https:// instead of http://"
    assert _logged(caplog) == [("WARNING", where, reason)]


async def test_a_server_that_closes_may_speak_tls(
    start_proxied: StartProxied, caplog: pytest.LogCaptureFixture, certificate: ssl.SSLContext
) -> None:
    """As a real server of TLS does in Python; one that has responded in plain HTTP does not."""

    async def close(call: Call) -> None:
        await call.body()
        call.close()

    async with Scripted(always(reply()), tls=certificate) as server:
        proxied = await start_proxied(always(reply()), port=server.port)
        told = [await _get_text(proxied) for _ in range(2)]
    where = f"http://127.0.0.1:{server.port}"
    closed = "it closed the connection without a response"
    assert told == [f"the model server at {where} cannot be reached: {closed} (TLS?)\n"] * 2
    assert _logged(caplog) == [
        ("WARNING", where, f"{closed} (TLS?): if it speaks TLS, write https:// instead of http://")
    ]
    caplog.clear()
    proxied = await start_proxied(in_turn(always(reply(b"x", "Connection: close")), close))
    assert await _get(proxied) == 200
    assert (await _get_text(proxied)).endswith(f"{closed}\n")
    assert _logged(caplog) == []


async def test_a_name_without_an_address_is_unreachable(start_proxied: StartProxied) -> None:
    """A name that cannot be looked up is a 502."""
    proxied = await start_proxied(always(reply(b"x")), host="no-such-host.invalid")
    where = f"http://no-such-host.invalid:{proxied.upstream.port}"
    assert await _get_text(proxied) == f"the model server at {where} cannot be reached: its name has no address\n"
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
    assert proxied.upstream.connections == 2, "one after a chunked response is used again only once it has proved good"
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


DELAYS = [0.0, 0.00005, 0.00015, 0.0004, 0.002]


@pytest.mark.parametrize("delay", DELAYS)
@pytest.mark.parametrize("clients", [1, 4])
async def test_streams_through_a_server_that_closes_unannounced(
    start_proxied: StartProxied, delay: float, clients: int
) -> None:
    """cpp-httplib, below llama.cpp, promises to keep a connection and closes it right after a streamed response."""

    async def script(call: Call) -> None:
        await call.body()
        await call.send(head(EVENT_STREAM, CHUNKED, "Keep-Alive: timeout=5, max=100"), chunk(token() + finish() + DONE))
        await call.send(LAST_CHUNK)
        due = asyncio.get_running_loop().time() + delay
        while asyncio.get_running_loop().time() < due:  # noqa: ASYNC110 - shorter than a timer is exact
            await asyncio.sleep(0)
        call.close()

    proxied = await start_proxied(script)
    each = 40 // clients

    async def stream() -> list[int]:
        async with proxied.client() as client:
            codes = []
            for _ in range(each):
                await client.send(request(body=ask_stream()))
                codes.append((await client.reply()).code)
            return codes

    assert await asyncio.gather(*(stream() for _ in range(clients))) == [[200] * each] * clients
    assert {labels["outcome"] for labels in await proxied.observed(clients * each)} == {"ok"}


async def test_a_server_that_keeps_connections_after_streams_is_believed(start_proxied: StartProxied) -> None:
    """Once a connection has stayed open after a streamed response, those after it serve the next request at once."""

    async def script(call: Call) -> None:
        await call.body()
        await call.send(head(EVENT_STREAM, CHUNKED), chunk(finish() + DONE), LAST_CHUNK)

    proxied = await start_proxied(script)
    async with proxied.client() as client:
        for _ in range(2):  # the second one while the first connection is on trial
            await client.send(request(body=ask_stream()))
            await client.reply()
        assert proxied.upstream.connections == 2
        await asyncio.sleep(0.3)
        for _ in range(5):
            await client.send(request(body=ask_stream()))
            await client.reply()
    assert proxied.upstream.connections == 2
    await proxied.observed(7)


async def drop(call: Call) -> None:
    """Read a request and close without a response."""
    await call.body()
    call.close()


RETRIED = {(("reason", "closed"),): 1}


@pytest.mark.parametrize("sent", [request("/a"), request(body=ask())], ids=["GET", "POST"])
async def test_a_kept_connection_that_closes_is_replaced(start_proxied: StartProxied, sent: bytes) -> None:
    """A request on a connection that is closed before a byte of response is sent once more, on a new one, counted."""
    proxied = await start_proxied(in_turn(always(reply(b"x")), drop, always(reply(b"y"))))
    async with proxied.client() as client:
        await client.send(request("/a"))
        assert (await client.reply()).body == b"x"
        await client.send(sent)
        assert (await client.reply()).body == b"y"
    assert proxied.upstream.calls[1].head == proxied.upstream.calls[2].head
    assert proxied.samples("proxy_upstream_retries_total") == RETRIED
    assert {labels["outcome"] for labels in await proxied.observed(2)} == {"ok"}


async def test_a_request_is_sent_once_more_at_most(start_proxied: StartProxied) -> None:
    """A server that drops it again is unreachable; so is one that drops a request on a new connection."""
    proxied = await start_proxied(in_turn(always(reply(b"x")), drop, drop, drop))
    async with proxied.client() as client:
        for code in (200, 502, 502):
            await client.send(request("/a"))
            assert (await client.reply()).code == code
    assert len(proxied.upstream.calls) == 4
    assert proxied.samples("proxy_upstream_retries_total") == RETRIED
    await proxied.observed(3)


@pytest.mark.parametrize(("body", "code"), [(None, 200), (ask(), 502)], ids=["GET", "POST"])
async def test_retries_of_unsafe_requests_can_be_switched_off(
    start_proxied: StartProxied, body: bytes | None, code: int
) -> None:
    """Then only what RFC 9110 allows is sent again."""
    proxied = await start_proxied(in_turn(always(reply(b"x")), drop, always(reply(b"y"))), retry_unsafe=False)
    async with proxied.client() as client:
        await client.send(request("/a"))
        await client.reply()
        await client.send(request(body=body))
        assert (await client.reply()).code == code
    await proxied.observed(2)


async def test_a_request_that_was_being_handled_is_not_sent_again(start_proxied: StartProxied) -> None:
    """A connection that closes later than 50 ms after a POST was written may have carried it out."""

    async def crash(call: Call) -> None:
        await call.body()
        await asyncio.sleep(0.1)
        call.close()

    proxied = await start_proxied(in_turn(always(reply(b"x")), crash, always(reply(b"y"))))
    async with proxied.client() as client:
        await client.send(request("/a"))
        await client.reply()
        await client.send(request(body=ask()))
        assert (await client.reply()).code == 502
    assert len(proxied.upstream.calls) == 2
    await proxied.observed(2)


async def test_a_response_that_has_begun_is_never_requested_again(start_proxied: StartProxied) -> None:
    """One byte of it is enough."""

    async def begin(call: Call) -> None:
        await call.body()
        await call.send(b"H")
        call.close()

    proxied = await start_proxied(in_turn(always(reply(b"x")), begin, always(reply(b"y"))))
    async with proxied.client() as client:
        for code in (200, 502):
            await client.send(request("/a"))
            assert (await client.reply()).code == code
    assert len(proxied.upstream.calls) == 2
    await proxied.observed(2)
