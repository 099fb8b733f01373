"""The handshakes of a listener: run in threads, two at a time, with the context that is in force."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from modelhost_exporter import threads
from modelhost_exporter.config.parsing import ConfigError
from modelhost_exporter.logs.rate_limit import LineLimit
from modelhost_exporter.security.tls_connection import TlsConnection

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

log = logging.getLogger(__name__)

_AT_ONCE = 2
"""More would not finish earlier, and take the processor from what else runs."""


class TlsInForce(NamedTuple):
    """What a handshake needs."""

    context: ssl.SSLContext
    allowed_names: tuple[str, ...] = ()
    """The subject alternative names of which a client certificate must have one; () allows any."""


class TlsListener:
    """All handshakes of a listener."""

    def __init__(self, in_force: Callable[[], TlsInForce | None], count_failure: Callable[[str], None]) -> None:
        """Prepare; ``in_force`` is called for each handshake, in a thread, and may read files."""
        self._in_force = in_force
        self._count_failure = count_failure
        self._lines = LineLimit(1)
        self._waiting: deque[_Step] = deque()
        self._running = 0

    def protect(self, protocol: asyncio.Protocol) -> TlsConnection:
        """Return the protocol for a TCP connection whose data ``protocol`` receives decrypted."""
        return TlsConnection(protocol, self)

    def in_force(self) -> TlsInForce:
        """Return the context for a handshake; blocks. Raises ConfigError when TLS was switched off meanwhile."""
        found = self._in_force()
        if found is None:
            raise ConfigError("", "TLS was switched off")
        return found

    def refresh(self) -> None:
        """Read what has changed, without a handshake: TLS may have been switched off."""
        self.run(lambda: self._in_force() is not None).add_done_callback(_retrieve)

    def run(self, function: Callable[[], bool]) -> asyncio.Future[bool]:
        """Run a step of a handshake in a thread, in turn; cancel the future to give up."""
        step = _Step(function, asyncio.get_running_loop().create_future())
        self._waiting.append(step)
        self._start_next()
        return step.result

    def note_failure(self, reason: str, detail: str, connection: TlsConnection) -> None:
        """Count a failed handshake, and log one a minute."""
        self._count_failure(reason)
        more = self._lines.pass_line()
        if more is None:
            return
        peer = connection.get_extra_info("peername")
        fields: dict[str, object] = {"client": peer[0] if isinstance(peer, tuple) else "", "reason": detail}
        if more:
            fields["more"] = more
        log.warning("TLS handshake failed", extra={"fields": fields})

    def _start_next(self) -> None:
        while self._waiting and self._running < _AT_ONCE:
            step = self._waiting.popleft()
            if step.result.done():
                continue
            try:
                outcome = threads.call(step.function, threads.HANDSHAKES)
            except (RuntimeError, MemoryError) as error:  # no thread left on this machine
                step.result.set_exception(error)
                continue
            self._running += 1
            outcome.add_done_callback(partial(self._finished, step.result))

    def _finished(self, result: asyncio.Future[bool], outcome: asyncio.Future[bool]) -> None:
        self._running -= 1
        error = outcome.exception()
        if not result.done():
            if error is not None:
                result.set_exception(error)
            else:
                result.set_result(outcome.result())
        self._start_next()


def _retrieve(result: asyncio.Future[bool]) -> None:
    """Mark an error as retrieved, such as a missing thread: the next client tries again."""
    if not result.cancelled():
        result.exception()


class _Step(NamedTuple):
    function: Callable[[], bool]
    result: asyncio.Future[bool]
