"""curl and node get the same bytes through the proxy as from the server itself."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from tests.proxy.dialects import DONE, EVENT_STREAM, JSON, ask_stream, finish, token, usage
from tests.proxy.upstream import CHUNKED, LAST_CHUNK, Call, chunk, head, reply
from tests.support.programs import DEADLINE_SECONDS, installed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.proxy.conftest import StartProxied

CHAT = "/v1/chat/completions"
EVENTS = (*(token(f"{number} ü") for number in range(50)), finish(), usage(), DONE)
LARGE = b"".join(b"%07d\n" % number for number in range(400_000))
"""3.2 MB, more than the proxy inspects."""
DATE = "Date: Thu, 01 Jan 2026 00:00:00 GMT"
"""Sent by the server, since the proxy adds it where it is missing (RFC 9110, 6.6.1)."""
_HOP = frozenset({"host", "connection", "expect"})

FETCH = """
const [url, body, limit] = process.argv.slice(1);
const abort = new AbortController();
const response = await fetch(url, {method: "POST", body, headers: {"Content-Type": "application/json"},
  signal: abort.signal});
const pieces = [];
let error = null;
try {
  let length = 0;
  for await (const piece of response.body) {
    pieces.push(piece);
    length += piece.length;
    if (limit && length >= limit) abort.abort();
  }
} catch (raised) {
  error = raised.name;
}
const headers = [...response.headers].filter(([name]) => !["connection", "keep-alive"].includes(name));
const received = Buffer.concat(pieces).toString("base64");
console.log(JSON.stringify({status: response.status, statusText: response.statusText, headers, error, received}));
"""


async def stream(call: Call) -> None:
    """Respond with a stream: chunked, or until the connection closes where the request is HTTP/1.0 (RFC 9112, 6.1)."""
    await call.body()
    if call.line.endswith("HTTP/1.0"):
        await call.send(head(EVENT_STREAM, DATE, "Connection: close"), *EVENTS)
        call.close()
        return
    await call.send(head(EVENT_STREAM, DATE, CHUNKED))
    for event in EVENTS:
        await call.send(chunk(event))
    await call.send(LAST_CHUNK)


async def stalled_stream(call: Call) -> None:
    """Begin a stream and wait until the client leaves."""
    await call.body()
    await call.send(head(EVENT_STREAM, DATE, CHUNKED), *map(chunk, EVENTS[:10]))
    await call.peer_gone()
    call.close()


async def echo(call: Call) -> None:
    """Send the body back as it came, after a 100 where one is expected."""
    if call.values("Expect"):
        await call.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = await call.body()
    framing = ",".join(call.values("Transfer-Encoding") or ["length"])
    await call.send(reply(body, JSON, DATE, f"X-Framing: {framing}"))


async def _run(*command: str, stdin: bytes | None = None) -> bytes:
    """Run a program and return what it printed; it must succeed."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *command, stdin=pipe if stdin is not None else asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe
    )
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            printed, errors = await process.communicate(stdin)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert (process.returncode, errors) == (0, b"")
    return printed


async def _curl(url: str, *options: str, stdin: bytes | None = None) -> tuple[bytes, bytes]:
    """Return the last head and the body that curl received."""
    printed = await _run(installed("curl"), "-q", "-sS", "-N", "-i", "--noproxy", "*", *options, url, stdin=stdin)
    while printed.startswith(b"HTTP/1.1 100"):
        printed = printed.partition(b"\r\n\r\n")[2]
    start, _, body = printed.partition(b"\r\n\r\n")
    return start, body


def _fields(call: Call) -> list[tuple[str, str]]:
    """Return the fields of a request that are not between two hops, nor the proxy's to respond to."""
    return [(name, value) for name, value in call.fields if name.lower() not in _HOP]


async def test_curl_with_http_1_0(start_proxied: StartProxied) -> None:
    """A stream has no chunks on HTTP/1.0: the same body, until the connection closes, and the fields are the same."""
    proxied = await start_proxied(stream)
    options = ("--http1.0", "-H", "Content-Type: application/json", "-d", ask_stream().decode())
    direct = await _curl(proxied.upstream.url + CHAT, *options)
    through = await _curl(f"http://127.0.0.1:{proxied.port}{CHAT}", *options)
    assert direct[1] == through[1] == b"".join(EVENTS)
    assert b"transfer-encoding" not in through[0].lower()
    assert b"text/event-stream" in through[0]
    assert _fields(proxied.upstream.calls[1]) == _fields(proxied.upstream.calls[0])
    assert (await proxied.one())["outcome"] == "ok"


async def test_curl_uploads_from_standard_input(start_proxied: StartProxied) -> None:
    """A body of unknown length (-T -) arrives in chunks and whole; the response is the same to the byte."""
    proxied = await start_proxied(echo)
    options = ("-X", "POST", "-T", "-", "-H", "Expect:")
    direct = await _curl(proxied.upstream.url + CHAT, *options, stdin=LARGE)
    through = await _curl(f"http://127.0.0.1:{proxied.port}{CHAT}", *options, stdin=LARGE)
    assert through == direct
    assert through[1] == LARGE
    assert b"X-Framing: chunked" in through[0]
    assert _fields(proxied.upstream.calls[1]) == _fields(proxied.upstream.calls[0])
    assert (await proxied.one())["outcome"] == "ok"


@pytest.mark.parametrize("options", [("--data-binary", "@{file}"), ("-X", "POST", "-T", "{file}")], ids=["data", "T"])
async def test_curl_that_waits_for_a_100(start_proxied: StartProxied, tmp_path: Path, options: tuple[str, ...]) -> None:
    """A large body is sent once the proxy has responded 100: curl would wait for longer than the test may take."""
    file = tmp_path / "body"
    file.write_bytes(LARGE)
    proxied = await start_proxied(echo)
    wait = ("--expect100-timeout", "60", "-H", "Expect: 100-continue", "-H", "Content-Type: application/json")
    arguments = (*wait, *(option.format(file=file) for option in options))
    direct = await _curl(proxied.upstream.url + CHAT, *arguments)
    through = await _curl(f"http://127.0.0.1:{proxied.port}{CHAT}", *arguments)
    assert through == direct
    assert through[1] == LARGE
    assert _fields(proxied.upstream.calls[1]) == _fields(proxied.upstream.calls[0])
    assert (await proxied.one())["outcome"] == "ok"


async def _fetch(url: str, *arguments: str) -> dict[str, object]:
    """Return what node's fetch received."""
    program = ("--input-type=module", "-e", FETCH)
    result: dict[str, object] = json.loads(await _run(installed("node"), *program, url, *arguments))
    return result


async def test_fetch_of_node_streams(start_proxied: StartProxied) -> None:
    """Status, fields and bytes are those of a direct call, and so is the request that the server received."""
    proxied = await start_proxied(stream)
    direct = await _fetch(proxied.upstream.url + CHAT, ask_stream().decode())
    assert await _fetch(f"http://127.0.0.1:{proxied.port}{CHAT}", ask_stream().decode()) == direct
    assert (direct["status"], direct["error"]) == (200, None)
    mine, theirs = proxied.upstream.calls[1], proxied.upstream.calls[0]
    assert _fields(mine) == _fields(theirs)
    assert await mine.body() == await theirs.body()
    labels = await proxied.one()
    assert (labels["model"], labels["stream"], labels["outcome"]) == ("m", "true", "ok")


async def test_fetch_of_node_that_is_aborted(start_proxied: StartProxied) -> None:
    """What was received until then is the same, the server's request ends with it, and the client has left."""
    proxied = await start_proxied(stalled_stream)
    arguments = (ask_stream().decode(), str(len(b"".join(EVENTS[:10]))))
    direct = await _fetch(proxied.upstream.url + CHAT, *arguments)
    assert await _fetch(f"http://127.0.0.1:{proxied.port}{CHAT}", *arguments) == direct
    assert direct["error"] == "AbortError"
    await proxied.upstream.idle()
    assert (await proxied.one())["outcome"] == "client_disconnect"
