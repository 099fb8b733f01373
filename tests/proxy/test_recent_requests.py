"""Requests that pass a real proxy, as /api/requests shows them."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from modelhost_exporter.live.recent_requests import RequestQuery
from modelhost_exporter.proxy.server import ProxyEnvironment
from modelhost_exporter.requests.recent import RecentRequests
from modelhost_exporter.requests.running import RunningRequests
from tests.proxy.client import request
from tests.proxy.dialects import DONE, EVENT_STREAM, ask, ask_stream, completion, finish, stream, token, usage
from tests.proxy.upstream import CHUNKED, DEADLINE_SECONDS, LAST_CHUNK, Call, always, chunk, head

if TYPE_CHECKING:
    from tests.proxy.conftest import Proxied, StartProxied
    from tests.proxy.upstream import Script

NOTHING = dict.fromkeys(
    *[
        (
            "outcome",
            "code",
            "timeToFirstToken",
            "inputTokens",
            "outputTokens",
            "tokensPerSecond",
            "finishReason",
            "client",
        )
    ]
)


class Kept:
    """What is kept of the requests of one proxy."""

    def __init__(self) -> None:
        self.running = RunningRequests()
        self.recent = RecentRequests()

    async def start(self, start_proxied: StartProxied, script: Script, **settings: Any) -> Proxied:
        """Start a proxy in front of a scripted server."""
        environment = ProxyEnvironment(running=self.running)
        return await start_proxied(script, environment=environment, listeners=(self.recent.add,), **settings)

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows without their times."""
        rows: list[dict[str, Any]] = json.loads(RequestQuery().encoded(self.running, self.recent))["requests"]
        return [{key: value for key, value in row.items() if key not in ("time", "duration")} for row in rows]


@pytest.fixture
def kept() -> Kept:
    """Return what is kept of requests."""
    return Kept()


async def test_a_stream_is_in_progress_until_its_end(start_proxied: StartProxied, kept: Kept) -> None:
    """It waits, then streams; what the server counted is known afterwards."""
    received, wanted, read = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def script(call: Call) -> None:
        await call.body()
        received.set()
        await asyncio.wait_for(wanted.wait(), DEADLINE_SECONDS)
        await call.send(head(EVENT_STREAM, CHUNKED), chunk(token("a")))
        await asyncio.wait_for(read.wait(), DEADLINE_SECONDS)
        await call.send(*map(chunk, (token("b"), finish("length"), usage(), DONE)), LAST_CHUNK)

    proxied = await kept.start(start_proxied, script)
    place = {"server": "it", "operation": "chat"}
    async with proxied.client() as client:
        await client.send(request(body=ask_stream()))
        await asyncio.wait_for(received.wait(), DEADLINE_SECONDS)
        assert kept.rows() == [{**place, "model": "other", "state": "waiting", **NOTHING}]
        wanted.set()
        await client.head()
        await client.chunk()
        assert kept.rows() == [{**place, "model": "m", "state": "streaming", **NOTHING}]
        read.set()
        await proxied.one()
    (row,) = kept.rows()
    assert row.pop("timeToFirstToken") > 0
    assert row.pop("tokensPerSecond") > 0
    assert row == {
        **place,
        "model": "m",
        "state": "finished",
        "outcome": "ok",
        "code": "200",
        "inputTokens": 7,
        "outputTokens": 3,
        "finishReason": "length",
        "client": None,
    }


async def test_a_client_that_leaves_ends_its_request(start_proxied: StartProxied, kept: Kept) -> None:
    """It is no longer in progress, and kept with its outcome."""
    received = asyncio.Event()

    async def script(call: Call) -> None:
        await call.body()
        received.set()
        await call.peer_gone()

    proxied = await kept.start(start_proxied, script)
    async with proxied.client() as client:
        await client.send(request(body=ask()))
        await asyncio.wait_for(received.wait(), DEADLINE_SECONDS)
        assert [row["state"] for row in kept.rows()] == ["blocking"]
    await proxied.one()
    assert [(row["state"], row["outcome"], row["code"]) for row in kept.rows()] == [
        ("finished", "client_disconnect", "none")
    ]


async def test_a_request_to_nobody_is_kept(start_proxied: StartProxied, dead_port: int) -> None:
    """With the status that the proxy itself sent."""
    recent = RecentRequests()
    proxied = await start_proxied(always(completion()), port=dead_port, listeners=(recent.add,))
    async with proxied.client() as client:
        await client.send(request(body=ask()))
        await client.reply()
    await proxied.one()
    ((_, observed),) = recent.newest_first()
    assert (observed.outcome, observed.code) == ("upstream_unreachable", "502")


async def test_only_failures_are_kept_of_what_is_not_for_inference(start_proxied: StartProxied, kept: Kept) -> None:
    """A list of models that succeeds is not."""
    proxied = await kept.start(start_proxied, always(stream()))
    async with proxied.client() as client:
        await client.send(request("/v1/models", method="GET"))
        await client.reply()
    await proxied.one()
    assert kept.rows() == []


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        (b"ann@example.org", "ann@example.org"),
        (b"203.0.113.7, 10.0.0.1", "203.0.113.7, 10.0.0.1"),
        ("Zoë \u202eevil".encode(), "Zoë ?evil"),
        (b"\xff\x80", "\ufffd\ufffd"),
        (b"x" * 5000, "x" * 64),
        (b"", None),
        (None, None),
    ],
)
async def test_the_client_is_what_the_configured_header_says(
    start_proxied: StartProxied, kept: Kept, sent: bytes | None, shown: str | None
) -> None:
    """In progress and finished, at most 64 printable characters."""
    received, wanted = asyncio.Event(), asyncio.Event()

    async def script(call: Call) -> None:
        await call.body()
        received.set()
        await asyncio.wait_for(wanted.wait(), DEADLINE_SECONDS)
        await always(completion())(call)

    proxied = await kept.start(start_proxied, script, client_header="remote-user")
    async with proxied.client() as client:
        fields = () if sent is None else (f"Remote-User: {sent.decode('latin-1')}",)
        await client.send(request("/v1/chat/completions", ask(), *fields))
        await asyncio.wait_for(received.wait(), DEADLINE_SECONDS)
        assert [row["client"] for row in kept.rows()] == [shown]
        wanted.set()
        await client.reply()
    await proxied.one()
    assert [row["client"] for row in kept.rows()] == [shown]


async def test_no_header_is_kept_unless_one_is_configured(start_proxied: StartProxied, kept: Kept) -> None:
    """Whatever clients send."""
    proxied = await kept.start(start_proxied, always(completion()))
    async with proxied.client() as client:
        await client.send(request("/v1/chat/completions", ask(), "Remote-User: ann", "X-Forwarded-For: 1.2.3.4"))
        await client.reply()
    await proxied.one()
    assert [row["client"] for row in kept.rows()] == [None]
