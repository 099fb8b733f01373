"""OpenAI speech and transcription: model and token counts, where a response contains them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.dialects.contract import ANSWER, NOTHING, Call, Operation, Progress, Reply
from modelhost_exporter.dialects.form import text_fields
from modelhost_exporter.dialects.replies import watch
from modelhost_exporter.dialects.usage_builder import UsageBuilder
from modelhost_exporter.dialects.usage_objects import read_error, read_usage
from modelhost_exporter.dialects.values import model_name, request

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = "openai_audio"
PATHS: Mapping[str, Operation] = {
    "/audio/transcriptions": "other",
    "/audio/translations": "other",
    "/audio/speech": "other",
}

_TOKENS: Mapping[object, str] = {"transcript.text.delta": "delta", "speech.audio.delta": "audio"}
_ENDS = ("transcript.text.done", "speech.audio.done")


def call(body: bytes) -> Call | None:
    """Parse a request body, JSON or a form; a form may be cut off."""
    parsed: Mapping[str, object] | None = text_fields(body) if body.startswith(b"--") else request(body)
    if parsed is None:
        return None
    streams = parsed.get("stream") in (True, "true", "True", "1") or parsed.get("stream_format") == "sse"
    return Call(model_name(parsed.get("model")), streams)


def reply(content_type: str) -> Reply:
    """Return a parser of the response; audio and plain text contain nothing to parse."""
    return watch(content_type, AudioReader())


class AudioReader:
    """Parser of typed events (OpenAI), chunks with choices (vLLM) and whole transcriptions."""

    def __init__(self) -> None:
        self.builder = UsageBuilder()

    def frame(self, frame: Mapping[str, object]) -> Progress:
        """Process one event."""
        builder, kind = self.builder, frame.get("type")
        if isinstance(kind, str) and kind in _TOKENS:
            return ANSWER if builder.text(frame.get(_TOKENS[kind])) else NOTHING
        builder.complete = builder.complete or kind in _ENDS
        self.whole(frame)
        heard = False
        for choice in builder.objects(frame.get("choices", [])):
            heard = builder.text(builder.mapping(choice.get("delta")).get("content")) or heard
        return ANSWER if heard else NOTHING

    def whole(self, body: object) -> None:
        """Process a response that is one JSON document."""
        body = self.builder.mapping(body)
        self.builder.name(body.get("model"))
        read_error(self.builder, body)
        if body.get("usage") is not None:  # may count seconds instead of tokens
            read_usage(self.builder, body["usage"])
