"""What reaches the client is what the server sent."""

from __future__ import annotations

import asyncio
import gzip
import json
import sys
import zlib
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.dialects import decompress
from tests.proxy.client import BrokenReply, request
from tests.proxy.dialects import DONE, EVENT_STREAM, JSON, ask_stream, completion, finish, stream, token, usage
from tests.proxy.upstream import CHUNKED, DEADLINE_SECONDS, LAST_CHUNK, Call, always, chunk, head, in_turn, reply
from tests.support.compression import PACK

if TYPE_CHECKING:
    from tests.proxy.client import Reply
    from tests.proxy.conftest import Proxied, StartProxied

OTHER = {"model": "unknown", "operation": "other", "stream": "false", "outcome": "ok", "code": "200"}
STREAM = {"model": "m", "operation": "chat", "stream": "true", "outcome": "ok", "code": "200"}
DATE = "Date: Sun, 22 Nov 2026 10:00:00 GMT"


async def _get(proxied: Proxied, target: str = "/a", method: str = "GET", *, bodiless: bool = False) -> Reply:
    async with proxied.client() as client:
        await client.send(request(target, method=method))
        return await client.reply(bodiless=bodiless)


@pytest.mark.parametrize(
    "status",
    ["200 OK", "200 Fine, thanks", "200 ", "201 Created", "299 Odd", "418 I'm a teapot", "599 Strange", "404 \xc3\xa9"],
)
async def test_status_and_reason_arrive(start_proxied: StartProxied, status: str) -> None:
    """The client gets the server's status and its very reason."""
    proxied = await start_proxied(always(reply(b"x", status=status)))
    assert (await _get(proxied)).status == status
    code = status[:3]
    outcome = {"2": "ok", "4": "client_error", "5": "server_error"}[code[0]]
    assert await proxied.one() == {**OTHER, "code": code, "outcome": outcome}


async def test_fields_arrive_in_order(start_proxied: StartProxied) -> None:
    """Fields keep order, values and repetitions; nothing is added but a Date where there is none (RFC 9110, 6.6.1)."""
    fields = ("X-B: 1", "Set-Cookie: a=1", "X-A: 2", "set-cookie: b=2; Path=/", "X-B: 3", "x-b: 4", "X-Empty:")
    proxied = await start_proxied(in_turn(always(reply(b"x", DATE, *fields)), always(reply(b"x", *fields))))
    sent = [(name.lower(), value.strip()) for name, _, value in (field.partition(":") for field in (DATE, *fields))]
    got = [(name.lower(), value) for name, value in (await _get(proxied)).fields]
    assert got == [*sent, ("content-length", "1")]
    got = [(name.lower(), value) for name, value in (await _get(proxied)).fields]
    assert got[:-1] == [*sent[1:], ("content-length", "1")]
    assert got[-1][0] == "date"


@pytest.mark.parametrize("body", [b"", b"x"])
async def test_an_absent_content_type_stays_absent(start_proxied: StartProxied, body: bytes) -> None:
    """Neither Content-Type nor Server are made up."""
    proxied = await start_proxied(always(reply(body, DATE)))
    assert [name for name, _ in (await _get(proxied)).fields] == ["Date", "Content-Length"]


async def test_fields_of_the_hop_stay(start_proxied: StartProxied) -> None:
    """The server's Connection, what it names, and the other hop-by-hop fields end at the proxy."""
    hop = ("Connection: close, X-Hop", "X-Hop: 1", "Keep-Alive: timeout=5", "Proxy-Authenticate: Basic", "Upgrade: h2c")
    proxied = await start_proxied(always(reply(b"x", DATE, "X-Stays: 1", *hop)))
    assert [name for name, _ in (await _get(proxied)).fields] == ["Date", "X-Stays", "Content-Length"]


async def test_head_has_no_body(start_proxied: StartProxied) -> None:
    """A HEAD's reply keeps its length, has no body, and its connection stays in step; so without a length."""
    proxied = await start_proxied(
        in_turn(always(head("Content-Length: 5")), always(head(CHUNKED)), always(reply(b"x")))
    )
    async with proxied.client() as client:
        await client.send(request("/a", method="HEAD"))
        assert (await client.reply(bodiless=True)).values("Content-Length") == ["5"]
        await client.send(request("/a", method="HEAD"))
        got = await client.reply(bodiless=True)
        assert got.values("Content-Length") == []
        await client.send(request("/a"))
        assert (await client.reply()).body == b"x"
    assert await proxied.observed(3) == [OTHER] * 3


@pytest.mark.parametrize("reason", ["204 No Content", "304 Not Modified"])
async def test_a_reply_without_a_body_has_none(start_proxied: StartProxied, reason: str) -> None:
    """204 and 304 pass without a body, and the connection stays in step."""
    proxied = await start_proxied(in_turn(always(head('ETag: "e"', status=reason)), always(reply(b"x"))))
    async with proxied.client() as client:
        await client.send(request("/a"))
        got = await client.reply()
        assert (got.status, got.values("ETag"), got.values("Transfer-Encoding")) == (reason, ['"e"'], [])
        await client.send(request("/a"))
        assert (await client.reply()).body == b"x"


async def test_a_304_keeps_its_length(start_proxied: StartProxied) -> None:
    """A 304's Content-Length says how long a 200 would be and has no body."""
    proxied = await start_proxied(always(head("Content-Length: 7", status="304 Not Modified")))
    assert (await _get(proxied)).values("Content-Length") == ["7"]


async def test_redirects_are_the_clients(start_proxied: StartProxied) -> None:
    """A redirect is passed on and not followed."""
    proxied = await start_proxied(always(reply(b"", "Location: /b", status="307 Temporary Redirect")))
    got = await _get(proxied)
    assert (got.code, got.values("Location")) == (307, ["/b"])
    assert len(proxied.upstream.calls) == 1
    assert await proxied.one() == {**OTHER, "code": "307"}


async def test_cookies_are_the_clients(start_proxied: StartProxied) -> None:
    """What the server sets for one client is not sent with another's request."""
    proxied = await start_proxied(always(reply(b"x", "Set-Cookie: a=1; Path=/")), host="localhost")
    for _ in range(2):
        assert (await _get(proxied)).values("Set-Cookie") == ["a=1; Path=/"]
    assert [call.values("Cookie") for call in proxied.upstream.calls] == [[], []]


async def test_interim_replies_without_end_are_no_reply(start_proxied: StartProxied) -> None:
    """They are read up to a number that no server comes near."""
    proxied = await start_proxied(always(head(status="103 Early Hints") * 150, reply(b"x")))
    async with proxied.client() as client:
        await client.send(request())
        for _ in range(100):
            assert (await client.head()).code == 103
        assert (await client.reply()).code == 502
    assert (await proxied.one())["outcome"] == "server_error"


async def test_interim_replies_do_not_end_the_request(start_proxied: StartProxied) -> None:
    """A 103 is forwarded, and the reply after it; a client of HTTP/1.0 does not know interim replies."""
    proxied = await start_proxied(always(head("Link: </a>", status="103 Early Hints"), reply(b"x")))
    async with proxied.client() as client:
        await client.send(request("/a"))
        got = await client.head()
        assert (got.code, got.fields) == (103, [("Link", "</a>")])
        assert (await client.reply()).body == b"x"
    async with proxied.client() as client:
        await client.send(b"GET /a HTTP/1.0\r\n\r\n")
        assert (await client.reply()).code == 200
    assert await proxied.observed(2) == [OTHER, OTHER]


async def test_an_old_server_is_understood(start_proxied: StartProxied) -> None:
    """HTTP/1.0 without a length: the end of the connection is the end of the body, which the client gets framed."""

    async def script(call: Call) -> None:
        await call.send(b"HTTP/1.0 200 OK\r\nX-A: 1\r\n\r\nall of it")
        call.close()

    proxied = await start_proxied(script)
    got = await _get(proxied)
    assert (got.body, got.values("Transfer-Encoding"), got.values("X-A")) == (b"all of it", ["chunked"], ["1"])
    assert await proxied.one() == OTHER


@pytest.mark.parametrize(
    "broken",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nX-A: a\x01b\r\nContent-Length: 1\r\n\r\na",
        b"HTTP/1.1 200 OK\r\nX-A: a\x00b\r\nContent-Length: 1\r\n\r\na",
        b"HTTP/1.1 200 OK\r\nX-A: a\rb\r\nContent-Length: 1\r\n\r\na",
        b"HTTP/1.1 20 OK\r\nContent-Length: 1\r\n\r\na",
        b"HTTP/1.1 200 O\x01K\r\nContent-Length: 1\r\n\r\na",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: foo\r\n\r\nabc",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"<html>" + b"x" * 70_000,
    ],
    ids=["two lengths", "no length", "SOH", "NUL", "bare CR", "status", "reason", "101", "SSH", "TLS", "long"],
)
async def test_a_reply_that_is_not_http_is_a_bad_gateway(start_proxied: StartProxied, broken: bytes) -> None:
    """The client gets 502 in plain words, or what could be read; never half a field, never a traceback."""

    async def script(call: Call) -> None:
        await call.send(broken)
        call.close()

    proxied = await start_proxied(script)
    got = await _get(proxied)
    assert got.code in (502, 200)
    if got.code == 502:
        assert await proxied.one() == {**OTHER, "outcome": "server_error", "code": "502"}
        tls = ": it speaks TLS, not plain HTTP" if broken.startswith(b"\x16\x03") else ""
        expected = f"invalid HTTP response from the model server at http://127.0.0.1:{proxied.upstream.port}{tls}\n"
        assert got.body == expected.encode()
    else:  # bytes that mean nothing to anybody between
        assert got.values("X-A") == [broken.split(b"X-A: ")[1].split(b"\r\n")[0].decode()]


@pytest.mark.parametrize(
    "fields",
    [
        ("Content-Length : 3",),
        ("Transfer-Encoding : chunked",),
        ("Connection : close", "Content-Length: 3"),
        ("Transfer-Encoding: gzip, chunked",),
        ("Transfer-Encoding: gzip", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked, identity",),
        ("Transfer-Encoding: xchunked",),
        ("Transfer-Encoding: \x0bchunked",),
        ("Transfer-Encoding: identity",),
        ("Transfer-Encoding:",),
        ("Transfer-Encoding: chunked", "Content-Length: 3"),
        ("Content-Length: 3", "Transfer-Encoding: chunked"),
        ("Content-Length: 3", "Content-Length: 3"),
        ("Content-Length: +3",),
        ("Content-Length: 3, 3",),
        ("Content-Length:",),
    ],
)
async def test_a_reply_whose_length_is_in_doubt_is_a_bad_gateway(
    start_proxied: StartProxied, fields: tuple[str, ...]
) -> None:
    """Framing that clients could read in two ways, or that was not undone here, is not passed on as another's."""

    async def script(call: Call) -> None:
        await call.send(head(*fields), b"3\r\nabc\r\n0\r\n\r\n")
        call.close()

    proxied = await start_proxied(script)
    got = await _get(proxied)
    assert (got.code, got.body[:46]) == (502, b"invalid HTTP response from the model server at")
    assert await proxied.one() == {**OTHER, "outcome": "server_error", "code": "502"}


@pytest.mark.parametrize(
    "broken", [b"nonsense\r\n", b"2\r\nabX", b"-1\r\n", b"2 \r\r\n"], ids=["size", "too long", "negative", "bare CR"]
)
async def test_a_reply_that_breaks_its_framing_breaks_off(start_proxied: StartProxied, broken: bytes) -> None:
    """A broken chunk under way ends the client's reply at once, after what came before it; nobody waits for more."""
    begun = asyncio.Event()

    async def script(call: Call) -> None:
        await call.body()
        await call.send(head(EVENT_STREAM, CHUNKED), chunk(token("a")))
        await asyncio.wait_for(begun.wait(), DEADLINE_SECONDS)
        await call.send(chunk(token("b")), broken)
        await call.peer_gone()
        call.close()

    proxied = await start_proxied(script)
    async with proxied.client() as client:
        await client.send(request(body=ask_stream()))
        await client.head()
        assert await client.chunk() == token("a")
        begun.set()
        rest = await client.closed()
        assert token("b") in rest
        assert not rest.endswith(LAST_CHUNK)
    assert await proxied.one() == {**STREAM, "outcome": "stream_error"}


async def test_a_field_that_is_not_utf_8_arrives(start_proxied: StartProxied) -> None:
    """Old bytes in a value (obs-text) reach the client as they are."""
    proxied = await start_proxied(always(reply(b"x", DATE, "X-A: caf\xe9", "X-B: \xc3\xa9")))
    got = await _get(proxied)
    assert (got.values("X-A"), got.values("X-B"), got.body) == (["caf\xe9"], ["\xc3\xa9"], b"x")


async def test_large_fields_arrive(start_proxied: StartProxied) -> None:
    """A field of 40 kB passes."""
    proxied = await start_proxied(always(reply(b"x", "X-Long: " + "l" * 40_000)))
    assert (await _get(proxied)).values("X-Long") == ["l" * 40_000]


EVENTS = token("a") + token("b") + finish() + usage() + DONE


def _deflated(data: bytes, bits: int) -> bytes:
    packer = zlib.compressobj(wbits=bits)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("coding", "packed"),
    [
        ("gzip", gzip.compress(EVENTS)),
        ("GZip", gzip.compress(EVENTS[:100]) + gzip.compress(EVENTS[100:])),
        ("x-gzip", gzip.compress(EVENTS)),
        ("deflate", _deflated(EVENTS, 15)),
        ("deflate", _deflated(EVENTS, -15)),
        ("identity", EVENTS),
        *((coding, PACK[coding](EVENTS)) for coding in ("br", "zstd") if coding in PACK),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("size", [1, 7, 4096])
async def test_a_compressed_reply_is_not_touched_but_read(
    start_proxied: StartProxied, coding: str, packed: bytes, size: int
) -> None:
    """The client gets the compressed bytes, and the tokens are counted all the same, however they come in pieces."""

    async def script(call: Call) -> None:
        await call.body()
        await call.send(head(EVENT_STREAM, CHUNKED, f"Content-Encoding: {coding}"))
        for start in range(0, len(packed), size):
            await call.send(chunk(packed[start : start + size]))
            await asyncio.sleep(0)
        await call.send(LAST_CHUNK)

    proxied = await start_proxied(script)
    async with proxied.client() as client:
        await client.send(request("/v1/chat/completions", ask_stream()))
        got = await client.reply()
    assert (got.body, got.values("Content-Encoding")) == (packed, [coding])
    assert await proxied.one() == STREAM
    assert proxied.total("output_tokens_total") == 3
    assert proxied.total("proxy_parse_errors_total") == 0


@pytest.mark.parametrize(
    ("coding", "packed"),
    [
        ("compress", b"\x1f\x9danything"),
        ("gzip", b"this is not gzip" * 10),
        ("gzip, gzip", gzip.compress(gzip.compress(EVENTS))),
        ("gzip", gzip.compress(bytes(100_000_000))),
        *((coding, PACK[coding](bytes(100_000_000))) for coding in ("br", "zstd") if coding in PACK),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_cannot_be_inflated_passes_and_is_counted(
    start_proxied: StartProxied, coding: str, packed: bytes
) -> None:
    """The client gets the bytes; the success stays one, without token counts, and one parse error says why."""
    fields = (EVENT_STREAM, f"Content-Encoding: {coding}")
    proxied = await start_proxied(always(reply(packed, *fields)))
    async with proxied.client() as client:
        await client.send(request("/v1/chat/completions", ask_stream()))
        assert (await client.reply()).body == packed
    assert await proxied.one() == STREAM
    assert proxied.samples("proxy_parse_errors_total") == {(("api", "openai_chat"), ("reason", "encoding")): 1}
    assert proxied.value("requests_by_usage_source_total", model="m", operation="chat", source="none") == 1


@pytest.mark.parametrize("library", [None, ModuleType("of another project")], ids=["missing", "another"])
@pytest.mark.parametrize(("coding", "name"), [("br", "_BROTLI"), ("zstd", "_ZSTD")])
async def test_a_library_that_cannot_be_used_costs_only_the_numbers(
    start_proxied: StartProxied, monkeypatch: pytest.MonkeyPatch, coding: str, name: str, library: ModuleType | None
) -> None:
    """A response passes where nothing decompresses it, or where another package has a module of that name."""
    monkeypatch.setitem(sys.modules, getattr(decompress, name), library)
    proxied = await start_proxied(always(reply(b"packed", EVENT_STREAM, f"Content-Encoding: {coding}")))
    async with proxied.client() as client:
        await client.send(request("/v1/chat/completions", ask_stream()))
        assert (await client.reply()).body == b"packed"
    assert await proxied.one() == STREAM
    assert proxied.samples("proxy_parse_errors_total") == {(("api", "openai_chat"), ("reason", "encoding")): 1}


async def test_a_broken_stream_is_passed_on_byte_for_byte(start_proxied: StartProxied) -> None:
    """Frames that are no JSON, and bytes that are no frames, reach the client and are counted once per reason."""
    junk = b"data: {not json\n\nnonsense\n\ndata: [1]\n\n\xff\xfe\x00\n" + EVENTS
    proxied = await start_proxied(always(stream(junk)))
    async with proxied.client() as client:
        await client.send(request("/v1/chat/completions", ask_stream()))
        assert (await client.reply()).body == junk
    assert await proxied.one() == STREAM
    assert proxied.total("proxy_parse_errors_total") == 3


async def test_a_reply_is_never_made_whole(start_proxied: StartProxied) -> None:
    """A body shorter than its length ends as a broken reply at the client too."""

    async def script(call: Call) -> None:
        await call.body()
        await call.send(completion()[:-10])
        call.close()

    proxied = await start_proxied(script)
    async with proxied.client() as client:
        await client.send(request("/v1/chat/completions", ask_stream()))
        with pytest.raises(BrokenReply):
            await client.reply()
    assert (await proxied.one())["outcome"] == "stream_error"


async def test_a_reply_that_is_reset_is_never_made_whole(start_proxied: StartProxied) -> None:
    """Where the end of the connection is the end of the body, a connection that breaks is none."""
    begun = asyncio.Event()

    async def script(call: Call) -> None:
        await call.body()
        await call.send(head(EVENT_STREAM), token("a"))
        await asyncio.wait_for(begun.wait(), DEADLINE_SECONDS)
        call.reset()

    proxied = await start_proxied(script)
    async with proxied.client() as client:
        await client.send(request(body=ask_stream()))
        await proxied.until("stream_chunks_total", 1)
        begun.set()
        with pytest.raises(BrokenReply) as broken:
            await client.reply()
    assert broken.value.args[0] == token("a")
    assert await proxied.one() == {**STREAM, "outcome": "stream_error"}


async def test_json_is_passed_on_as_it_is_written(start_proxied: StartProxied) -> None:
    """White space, key order and escapes of a JSON reply are the server's."""
    body = b'{ "b":1,\n\t"a": "\\u00e9/\\/", "model":"m" }\n'
    proxied = await start_proxied(always(reply(body, JSON)))
    async with proxied.client() as client:
        await client.send(request("/v1/chat/completions", ask_stream(None)))
        assert (await client.reply()).body == body


@pytest.mark.parametrize("who", ["server", "client"])
async def test_a_cut_document_is_no_parse_error(start_proxied: StartProxied, who: str) -> None:
    """JSON that broke off is nobody's mistake in writing it, also when what came happens to end like a document."""
    half = b'{"model":"m","choices":[{"index":0}'

    async def script(call: Call) -> None:
        await call.body()
        await call.send(head(JSON, "Content-Length: 999"), half)
        await seen.wait()
        call.close()

    seen = asyncio.Event()
    proxied = await start_proxied(script)
    async with proxied.client() as client:
        await client.send(request("/v1/chat/completions", ask_stream()))
        await client.head()
        await client.exactly(half)
        if who == "server":
            seen.set()
            assert await client.closed() == b""
    seen.set()
    outcome = {"server": "stream_error", "client": "client_disconnect"}[who]
    assert (await proxied.one())["outcome"] == outcome
    assert proxied.samples("proxy_parse_errors_total") == {}


TRITON = {"model_name": "m", "model_version": "1", "text_output": "a", "num_input_tokens": 7, "num_output_tokens": 1}
TGI = {"token": {"id": 1, "text": "a", "special": False}, "generated_text": "a", "details": None}
TOOL = {"type": "content_block_start", "content_block": {"type": "tool_use", "id": "t", "name": "f", "input": {}}}
CALLED = {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}}


@pytest.mark.parametrize(
    ("path", "frames", "tokens"),
    [
        ("/v2/models/m/generate_stream", (TRITON, TRITON), 2),
        ("/generate_stream", (TGI,), 0),
        ("/v1/messages", (TOOL, CALLED, {"type": "message_stop"}), 9),
    ],
    ids=["triton", "tgi", "a call without arguments"],
)
async def test_streams_of_other_dialects(
    start_proxied: StartProxied, path: str, frames: tuple[dict[str, object], ...], tokens: int
) -> None:
    """They are streams that ended well and have a time to the first token, whatever their requests contain."""
    sent = b"".join(b"data: %b\n\n" % json.dumps(frame).encode() for frame in frames)
    proxied = await start_proxied(always(stream(sent)))
    async with proxied.client() as client:
        await client.send(request(path, b'{"stream":true}' if "messages" in path else b"{}"))
        assert (await client.reply()).body == sent
    seen = await proxied.one()
    assert (seen["stream"], seen["outcome"]) == ("true", "ok")
    assert proxied.total("request_time_to_first_token_seconds_count") == 1
    assert proxied.total("output_tokens_total") == tokens
