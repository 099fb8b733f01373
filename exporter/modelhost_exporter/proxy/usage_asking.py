"""Asking an OpenAI stream for its token usage where its client did not, and taking the extra frame out again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import hdrs

from modelhost_exporter.dialects.usage_request import UsageFrameFilter
from modelhost_exporter.engines import kinds
from modelhost_exporter.proxy.headers import ACCEPT_ENCODING, CONTENT_LENGTH

if TYPE_CHECKING:
    from aiohttp.http import RawResponseMessage
    from aiohttp.web import BaseRequest

    from modelhost_exporter.proxy.headers import Field
    from modelhost_exporter.proxy.target import Target

_DIALECTS = frozenset({"openai_chat", "openai_completions"})


def may_ask(target: Target, dialect: str, request: BaseRequest) -> bool:
    """Tell whether this request may be changed: a kind known to accept it, and a plain body that is looked at whole."""
    return (
        dialect in _DIALECTS
        and kinds.accepts_include_usage(target.kind)
        and target.settings.include_usage == "auto"
        and not target.usage_refused
        and (length := request.content_length) is not None
        and length <= target.settings.max_inspected_body_bytes
        and hdrs.CONTENT_ENCODING not in request.headers
    )


def prepared(fields: list[Field], body: bytes) -> list[Field]:
    """Return a request's fields for the body that asks; a frame cannot be taken out of a compressed stream."""
    kept = [
        (name, b"identity" if name.lower() == ACCEPT_ENCODING else value)
        for name, value in fields
        if name.lower() != CONTENT_LENGTH
    ]
    return [*kept, (b"Content-Length", b"%d" % len(body))]


def frame_filter(reply: RawResponseMessage) -> UsageFrameFilter | None:
    """Return what takes the usage frame out; None for a reply that is no plain stream, which is passed on as it is."""
    is_stream = reply.headers.get(hdrs.CONTENT_TYPE, "").lower().startswith("text/event-stream")
    return UsageFrameFilter() if is_stream and not is_encoded(reply) else None


def is_encoded(reply: RawResponseMessage) -> bool:
    """Tell whether a reply is compressed."""
    return reply.headers.get(hdrs.CONTENT_ENCODING, "identity").strip().lower() != "identity"
