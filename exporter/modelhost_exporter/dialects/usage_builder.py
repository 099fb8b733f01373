"""Mutable builder for ``Usage`` that validates untrusted values."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import TYPE_CHECKING, cast

from modelhost_exporter.dialects.contract import Usage
from modelhost_exporter.dialects.values import model_name
from modelhost_exporter.untrusted_json import is_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from modelhost_exporter.dialects.contract import FinishReason, ParseError, Progress

_MAX_COUNT = 2**40
_MAX_INDEX = 4096
_MAX_OBJECTS = 10_000
_MAX_SECONDS = 1e7
_NOTHING: Mapping[str, object] = {}

_usage_of = attrgetter(*(each.name for each in fields(Usage)))

_FINISH_REASONS: Mapping[str, FinishReason] = {
    "stop": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "word": "stop",
    "length": "length",
    "limit": "length",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_calls": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "refusal": "content_filter",
}


@dataclass(frozen=True)
class Timing:
    """One choice's llama.cpp ``timings``."""

    cached: int | None
    computed: int | None
    output: int | None
    prefill_seconds: float | None
    decode_seconds: float | None
    prompt: int | None = None
    """The whole input, from older servers that do not report how much of it was cached."""

    @property
    def input_tokens(self) -> int | None:
        """Cached and computed tokens together."""
        return self.prompt if self.cached is None or self.computed is None else self.cached + self.computed


@dataclass(init=False)
class UsageBuilder(Usage):
    """Collects the values of a response; methods that read a value add the error ``shape`` when its type is wrong."""

    finishes: dict[int, FinishReason] = field(default_factory=dict)
    indexes: set[int] = field(default_factory=set)
    """Indexes of the choices so far."""
    timings: dict[int, Timing] = field(default_factory=dict)
    own_prompts: bool = False
    """Each choice answers a prompt of its own, so that their input tokens add up."""
    has_output: bool = False
    """Whether the response contained output, so that a count of 0 is one that the server did not make."""
    has_reasoning: bool = False
    """Whether it contained reasoning; likewise."""
    errors: set[ParseError] = field(default_factory=set)

    def __init__(self, *, own_prompts: bool = False) -> None:
        """Start empty; other defaults stay those of the class: a builder is made for each response."""
        self.finishes, self.indexes, self.timings, self.errors = {}, set(), {}, set()
        self.own_prompts = own_prompts

    def name(self, value: object) -> None:
        """Set the model's name unless it is set."""
        if self.model is None and value is not None:
            self.model = model_name(value)
            if self.model is None and not isinstance(value, str):
                self.errors.add("shape")

    def count(self, value: object) -> int | None:
        """Return a count; None when it is absent or out of range."""
        if value is None:
            return None
        if type(value) is int and 0 <= value <= _MAX_COUNT:
            return value
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_COUNT:
            return value
        self.errors.add("shape")
        return None

    def seconds(self, value: object, per_second: float = 1.0) -> float | None:
        """Return a duration in seconds; None when it is absent or out of range.

        The value is in units of 1/``per_second`` s.
        """
        if value is None:
            return None
        if is_number(value) and _plausible(value, per_second):
            return value / per_second
        self.errors.add("shape")
        return None

    def mapping(self, value: object) -> Mapping[str, object]:
        """Return an object unchanged; an empty one for null or any other type."""
        if isinstance(value, dict):
            return value
        if value is not None:
            self.errors.add("shape")
        return _NOTHING

    def objects(self, value: object) -> Sequence[Mapping[str, object]]:
        """Return the objects of an array, at most the first ``_MAX_OBJECTS`` of it."""
        if not isinstance(value, list):
            self.errors.add("shape")
            return ()
        objects = [item for item in value[:_MAX_OBJECTS] if isinstance(item, dict)]
        if len(objects) != len(value):
            self.errors.add("shape")
        return objects

    def text(self, value: object) -> bool:
        """Return whether the value is non-empty text."""
        if value and not isinstance(value, str):
            self.errors.add("shape")
            return False
        return bool(value)

    def add_output(self, progress: Progress) -> None:
        """Note the progress of a frame or a body."""
        if progress.chunks:
            self.has_output = True

    def reasoning(self, value: object) -> bool:
        """Return whether the value is non-empty text, which is reasoning."""
        if not value or not self.text(value):
            return False
        self.has_reasoning = True
        return True

    def flag(self, value: object) -> bool:
        """Return whether the value is true."""
        if value is not None and not isinstance(value, bool):
            self.errors.add("shape")
        return value is True

    def choice(self, value: object) -> int:
        """Add a choice and return its index."""
        index = self.count(value) or 0
        if index >= _MAX_INDEX:
            self.errors.add("shape")
            index = 0
        self.indexes.add(index)
        return index

    def finish(self, index: int, value: object) -> None:
        """Set the finish reason of a choice."""
        if value is None:
            return
        if isinstance(value, str):
            self.finishes[index] = _FINISH_REASONS.get(value, "other")
        else:
            self.errors.add("shape")

    def all_finished(self) -> bool:
        """Return whether every choice so far has finished."""
        return bool(self.indexes) and self.indexes <= self.finishes.keys()

    def usage(self) -> Usage:
        """Return the result."""
        if self.timings:
            self._apply_timings(list(self.timings.values()))
        self._drop_zeros()
        self._check_parts()
        self.finish_reasons = tuple(self.finishes[index] for index in sorted(self.finishes))
        self.choices = max(1, len(self.indexes))
        self.parse_errors = tuple(sorted(self.errors))
        return Usage(*_usage_of(self))

    def _apply_timings(self, timings: list[Timing]) -> None:
        """Set durations from llama.cpp's timings, and counts where there was no usage object."""
        last = timings[-1]
        # choices run side by side: the request's phase lasts as long as its longest
        self.prefill_seconds = _longest(timing.prefill_seconds for timing in timings)
        self.decode_seconds = _longest(timing.decode_seconds for timing in timings)
        if len(timings) < len(self.indexes):  # llama.cpp sends those of the first choice alone with a whole response
            self.input_tokens = self.input_cache_hit = self.output_tokens = None
            self.source = "none"
            return
        # choices of one prompt have as many input tokens each
        own_prompts = self.own_prompts or len({timing.input_tokens for timing in timings}) > 1
        prompts = timings if own_prompts else [last]
        if self.source != "none":
            self._complete_usage(timings, prompts)
            return
        self.input_tokens = total(timing.input_tokens for timing in prompts)
        self.input_cache_hit = None if self.input_tokens is None else total(timing.cached for timing in prompts)
        self.output_tokens = total(timing.output for timing in timings)
        if self.input_tokens is not None or self.output_tokens is not None:
            self.source = "timings"

    def _complete_usage(self, timings: list[Timing], prompts: list[Timing]) -> None:
        """Add counts that the usage object lacks."""
        if len(timings) > 1:  # llama.cpp sends a usage with each choice that counts this choice alone
            if len(prompts) > 1:
                self.input_tokens = total(timing.input_tokens for timing in prompts)
                self.input_cache_hit = total(timing.cached for timing in prompts)
            self.output_tokens = max(self.output_tokens or 0, total(timing.output for timing in timings) or 0)
        elif self.input_cache_hit is None and timings[0].input_tokens == self.input_tokens:
            self.input_cache_hit = timings[0].cached

    def _drop_zeros(self) -> None:
        """Drop counts of 0 tokens that the response itself refutes."""
        if self.has_output:
            self.input_tokens = self.input_tokens or None
            self.output_tokens = self.output_tokens or None
        if self.input_tokens is None and self.output_tokens is None:
            self.source = "none"
        if self.has_reasoning:
            self.output_reasoning = self.output_reasoning or None

    def _check_parts(self) -> None:
        """Drop parts of an unknown whole, and parts that are larger than their whole."""
        cached = (self.input_cache_hit or 0) + (self.input_cache_write or 0)
        if self.input_tokens is None or cached > self.input_tokens:
            if cached:
                self.errors.add("shape")
            self.input_cache_hit = self.input_cache_write = None
        if self.output_tokens is None or (self.output_reasoning or 0) > self.output_tokens:
            if self.output_reasoning:
                self.errors.add("shape")
            self.output_reasoning = None


def _plausible(value: float, per_second: float) -> bool:
    return 0 <= value <= _MAX_SECONDS * per_second


def _longest(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def total(values: Iterable[int | None]) -> int | None:
    """Return a sum; None when one of the values is unknown."""
    known = list(values)
    return None if None in known else sum(cast("list[int]", known))
