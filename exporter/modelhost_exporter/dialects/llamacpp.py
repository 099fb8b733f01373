"""llama.cpp's own completion and infill."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.dialects import openai_completions
from modelhost_exporter.dialects.contract import ANSWER, NOTHING, Call, Operation, Progress, Reply
from modelhost_exporter.dialects.openai_choices import ChoicesReader
from modelhost_exporter.dialects.replies import watch
from modelhost_exporter.dialects.usage_builder import Draft
from modelhost_exporter.dialects.usage_objects import read_error, read_timings
from modelhost_exporter.dialects.values import model_name, request

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = "llamacpp"
PATHS: Mapping[str, Operation] = {
    "/completion": "text_completion",
    "/completions": "text_completion",  # with /v1 it is OpenAI's
    "/infill": "text_completion",
}


def call(body: bytes) -> Call | None:
    """Read a request: model and stream."""
    asked = request(body)
    return None if asked is None else Call(model_name(asked.get("model")), asked.get("stream") is True)


def reply(content_type: str) -> Reply:
    """Watch a reply."""
    return watch(content_type, CompletionReader())


class CompletionReader:
    """Reads frames, a body, and an array of bodies (one for each of several prompts)."""

    def __init__(self) -> None:
        self.draft = Draft(own_prompts=True)
        self._openai = ChoicesReader(openai_completions.token, self.draft)

    def frame(self, frame: Mapping[str, object]) -> Progress:
        """Take one frame of a stream."""
        draft = self.draft
        if "choices" in frame:  # other servers speak OpenAI's dialect at a bare /completions
            return self._openai.frame(frame)
        if "error" in frame:
            read_error(draft, frame)
            return NOTHING
        index = draft.choice(frame.get("index"))
        if draft.flag(frame.get("stop")):
            self._end(frame, index)
        return ANSWER if draft.text(frame.get("content")) else NOTHING

    def whole(self, body: object) -> None:
        """Take a reply that is one document."""
        bodies = self.draft.objects(body) if isinstance(body, list) else [self.draft.mapping(body)]
        for each in bodies:
            self.frame({**each, "stop": True})

    def _end(self, frame: Mapping[str, object], index: int) -> None:
        draft = self.draft
        draft.name(frame.get("model"))
        draft.finish(index, frame.get("stop_type", "other"))
        draft.complete = draft.complete or draft.all_finished()
        read_timings(draft, frame.get("timings"), index, frame)
