"""The state of an engine at one poll, as plain data. Values that are not reported are None or empty, never 0."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from modelhost_exporter.metrics.label_values import bounded

if TYPE_CHECKING:
    from collections.abc import Mapping

Latency = Literal[
    "time_to_first_token",
    "inter_token_latency",
    "time_per_output_token",
    "request_duration",
    "request_queue",
    "request_prefill",
    "request_decode",
]


@dataclass(frozen=True)
class EngineHistogram:
    """A histogram as the engine keeps it: upper bounds with cumulative counts, +Inf last, and the sum in seconds."""

    buckets: tuple[tuple[float, float], ...]
    sum: float

    @property
    def count(self) -> float:
        """All observations."""
        return self.buckets[-1][1]

    def in_seconds(self, units: float) -> EngineHistogram:
        """Return a histogram in seconds of one in a smaller unit, of which a second has so many."""
        return EngineHistogram(tuple((bound / units, count) for bound, count in self.buckets), self.sum / units)


COUNTERS = (
    "input_tokens_recomputed",
    "external_cache_lookup_tokens",
    "external_cache_hit_tokens",
    "output_tokens",
    "prefill_seconds",
    "decode_seconds",
    "preemptions",
    "speculative_drafts",
    "speculative_draft_tokens",
    "speculative_accepted_tokens",
)
"""The fields of ``Engine`` that are counters."""
COUNTER_TABLES = ("input_tokens", "requests_finished")
"""The fields of ``Engine`` that are counters by a label."""


@dataclass(frozen=True)
class Engine:
    """The engine's numbers: gauges as they are now, counters and histograms since its start."""

    requests_running: float | None = None
    requests_waiting: float | None = None
    request_capacity: float | None = None
    kv_cache_usage_ratio: float | None = None
    kv_cache_capacity_tokens: float | None = None
    input_tokens: Mapping[str, float] = field(default_factory=dict)
    """By cache: hit, miss, write, unknown (disjoint)."""
    output_tokens: float | None = None
    prefill_seconds: float | None = None
    decode_seconds: float | None = None
    requests_finished: Mapping[str, float] = field(default_factory=dict)
    """By finish_reason (disjoint)."""
    preemptions: float | None = None
    speculative_drafts: float | None = None
    speculative_draft_tokens: float | None = None
    speculative_accepted_tokens: float | None = None
    latencies: Mapping[Latency, EngineHistogram] = field(default_factory=dict)
    requests_waiting_by_reason: Mapping[str, float] = field(default_factory=dict)
    """Parts of ``requests_waiting``, by the engine's own reasons."""
    input_tokens_recomputed: float | None = None
    """Of the input tokens that were found in a cache, those that were computed again nevertheless."""
    external_cache_lookup_tokens: float | None = None
    external_cache_hit_tokens: float | None = None

    def without_counters(self) -> Engine:
        """Return only what is as it is now."""
        return Engine(
            requests_running=self.requests_running,
            requests_waiting=self.requests_waiting,
            request_capacity=self.request_capacity,
            kv_cache_usage_ratio=self.kv_cache_usage_ratio,
            kv_cache_capacity_tokens=self.kv_cache_capacity_tokens,
            requests_waiting_by_reason=self.requests_waiting_by_reason,
        )

    @property
    def tokens(self) -> float | None:
        """All tokens in and out; None when the engine does not count them."""
        if self.output_tokens is None:
            return None
        return self.output_tokens + sum(self.input_tokens.values())


PromptCount = Literal["once", "per_choice", "per_choice_and_prefix"]
"""How often an engine counts the tokens of one prompt to which a request wants several answers (``n``).

The last is an engine that computes the common prompt first, as a request of its own.
"""


@dataclass(frozen=True)
class Model:
    """One model as its server describes it."""

    name: str
    aliases: tuple[str, ...] = ()
    loaded: bool | None = None
    asleep: bool = False
    """Not loaded, but its process lives on, and so do its counters."""
    quantization: str = ""
    family: str = ""
    parameters: str = ""
    format: str = ""
    vram_bytes: float | None = None
    ram_bytes: float | None = None
    context_length: float | None = None
    expires: float | None = None
    """Seconds since 1970."""
    load_seconds: float | None = None
    """How long its last load took."""

    @property
    def names(self) -> frozenset[str]:
        """Its name and aliases, as labels."""
        return frozenset(map(bounded, (self.name, *self.aliases)))


@dataclass(frozen=True)
class ServerSnapshot:
    """Everything that was read in one poll."""

    kind: str
    version: str = ""
    models: tuple[Model, ...] = ()
    engine: Engine = Engine()
    engine_by_model: Mapping[str, Engine] | None = None
    """Instead of ``engine`` where each loaded model has counters of its own, which end with it (a router).

    The engines that this poll read: a loaded model that is missing here was not polled.
    """
    loads_on_request: Literal["never", "by_name", "by_any_name"] = "never"
    """Whether a request may find its model not loaded, and which it then loads: that of its name, or the only one."""
    prompt_count: PromptCount = "once"

    @cached_property
    def model_names(self) -> frozenset[str]:
        """The names and aliases of all models."""
        return frozenset(name for model in self.models for name in model.names)
