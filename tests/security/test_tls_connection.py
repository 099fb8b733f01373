from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import ssl
import threading
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import pytest
import uvloop

from modelhost_exporter import threads
from modelhost_exporter.security.reloaded import FilesRead
from modelhost_exporter.security.tls import build_context
from modelhost_exporter.security.tls_listener import TlsInForce, TlsListener
from modelhost_exporter.security.tls_settings import TlsServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from modelhost_exporter.security.tls_settings import ClientAuth
    from tests.support.certificates import Authority, Pair

    Run = Callable[[Coroutine[None, None, None]], None]

SECONDS = 20.0
_NOT_TRUSTED = 60  # exit code of curl


class Echo(asyncio.Protocol):
    """Sends back what it receives, as fast as the client reads; keeps what happened."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.received = bytearray()
        self.transport = cast("asyncio.Transport", None)
        self.happened = asyncio.Event()
        self.answers = True
        self.stays_open = False

    def _note(self, event: str) -> None:
        self.events.append(event)
        self.happened.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)
        self._note("made")

    def data_received(self, data: bytes) -> None:
        """Send it back."""
        self.received += data
        self._note("data")
        if self.answers:
            self.transport.write(data)

    def eof_received(self) -> bool:
        """Keep the event."""
        self._note("eof")
        return self.stays_open

    def pause_writing(self) -> None:
        """Read no more than the client does."""
        self._note("paused")
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Read again."""
        self._note("resumed")
        self.transport.resume_reading()

    def connection_lost(self, _exc: BaseException | None) -> None:
        """Keep the event."""
        self._note("lost")

    async def until(self, event: str) -> None:
        """Wait for an event."""
        while event not in self.events:
            self.happened.clear()
            await asyncio.wait_for(self.happened.wait(), SECONDS)


class _Counted(TlsListener):
    """A listener that keeps the steps of its handshakes."""

    def __init__(self, steps: list[object], *arguments: Any) -> None:
        super().__init__(*arguments)
        self._steps = steps

    def run(self, function: Callable[[], bool]) -> asyncio.Future[bool]:
        """Run a step."""
        self._steps.append(function)
        return super().run(function)


class Server:
    """A TLS listener on a free port, with what happened on its connections."""

    def __init__(self, settings: TlsServer) -> None:
        self.allowed: tuple[str, ...] = settings.client_allowed_sans
        self.context = build_context(settings, FilesRead())
        self.failures: Counter[str] = Counter()
        self.threads: set[int] = set()
        self.connections: list[Echo] = []
        self.made = asyncio.Event()
        self.writers: list[asyncio.StreamWriter] = []
        self.steps: list[object] = []
        self.listener = _Counted(self.steps, self._in_force, self.count)
        self.port = 0

    def _in_force(self) -> TlsInForce:
        self.threads.add(threading.get_ident())
        return TlsInForce(self.context, self.allowed)

    def count(self, reason: str) -> None:
        """Count a failure."""
        self.failures[reason] += 1

    def protocol(self) -> asyncio.Protocol:
        """Return the protocol for a new connection."""
        self.connections.append(Echo())
        self.made.set()
        return self.listener.protect(self.connections[-1])

    async def connect(self, context: ssl.SSLContext) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return a client's connection after the handshake."""
        opening = asyncio.open_connection("127.0.0.1", self.port, ssl=context, server_hostname="localhost")
        reader, writer = await asyncio.wait_for(opening, SECONDS)
        self.writers.append(writer)
        return reader, writer

    async def connect_plainly(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return a TCP connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers.append(writer)
        return reader, writer


@contextlib.asynccontextmanager
async def serving(pair: Pair, **settings: object) -> AsyncIterator[Server]:
    """Serve with a certificate."""
    server = Server(TlsServer(cert_file=pair.certificate, key_file=pair.key, **settings))  # type: ignore[arg-type]
    listening = await asyncio.get_running_loop().create_server(server.protocol, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        for writer in server.writers:
            writer.transport.abort()
        for connection in server.connections:
            await connection.until("made")
            connection.transport.abort()
            await connection.until("lost")


LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Run:
    """Run a scenario on an event loop; nothing may be left to the loop's handler of errors."""

    def runs(scenario: Coroutine[None, None, None]) -> None:
        problems: list[object] = []
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.get_loop().set_exception_handler(lambda _loop, context: problems.append(context))
            runner.run(scenario)
        assert not problems

    return runs


async def closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Return everything until the server closes."""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        return await asyncio.wait_for(reader.read(-1), SECONDS)
    writer.close()
    return b""


def test_data_passes_both_ways_with_back_pressure(run: Run, authority: Authority, server_pair: Pair) -> None:
    """Megabytes come back unchanged, although the client begins to read late; the handshake ran in a thread."""
    sent = random.Random(1).randbytes(8 << 20)  # noqa: S311 - the same each time

    async def scenario() -> None:
        async with serving(server_pair) as server:
            reader, writer = await server.connect(authority.client())
            writer.write(sent)
            echo = server.connections[0]
            await echo.until("paused")
            assert await asyncio.wait_for(reader.readexactly(len(sent)), SECONDS) == sent
            assert "resumed" in echo.events
            assert bytes(echo.received) == sent
            assert threading.get_ident() not in server.threads
            assert echo.transport.get_extra_info("sslcontext") is server.context
            assert echo.transport.get_extra_info("peername")[0] == "127.0.0.1"
            writer.close()
            await echo.until("lost")
            assert echo.events[0] == "made"
            assert echo.events.count("eof") == 1
        assert not server.failures

    run(scenario())


def test_the_end_is_announced(run: Run, authority: Authority, server_pair: Pair) -> None:
    """A close by the server is clean (close_notify), after everything that was written."""

    def received(port: int) -> int:
        """Send a byte and return the number of bytes that come back; an end without close_notify raises SSLEOFError."""
        context = authority.client()
        with (
            socket.create_connection(("127.0.0.1", port), SECONDS) as tcp,
            context.wrap_socket(tcp, server_hostname="localhost", suppress_ragged_eofs=False) as tls,
        ):
            tls.sendall(b"x")
            return sum(map(len, iter(partial(tls.recv, 65536), b"")))

    async def scenario() -> None:
        async with serving(server_pair) as server:
            answer = threads.call(partial(received, server.port))
            await asyncio.wait_for(server.made.wait(), SECONDS)
            echo = server.connections[0]
            await echo.until("data")
            echo.transport.write(b"y" * 500_000)
            echo.transport.close()
            echo.transport.write(b"dropped")
            assert await asyncio.wait_for(answer, SECONDS) == 500_001

    run(scenario())


def test_a_half_closed_connection_is_served_on(run: Run, authority: Authority, server_pair: Pair) -> None:
    """A protocol that returns True from ``eof_received`` goes on writing after the client's close_notify."""

    async def scenario() -> None:
        async with serving(server_pair) as server:
            reader, writer = await server.connect_plainly()
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            client = authority.client().wrap_bio(incoming, outgoing, server_hostname="localhost")
            while True:
                try:
                    client.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    writer.write(outgoing.read())
                    incoming.write(await asyncio.wait_for(reader.read(65536), SECONDS))
            client.write(b"question")
            writer.write(outgoing.read())
            echo = server.connections[0]
            echo.answers, echo.stays_open = False, True
            await echo.until("data")
            with contextlib.suppress(ssl.SSLError):
                client.unwrap()
            writer.write(outgoing.read())
            await echo.until("eof")
            echo.transport.write(b"answer")
            received = b""
            while not received:
                incoming.write(await asyncio.wait_for(reader.read(65536), SECONDS))
                with contextlib.suppress(ssl.SSLWantReadError):
                    received = client.read(100)
            assert received == b"answer"
            assert not echo.transport.is_closing()
            writer.close()

    run(scenario())


def test_bytes_may_come_one_at_a_time(run: Run, authority: Authority, server_pair: Pair) -> None:
    """A handshake and data in single bytes, each in a packet of its own."""

    async def scenario() -> None:
        async with serving(server_pair) as server:
            reader, writer = await server.connect_plainly()
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            client = authority.client().wrap_bio(incoming, outgoing, server_hostname="localhost")

            async def dribble() -> None:
                for byte in outgoing.read():
                    writer.write(bytes([byte]))
                    await writer.drain()
                    await asyncio.sleep(0)

            while True:
                try:
                    client.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    await dribble()
                    incoming.write(await asyncio.wait_for(reader.read(65536), SECONDS))
            client.write(b"hello")
            await dribble()
            await server.connections[0].until("data")
            assert server.connections[0].received == b"hello"
            assert len(server.steps) <= 4, "a thread for each record, not for each byte"
            writer.close()

    run(scenario())


def test_nothing_is_delivered_while_reading_is_paused(run: Run, authority: Authority, server_pair: Pair) -> None:
    """What was received before is delivered after ``resume_reading``, without another byte from the client."""

    async def scenario() -> None:
        async with serving(server_pair) as server:
            _, writer = await server.connect(authority.client())
            echo = server.connections[0]
            echo.answers = False
            echo.transport.pause_reading()
            assert not echo.transport.is_reading()
            writer.write(b"x" * 100_000)
            await writer.drain()
            for _ in range(20):
                await asyncio.sleep(0)
            assert not echo.received
            echo.transport.resume_reading()
            while len(echo.received) < 100_000:
                echo.happened.clear()
                await asyncio.wait_for(echo.happened.wait(), SECONDS)
            writer.close()

    run(scenario())


def test_data_that_came_with_the_handshake_waits(run: Run, authority: Authority, server_pair: Pair) -> None:
    """A protocol that pauses from the start gets it after ``resume_reading``, although nothing more arrives."""

    async def scenario() -> None:
        async with serving(server_pair) as server:
            reader, writer = await server.connect_plainly()
            await asyncio.wait_for(server.made.wait(), SECONDS)
            echo = server.connections[0]
            await echo.until("made")
            echo.transport.pause_reading()
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            client = authority.client().wrap_bio(incoming, outgoing, server_hostname="localhost")
            while True:
                try:
                    client.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    writer.write(outgoing.read())
                    incoming.write(await asyncio.wait_for(reader.read(65536), SECONDS))
            client.write(b"early")
            writer.write(outgoing.read())  # the end of the handshake and data, in one packet
            assert await asyncio.wait_for(reader.read(65536), SECONDS), "session tickets: the handshake is complete"
            assert not echo.received
            echo.transport.resume_reading()
            await echo.until("data")
            assert echo.received == b"early"
            writer.close()

    run(scenario())


def test_a_plain_request_gets_an_answer(run: Run, server_pair: Pair) -> None:
    """HTTP without TLS: 400 in words; anything else is closed."""

    async def scenario() -> None:
        async with serving(server_pair) as server:
            reader, writer = await server.connect_plainly()
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = await closed(reader, writer)
            assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
            assert answer.endswith(b"this port serves HTTPS: use https:// instead of http://\n")
            for junk in (b"\x00" * 100, b"\x80\x2e\x01\x00\x02", b"\x16" + b"\xff" * 300, b"\x16\x03\x01\x00\x00"):
                reader, writer = await server.connect_plainly()
                writer.write(junk)
                writer.write_eof()
                assert not (await closed(reader, writer)).startswith(b"HTTP")
            assert all(not echo.received for echo in server.connections)
            assert server.failures["plain_http"] == 1
            assert server.failures.total() == 5

    run(scenario())


def test_random_bytes_harm_nothing(run: Run, authority: Authority, server_pair: Pair) -> None:
    """Junk instead of a handshake, and changed bytes within one, close that connection only."""
    generator = random.Random(7)  # noqa: S311 - the same each time

    async def scenario() -> None:
        async with serving(server_pair) as server:
            for number in range(60):
                reader, writer = await server.connect_plainly()
                incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
                client = authority.client().wrap_bio(incoming, outgoing, server_hostname="localhost")
                with contextlib.suppress(ssl.SSLWantReadError):
                    client.do_handshake()
                hello = bytearray(outgoing.read())
                for _ in range(1 + number % 7):
                    hello[generator.randrange(len(hello))] = generator.randrange(256)
                writer.write(bytes(hello) if number % 2 else generator.randbytes(number * 20 + 1))
                writer.write_eof()
                await closed(reader, writer)
                writer.close()
            _, writer = await server.connect(authority.client())
            writer.close()

    run(scenario())


def test_each_connection_has_the_context_in_force(
    run: Run,
    authority: Authority,
    server_pair: Pair,
) -> None:
    """After a rotation new connections get the new certificate; those that are open go on."""
    after = authority.issue("rotated")

    async def scenario() -> None:
        async with serving(server_pair) as server:
            reader, writer = await server.connect(authority.client())
            before = writer.get_extra_info("peercert")
            server.context = build_context(TlsServer(cert_file=after.certificate, key_file=after.key), FilesRead())
            _, new_writer = await server.connect(authority.client())
            assert before["subject"] == ((("commonName", "server"),),)
            assert new_writer.get_extra_info("peercert")["subject"] == ((("commonName", "rotated"),),)
            writer.write(b"still here")
            assert await asyncio.wait_for(reader.readexactly(10), SECONDS) == b"still here"
            for each in (writer, new_writer):
                each.close()

    run(scenario())


@pytest.mark.parametrize(
    ("mode", "presented", "allowed", "accepted"),
    [
        ("RequireAndVerifyClientCert", "client", (), True),
        ("RequireAndVerifyClientCert", "none", (), False),
        ("RequireAndVerifyClientCert", "stranger", (), False),
        ("RequireAndVerifyClientCert", "client", ("prometheus",), True),
        ("RequireAndVerifyClientCert", "client", ("other", "spiffe://example.com/p"), True),
        ("RequireAndVerifyClientCert", "client", ("p@example.com",), True),
        ("RequireAndVerifyClientCert", "client", ("2001:db8::1",), True),
        ("RequireAndVerifyClientCert", "client", ("other", "Prometheus", "client"), False),
        ("VerifyClientCertIfGiven", "client", (), True),
        ("VerifyClientCertIfGiven", "none", ("prometheus",), True),
        ("VerifyClientCertIfGiven", "stranger", (), False),
        ("VerifyClientCertIfGiven", "client", ("other",), False),
        ("RequestClientCert", "stranger", (), True),
    ],
)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_client_certificates(  # noqa: PLR0913, PLR0917 - a table
    authority: Authority,
    server_pair: Pair,
    client_pair: Pair,
    stranger: Pair,
    mode: ClientAuth,
    presented: str,
    allowed: tuple[str, ...],
    accepted: bool,
    version: ssl.TLSVersion,
) -> None:
    """Who may connect, by the policy, the authority and the names in the certificate; one byte passes or none."""
    pair = {"client": client_pair, "stranger": stranger, "none": None}[presented]
    settings: dict[str, object] = {"client_auth_type": mode, "client_allowed_sans": allowed}
    async with serving(server_pair, client_ca_file=authority.certificate, **settings) as server:
        context = authority.client(pair)
        context.maximum_version = version
        answer = b""
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            reader, writer = await server.connect(context)
            writer.write(b"x")
            answer = await asyncio.wait_for(reader.read(1), SECONDS)
            writer.close()
        assert answer == (b"x" if accepted else b"")
        assert (not server.connections[0].received) is not accepted
        assert server.failures == ({} if accepted else {"client_certificate": 1})
        certificate = server.connections[0].transport.get_extra_info("peercert")
        assert (certificate is not None) is (presented == "client" and mode != "RequestClientCert")


async def test_a_client_that_does_not_trust_the_server_is_counted(server_pair: Pair) -> None:
    """The alert of the client says why it left."""
    async with serving(server_pair) as server:
        curl = await asyncio.create_subprocess_exec("curl", "--silent", f"https://localhost:{server.port}/")
        assert await asyncio.wait_for(curl.wait(), SECONDS) == _NOT_TRUSTED
        await server.connections[0].until("lost")
        assert server.failures == {"certificate_not_trusted": 1}


async def test_without_a_thread_the_connection_ends(
    authority: Authority, server_pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine without threads serves nobody new, and stays alive."""

    def no_thread(_function: Callable[[], object], _pool: object) -> None:
        raise RuntimeError("can't start new thread")

    async with serving(server_pair) as server:
        with monkeypatch.context() as patch:
            patch.setattr(threads, "call", no_thread)
            with pytest.raises((ConnectionError, ssl.SSLError)):
                await server.connect(authority.client())
        assert server.failures == {"internal": 1}
        _, writer = await server.connect(authority.client())
        writer.close()


async def test_many_handshakes_at_once(authority: Authority, server_pair: Pair) -> None:
    """All of a hundred clients are served, by at most two threads at a time."""
    async with serving(server_pair) as server:
        context = authority.client()
        pairs = await asyncio.gather(*(server.connect(context) for _ in range(100)))
        for reader, writer in pairs:
            writer.write(b"x")
            assert await asyncio.wait_for(reader.readexactly(1), SECONDS) == b"x"
            writer.close()
        assert not server.failures


async def test_a_client_that_leaves_during_the_handshake(server_pair: Pair) -> None:
    """An end in the middle is counted; one before the first byte, as a port check does it, is not."""
    async with serving(server_pair) as server:
        for sent, failures in ((b"", {}), (b"\x16\x03\x01\x02\x00", {"closed": 1})):
            reader, writer = await server.connect_plainly()
            writer.write(sent)
            writer.write_eof()
            await closed(reader, writer)
            await server.connections[-1].until("lost")
            assert server.failures == failures


async def test_a_protocol_may_close_before_the_handshake(server_pair: Pair) -> None:
    """Limits close connections that never got so far."""
    async with serving(server_pair) as server:
        reader, writer = await server.connect_plainly()
        await asyncio.wait_for(server.made.wait(), SECONDS)
        await server.connections[0].until("made")
        server.connections[0].transport.write(b"dropped")
        server.connections[0].transport.close()
        assert await closed(reader, writer) == b""
