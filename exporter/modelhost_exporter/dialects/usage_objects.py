"""What OpenAI-style servers report beside the answer: ``usage``, ``timings``, ``metrics``, ``stats``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.dialects.usage_builder import Timing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelhost_exporter.dialects.usage_builder import Draft

_MILLI = 1e3
_NOTHING: Mapping[str, object] = {}


def read_reports(draft: Draft, frame: Mapping[str, object], index: int = 0) -> None:
    """Take whatever of these a frame or a body holds; ``timings`` belong to the choice of that index."""
    if frame.get("usage") is not None:
        read_usage(draft, frame["usage"])
    if frame.get("timings") is not None:
        read_timings(draft, frame["timings"], index)
    if frame.get("metrics") is not None:
        _read_metrics(draft, draft.mapping(frame["metrics"]))
    if frame.get("stats") is not None:
        _read_stats(draft, draft.mapping(frame["stats"]))


def read_error(draft: Draft, frame: Mapping[str, object]) -> None:
    """Note an error object, in either of its two spellings."""
    if frame.get("error") or frame.get("object") == "error" or frame.get("type") == "error":
        draft.failed = True


def read_usage(draft: Draft, value: object) -> None:
    """Take a usage object; the last one counts, since servers may send one with every frame."""
    usage = draft.mapping(value)
    draft.input_tokens = draft.count(_first(usage, "prompt_tokens", "input_tokens"))
    draft.output_tokens = draft.count(_first(usage, "completion_tokens", "output_tokens"))
    of_input = draft.mapping(_first(usage, "prompt_tokens_details", "input_tokens_details"))
    of_output = draft.mapping(_first(usage, "completion_tokens_details", "output_tokens_details"))
    draft.input_cache_hit = draft.count(of_input.get("cached_tokens", usage.get("prompt_cache_hit_tokens")))
    draft.output_reasoning = draft.count(of_output.get("reasoning_tokens", usage.get("reasoning_tokens")))
    draft.source = "none" if draft.input_tokens is None and draft.output_tokens is None else "usage"


def read_timings(draft: Draft, value: object, index: int = 0, frame: Mapping[str, object] = _NOTHING) -> None:
    """Take llama.cpp's timings of one choice; the last ones count, since they may come with every frame.

    ``frame`` is one of its own dialect, which counts tokens beside the timings too.
    """
    timings = draft.mapping(value)
    draft.timings[index] = Timing(
        cached=draft.count(timings.get("cache_n")),
        computed=draft.count(timings.get("prompt_n")),
        output=draft.count(timings.get("predicted_n", frame.get("tokens_predicted"))),
        prefill_seconds=draft.seconds(timings.get("prompt_ms"), _MILLI),
        prompt=draft.count(frame.get("tokens_evaluated")),
        decode_seconds=draft.seconds(timings.get("predicted_ms"), _MILLI),
    )


def _read_metrics(draft: Draft, metrics: Mapping[str, object]) -> None:
    """Take vLLM's per-request metrics: its first-token time starts when the request left the queue."""
    draft.prefill_seconds = draft.seconds(metrics.get("time_to_first_token_ms"), _MILLI)
    draft.decode_seconds = draft.seconds(metrics.get("generation_time_ms"), _MILLI)
    draft.queue_seconds = draft.seconds(metrics.get("queue_time_ms"), _MILLI)


def _read_stats(draft: Draft, stats: Mapping[str, object]) -> None:
    """Take LM Studio's stats beside an OpenAI-style reply."""
    draft.prefill_seconds = draft.seconds(stats.get("time_to_first_token"))
    draft.decode_seconds = draft.seconds(stats.get("generation_time"))


def _first(values: Mapping[str, object], name: str, other: str) -> object:
    value = values.get(name)
    return values.get(other) if value is None else value
