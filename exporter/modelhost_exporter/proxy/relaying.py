"""The server's reply on its way to the client: piece by piece as it comes, and read along after."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import HttpVersion11

from modelhost_exporter.process.error_frames import without_frames
from modelhost_exporter.proxy.failures import NOT_HTTP, Failure
from modelhost_exporter.proxy.relay import Relay, reset

if TYPE_CHECKING:
    from aiohttp import web

    from modelhost_exporter.dialects.usage_request import UsageFrameFilter
    from modelhost_exporter.proxy.account import Account
    from modelhost_exporter.proxy.upstream_call import UpstreamCall
    from modelhost_exporter.requests.observation import Outcome

_SUCCESS = 200


async def relay_reply(
    request: web.BaseRequest,
    call: UpstreamCall,
    account: Account,
    *,
    idle_timeout: float | None = None,
    usage_filter: UsageFrameFilter | None = None,
) -> Relay:
    """Pass a reply on, less what the filter takes out; raises Failure for one that cannot be."""
    arrived = perf_counter()
    reply = call.reply
    if reply.code < _SUCCESS:  # 101: nobody asked for another protocol
        raise Failure("server_error", 502, NOT_HTTP)
    try:
        relay = Relay(request, reply, same_length=usage_filter is None)
    except ValueError as error:
        raise Failure("server_error", 502, NOT_HTTP) from error
    account.replied(reply)
    if idle_timeout is not None:
        call.without_clock()
    try:
        if not call.content.is_eof() and not call.content.total_bytes:
            relay.start()
        account.code = str(reply.code)
        account.spent(perf_counter() - arrived)
        if await _pass_on(call, relay, account, idle_timeout, usage_filter):
            account.passed_whole()
        else:
            cut_off(request)
    except ConnectionError:  # the client's: those of the upstream are caught where they are read
        return relay
    return relay


async def _pass_on(
    call: UpstreamCall,
    relay: Relay,
    account: Account,
    idle_timeout: float | None,
    usage_filter: UsageFrameFilter | None,
) -> bool:
    """Pass the body on; False when it broke off."""
    content = call.content
    over = False
    while not over:
        try:
            if content.is_eof() and content.exception() is None:  # all of the rest is here
                piece = content.read_nowait(-1)
            else:
                piece = await (
                    content.readany() if idle_timeout is None else asyncio.wait_for(content.readany(), idle_timeout)
                )
        except (aiohttp.ClientError, OSError) as error:
            account.outcome = _outcome(call, without_frames(error))
            _pass_rest_on(call, relay, account, usage_filter)
            return False
        at = perf_counter()
        over = content.at_eof() and content.exception() is None
        out = piece if usage_filter is None else usage_filter.feed(piece)
        if over:
            relay.end(out if usage_filter is None else out + usage_filter.flush())
        elif out:
            relay.write(out)
        if relay.full:
            await relay.room()
        account.spent(perf_counter() - at)
        if over:
            account.end()
        account.saw(piece, at)
        while account.is_behind and not over:
            await asyncio.sleep(0)
            account.catch_up()
    return True


def _pass_rest_on(call: UpstreamCall, relay: Relay, account: Account, usage_filter: UsageFrameFilter | None) -> None:
    """Pass on what had come of a reply when it broke off; its last words may say why."""
    at = perf_counter()
    rest = call.rest()
    relay.write(rest if usage_filter is None else usage_filter.feed(rest) + usage_filter.flush())
    account.saw(rest, at)


def _outcome(call: UpstreamCall, error: BaseException) -> Outcome:
    """Return what became of a request whose reply broke off."""
    if call.broken:
        return "client_error"
    return "timeout" if isinstance(error, TimeoutError) else "stream_error"


def cut_off(request: web.BaseRequest) -> None:
    """End the client's connection so that a reply that broke off is not taken for a whole one.

    Where the end of the connection would be the end of the reply (HTTP/1.0), only a reset says that it is broken.
    """
    transport = request.transport
    if transport is None or transport.is_closing():  # uvloop's socket may be another's by now
        return
    if request.version < HttpVersion11:
        reset(transport)
    else:
        transport.close()
