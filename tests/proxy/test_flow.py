"""Bytes flow as they come: nothing is held back, nothing piles up, connections are kept."""

from __future__ import annotations

import asyncio
import gzip
import resource
from typing import TYPE_CHECKING

import pytest

from tests.proxy.client import BrokenReply, request
from tests.proxy.dialects import DONE, EVENT_STREAM, ask, ask_stream, completion, finish, stream, token, usage
from tests.proxy.upstream import (
    CHUNKED,
    DEADLINE_SECONDS,
    LAST_CHUNK,
    Call,
    always,
    chunk,
    head,
    in_turn,
    reply,
    then_silent,
)

if TYPE_CHECKING:
    from tests.proxy.conftest import StartProxied

STREAM = {"model": "m", "operation": "chat", "stream": "true", "outcome": "ok", "code": "200"}
BLOCKING = {**STREAM, "stream": "false"}
OTHER = {"model": "unknown", "operation": "other", "stream": "false", "outcome": "ok", "code": "200"}
MEGABYTE = bytes(1 << 20)


async def test_each_piece_arrives_before_the_next_is_sent(start_proxied: StartProxied) -> None:
    """The head arrives before the first chunk is sent, the first chunk before the second, the last before the end."""
    go = asyncio.Queue[None]()
    events = (token("a"), token("b"), finish(), usage(), DONE)

    async def script(call: Call) -> None:
        await call.body()
        for piece in (head(EVENT_STREAM, CHUNKED), *map(chunk, events), LAST_CHUNK):
            await asyncio.wait_for(go.get(), DEADLINE_SECONDS)
            await call.send(piece)

    proxied = await start_proxied(script)
    async with proxied.client() as client:
        await client.send(request(body=ask_stream()))
        await proxied.until("requests_in_flight", 1)
        assert proxied.in_flight() == {("other", "waiting"): 1}
        go.put_nowait(None)
        assert (await client.head()).code == 200
        for sent in events:
            go.put_nowait(None)
            assert await client.chunk() == sent
            if sent == events[0]:
                await proxied.until("stream_chunks_total", 1)
                assert proxied.in_flight() == {("m", "streaming"): 1}
            if sent == events[1]:
                await proxied.until("stream_chunks_total", 2)
        go.put_nowait(None)
        assert await client.chunk() == b""
    assert await proxied.one() == STREAM


async def test_half_a_frame_is_passed_on(start_proxied: StartProxied) -> None:
    """Bytes that are no whole frame yet arrive at once."""
    arrived = asyncio.Event()

    async def script(call: Call) -> None:
        await call.body()
        await call.send(head(EVENT_STREAM, CHUNKED), chunk(token()[:9]))
        await asyncio.wait_for(arrived.wait(), DEADLINE_SECONDS)
        await call.send(chunk(token()[9:]), chunk(finish() + DONE), LAST_CHUNK)

    proxied = await start_proxied(script)
    async with proxied.client() as client:
        await client.send(request(body=ask_stream()))
        await client.head()
        assert await client.chunk() == token()[:9]
        arrived.set()
        rest = b""
        while piece := await client.chunk():
            rest += piece
        assert rest == token()[9:] + finish() + DONE
    assert await proxied.one() == STREAM


async def test_connections_are_kept_on_both_sides(start_proxied: StartProxied) -> None:
    """Ten requests on one connection use one connection to the server; so do ten clients one after another."""
    proxied = await start_proxied(always(completion()))
    async with proxied.client() as client:
        for _ in range(10):
            await client.send(request(body=ask()))
            await client.reply()
    for _ in range(10):
        async with proxied.client() as client:
            await client.send(request(body=ask()))
            await client.reply()
    assert proxied.upstream.connections == 1
    assert await proxied.observed(20) == [BLOCKING] * 20


async def test_a_server_that_closes_is_obeyed(start_proxied: StartProxied) -> None:
    """A server that closes after each reply gets a new connection for each; the client's stays."""

    async def script(call: Call) -> None:
        await call.body()
        await call.send(reply(b"x", "Connection: close"))
        call.close()

    proxied = await start_proxied(script)
    async with proxied.client() as client:
        for _ in range(3):
            await client.send(request("/a"))
            assert (await client.reply()).body == b"x"
    assert proxied.upstream.connections == 3
    assert await proxied.observed(3) == [OTHER] * 3


async def test_many_streams_run_at_once(start_proxied: StartProxied) -> None:
    """A hundred streams are open together, each seen in flight, and each counted once."""
    release = asyncio.Event()

    async def script(call: Call) -> None:
        await call.body()
        await call.send(head(EVENT_STREAM, CHUNKED), chunk(token()))
        await release.wait()
        await call.send(chunk(finish() + DONE), LAST_CHUNK)

    proxied = await start_proxied(script)

    async def run() -> None:
        async with proxied.client() as client:
            await client.send(request(body=ask_stream()))
            assert (await client.reply()).body == token() + finish() + DONE

    runs = asyncio.gather(*(run() for _ in range(100)))
    await proxied.until("stream_chunks_total", 100)
    assert proxied.in_flight() == {("m", "streaming"): 100}
    release.set()
    await runs
    assert await proxied.observed(100) == [STREAM] * 100


async def test_a_hundred_megabytes_stream_through(start_proxied: StartProxied) -> None:
    """A 100 MB prompt arrives whole in bounded memory, unseen; its model is read from the reply."""
    got = 0
    prefix = b'{"model":"asked","stream":true,"messages":[{"content":"'

    async def script(call: Call) -> None:
        nonlocal got
        size = int(call.values("Content-Length")[0])
        while got < size:
            got += len(await call.some())
        await call.send(stream(model="replied"))
        call.close()

    proxied = await start_proxied(script)
    size = len(prefix) + 100 * len(MEGABYTE)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with proxied.client() as client:
        lines = ("POST /v1/chat/completions HTTP/1.1", "Host: a", f"Content-Length: {size}", "", "")
        await client.send("\r\n".join(lines).encode(), prefix)
        for _ in range(100):
            await client.send(MEGABYTE)
        assert (await client.reply()).code == 200
    assert got == size
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 30_000, "kilobytes"
    assert await proxied.one() == {**STREAM, "model": "replied"}
    assert proxied.total("request_time_to_first_token_seconds_count") == 1


@pytest.mark.parametrize(("extra", "model"), [(0, "asked"), (1, "replied")], ids=["at the limit", "beyond"])
async def test_a_prompt_up_to_inspect_bytes_is_looked_at(start_proxied: StartProxied, extra: int, model: str) -> None:
    """A body of exactly inspect_bytes is looked at; one byte more and the model comes from the reply alone."""
    body = ask("asked")
    proxied = await start_proxied(
        in_turn(always(completion(None)), always(completion("replied"))), max_inspected_body_bytes=len(body) - extra
    )
    async with proxied.client() as client:
        if extra:
            proxied.upstream.script = always(completion("replied"))
        await client.send(request(body=body))
        assert (await client.reply()).code == 200
        assert await proxied.upstream.calls[0].body() == body
    assert (await proxied.one())["model"] == model


async def test_a_small_prompt_beyond_inspect_bytes_is_not_looked_at(start_proxied: StartProxied) -> None:
    """A body that came at once and is larger than inspect_bytes is as unseen as one that comes in pieces."""
    body = ask("asked")
    proxied = await start_proxied(always(completion(None)), max_inspected_body_bytes=len(body) - 1)
    async with proxied.client() as client:
        await client.send(request(body=body))
        assert (await client.reply()).code == 200
    assert (await proxied.one())["model"] == "unknown"


async def test_a_slow_client_slows_the_server(start_proxied: StartProxied) -> None:
    """When the client does not read, the server is stopped after a few hundred kilobytes, and goes on with it."""
    sent = 0
    total = 64

    async def script(call: Call) -> None:
        nonlocal sent
        await call.body()
        await call.send(head(f"Content-Length: {total * len(MEGABYTE)}"))
        for _ in range(total):
            await call.send(MEGABYTE)
            sent += 1

    proxied = await start_proxied(script)
    async with proxied.client() as client:
        await client.send(request("/a"))
        await client.head()
        stuck = -1
        while stuck != sent:  # until the server gets nothing out any more
            stuck = sent
            await asyncio.sleep(0.2)
        assert sent < 24, "MB in the sockets of four ends and the proxy's buffers"
        async with proxied.client() as other:
            proxied.upstream.script = always(reply(b"quick"))
            await other.send(request("/b"))
            assert (await other.reply()).body == b"quick"
        await client.exactly(bytes(total * len(MEGABYTE)))
    assert sent == total
    assert await proxied.observed(2) == [OTHER] * 2


async def test_a_slow_server_slows_the_client(start_proxied: StartProxied) -> None:
    """When the server does not read a body, the client is stopped, and goes on with it."""
    release = asyncio.Event()

    async def script(call: Call) -> None:
        await asyncio.wait_for(release.wait(), DEADLINE_SECONDS)
        await call.body()
        await call.send(reply(b"x"))

    proxied = await start_proxied(script)
    total, sent = 64, 0
    async with proxied.client() as client:
        lines = ("POST /a HTTP/1.1", "Host: a", f"Content-Length: {total * len(MEGABYTE)}", "", "")
        await client.send("\r\n".join(lines).encode())

        async def push() -> None:
            nonlocal sent
            for _ in range(total):
                client.writer.write(MEGABYTE)
                await client.writer.drain()
                sent += 1

        pushing = asyncio.ensure_future(push())
        stuck = -1
        while stuck != sent:
            stuck = sent
            await asyncio.sleep(0.2)
        assert sent < 24
        release.set()
        await pushing
        assert (await client.reply()).body == b"x"
    assert await proxied.one() == OTHER


async def test_an_early_answer_is_passed_on(start_proxied: StartProxied) -> None:
    """A server that refuses a body before it has come (413) and closes is quoted, and the request counted once."""

    async def script(call: Call) -> None:
        await call.some()
        await call.send(reply(b"too large", "Connection: close", status="413 Content Too Large"))
        await call.peer_gone()
        call.close()

    proxied = await start_proxied(script)
    async with proxied.client() as client:
        lines = ("POST /v1/chat/completions HTTP/1.1", "Host: a", f"Content-Length: {10 * len(MEGABYTE)}", "", "")
        await client.send("\r\n".join(lines).encode(), MEGABYTE)
        got = await client.reply()
        assert (got.status, got.body) == ("413 Content Too Large", b"too large")
    assert await proxied.one() == {**OTHER, "operation": "chat", "outcome": "client_error", "code": "413"}


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [(b"HTTP/1.0 200 OK\r\n\r\nall", "200 OK", b"all"), (b"", "502 Bad Gateway", None)],
    ids=["a response", "nothing"],
)
async def test_a_server_that_ends_its_side_during_the_upload(
    start_proxied: StartProxied, answer: bytes, status: str, body: bytes | None
) -> None:
    """Its half-close ends the response, or is an error, at once: the rest of the request may never be read."""
    is_full, gone = asyncio.Event(), asyncio.Event()

    async def script(call: Call) -> None:
        call.pause_reading()
        await is_full.wait()
        await call.send(answer)
        call.half_close()
        await gone.wait()
        call.resume_reading()
        await call.peer_gone()
        call.close()

    proxied = await start_proxied(script)
    async with proxied.client() as client:
        client.writer.write(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n" + 50 * MEGABYTE)
        await proxied.until("requests_in_flight", 1)
        (exchange,) = proxied.proxy._listeners[0]._exchanges.values()
        async with asyncio.timeout(DEADLINE_SECONDS):
            while exchange._upstream is None or exchange._upstream.is_writable:  # noqa: ASYNC110 - no event
                await asyncio.sleep(0)
        is_full.set()
        try:
            got = await client.reply()
        finally:
            client.writer.transport.abort()  # what was not sent is never sent
    assert (got.status, got.body if body else None) == (status, body)
    gone.set()
    await proxied.one()


async def test_after_an_early_answer_the_connection_goes_on(start_proxied: StartProxied) -> None:
    """A client that sends the rest of a refused body can go on with the connection."""

    async def refuse(call: Call) -> None:
        await call.some()
        await call.send(reply(b"no", status="401 Unauthorized"))
        await call.peer_gone()
        call.close()

    proxied = await start_proxied(in_turn(refuse, always(reply(b"x"))))
    async with proxied.client() as client:
        await client.send(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc")
        assert (await client.reply()).code == 401
        await client.send(b"def", request("/b"))
        assert (await client.reply()).body == b"x"
    outcomes = sorted(labels["code"] for labels in await proxied.observed(2))
    assert outcomes == ["200", "401"]


async def test_a_reply_that_streams_while_the_body_comes(start_proxied: StartProxied) -> None:
    """Both ways flow at once: what the server says while the body is being sent arrives, and the body too."""
    heard = asyncio.Event()

    async def script(call: Call) -> None:
        await call.some()
        await call.send(head(CHUNKED), chunk(b"first"))
        got = await call.some()
        while b"rest" not in got:
            got += await call.some()
        heard.set()
        await call.send(chunk(b"second"), LAST_CHUNK)
        call.close()

    proxied = await start_proxied(script)
    async with proxied.client() as client:
        await client.send(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nstart")
        await client.head()
        assert await client.chunk() == b"first"
        await client.send(b"rest")
        assert await client.chunk() == b"second"
        assert heard.is_set()
    assert await proxied.one() == OTHER


async def test_a_body_that_is_too_short_is_not_ended(start_proxied: StartProxied) -> None:
    """A client that closes before its body is whole leaves the server with a broken request, not a short one."""
    got = b""

    async def script(call: Call) -> None:
        nonlocal got
        while piece := await call.some():
            got += piece
        call.close()

    proxied = await start_proxied(script)
    async with proxied.client() as client:
        await client.send(b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", chunk(b"abc"))
        await proxied.until("requests_in_flight", 1)
    await proxied.upstream.idle()
    assert got in (b"", chunk(b"abc"))
    assert await proxied.one() == {**OTHER, "outcome": "client_disconnect", "code": "none"}


async def test_a_broken_body_is_told_to_the_client(start_proxied: StartProxied) -> None:
    """A chunk that breaks its framing after the start is answered 400 while the client is there."""

    async def script(call: Call) -> None:
        while await call.some():
            pass
        call.close()

    proxied = await start_proxied(script)
    async with proxied.client() as client:
        await client.send(b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", chunk(b"abc"))
        await proxied.until("requests_in_flight", 1)
        await client.send(b"nonsense\r\n")
        assert (await client.reply()).code == 400
        assert await client.closed() == b""
    assert await proxied.one() == {**OTHER, "outcome": "client_error", "code": "400"}


async def test_a_cut_reply_to_an_old_client_is_a_reset(start_proxied: StartProxied) -> None:
    """HTTP/1.0 has no framing: a reply that broke off ends with a reset, not as if it were whole."""

    async def script(call: Call) -> None:
        await call.send(head(CHUNKED), chunk(b"half"))
        go.set()
        await done.wait()
        call.close()

    go, done = asyncio.Event(), asyncio.Event()
    proxied = await start_proxied(script)
    async with proxied.client() as client:
        await client.send(b"GET /a HTTP/1.0\r\n\r\n")
        await client.head()
        await client.exactly(b"half")
        done.set()
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(client.reader.read(), DEADLINE_SECONDS)
    assert await proxied.one() == {**OTHER, "outcome": "stream_error"}


async def test_stopping_ends_what_runs(start_proxied: StartProxied) -> None:
    """A stream that still runs when the proxy stops is cut, not ended as if it were whole."""
    proxied = await start_proxied(then_silent(head(EVENT_STREAM, CHUNKED), chunk(token())))
    async with proxied.client() as client:
        await client.send(request(body=ask_stream()))
        reading = asyncio.ensure_future(client.reply())
        await proxied.until("stream_chunks_total", 1)
        await proxied.proxy.close()
        with pytest.raises(BrokenReply):
            await reading
    assert len(await proxied.observed()) == 1


async def test_a_large_piece_is_parsed_to_its_end(start_proxied: StartProxied) -> None:
    """A reply that comes at once is parsed in parts, the last ones when its client has left: each token counts."""
    events = b"".join((*(token(f"{number}") for number in range(3000)), finish(), usage(), DONE))
    proxied = await start_proxied(always(reply(events, EVENT_STREAM)))
    async with proxied.client() as client:
        await client.send(request(body=ask_stream()))
        assert (await client.reply()).body == events
    assert await proxied.one() == STREAM
    assert proxied.total("stream_chunks_total") == 3000
    assert proxied.total("output_tokens_total") == 3


async def test_other_connections_have_their_turn_while_a_reply_is_parsed(start_proxied: StartProxied) -> None:
    """Between two parts of a reply that is slow to parse another request is served."""
    lines = gzip.compress(b"x\n" * 100_000)
    fields = ("Content-Type: application/x-ndjson", "Content-Encoding: gzip")
    longest = [0.0]

    async def script(call: Call) -> None:
        await call.body()
        await call.send(reply(lines, *fields))

    async def watch() -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            await asyncio.sleep(0)
            longest[0] = max(longest[0], loop.time() - began)

    proxied = await start_proxied(script)
    watching = asyncio.ensure_future(watch())
    async with proxied.client() as client:
        began = asyncio.get_running_loop().time()
        await client.send(request("/api/chat", body=b"{}"))
        assert (await client.reply()).body == lines
        await proxied.observed(1)
        took = asyncio.get_running_loop().time() - began
    watching.cancel()
    assert longest[0] < took / 4
    assert proxied.value("proxy_parse_errors_total", api="ollama", reason="json") == 1
