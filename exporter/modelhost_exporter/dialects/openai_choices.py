"""Common code of OpenAI's chat and text completions: frames and bodies with ``choices``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.dialects.contract import NOTHING, Call, Progress
from modelhost_exporter.dialects.usage_builder import UsageBuilder
from modelhost_exporter.dialects.usage_objects import read_error, read_reports
from modelhost_exporter.dialects.values import model_name, request

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Token = Callable[[UsageBuilder, Mapping[str, object]], Progress]

_MAX_CHOICES = 4096  # more than any server grants


def call(body: bytes) -> Call | None:
    """Parse a request body: model, stream and n; None when it is not a JSON object."""
    members = request(body)
    if members is None:
        return None
    return Call(model_name(members.get("model")), members.get("stream") is True, _choices(members.get("n")))


def _choices(n: object) -> int:
    """Return the number of answers that a request wants; servers reject what is no such number."""
    return n if isinstance(n, int) and not isinstance(n, bool) and 1 <= n <= _MAX_CHOICES else 1


class ChoicesReader:
    """Parser of frames and bodies; ``token`` returns the progress of a choice in a frame."""

    def __init__(self, token: Token, builder: UsageBuilder | None = None) -> None:
        self.builder = builder or UsageBuilder()
        self._token = token
        self._without_choice = 0

    def frame(self, frame: Mapping[str, object]) -> Progress:
        """Process one frame of a stream."""
        builder = self.builder
        if builder.model is None:
            builder.name(frame.get("model"))
        progress = NOTHING
        choices = builder.objects(frame.get("choices", []))
        index = 0 if choices else self._next_index(frame)
        for choice in choices:
            index = self._choice(choice)
            token = self._token(builder, choice)
            progress = max(progress, token)
        read_reports(builder, frame, index)
        read_error(builder, frame)
        builder.complete = builder.complete or builder.all_finished()
        return progress

    def whole(self, body: object) -> None:
        """Process a response that is one JSON document."""
        self.builder.add_output(self.frame(self.builder.mapping(body)))

    def _next_index(self, frame: Mapping[str, object]) -> int:
        """Return the index of the choice that a frame without choices belongs to: llama.cpp sends one for each."""
        index = self._without_choice
        if frame.get("timings") is not None and index < len(self.builder.indexes) - 1:
            self._without_choice += 1
        return index

    def _choice(self, choice: Mapping[str, object]) -> int:
        index = self.builder.choice(choice.get("index"))
        if choice.get("finish_reason") is not None:
            self.builder.finish(index, choice["finish_reason"])
        return index
