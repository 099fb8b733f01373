"""Whether a server had requests between two polls."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from modelhost_exporter.engines.polling.proxy_totals import Passed
    from modelhost_exporter.engines.snapshot import Engine


class _Work(NamedTuple):
    """What a poll shows of requests: those in progress, and totals that grow with them; None where not known.

    Requests that go around the proxy to an engine that counts nothing are not seen.
    """

    in_progress: float | None
    tokens: float | None
    finished: float | None
    proxied: float | None

    @property
    def is_known(self) -> bool:
        """Whether anything of it is known."""
        return any(value is not None for value in self)


class IdleTime:
    """Compares each poll with the one before."""

    def __init__(self) -> None:
        self._last: _Work | None = None

    def note(self, engine: Engine, passed: Passed | None) -> bool | None:
        """Return whether there was no request since the last poll; None where that is not known.

        ``passed`` is what passed the proxy, None without one. A total that fell is a restart, after which all is open.
        """
        last, self._last = self._last, _work(engine, passed)
        if last is None or not last.is_known or not self._last.is_known:
            return None
        if last.in_progress or self._last.in_progress:
            return False
        return last[1:] == self._last[1:]

    def forget(self) -> None:
        """Drop the last poll: what happened before the next one is not known."""
        self._last = None


def _work(engine: Engine, passed: Passed | None) -> _Work:
    finished = sum(engine.requests_finished.values()) if engine.requests_finished else None
    sent, sending = _proxied(passed) if passed is not None else (None, None)
    known = [value for value in (engine.requests_running, engine.requests_waiting, sending) if value is not None]
    return _Work(sum(known) if known else None, engine.tokens, finished, sent)


def _proxied(passed: Passed) -> tuple[float, float]:
    """Return the requests that have ended, and those in progress: of the replica where there are several."""
    if passed.attempts is not None:
        return passed.attempts.ended, passed.attempts.in_flight
    return sum(passed.requests.values()), sum(passed.in_flight.values())
