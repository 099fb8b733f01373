"""Native text generation of SGLang, TGI, Triton and KoboldCpp at one path, and vLLM's from token to token."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.dialects.contract import ANSWER, NOTHING, Call, Operation, Progress, Reply
from modelhost_exporter.dialects.openai_choices import ChoicesReader
from modelhost_exporter.dialects.replies import watch
from modelhost_exporter.dialects.usage_builder import UsageBuilder
from modelhost_exporter.dialects.usage_objects import read_error
from modelhost_exporter.dialects.values import model_name, request

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = "generate"
PATHS: Mapping[str, Operation] = {"/generate": "generate"}

_META = {
    "input_tokens": "prompt_tokens",
    "input_cache_hit": "cached_tokens",
    "output_tokens": "completion_tokens",
    "output_reasoning": "reasoning_tokens",
}
"""A count of ``Usage`` → its name in SGLang's ``meta_info``."""


def call(body: bytes) -> Call | None:
    """Parse a request body: model and stream. SGLang and TGI serve one model, which requests do not name."""
    parsed = request(body)
    return None if parsed is None else Call(model_name(parsed.get("model")), parsed.get("stream") is True)


def reply(content_type: str) -> Reply:
    """Return a parser of the response."""
    return watch(content_type, GenerateReader())


class GenerateReader:
    """Parser of frames and bodies; which server sent them shows in their keys."""

    def __init__(self) -> None:
        self.builder = UsageBuilder()
        self._choices = ChoicesReader(_token, self.builder)
        self._counts: dict[int, dict[str, int | None]] = {}

    def frame(self, frame: Mapping[str, object]) -> Progress:
        """Process one frame of a stream."""
        if "choices" in frame:
            return self._choices.frame(frame)
        read_error(self.builder, frame)
        if "meta_info" in frame:
            return self._sglang(frame)
        if "results" in frame or isinstance(frame.get("token"), str):
            return self._koboldcpp(frame)
        if "token" in frame or "generated_text" in frame:
            return self._tgi(frame)
        if "model_name" in frame:
            return self._triton(frame)
        return NOTHING

    def whole(self, body: object) -> None:
        """Process a response that is one JSON document; SGLang's to several prompts is an array."""
        builder = self.builder
        for index, each in enumerate(builder.objects(body) if isinstance(body, list) else [builder.mapping(body)]):
            builder.add_output(self.frame({"index": index, **each}))

    def _sglang(self, frame: Mapping[str, object]) -> Progress:
        """Process a frame of SGLang, whose text and counts are those so far, each answer with an index of its own."""
        builder, meta = self.builder, self.builder.mapping(frame["meta_info"])
        index = builder.choice(frame.get("index"))
        reason = builder.mapping(meta.get("finish_reason"))
        if reason:
            builder.finish(index, reason.get("type"))
            builder.failed = builder.failed or reason.get("type") == "abort"
            builder.complete = builder.complete or builder.all_finished()
        before = self._counts.get(index, {})
        counts = {name: builder.count(meta.get(key)) for name, key in _META.items()}
        self._counts[index] = counts
        for name, count in counts.items():
            if count is not None:
                setattr(builder, name, (getattr(builder, name) or 0) + count - (before.get(name) or 0))
        if builder.input_tokens is not None or builder.output_tokens is not None:
            builder.source = "usage"
        return ANSWER if counts["output_tokens"] != before.get("output_tokens") else NOTHING

    def _tgi(self, frame: Mapping[str, object]) -> Progress:
        """Process a frame of TGI: a token; the last one, or a whole body, has the text, and details if requested."""
        builder, token = self.builder, self.builder.mapping(frame.get("token"))
        generated = isinstance(frame.get("generated_text"), str)
        if generated:
            builder.complete = True
            self._details(builder.mapping(frame.get("details")))
        if not token:  # a whole body
            return ANSWER if generated and frame["generated_text"] else NOTHING
        return ANSWER if builder.text(token.get("text")) and token.get("special") is not True else NOTHING

    def _details(self, details: Mapping[str, object]) -> None:
        builder = self.builder
        builder.finish(0, details.get("finish_reason"))
        prefill = details.get("prefill")  # the tokens of the prompt, if requested
        read = len(prefill) if isinstance(prefill, list) and prefill else None
        builder.input_tokens = builder.count(details.get("input_length", read))
        builder.output_tokens = builder.count(details.get("generated_tokens"))
        if builder.input_tokens is not None or builder.output_tokens is not None:
            builder.source = "usage"

    def _koboldcpp(self, frame: Mapping[str, object]) -> Progress:
        """Process a frame of KoboldCpp, which is a token, or a body with one result. HTTP alone ends its stream."""
        builder = self.builder
        builder.complete = True
        for result in builder.objects(frame.get("results", [])):
            builder.finish(0, result.get("finish_reason"))
            builder.input_tokens = builder.count(result.get("prompt_tokens"))
            builder.output_tokens = builder.count(result.get("completion_tokens"))
            if builder.input_tokens is not None or builder.output_tokens is not None:
                builder.source = "usage"
            return ANSWER if builder.text(result.get("text")) else NOTHING
        builder.finish(0, frame.get("finish_reason"))
        return ANSWER if builder.text(frame.get("token")) else NOTHING

    def _triton(self, frame: Mapping[str, object]) -> Progress:
        """Process a response of Triton. HTTP alone ends its stream, and each response counts its own tokens."""
        builder = self.builder
        builder.complete = True
        builder.name(frame.get("model_name"))
        builder.finish(0, frame.get("finish_reason"))
        read, written = (builder.count(frame.get(f"num_{part}_tokens")) for part in ("input", "output"))
        if read is not None:
            builder.input_tokens, builder.source = read, "usage"
        if written is not None:
            builder.output_tokens, builder.source = (builder.output_tokens or 0) + written, "usage"
        text = frame.get("text_output")
        return ANSWER if (isinstance(text, list) and any(text)) or (isinstance(text, str) and text) else NOTHING


def _token(builder: UsageBuilder, choice: Mapping[str, object]) -> Progress:
    """Return the progress of a choice of vLLM's, which has the tokens themselves, and their text if requested."""
    tokens = choice.get("token_ids")
    if tokens is None:
        return ANSWER if builder.text(choice.get("text")) else NOTHING
    return ANSWER if isinstance(tokens, list) and tokens else NOTHING
