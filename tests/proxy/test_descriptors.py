"""What clients get, and what is counted, while the proxy has no file descriptor to spare."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.proxy.client import request
from tests.proxy.dialects import BLOCKING, ask
from tests.proxy.frames import UPGRADE
from tests.proxy.upstream import always, reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.proxy.conftest import Proxied, StartProxied

NO_ROOM = b"the proxy is out of file descriptors\r\n"
RELAYED = {"model": "unknown", "operation": "other", "stream": "true", "outcome": "proxy_error", "code": "503"}


@pytest.fixture
def run_out(monkeypatch: pytest.MonkeyPatch) -> Callable[[Proxied], None]:
    """Give a function that leaves a proxy no descriptor."""

    def run_out(proxied: Proxied) -> None:
        descriptors = proxied.proxy.connections.descriptors
        monkeypatch.setattr(descriptors, "_soft", 0)
        monkeypatch.setattr(descriptors, "_reserve", 0)

    return run_out


async def test_a_request_is_answered_as_the_fault_of_the_proxy(
    start_proxied: StartProxied, run_out: Callable[[Proxied], None], caplog: pytest.LogCaptureFixture
) -> None:
    """503 in the dialect's shape, without a connection to the server, and the client's connection goes on."""
    proxied = await start_proxied(always(reply(b"{}")))
    async with proxied.client() as client:
        run_out(proxied)
        for _ in range(2):
            await client.send(request(body=ask()))
            got = await client.reply()
            assert got.code == 503
            assert json.loads(got.body)["error"]["type"] == "proxy_error"
    assert await proxied.observed(2) == [{**BLOCKING, "outcome": "proxy_error", "code": "503"}] * 2
    assert [record.getMessage() for record in caplog.records] == ["file descriptors are short"]
    caplog.clear()


async def test_a_websocket_likewise(
    start_proxied: StartProxied, run_out: Callable[[Proxied], None], caplog: pytest.LogCaptureFixture
) -> None:
    """Before the server is asked for one."""
    proxied = await start_proxied(always(reply(b"{}")))
    async with proxied.client() as client:
        run_out(proxied)
        await client.send(request("/ws", None, *UPGRADE))
        assert (await client.reply()).code == 503
    assert await proxied.one() == RELAYED
    caplog.clear()


async def test_a_new_connection_takes_the_place_of_an_idle_one(
    start_proxied: StartProxied, run_out: Callable[[Proxied], None], caplog: pytest.LogCaptureFixture
) -> None:
    """The one that is open longest; where none is idle the new one is refused with the reason. Both are counted."""
    proxied = await start_proxied(always(reply(b"{}")))
    async with proxied.client() as idle, proxied.client() as other:
        for client in (idle, other):
            await client.send(request("/health"))
            assert (await client.reply()).code == 200
        run_out(proxied)
        async with proxied.client():
            assert await idle.closed() == b""
            assert proxied.value("proxy_connections_closed_total", reason="descriptors") == 1
        async with proxied.client():
            assert await other.closed() == b""
    async with proxied.client() as refused:
        assert (await refused.reply()).body == NO_ROOM
    assert proxied.total("proxy_connections_closed_total") >= 3
    caplog.clear()
