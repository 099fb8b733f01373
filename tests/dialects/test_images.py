"""OpenAI's images."""

from __future__ import annotations

import json

from modelhost_exporter.dialects import Call, Progress, find

from .feeding import JSON, SSE, events, feed, reply, split, streamed, whole

PATH = "/v1/images/generations"
USAGE = {"input_tokens": 20, "output_tokens": 4000, "total_tokens": 4020}
USAGE |= {"input_tokens_details": {"text_tokens": 20, "image_tokens": 0}}  # type: ignore[dict-item]


def test_requests() -> None:
    """Generations are JSON, edits may be forms."""
    found, edits = find(PATH), find("/v1/images/edits")
    assert found is not None
    assert edits is not None
    assert found[0].call(b'{"model":"gpt-image-2","stream":true}') == Call("gpt-image-2", stream=True)
    form = b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\ngpt-image-2\r\n--x--\r\n'
    assert edits[0].call(form) == Call("gpt-image-2", stream=False)


def test_stream() -> None:
    """Partial images are chunks; the last event ends the stream, which has no [DONE]."""
    partial = {"type": "image_generation.partial_image", "b64_json": "iVBO", "partial_image_index": 0}
    last = {"type": "image_generation.completed", "b64_json": "iVBO", "usage": USAGE}
    progress, usage = streamed(PATH, partial, partial, last)
    assert (progress, usage.complete, usage.source) == (Progress(3, answer=True), True, "usage")
    assert (usage.input_tokens, usage.input_cache_hit, usage.output_tokens) == (20, None, 4000)
    assert not streamed(PATH, partial)[1].complete
    assert streamed("/v1/images/edits", {"type": "image_edit.completed", "b64_json": "i"})[1].complete


def test_a_large_image() -> None:
    """Of a large body its end is read. An event that is too long to keep may have been the last one."""
    image = "iVBO" * 400_000
    body = json.dumps({"created": 1795646315, "data": [{"b64_json": image}], "usage": USAGE}).encode()
    usage = feed(reply(PATH, JSON), split(body, 65536))[1]
    assert (usage.input_tokens, usage.output_tokens, usage.parse_errors) == (20, 4000, ())
    stream = events({"type": "image_generation.completed", "b64_json": image, "usage": USAGE})
    usage = feed(reply(PATH, SSE), split(stream, 65536))[1]
    assert (usage.complete, usage.source, usage.parse_errors) == (True, "none", ("too_long",))
    cut = reply(PATH, SSE)
    for piece in split(stream, 65536):
        cut.feed(piece)
    assert not cut.finish(cut=True).complete


def test_whole() -> None:
    """Servers that count nothing, and errors."""
    assert whole(PATH, {"created": 1, "data": [{"url": "http://x/"}]}).source == "none"
    assert whole(PATH, {"error": {"message": "no"}}).failed
