"""What model servers say, in short."""

from __future__ import annotations

import json

from tests.proxy.upstream import CHUNKED, LAST_CHUNK, chunk, head, reply

EVENT_STREAM = "Content-Type: text/event-stream"
JSON = "Content-Type: application/json"
DONE = b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


def event(**members: object) -> bytes:
    """Return one server-sent event."""
    return b"data: " + json.dumps(members).encode() + b"\n\n"


def token(text: str = "a", *, model: str = "m", index: int = 0, key: str = "content") -> bytes:
    """Return a chat chunk with some text."""
    choice = {"index": index, "delta": {key: text}, "finish_reason": None}
    return event(object="chat.completion.chunk", model=model, choices=[choice])


def finish(reason: str = "stop", *, model: str = "m", index: int = 0) -> bytes:
    """Return a chat chunk that ends a choice."""
    return event(
        object="chat.completion.chunk",
        model=model,
        choices=[{"index": index, "delta": {}, "finish_reason": reason}],
    )


def usage(model: str = "m", **members: object) -> bytes:
    """Return the chunk that holds only usage."""
    return event(object="chat.completion.chunk", model=model, choices=[], usage={**USAGE, **members})


def stream(*events: bytes, model: str = "m") -> bytes:
    """Return a whole chat stream with its head, one chunk for each event; without events, a short answer."""
    events = events or (token("a", model=model), token("b", model=model), finish(model=model), usage(model), DONE)
    return head(EVENT_STREAM, CHUNKED) + b"".join(map(chunk, events)) + LAST_CHUNK


def completion(model: str | None = "m", **members: object) -> bytes:
    """Return a whole chat answer with its head."""
    choice = {"index": 0, "message": {"role": "assistant", "content": "ab"}, "finish_reason": "stop"}
    body: dict[str, object] = {"object": "chat.completion", "choices": [choice], "usage": USAGE, **members}
    if model is not None:
        body["model"] = model
    return reply(json.dumps(body).encode(), JSON)


STREAM = {"model": "other", "operation": "chat", "stream": "true"}
"""Labels of ``ask_stream()`` where no reply has named its model."""
BLOCKING = {**STREAM, "stream": "false"}
"""The same of ``ask()``."""


def ask(model: str | None = "m", **members: object) -> bytes:
    """Return the body of a chat request."""
    named = {} if model is None else {"model": model}
    return json.dumps({**named, "messages": [{"role": "user", "content": "hi"}], **members}).encode()


def ask_stream(model: str | None = "m", **members: object) -> bytes:
    """Return the body of a chat request for a stream."""
    return ask(model, stream=True, **members)
