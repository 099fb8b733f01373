"""aiohttp and http.client send the same requests to the server itself and through the proxy, and get the same."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import json
from collections.abc import Awaitable, Callable
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import aiohttp
import pytest

from tests.proxy.upstream import CHUNKED, DEADLINE_SECONDS, LAST_CHUNK, Call, chunk, head, reply

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from tests.proxy.conftest import StartProxied

DATE = "Date: Thu, 01 Jan 2026 00:00:00 GMT"
LARGE = bytes(range(256)) * 4096
TO_UPSTREAM = {"host", "connection", "content-length", "transfer-encoding"}
"""Host is the server's own; how a body is framed is up to each connection."""
TO_CLIENT = {"connection", "content-length", "transfer-encoding", "keep-alive"}


SendAll = Callable[[int], Awaitable["list[Got]"]]


class Ask(NamedTuple):
    """A request as a library takes it."""

    method: str
    target: str
    headers: Mapping[str, str] = MappingProxyType({})
    body: bytes = b""
    pieces: int = 0
    """How many pieces the body is sent in, chunked; 0 with its length."""


class Got(NamedTuple):
    """A response as a library returns it."""

    status: int
    reason: str | None
    headers: list[tuple[str, str]]
    body: bytes


ASKS = [
    Ask("GET", "/echo?a=b&c=%20d"),
    Ask("GET", "/echo", {"X-Title": "caf\xe9", "Authorization": "Bearer k", "Accept-Encoding": "gzip, br"}),
    Ask("HEAD", "/echo"),
    Ask("OPTIONS", "/echo"),
    Ask("POST", "/echo", {"Content-Type": "application/json"}, b'{"model":"m"}'),
    Ask("POST", "/echo", {"Content-Type": "application/octet-stream"}, LARGE),
    Ask("POST", "/echo", {}, LARGE, pieces=7),
    Ask("POST", "/echo", {}, b"", pieces=1),
    Ask("PUT", "/echo", {"Content-Length": "0"}),
    Ask("PATCH", "/echo", {}, b"p"),
    Ask("DELETE", "/echo", {}, b"d"),
    Ask("GET", "/chunks"),
    Ask("GET", "/close"),
    Ask("GET", "/gzip", {"Accept-Encoding": "gzip"}),
    Ask("GET", "/empty"),
    Ask("GET", "/not-modified", {"If-None-Match": '"a"'}),
    Ask("HEAD", "/large"),
    Ask("GET", "/large"),
    Ask("GET", "/redirect"),
    Ask("POST", "/error", {}, b"{}"),
    Ask("GET", "/fields"),
    Ask("GET", "/early-hints"),  # the last: http.client takes an interim response for the response
]


async def answer(call: Call) -> None:
    """Respond in each of the ways that servers have."""
    body = await call.body()
    kind = call.target.split("?")[0][1:]
    if kind == "echo":
        fields = [[name, value] for name, value in call.fields if name.lower() not in TO_UPSTREAM]
        told = json.dumps([call.line, fields, body.decode("latin-1")]).encode()
        answers = reply(b"" if call.line.startswith("HEAD") else told, DATE, "Content-Type: application/json")
    elif kind == "chunks":
        answers = head(DATE, CHUNKED) + b"".join(map(chunk, (b"one", b"two", LARGE))) + LAST_CHUNK
    elif kind == "close":
        answers = head(DATE, "Connection: close") + LARGE
    elif kind == "gzip":
        answers = reply(gzip.compress(b"text", mtime=0), DATE, "Content-Encoding: gzip")
    elif kind == "large":
        answers = head(DATE, f"Content-Length: {len(LARGE)}") + (b"" if call.line.startswith("HEAD") else LARGE)
    else:
        answers = OTHERS[kind]
    await call.send(answers)
    if kind == "close":
        call.close()


OTHERS = {
    "empty": head(DATE, status="204 No Content"),
    "not-modified": head(DATE, 'ETag: "a"', status="304 Not Modified"),
    "redirect": reply(b"there", DATE, "Location: /elsewhere", status="302 Found"),
    "error": reply(b'{"error":"x"}', DATE, "Retry-After: 1", status="429 Slow Down Please"),
    "early-hints": head("Link: </a>", status="103 Early Hints") + reply(b"x", DATE),
    "fields": reply(b"x", DATE, "Set-Cookie: a=b", "Set-Cookie: c=d", "X-A: caf\xe9", "x-b:", "X-C: a  b"),
}


def _end_to_end(headers: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers if name.lower() not in TO_CLIENT]


def _pieces(ask: Ask) -> Iterator[bytes]:
    size = len(ask.body) // ask.pieces + 1
    for start in range(0, len(ask.body), size):
        yield ask.body[start : start + size]


def by_http_client(port: int) -> list[Got]:
    """Send all requests with http.client, on one connection as far as it is kept."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_SECONDS)
    got = []
    for ask in ASKS:
        body = _pieces(ask) if ask.pieces else ask.body or None
        connection.request(ask.method, ask.target, body, dict(ask.headers), encode_chunked=bool(ask.pieces))
        response = connection.getresponse()
        got.append(Got(response.status, response.reason, _end_to_end(response.getheaders()), response.read()))
    connection.close()
    return got


async def _later(ask: Ask) -> AsyncIterator[bytes]:
    for piece in _pieces(ask):
        yield piece
        await asyncio.sleep(0)


async def by_aiohttp(port: int) -> list[Got]:
    """Send all requests with aiohttp."""
    got = []
    timeout = aiohttp.ClientTimeout(total=DEADLINE_SECONDS)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", timeout=timeout, auto_decompress=False) as session:
        for ask in ASKS:
            data = _later(ask) if ask.pieces else ask.body or None
            sending = session.request(ask.method, ask.target, data=data, headers=ask.headers, allow_redirects=False)
            async with sending as response:
                headers = _end_to_end(list(response.headers.items()))
                got.append(Got(response.status, response.reason, headers, await response.read()))
    return got


async def _in_thread(port: int) -> list[Got]:
    return await asyncio.to_thread(by_http_client, port)


@pytest.mark.parametrize("send_all", [by_aiohttp, _in_thread], ids=["aiohttp", "http.client"])
async def test_responses_are_the_same(start_proxied: StartProxied, send_all: SendAll) -> None:
    """Status, reason, headers and body of each, and what the server received, which some of them echo."""
    proxied = await start_proxied(answer)
    direct = await send_all(proxied.upstream.port)
    through = await send_all(proxied.port)
    for ask, expected, got in zip(ASKS, direct, through, strict=True):
        assert got == expected, ask
    await proxied.observed(len(ASKS))
