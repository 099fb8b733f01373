"""The kind of a polled server: configured, or detected and kept while the server's process lives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.engines import kinds
from modelhost_exporter.engines.pages import UnexpectedContent
from modelhost_exporter.engines.polling.fetching import reason_of

if TYPE_CHECKING:
    from modelhost_exporter.engines.polling.poll_session import PollSession

_BAD_GATEWAY = (502, 504)
"""What a reverse proxy responds while the server behind it is stopped."""


class DetectedKind:
    """The kind of one server.

    A detected kind is kept over failed polls: pages fail for many reasons while the process lives. It is dropped when
    nothing listens, since another server may be started there, and replaced when the pages are those of another kind.
    """

    def __init__(self, configured: str) -> None:
        self._is_detected = configured == kinds.AUTO
        self.name: str | None = None if self._is_detected else configured
        self._in_doubt = False
        self.was_found = not self._is_detected
        """Whether a kind is configured or was ever detected: else the server may be no engine at all."""

    def find(self, session: PollSession) -> str:
        """Return the kind, detected where that is necessary; UnexpectedContent when no kind matches."""
        if self.name is not None and not self._in_doubt:
            return self.name
        found = kinds.detect(session)
        if self.name is not None and (found is None or kinds.is_generic(found)):
            return self.name
        if found is None:
            raise UnexpectedContent("no kind of model server that is known")
        return found

    def keep(self, kind: str, session: PollSession) -> None:
        """Keep the kind of a poll that succeeded; any server looks generic while pages of its own do not respond."""
        self.was_found = True
        if not (self._is_detected and kinds.is_generic(kind) and session.has_failed):
            self.name, self._in_doubt = kind, False

    def failed(self, error: Exception) -> None:
        """Drop the kind if nothing listens, or detect it at the next poll if the server no longer responds like it."""
        if not self._is_detected:
            return
        if _is_gone(error):
            self.name = None
        self._in_doubt = not isinstance(error, OSError)


def _is_gone(error: Exception) -> bool:
    if isinstance(error, OSError):
        return reason_of(error) == "unreachable"
    return isinstance(error, LookupError) and len(error.args) > 1 and error.args[1] in _BAD_GATEWAY
