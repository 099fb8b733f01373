"""Request token usage from an OpenAI stream where its client did not, and remove the extra frame from the response."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from modelhost_exporter.dialects.usage_request import UsageFrameFilter
from modelhost_exporter.engines import kinds
from modelhost_exporter.proxy import headers
from modelhost_exporter.proxy.headers import Field

if TYPE_CHECKING:
    from collections.abc import Callable

    from modelhost_exporter.proxy.downstream import Request
    from modelhost_exporter.proxy.server import ServerContext
    from modelhost_exporter.proxy.upstream import ResponseHead

_DIALECTS = frozenset({"openai_chat", "openai_completions"})
_REFUSED_SECONDS = 600.0


class UsageRequests:
    """Whether token usage is requested from one server, learnt from its responses.

    ``trial``: the first stream passes unchanged, to learn whether the server sends usage by itself. ``requested``: it
    does not, so that usage is requested. ``unrequested``: it does, and clients keep its frame. ``refused``: the server
    did not accept the request, or compressed the stream, from which no frame can be removed; tried again after a while.
    ``off``: switched off, or the kind of the engine is unknown or does not accept it.
    """

    def __init__(
        self, option: Literal["auto", "on", "off"], now: Callable[[], float], on_state: Callable[[str], None]
    ) -> None:
        """Prepare; ``now`` returns monotonic seconds, ``on_state`` is called with each state."""
        self._option = option
        self._now = now
        self._on_state = on_state
        self._refused_at = 0.0
        self._accepts = option == "on"
        self._learnt = "requested" if option == "on" else "trial"
        on_state(self.state)

    @property
    def state(self) -> str:
        """The current state."""
        return self._learnt if self._accepts and self._option != "off" else "off"

    def set_kind(self, kind: str) -> None:
        """Decide by the kind of the engine, as far as it is known."""
        accepts = self._option == "on" or kinds.accepts_include_usage(kind)
        if accepts != self._accepts:
            self._accepts = accepts
            self._on_state(self.state)

    def on_unchanged_stream(self, *, has_usage: bool) -> None:
        """Learn from a successful stream for which usage was not requested."""
        if self._option == "auto" and self._learnt in ("trial", "unrequested"):
            self._set("unrequested" if has_usage else "requested")

    def on_refusal(self) -> None:
        """Stop requesting usage for a while."""
        self._refused_at = self._now()
        self._set("refused")

    def retry_when_due(self) -> None:
        """Request usage again once a refusal is old."""
        if self._learnt == "refused" and self._now() - self._refused_at >= _REFUSED_SECONDS:
            self._set("requested")

    def _set(self, state: str) -> None:
        if state != self._learnt:
            self._learnt = state
            self._on_state(self.state)


def is_eligible(server: ServerContext, dialect: str | None, request: Request) -> bool:
    """Return whether the body of a request is read as a whole, to request usage or to learn whether that is needed."""
    if dialect not in _DIALECTS or server.settings.include_usage == "off":
        return False
    server.usage.set_kind(server.kind)
    server.usage.retry_when_due()
    return (
        server.usage.state in ("trial", "requested", "unrequested")
        and b"content-encoding" not in request.by_key
        and (length := request.length) is not None
        and length <= server.settings.max_inspected_body_bytes
    )


def changed_fields(fields: list[Field], body: bytes) -> list[Field]:
    """Return the fields for the changed body; a frame cannot be removed from a compressed stream."""
    kept = [
        field._replace(value=b"identity") if field.key == b"accept-encoding" else field
        for field in fields
        if field.key != b"content-length"
    ]
    return [*kept, Field(b"content-length", b"Content-Length", b"%d" % len(body))]


def frame_filter(head: ResponseHead) -> UsageFrameFilter | None:
    """Return what removes the usage frame; None for a response that is no plain stream, which passes unchanged."""
    return UsageFrameFilter() if is_event_stream(head) and not is_encoded(head) else None


def is_event_stream(head: ResponseHead) -> bool:
    """Return whether a response is a stream of events."""
    return headers.text(head.by_key, b"content-type").lower().startswith("text/event-stream")


def is_encoded(head: ResponseHead) -> bool:
    """Return whether a response is compressed."""
    return headers.text(head.by_key, b"content-encoding").strip().lower() not in ("", "identity")
