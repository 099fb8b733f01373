"""Connections that are not read, on both event loops."""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import TYPE_CHECKING

import pytest
import uvloop

from modelhost_exporter.process.hangups import Hangups

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="EPOLLRDHUP is Linux's")
DEADLINE_SECONDS = 10


class Paused(asyncio.Protocol):
    """A connection that is never read."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Stop reading."""
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()


async def noticed(*, forgotten: bool) -> bool:
    """Return whether the end of a paused connection is noticed behind bytes that were not read."""
    hangups = Hangups()
    ours, theirs = socket.socketpair()
    transport, _ = await asyncio.get_running_loop().create_connection(Paused, sock=ours)
    end = asyncio.Event()
    hangups.watch(ours.fileno(), end.set)
    if forgotten:
        hangups.forget(ours.fileno())
    theirs.send(b"unread")
    await asyncio.sleep(0)
    assert not end.is_set()
    theirs.close()
    try:
        await asyncio.wait_for(end.wait(), 0.1 if forgotten else DEADLINE_SECONDS)
    except TimeoutError:
        return False
    finally:
        hangups.close()
        transport.abort()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    return True


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("forgotten", [False, True])
def test_the_end_of_a_paused_connection(loop: Callable[[], asyncio.AbstractEventLoop], *, forgotten: bool) -> None:
    """It is noticed although bytes before it were not read, unless the connection was forgotten."""
    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(noticed(forgotten=forgotten)) is not forgotten
