"""Repeated heads and single chunks are detected without a parser, and mean what a parser reads of them."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import strategies as st

from modelhost_exporter.proxy.downstream import DownstreamConnection
from modelhost_exporter.proxy.headers import HeadTemplate
from modelhost_exporter.proxy.settings import ProxySettings
from modelhost_exporter.proxy.upstream import UpstreamConnection
from tests.proxy.client import BrokenReply, Client, request
from tests.proxy.dialects import DONE, EVENT_STREAM, ask, finish, token
from tests.proxy.generated import Sent, bodies
from tests.proxy.test_fuzzing import check_requests, fuzzed, requests
from tests.proxy.upstream import CHUNKED, LAST_CHUNK, Call, always, chunk, head, reply

if TYPE_CHECKING:
    from tests.proxy.client import Reply
    from tests.proxy.conftest import Proxied, StartProxied
    from tests.proxy.test_fuzzing import Requests
    from tests.proxy.upstream import Script

__all__ = ["requests"]  # a fixture

_POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: %b\r\nX-A: b\r\n\r\n%b"


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Give a list of the sides whose bytes were parsed."""
    sides: list[str] = []
    for side, connection, method in (("down", DownstreamConnection, "_feed"), ("up", UpstreamConnection, "_parse")):
        original = getattr(connection, method)

        def counted(self: object, *args: object, _side: str = side, _do: object = original, **more: object) -> None:
            sides.append(_side)
            _do(self, *args, **more)  # type: ignore[operator] # the original

        monkeypatch.setattr(connection, method, counted)
    return sides


@pytest.mark.parametrize("date", [(), ("Date: Thu, 26 Nov 2026 10:00:00 GMT",)])
async def test_a_repeated_head_is_forwarded_with_its_own_length(
    start_proxied: StartProxied, parsed: list[str], date: tuple[str, ...]
) -> None:
    """Only the first request and response of a connection are parsed; each body arrives whole, and is observed."""

    async def script(call: Call) -> None:
        await call.send(reply(await call.body(), "Content-Type: application/json", *date))

    proxied = await start_proxied(script)
    sent = [ask() + b" " * size for size in (1, 300, 20, 20, 0, 2000)]
    async with proxied.client() as client:
        for body in sent:
            await client.send(request(body=body))
            got = await client.reply()
            assert (got.code, got.body, len(got.values("Date"))) == (200, body, 1)
            assert got.values("Content-Length") == [str(len(body))]
    assert [await call.body() for call in proxied.upstream.calls] == sent
    heads = [
        call.head.replace(b": %d\r" % len(body), b"") for call, body in zip(proxied.upstream.calls, sent, strict=True)
    ]
    assert len(set(heads)) == 1
    assert len(await proxied.observed(len(sent))) == len(sent)
    assert parsed == ["down", "up"]


async def test_a_stream_is_parsed_only_at_its_ends(start_proxied: StartProxied, parsed: list[str]) -> None:
    """A chunk that is received alone is forwarded as it is, and counted; so is the next one after two at once."""
    received = asyncio.Event()
    apart = [chunk(token(str(number))) for number in range(20)]
    together = chunk(token("a")) + chunk(token("b"))
    pieces = [head(EVENT_STREAM, CHUNKED), *apart, together, *apart]

    async def script(call: Call) -> None:
        await call.body()
        for piece in pieces:
            await call.send(piece)
            await received.wait()
            received.clear()
        await call.send(chunk(finish() + DONE) + LAST_CHUNK)

    proxied = await start_proxied(script)
    async with proxied.client() as client:
        await client.send(request(body=ask(stream=True)))
        await client.head()
        received.set()
        for piece in pieces[1:]:
            await client.exactly(piece if piece is not together else chunk(token("a") + token("b")))
            received.set()
        assert await client.chunk() == finish() + DONE
        assert await client.chunk() == b""
    assert (await proxied.one())["outcome"] == "ok"
    assert proxied.total("stream_chunks_total") == 42
    assert parsed == ["down", "up", "up", "up"]


@pytest.mark.parametrize(
    ("before", "rest"),
    [
        pytest.param(b"1", b"0" * 14 + b"\r\n", id="the beginning of a size"),
        pytest.param(b"12\r\n", b"0" * 11 + b"\r\n", id="a size"),
    ],
)
async def test_what_only_looks_like_a_chunk_is_parsed(start_proxied: StartProxied, before: bytes, rest: bytes) -> None:
    """The bytes of one read have the form of a chunk, but a chunk has begun before them."""
    lookalike = chunk(b"ab")
    received = asyncio.Event()

    async def script(call: Call) -> None:
        await call.body()
        await call.send(head(EVENT_STREAM, CHUNKED))
        await received.wait()
        await call.send(chunk(b"first"), before)
        received.clear()
        await received.wait()
        await call.send(lookalike)
        for _ in range(20):  # it is read
            await asyncio.sleep(0)
        await call.send(rest, LAST_CHUNK)
        call.close()

    proxied = await start_proxied(script)
    async with proxied.client() as client:
        await client.send(request("/a"))
        await client.head()
        received.set()
        assert await client.chunk() == b"first"
        received.set()
        got = await client.chunk()
        while part := await client.chunk():
            got += part
    assert chunk(got) == b"12\r\n" + (before + lookalike + rest).removeprefix(b"12\r\n")


_SECOND = st.tuples(
    bodies,
    st.sampled_from([b"%d", b"%d", b"%d", b"0%d", b"+%d", b" %d", b"%d ", b"%d, %d", b"%dx", b"", b"-%d"]),
    st.integers(-2, 2).map(lambda number: number if abs(number) == 1 else 0),
    st.sampled_from(
        [
            *[(b"", b"")] * 6,
            (b"X-A: b", b"X-A: c"),
            (b"POST ", b"GET "),
            (b"X-A: b", b"Content-Length: 3"),
            (b"X-A: b", b"Transfer-Encoding: chunked"),
            (b"X-A: b", b"Connection: close"),
            (b"Host: a", b"Host : a"),
            (b"HTTP/1.1", b"HTTP/1.0"),
            (b"\r\n\r\n", b"\r\n\n"),
            (b" HTTP", b"  HTTP"),
            (b"POST", b"\r\nPOST"),
        ]
    ),
    st.sampled_from([b"", b"", b"\r\n", b"x", b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"]),
    st.lists(st.integers(0, 300), max_size=1),
)


@st.composite
def _repeated(draw: st.DrawFn) -> Sent:
    """Generate two requests, the second one with nearly the same head."""
    first = draw(bodies)
    before = _POST % (b"%d" % len(first), first)
    body, form, difference, (old, new), rest, cuts = draw(_SECOND)
    length = len(body) + difference
    value = form % ((length,) * form.count(b"%d"))
    second = (_POST % (value, b"")).replace(old, new, 1) if old else _POST % (value, b"")
    return Sent(before + second + body + rest, (len(before), *(len(before) + cut for cut in cuts)))


@fuzzed(_repeated(), 150)
async def test_what_is_nearly_the_same_is_read_as_the_reference_reads_it(requests: Requests, sent: Sent) -> None:
    """A length in another form, other lines, bytes of the next message, or part of a body: as on a new connection."""
    expected, seen, received = await requests.exchange(sent)
    answered = check_requests(expected, seen, received, b"127.0.0.1:%d" % requests._server.port)
    assert answered >= 1


_PORT = re.compile(rb"(?<=127\.0\.0\.1):\d+")
_HEAD = "Content-Type: application/json"


@pytest.mark.parametrize(
    "second",
    [
        pytest.param(reply(b"{}", _HEAD), id="the same"),
        pytest.param(reply(b'{"a": 1}', _HEAD), id="another length"),
        pytest.param(reply(b"", _HEAD), id="nothing"),
        pytest.param(head(_HEAD, "Content-Length: 02") + b"{}", id="a leading zero"),
        pytest.param(head(_HEAD, "Content-Length: +2") + b"{}", id="a sign"),
        pytest.param(head(_HEAD, "Content-Length: 2", "Content-Length: 3") + b"{} ", id="two lengths"),
        pytest.param(head(_HEAD, "Content-Length: 2") + b"{}surplus", id="a surplus"),
        pytest.param(head(_HEAD, "Content-Length: 2") + b"{}" + reply(b"smuggled"), id="a second response"),
        pytest.param(head(_HEAD, "Content-Length: 9") + b"{}", id="a body that ends too early"),
        pytest.param(reply(b"{}", _HEAD, status="404 Not Found"), id="another status"),
        pytest.param(reply(b"{}", _HEAD, "Connection: close"), id="the last on its connection"),
        pytest.param(head(_HEAD, "Transfer-Encoding: chunked") + b"2\r\n{}\r\n0\r\n\r\n", id="chunked"),
        pytest.param(b"HTTP/1.1 103 Early Hints\r\n\r\n" + reply(b"{}", _HEAD), id="an interim response"),
    ],
)
async def test_the_second_response_means_what_it_means_on_a_new_connection(
    start_proxied: StartProxied, second: bytes
) -> None:
    """The client gets the same as from a server that sends it first; the third response is the third."""
    expected = await _received(await start_proxied(_in_turn(second)), second)
    proxied = await start_proxied(_in_turn(reply(b"[]", _HEAD), second, reply(b"third", _HEAD)))
    async with proxied.client() as client:
        await client.send(request(body=ask()))
        assert (await client.reply()).body == b"[]"
        assert await _reply(client, second) == expected
    async with proxied.client() as client:
        await client.send(request(body=ask()))
        assert (await client.reply()).body == b"third"


def _in_turn(*responses: bytes) -> Script:
    left = list(responses)

    async def script(call: Call) -> None:
        await call.body()
        data = left.pop(0)
        await call.send(data)
        if b"Connection: close" in data or data.endswith(b": 9\r\n\r\n{}"):
            call.close()

    return script


async def _received(proxied: Proxied, second: bytes) -> tuple[list[tuple[str, str]], bytes] | str:
    async with proxied.client() as client:
        return await _reply(client, second)


async def _reply(client: Client, sent: bytes) -> tuple[list[tuple[str, str]], bytes] | str:
    """Send a request; return the response, without its date and its server's port, or that it breaks off."""
    await client.send(request(body=ask()))
    try:
        if sent.startswith(b"HTTP/1.1 103"):
            assert (await client.head()).code == 103
        got: Reply = await client.reply()
    except (BrokenReply, asyncio.IncompleteReadError) as error:
        return repr(error.args)
    return [("status", got.status), *(field for field in got.fields if field[0] != "Date")], _PORT.sub(b"", got.body)


async def test_lower_limits_hold_for_repeated_heads(start_proxied: StartProxied) -> None:
    """A reload applies to the next request."""
    limits = [ProxySettings()]
    proxied = await start_proxied(always(reply(b"{}")), limits=lambda: limits[0])
    sent = request("/a", b"", "X-Long: " + "x" * 2000)
    async with proxied.client() as client:
        for _ in range(2):
            await client.send(sent)
            assert (await client.reply()).code == 200
        limits[0] = ProxySettings(max_header_bytes=1024)
        await client.send(sent)
        assert (await client.reply()).code == 431


async def test_a_repeated_request_ends_its_connection_while_the_proxy_stops(start_proxied: StartProxied) -> None:
    """The response is that of a request on a new connection, not the one that was sent before."""
    going_on = asyncio.Event()

    async def script(call: Call) -> None:
        await call.body()
        if len(proxied.upstream.calls) > 2:
            await going_on.wait()
        await call.send(reply(b"{}"))

    proxied = await start_proxied(script)
    async with proxied.client() as client:
        for _ in range(2):
            await client.send(request(body=ask()))
            assert not (await client.reply()).values("Connection")
        await client.send(request(body=ask()))
        async with asyncio.timeout(10):
            while len(proxied.upstream.calls) < 3:  # noqa: ASYNC110 - no event
                await asyncio.sleep(0)
        stopping = asyncio.ensure_future(proxied.proxy.drain(10.0, asyncio.Event()))
        await asyncio.sleep(0)
        going_on.set()
        assert (await client.reply()).values("Connection") == ["close"]
        await stopping


async def test_a_repeated_request_waits_for_those_that_were_received_before_it(start_proxied: StartProxied) -> None:
    """It arrives in the moment between the end of one request and the beginning of the next, which was pipelined."""
    repeated = request("/repeated", b"x")

    async def script(call: Call) -> None:
        await call.send(reply(call.target.encode() + await call.body()))
        if call.target == "/second":
            await client.send(repeated)  # no turn of the event loop after the response

    proxied = await start_proxied(script)
    async with proxied.client() as client:
        await client.send(repeated)
        assert (await client.reply()).body == b"/repeatedx"
        await client.send(request("/second", b"") + request("/third", b""))
        assert [(await client.reply()).body for _ in range(3)] == [b"/second", b"/third", b"/repeatedx"]


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(b"A: b\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", id="a length twice"),
        pytest.param(b"A: b\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", id="both framings"),
        pytest.param(b"A: b\r\n\r\n", id="no length"),
        pytest.param(b"A: b\r\nContent-Length: 5 \r\n\r\n", id="white space after it"),
        pytest.param(b"A: " + b"b" * 5000 + b"\r\nContent-Length: 5\r\n\r\n", id="long"),
    ],
)
def test_heads_without_a_template(lines: bytes) -> None:
    """They are parsed each time."""
    fields = [line.partition(b": ")[::2] for line in lines.split(b"\r\n")[:-2]]
    by_key = {name.lower(): value for name, value in fields}
    assert HeadTemplate.of(b"POST / HTTP/1.1\r\n" + lines, by_key, len(fields)) is None


def test_a_template_is_of_one_head() -> None:
    """It detects the head with a whole body of any length in one form, and nothing else."""
    message = b"POST / HTTP/1.1\r\nA: b\r\ncontent-length:%b\r\nC: d\r\n\r\n%b"
    by_key = {b"a": b"b", b"content-length": b"5", b"c": b"d"}
    template = HeadTemplate.of(message % (b" 5", b""), by_key, 3)
    assert template is not None
    assert template.fill(b"17") == message % (b" 17", b"")
    assert template.body(message % (b" 0", b"")) == b""
    assert template.body(message % (b" 12", b"abcdefghijkl")) == b"abcdefghijkl"
    for wrong in ((b" 3", b"ab"), (b" 1", b"ab"), (b" 02", b"ab"), (b"2", b"ab"), (b" +2", b"ab"), (b"  2", b"ab")):
        assert template.body(message % wrong) is None
    assert template.body(message.replace(b"C: d", b"C: e") % (b" 2", b"ab")) is None
    assert template.body(message[:20]) is None
    assert template.body(b"") is None
