"""Process objects that OpenAI-style servers send beside the answer: ``usage``, ``timings``, ``metrics``, ``stats``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.dialects.usage_builder import Timing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelhost_exporter.dialects.usage_builder import UsageBuilder

_MILLI = 1e3
# OpenAI and OpenRouter, vLLM, LiteLLM
_CACHE_WRITES = ("cache_write_tokens", "created_cache_tokens", "cache_creation_tokens")
_NOTHING: Mapping[str, object] = {}


def read_reports(builder: UsageBuilder, frame: Mapping[str, object], index: int = 0) -> None:
    """Process those that a frame or a body contains; ``timings`` belong to the choice with this index."""
    if frame.get("usage") is not None:
        read_usage(builder, frame["usage"])
    if frame.get("x_groq") is not None:
        _read_groq(builder, builder.mapping(frame["x_groq"]))
    if frame.get("timings") is not None:
        read_timings(builder, frame["timings"], index)
    if frame.get("metrics") is not None:
        _read_metrics(builder, builder.mapping(frame["metrics"]))
    if frame.get("stats") is not None:
        _read_stats(builder, builder.mapping(frame["stats"]))


def read_error(builder: UsageBuilder, frame: Mapping[str, object]) -> None:
    """Set ``failed`` for an error object, which servers write in two ways."""
    if frame.get("error") or frame.get("object") == "error" or frame.get("type") == "error":
        builder.failed = True


def read_usage(builder: UsageBuilder, value: object) -> None:
    """Process a usage object; the last one counts, since servers may send one with every frame."""
    usage = builder.mapping(value)
    builder.input_tokens = builder.count(_first(usage, "prompt_tokens", "input_tokens"))
    builder.output_tokens = builder.count(_first(usage, "completion_tokens", "output_tokens"))
    of_input = builder.mapping(_first(usage, "prompt_tokens_details", "input_tokens_details"))
    of_output = builder.mapping(_first(usage, "completion_tokens_details", "output_tokens_details"))
    builder.input_cache_hit = builder.count(of_input.get("cached_tokens", usage.get("prompt_cache_hit_tokens")))
    builder.input_cache_write = builder.count(_any_of(of_input, _CACHE_WRITES)) if of_input else None
    builder.output_reasoning = builder.count(of_output.get("reasoning_tokens", usage.get("reasoning_tokens")))
    builder.source = "none" if builder.input_tokens is None and builder.output_tokens is None else "usage"
    if "prompt_time" in usage:
        _read_times(builder, usage, "queue_time", "prompt_time", "completion_time")
    elif "total_prompt_time_sec" in usage:
        _read_times(builder, usage, "", "total_prompt_time_sec", "total_completion_time_sec")


def _read_times(builder: UsageBuilder, usage: Mapping[str, object], queue: str, prompt: str, completion: str) -> None:
    """Process the seconds that Groq and mistral.rs write into usage."""
    builder.queue_seconds = builder.seconds(usage.get(queue))
    builder.prefill_seconds = builder.seconds(usage.get(prompt))
    builder.decode_seconds = builder.seconds(usage.get(completion))


def read_timings(builder: UsageBuilder, value: object, index: int = 0, frame: Mapping[str, object] = _NOTHING) -> None:
    """Process llama.cpp's timings of one choice; the last ones count, since they may come with every frame.

    ``frame`` is one of its own dialect, which counts tokens beside the timings too.
    """
    timings = builder.mapping(value)
    builder.timings[index] = Timing(
        cached=builder.count(timings.get("cache_n")),
        computed=builder.count(timings.get("prompt_n")),
        output=builder.count(timings.get("predicted_n", frame.get("tokens_predicted"))),
        prefill_seconds=builder.seconds(timings.get("prompt_ms"), _MILLI),
        prompt=builder.count(frame.get("tokens_evaluated")),
        decode_seconds=builder.seconds(timings.get("predicted_ms"), _MILLI),
    )


def _read_groq(builder: UsageBuilder, extension: Mapping[str, object]) -> None:
    """Process Groq's extension of the last frame, which has the usage that nobody needs to request."""
    if extension.get("usage") is not None:
        read_usage(builder, extension["usage"])
    if extension.get("error"):
        builder.failed = True


def _read_metrics(builder: UsageBuilder, metrics: Mapping[str, object]) -> None:
    """Process vLLM's per-request metrics; the time to the first token does not include the time in the queue."""
    builder.prefill_seconds = builder.seconds(metrics.get("time_to_first_token_ms"), _MILLI)
    builder.decode_seconds = builder.seconds(metrics.get("generation_time_ms"), _MILLI)
    builder.queue_seconds = builder.seconds(metrics.get("queue_time_ms"), _MILLI)


def _read_stats(builder: UsageBuilder, stats: Mapping[str, object]) -> None:
    """Process LM Studio's stats in an OpenAI-style response."""
    builder.prefill_seconds = builder.seconds(stats.get("time_to_first_token"))
    builder.decode_seconds = builder.seconds(stats.get("generation_time"))


def _first(values: Mapping[str, object], name: str, other: str) -> object:
    value = values.get(name)
    return values.get(other) if value is None else value


def _any_of(values: Mapping[str, object], names: tuple[str, ...]) -> object:
    for name in names:
        if name in values:
            return values[name]
    return None
