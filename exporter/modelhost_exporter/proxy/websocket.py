"""Relaying WebSockets message by message: both sides see the other's messages, pings and close codes."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import WSMsgType, hdrs, web

from modelhost_exporter.proxy.failures import CLIENT_ERROR, SERVER_ERROR, Failure, failure_of
from modelhost_exporter.proxy.headers import as_multidict, for_upstream, tokens

if TYPE_CHECKING:
    from collections.abc import Mapping

    from yarl import URL

    from modelhost_exporter.requests.observation import Outcome

PROTOCOL = "websocket"
_VERSION = "13"
_KEY_BYTES = 16
_BAD_GATEWAY = 502
MAX_MESSAGE_BYTES = 32 << 20
"""A message is relayed whole; a longer one ends both connections with code 1009."""
_HANDSHAKE = (
    hdrs.SEC_WEBSOCKET_KEY,
    hdrs.SEC_WEBSOCKET_VERSION,
    hdrs.SEC_WEBSOCKET_EXTENSIONS,
    hdrs.SEC_WEBSOCKET_PROTOCOL,
    hdrs.SEC_WEBSOCKET_ACCEPT,
)

Side = aiohttp.ClientWebSocketResponse | web.WebSocketResponse


def is_websocket(request: web.BaseRequest) -> bool:
    """Tell whether a request wants to become a WebSocket (RFC 6455, section 4.1)."""
    headers = request.headers
    return (
        hdrs.UPGRADE in headers
        and request.method == hdrs.METH_GET
        and PROTOCOL in tokens(headers, hdrs.UPGRADE)
        and "upgrade" in tokens(headers, hdrs.CONNECTION)
    )


def is_proper(request: web.BaseRequest) -> bool:
    """Tell whether a handshake can be answered: the version that there is, and a key of 16 bytes."""
    try:
        key = base64.b64decode(request.headers.get(hdrs.SEC_WEBSOCKET_KEY, ""), validate=True)
    except ValueError:
        return False
    return len(key) == _KEY_BYTES and request.headers.get(hdrs.SEC_WEBSOCKET_VERSION, "") == _VERSION


async def open_upstream(
    session: aiohttp.ClientSession, url: URL, request: web.BaseRequest
) -> aiohttp.ClientWebSocketResponse:
    """Open the upstream's side as the client asked for it; Failure when that cannot be, which quotes a refusal."""
    headers = as_multidict(for_upstream(request.raw_headers, request.headers))
    for name in _HANDSHAKE:
        headers.popall(name, None)
    protocols = tuple(
        name.strip() for line in request.headers.getall(hdrs.SEC_WEBSOCKET_PROTOCOL, ()) for name in line.split(",")
    )
    try:
        return await session.ws_connect(
            url, headers=headers, protocols=protocols, autoping=False, autoclose=False, max_msg_size=MAX_MESSAGE_BYTES
        )
    except aiohttp.WSServerHandshakeError as refusal:
        refused = refusal.status >= CLIENT_ERROR
        outcome: Outcome = "client_error" if refused and refusal.status < SERVER_ERROR else "server_error"
        code = refusal.status if refused else _BAD_GATEWAY
        raise Failure(outcome, code, "the model server rejected the WebSocket handshake") from refusal
    except Exception as error:
        failure = failure_of(error)
        if failure is None:
            raise
        raise failure from error


async def relay(request: web.BaseRequest, upstream: aiohttp.ClientWebSocketResponse) -> web.WebSocketResponse:
    """Open the client's side and pass messages on until one side closes."""
    try:
        chosen = (upstream.protocol,) if upstream.protocol else ()
        client = web.WebSocketResponse(
            protocols=chosen, autoping=False, autoclose=False, max_msg_size=MAX_MESSAGE_BYTES
        )
        await client.prepare(request)
        await _both_ways(client, upstream)
        return client
    finally:
        await upstream.close()


async def _both_ways(client: Side, upstream: Side) -> None:
    """Pass messages on until either side is done."""
    ways = {asyncio.ensure_future(_pass_on(client, upstream)), asyncio.ensure_future(_pass_on(upstream, client))}
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


async def _pass_on(source: Side, sink: Side) -> None:
    """Pass one side's messages on to the other, and at the end its close code, which answers it too."""
    send: Mapping[WSMsgType, object] = {
        WSMsgType.TEXT: sink.send_str,
        WSMsgType.BINARY: sink.send_bytes,
        WSMsgType.PING: sink.ping,
        WSMsgType.PONG: sink.pong,
    }
    while True:
        message = await source.receive()
        if message.type in send:
            await send[message.type](message.data)  # type: ignore[operator] # each takes what its type carries
            await asyncio.sleep(0)  # neither waits where many short messages came at once: others have their turn
        elif message.type is WSMsgType.CLOSE:
            code = message.data or aiohttp.WSCloseCode.OK
            await sink.close(code=code, message=(message.extra or "").encode())
            await source.close(code=code)
            return
        elif message.type is WSMsgType.CLOSING:  # the other way has read the end and is passing it on
            await asyncio.get_running_loop().create_future()
        else:  # closed, or broken
            await sink.close(code=aiohttp.WSCloseCode.GOING_AWAY)
            return
