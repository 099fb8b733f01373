"""What could be understood in two ways is refused, and nothing of it reaches the server."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import pytest

from tests.proxy.upstream import always, never, reply

if TYPE_CHECKING:
    from tests.proxy.conftest import StartProxied
    from tests.proxy.upstream import Call

POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc", id="two lengths"),
        pytest.param(POST + b"Content-Length: 2, 3\r\n\r\nabc", id="a list of lengths"),
        pytest.param(POST + b"Content-Length: +2\r\n\r\nab", id="a signed length"),
        pytest.param(POST + b"Content-Length: -1\r\n\r\n", id="a negative length"),
        pytest.param(POST + b"Content-Length: 0x2\r\n\r\nab", id="a hexadecimal length"),
        pytest.param(POST + b"Content-Length: 2_0\r\n\r\nab", id="an underscore"),
        pytest.param(POST + b"Content-Length: \xd9\xa2\r\n\r\nab", id="a foreign digit"),
        pytest.param(POST + b"Content-Length: " + b"9" * 40 + b"\r\n\r\nab", id="an endless length"),
        pytest.param(POST + b"Content-Length: 9223372036854775808\r\n\r\nab", id="a length of 2^63"),
        pytest.param(POST + b"Content-Length: 002\r\n\r\nab", id="a length with leading zeros"),
        pytest.param(POST + b"Content-Length:\r\n\r\n" + SMUGGLED, id="an empty length"),
        pytest.param(
            POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED, id="both framings"
        ),
        pytest.param(
            POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + SMUGGLED, id="and turned round"
        ),
        pytest.param(POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", id="another coding"),
        pytest.param(POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n2\r\nab\r\n0\r\n\r\n", id="not chunked at last"),
        pytest.param(POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", id="chunked twice"),
        pytest.param(
            POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
            id="chunked in two fields",
        ),
        pytest.param(
            POST + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
            id="another coding in two fields",
        ),
        pytest.param(POST + b"Transfer-Encoding: identity\r\n\r\n" + SMUGGLED, id="identity"),
        pytest.param(POST + b"Transfer-Encoding: xchunked\r\n\r\n" + SMUGGLED, id="an unknown coding"),
        pytest.param(POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + SMUGGLED, id="a hidden coding"),
        pytest.param(POST + b"Transfer-Encoding:\r\n\r\n" + SMUGGLED, id="an empty coding"),
        pytest.param(POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", id="space before the colon"),
        pytest.param(POST + b"Content-Length\t: 2\r\n\r\nab", id="tab before the colon"),
        pytest.param(POST + b" Content-Length: 2\r\n\r\nab", id="folded"),
        pytest.param(POST + b"X-A: b\r\n c\r\nContent-Length: 2\r\n\r\nab", id="folded value"),
        pytest.param(POST + b"X-A: b\rContent-Length: 2\r\n\r\nab", id="bare CR in a value"),
        pytest.param(POST + b"X-A: b\r\rContent-Length: 2\r\n\r\nab", id="bare CRs"),
        pytest.param(POST + b"X-A: b\nContent-Length: 2\r\n\r\nab", id="bare LF"),
        pytest.param(POST + b"X-A: b\x00c\r\n\r\n", id="NUL in a value"),
        pytest.param(POST + b"X-A: b\x07c\r\n\r\n", id="BEL in a value"),
        pytest.param(POST + b"X-A\x00: b\r\n\r\n", id="NUL in a name"),
        pytest.param(POST + b"X-\xe9: b\r\n\r\n", id="a name that is not ASCII"),
        pytest.param(POST + b": b\r\n\r\n", id="no name"),
        pytest.param(POST + b"X(A): b\r\n\r\n", id="a name that is no token"),
        pytest.param(POST + b"no colon\r\n\r\n", id="no colon"),
        pytest.param(b"POST /a\xff HTTP/1.1\r\nHost: a\r\n\r\n", id="a target that is not UTF-8"),
        pytest.param(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", id="no target at all"),
        pytest.param(b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", id="a target that is not ASCII"),
        pytest.param(
            POST + b"Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 46\r\n\r\n" + SMUGGLED,
            id="a WebSocket with a body",
        ),
        pytest.param(
            POST + b"Connection: upgrade\r\nUpgrade: tcp\r\nContent-Length: 46\r\n\r\n" + SMUGGLED,
            id="a tunnel with a body",
        ),
        pytest.param(b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", id="a space in the target"),
        pytest.param(b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", id="a fragment"),
        pytest.param(b"GET a/b HTTP/1.1\r\nHost: a\r\n\r\n", id="a relative target"),
        pytest.param(b"GET /a HTTP/2.0\r\nHost: a\r\n\r\n", id="another version"),
        pytest.param(b"GET /a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", id="two hosts"),
        pytest.param(b"GET /a HTTP/1.1\r\nX-A: b\r\n\r\n", id="no host"),
        pytest.param(b"GET /a HTTP/1.1\nHost: a\n\n", id="LF only"),
        pytest.param(b"GET  /a HTTP/1.1\r\nHost: a\r\n\r\n", id="two spaces after the method"),
        pytest.param(b"GET /a   HTTP/1.1\r\nHost: a\r\n\r\n", id="three spaces after the target"),
        pytest.param(b"\r\nGET  /a HTTP/1.1\r\nHost: a\r\n\r\n", id="two spaces after an empty line"),
        pytest.param(b"G\x01T /a HTTP/1.1\r\nHost: a\r\n\r\n", id="a method that is no token"),
        pytest.param(b"GET /a HTTP/3.7\r\nHost: a\r\n\r\n", id="a version that is not"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="TLS"),
        pytest.param(
            b"POST /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", id="chunked in HTTP/1.0"
        ),
    ],
)
async def test_an_ambiguous_head_is_refused(start_proxied: StartProxied, sent: bytes) -> None:
    """The client is told 400, its connection ends, the server sees no byte, and it counts once."""
    proxied = await start_proxied(always(reply()))
    async with proxied.client() as client:
        await client.send(sent)
        got = await client.head()
        assert b" 400 " in got.head.split(b"\r\n")[0]
        assert got.values("Server") == []
        client.writer.write_eof()
        assert not re.search(rb"HTTP/1\.[01] \d", await client.closed())
    assert proxied.upstream.calls == []
    labels = await proxied.one()
    assert (labels["outcome"], labels["code"]) == ("client_error", "400")


LINE = b"GET /b  HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize("cut", [None, *range(1, len(LINE), 5)])
async def test_a_line_with_two_spaces_is_found_anywhere(start_proxied: StartProxied, cut: int | None) -> None:
    """After another request, and in any two pieces (RFC 9112, section 3)."""
    proxied = await start_proxied(always(reply(b"x")))
    async with proxied.client() as client:
        await client.send(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n" + LINE[:cut])
        assert (await client.reply()).body == b"x"
        if cut is not None:
            await client.send(LINE[cut:])
        assert (await client.reply()).code == 400
    assert [call.target for call in proxied.upstream.calls] == ["/a"]
    await proxied.observed(2)


@pytest.mark.parametrize("first", [b"GET /b HTTP/1.1\r\nHost: a\r\n", b"POST /a HTTP/1.1\r\nHost: a\r\n"])
@pytest.mark.parametrize("is_split", [False, True])
async def test_a_line_like_one_before_it_is_found(start_proxied: StartProxied, first: bytes, *, is_split: bool) -> None:
    """The bytes that it was received with begin with its line in the right form: another request, or a body."""
    proxied = await start_proxied(always(reply(b"x")))
    body = LINE.replace(b"  ", b" ")
    head = first + b"Content-Length: %d\r\n\r\n" % len(body)
    async with proxied.client() as client:
        await client.send(head if is_split else head + body + LINE)
        if is_split:
            await proxied.until("requests_in_flight", 1)
            await client.send(body + LINE)
        assert (await client.reply()).body == b"x"
        assert (await client.reply()).code == 400
    assert len(proxied.upstream.calls) == 1
    await proxied.observed(2)


async def test_two_spaces_elsewhere_refuse_no_request(start_proxied: StartProxied) -> None:
    """Neither in a value nor in a body, whatever comes before the request line."""
    proxied = await start_proxied(always(reply(b"x")))
    body = b"POST  /c HTTP/1.1"
    sent = b"\r\nPOST /a HTTP/1.1\r\nHost: a\r\nX-A: b  c\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    async with proxied.client() as client:
        await client.send(sent * 2)
        assert [(await client.reply()).code for _ in range(2)] == [200, 200]
    await proxied.observed(2)


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param(b"0x2\r\nab\r\n0\r\n\r\n", id="a prefixed size"),
        pytest.param(b"+2\r\nab\r\n0\r\n\r\n", id="a signed size"),
        pytest.param(b"-2\r\nab\r\n0\r\n\r\n", id="a negative size"),
        pytest.param(b"2 \r\nab\r\n0\r\n\r\n", id="space after the size"),
        pytest.param(b" 2\r\nab\r\n0\r\n\r\n", id="space before the size"),
        pytest.param(b"2\nab\r\n0\r\n\r\n", id="LF after the size"),
        pytest.param(b"2\r\nab0\r\n\r\n", id="no end of the data"),
        pytest.param(b"2\r\nabc\r\n0\r\n\r\n", id="more data"),
        pytest.param(b"\r\nab\r\n0\r\n\r\n", id="no size"),
        pytest.param(b"f" * 17 + b"\r\nab\r\n0\r\n\r\n", id="an endless size"),
        pytest.param(b"2;a\nb\r\nab\r\n0\r\n\r\n", id="LF in an extension"),
        pytest.param(b"2\r\nab\r\n0\r\nX : y\r\n\r\n", id="a bad trailer"),
    ],
)
@pytest.mark.parametrize("together", [True, False], ids=["at once", "late"])
async def test_a_broken_chunk_never_makes_a_whole_request(
    start_proxied: StartProxied, chunks: bytes, *, together: bool
) -> None:
    """A body whose chunks are broken is refused; what was forwarded by then is never ended as if it were whole."""
    ends: list[bytes] = []

    async def script(call: object) -> None:
        got = b""
        while piece := await call.some():  # type: ignore[attr-defined]
            got += piece
        ends.append(got)
        call.close()  # type: ignore[attr-defined]

    proxied = await start_proxied(script)
    head = POST + b"Transfer-Encoding: chunked\r\n\r\n"
    async with proxied.client() as client:
        if together:
            await client.send(head + chunks)
        else:
            await client.send(head)
            await proxied.until("requests_in_flight", 1)
            await client.send(chunks)
        answer = await client.closed()
        assert b" 200 " not in answer
    await proxied.upstream.idle()
    assert not any(end.endswith(b"0\r\n\r\n") for end in ends)
    assert not any(call.values("Content-Length") for call in proxied.upstream.calls)
    assert (await proxied.one())["outcome"] in ("client_error", "client_disconnect")


@pytest.mark.parametrize("method", ["FOO", "get", "BREW", "X-Y_Z"])
async def test_an_unknown_method_is_not_implemented(start_proxied: StartProxied, method: str) -> None:
    """A method that is a token but none of llhttp's is 501, and counted; nothing reaches the server."""
    proxied = await start_proxied(always(reply()))
    async with proxied.client() as client:
        await client.send(f"{method} /a HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert (await client.reply()).code == 501
        assert await client.closed() == b""
    assert proxied.upstream.calls == []
    labels = await proxied.one()
    assert (labels["outcome"], labels["code"]) == ("client_error", "501")


@pytest.mark.parametrize("rest", [b"\r\n", b"garbage", b"GET / HTTP/9.9\r\n\r\n", b"\x00\x01"])
async def test_bytes_after_a_complete_request_do_not_refuse_it(start_proxied: StartProxied, rest: bytes) -> None:
    """It is answered; what follows is refused for itself, if it is anything."""
    proxied = await start_proxied(always(reply(b"x")))
    async with proxied.client() as client:
        await client.send(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n" + rest)
        assert (await client.reply()).body == b"x"
        if rest.strip():
            assert (await client.reply()).code == 400
    assert len(proxied.upstream.calls) == 1
    await proxied.observed(1 + bool(rest.strip()))


async def test_bytes_after_connection_close_are_dropped(start_proxied: StartProxied) -> None:
    """A request that says close is the last of its connection (RFC 9112, section 9.6)."""
    proxied = await start_proxied(always(reply(b"x")))
    async with proxied.client() as client:
        await client.send(b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" + SMUGGLED)
        assert (await client.reply()).body == b"x"
        assert await client.closed() == b""
    assert len(proxied.upstream.calls) == 1
    await proxied.one()


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /a HTTP/1.1\r\nHost: a\r\nX-A: " + b"x" * 200_000,
        b"GET /" + b"a" * 200_000,
        b"GET /a HTTP/1.1\r\n" + b"".join(b"X-%d: 1\r\n" % number for number in range(1500)) + b"\r\n",
        b"GET /a HTTP/1.1\r\n" + b"X: 1\r\n" * 1500,
    ],
    ids=["a value", "a target", "many fields", "many fields without an end"],
)
async def test_a_head_that_is_too_large_is_refused(start_proxied: StartProxied, sent: bytes) -> None:
    """431, before more of it is read, and no byte reaches the server."""
    proxied = await start_proxied(always(reply()))
    async with proxied.client() as client:
        await client.send(sent)
        assert (await client.reply()).code == 431
    assert proxied.upstream.calls == []
    labels = await proxied.one()
    assert (labels["outcome"], labels["code"]) == ("client_error", "431")


async def test_a_thousand_fields_pass(start_proxied: StartProxied) -> None:
    """As many as nginx accepts."""
    proxied = await start_proxied(always(reply(b"x")))
    fields = "".join(f"X-{number}: {number}\r\n" for number in range(990))
    async with proxied.client() as client:
        await client.send(f"GET /a HTTP/1.1\r\nHost: a\r\n{fields}\r\n".encode())
        assert (await client.reply()).body == b"x"
    assert len(proxied.upstream.calls[0].fields) == 991
    await proxied.one()


async def test_a_client_that_pipelined_and_left_is_noticed(start_proxied: StartProxied) -> None:
    """Its requests are not sent on: the first is cancelled, the others are never begun."""
    proxied = await start_proxied(never)
    async with proxied.client() as client:
        await client.send(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n" * 100)
        await proxied.until("requests_in_flight", 1)
    await proxied.upstream.idle()
    assert len(proxied.upstream.calls) <= 1, "it may leave while the connection is being made"
    assert (await proxied.one())["outcome"] == "client_disconnect"


async def test_more_is_not_kept_than_a_client_may_pipeline(start_proxied: StartProxied) -> None:
    """Beyond 64 kB the rest is dropped, and the connection ends with the request in progress."""
    go = asyncio.Event()

    async def script(call: Call) -> None:
        await call.body()
        await go.wait()
        await call.send(reply(b"x"))

    proxied = await start_proxied(script)
    async with proxied.client() as client:
        await client.send(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n")
        await proxied.until("requests_in_flight", 1)
        await client.send(b"GET /b HTTP/1.1\r\nHost: a\r\n\r\n" * 20_000)
        go.set()
        assert (await client.reply()).body == b"x"
        await client.closed()
    assert {call.target for call in proxied.upstream.calls} == {"/a"}
    await proxied.one()
