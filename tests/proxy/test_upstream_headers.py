"""The upstream's key comes from the configuration: on every request, and instead of what the client sends."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.config import model as configuration
from modelhost_exporter.config.http_url import ServerUrl
from modelhost_exporter.config.parsing import ConfigError
from tests.proxy import frames
from tests.proxy.client import Client, request
from tests.proxy.dialects import DONE, EVENT_STREAM, ask, ask_stream, token
from tests.proxy.frames import UPGRADE
from tests.proxy.upstream import CHUNKED, Call, Upstream, always, chunk, head, refusing_port, reply

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.proxy.conftest import StartProxied

PATH = "/v1/chat/completions"
KEY = {"Authorization": "Bearer UPSTREAM", "X-Org": "a"}
CLIENT = ("authorization: Bearer CLIENT", "AUTHORIZATION: Basic Q0xJRU5U", "x-org: b", "X-Other: kept")


def check(call: Call, expected: Mapping[str, str] = KEY) -> None:
    """Check that a request has the configured values, each once, and none of the client's."""
    for name, value in expected.items():
        assert call.values(name) == [value]
    assert b"CLIENT" not in call.head
    assert call.values("X-Other") in ([], ["kept"])


async def test_each_request_has_the_configured_headers(start_proxied: StartProxied) -> None:
    """Whether its head is parsed, repeated, or sent with another length, and whether the client has a key or not."""
    proxied = await start_proxied(always(reply(b"{}")), upstream_headers=KEY)
    async with proxied.client() as client:
        for fields in ((), CLIENT, CLIENT[:1], CLIENT[:1], ()):
            for body in (ask(), ask() + b"  ", ask(), None):
                await client.send(request(PATH, body, *fields))
                assert (await client.reply()).code == 200
    for call in proxied.upstream.calls:
        check(call)
    assert len(proxied.upstream.calls) == 20


async def test_clients_do_not_share_repeated_heads(start_proxied: StartProxied) -> None:
    """Two clients whose heads are alike but for a header of their own reach the upstream with their own one."""
    proxied = await start_proxied(always(reply(b"{}")), upstream_headers={"X-Org": "a"})
    async with proxied.client() as one, proxied.client() as other:
        for _ in range(3):
            for client, key in ((one, "1"), (other, "2")):
                await client.send(request(PATH, ask(), f"Authorization: {key}"))
                assert (await client.reply()).code == 200
    assert [call.values("Authorization") for call in proxied.upstream.calls] == [["1"], ["2"]] * 3


async def test_a_client_cannot_remove_them(start_proxied: StartProxied) -> None:
    """Connection lists headers of the client's own connection; those of the configuration are not among them."""
    proxied = await start_proxied(always(reply(b"{}")), upstream_headers=KEY)
    async with proxied.client() as client:
        await client.send(request(PATH, ask(), *CLIENT, "Connection: authorization, x-org, keep-alive"))
        assert (await client.reply()).code == 200
    check(proxied.upstream.calls[0])


async def test_a_changed_and_a_chunked_body_have_them(start_proxied: StartProxied) -> None:
    """Also a request that is changed to request token usage, and one without a length."""
    answer = head(EVENT_STREAM, CHUNKED) + chunk(token("a")) + chunk(DONE) + b"0\r\n\r\n"
    proxied = await start_proxied(always(answer), upstream_headers=KEY, include_usage="on")
    async with proxied.client() as client:
        for body in (ask_stream(), ask_stream()):
            await client.send(request(PATH, body, *CLIENT))
            assert (await client.reply()).code == 200
        chunked = request("/v1/chat/completions", None, *CLIENT, CHUNKED, method="POST")
        await client.send(chunked, chunk(ask()), b"0\r\n\r\n")
        assert (await client.reply()).code == 200
    assert b"include_usage" in await proxied.upstream.calls[1].body()
    for call in proxied.upstream.calls:
        check(call)


async def test_a_handshake_has_them(start_proxied: StartProxied) -> None:
    """A WebSocket is opened with the upstream's key."""

    async def script(call: Call) -> None:
        await call.send(frames.accept(call))
        call.close()

    proxied = await start_proxied(script, upstream_headers=KEY)
    async with proxied.client() as client:
        await client.send(request("/v1/realtime", None, *UPGRADE, *CLIENT))
        assert (await client.head()).code == 101
        await client.closed()
    check(proxied.upstream.calls[0])


async def test_a_request_that_is_sent_again_has_them(start_proxied: StartProxied) -> None:
    """A kept connection that was closed under a request: the second one has the key as well."""
    seen = 0

    async def script(call: Call) -> None:
        nonlocal seen
        seen += 1
        if seen == 2:
            call.reset()
        else:
            await call.send(reply(b"{}"))

    proxied = await start_proxied(script, upstream_headers=KEY)
    async with proxied.client() as client:
        for _ in range(2):
            await client.send(request(PATH, ask(), *CLIENT))
            assert (await client.reply()).code == 200
    assert seen == 3
    for call in proxied.upstream.calls:
        check(call)


async def test_every_replica_receives_them(start_proxied: StartProxied) -> None:
    """Requests go to several upstreams, also after one that cannot be reached."""
    proxied = await start_proxied(always(reply(b"{}")), upstream_headers=KEY)
    async with Upstream(always(reply(b"{}"))) as second:
        with refusing_port() as dead:
            settings = proxied.proxy._listeners[0].context.settings
            urls = [
                ServerUrl.from_text(f"http://127.0.0.1:{port}") for port in (dead, proxied.upstream.port, second.port)
            ]
            port = await proxied.proxy.listen(replace(settings, name="several", upstreams=tuple(urls)))
            async with Client(port) as client:
                for _ in range(6):
                    await client.send(request(PATH, ask(), *CLIENT))
                    assert (await client.reply()).code == 200
        calls = [*proxied.upstream.calls, *second.calls]
    assert second.calls
    for call in calls:
        check(call)


async def test_a_reload_changes_them_on_open_connections(start_proxied: StartProxied) -> None:
    """A client that repeats its head on the same connection gets the new key."""
    proxied = await start_proxied(always(reply(b"{}")), upstream_headers=KEY)
    settings = proxied.proxy._listeners[0].context.settings
    async with proxied.client() as client:
        for headers in (KEY, {"Authorization": "Bearer NEW", "X-Org": "c"}, {"Authorization": "Bearer NEWER"}):
            change = await proxied.proxy.prepare([replace(settings, upstream_headers=headers)])
            proxied.proxy.put_in_force(change)
            for _ in range(2):
                await client.send(request(PATH, ask(), *CLIENT[:1]))
                assert (await client.reply()).code == 200
                check(proxied.upstream.calls[-1], headers)
    await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("headers", "problem"),
    [
        ('{Host: "SECRET"}', "upstream_headers: 'host' frames a request or belongs to one connection: remove it"),
        ('{content-length: "5"}', "upstream_headers: 'content-length' frames a request"),
        ("{Transfer-Encoding: chunked}", "upstream_headers: 'transfer-encoding' frames"),
        ("{Connection: close}", "upstream_headers: 'connection' frames"),
        ("{Sec-WebSocket-Key: SECRET}", "upstream_headers: 'sec-websocket-key' frames"),
        ("{Expect: 100-continue}", "upstream_headers: 'expect' frames"),
        ("{X-Key: SECRET, x-key: SECRET}", "upstream_headers: 'x-key' is given twice"),
        ('{X-Key: "a\\r\\nHost: SECRET"}', "upstream_headers: 'X-Key' is not a header field of plain text"),
        ('{"X Key: SECRET": a}', "upstream_headers: '***' is not a header field of plain text"),
        ("{X-Key: SECRETÄ}", "upstream_headers: 'X-Key' is not a header field of plain text"),
        ("{X-Key: [SECRET]}", "upstream_headers.X-Key: must be text"),
    ],
)
def test_headers_that_cannot_be_sent_are_errors(headers: str, problem: str) -> None:
    """Framing, what belongs to one connection, and what is no header; no message has a value."""
    import yaml  # noqa: PLC0415 - as in the program

    text = f"servers: [{{name: a, url: 'http://h:1', proxy: {{listen: ':1', upstream_headers: {headers}}}}}]"
    with pytest.raises(ConfigError) as caught:
        configuration.read(yaml.safe_load(text))
    assert str(caught.value).startswith(f"servers[0].proxy{'.' if '.X-Key' in problem else ': '}{problem}")
    assert "SECRET" not in str(caught.value)


def test_no_representation_shows_a_value() -> None:
    """What is logged of the settings has no key."""
    raw = {"servers": [{"name": "a", "url": "http://h:1", "proxy": {"listen": ":1", "upstream_headers": KEY}}]}
    config = configuration.read(raw)
    assert config.proxied[0].upstream_headers == KEY
    assert "UPSTREAM" not in repr(config) + repr(config.proxied)
