"""llama.cpp's native completion and infill."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.dialects import openai_completions
from modelhost_exporter.dialects.contract import ANSWER, NOTHING, Call, Operation, Progress, Reply
from modelhost_exporter.dialects.openai_choices import ChoicesReader
from modelhost_exporter.dialects.replies import watch
from modelhost_exporter.dialects.usage_builder import UsageBuilder
from modelhost_exporter.dialects.usage_objects import read_error, read_timings
from modelhost_exporter.dialects.values import model_name, request

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = "llamacpp"
PATHS: Mapping[str, Operation] = {
    "/completion": "text_completion",
    "/completions": "text_completion",  # below /v1 it is OpenAI's
    "/infill": "text_completion",
}


def call(body: bytes) -> Call | None:
    """Parse a request body: model and stream."""
    parsed = request(body)
    return None if parsed is None else Call(model_name(parsed.get("model")), parsed.get("stream") is True)


def reply(content_type: str) -> Reply:
    """Return a parser of the response."""
    return watch(content_type, CompletionReader())


class CompletionReader:
    """Parser of frames, of a body, and of an array of bodies (one for each of several prompts)."""

    def __init__(self) -> None:
        self.builder = UsageBuilder(own_prompts=True)
        self._openai = ChoicesReader(openai_completions.token, self.builder)

    def frame(self, frame: Mapping[str, object]) -> Progress:
        """Process one frame of a stream."""
        builder = self.builder
        if "choices" in frame:  # other servers use OpenAI's dialect at /completions without /v1
            return self._openai.frame(frame)
        if "error" in frame:
            read_error(builder, frame)
            return NOTHING
        index = builder.choice(frame.get("index"))
        if builder.flag(frame.get("stop")):
            self._end(frame, index)
        return ANSWER if builder.text(frame.get("content")) else NOTHING

    def whole(self, body: object) -> None:
        """Process a response that is one JSON document."""
        bodies = self.builder.objects(body) if isinstance(body, list) else [self.builder.mapping(body)]
        for each in bodies:
            self.builder.add_output(self.frame({**each, "stop": True}))

    def _end(self, frame: Mapping[str, object], index: int) -> None:
        builder = self.builder
        builder.name(frame.get("model"))
        builder.finish(index, frame.get("stop_type", "other"))
        builder.complete = builder.complete or builder.all_finished()
        read_timings(builder, frame.get("timings"), index, frame)
