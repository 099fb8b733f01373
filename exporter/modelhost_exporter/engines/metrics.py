"""The families of model servers and models, and what of them one server's state amounts to."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

from modelhost_exporter.engines.snapshot import Engine
from modelhost_exporter.metrics.families import Family, counter, gauge, histogram
from modelhost_exporter.requests.metrics import DURATION, TTFT
from modelhost_exporter.requests.observation import RequestLabels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from modelhost_exporter.engines.snapshot import EngineHistogram, Latency, Model, ServerSnapshot

_OF_ENGINE = ("server", "upstream")
"""Which engine: ``upstream`` distinguishes the replicas of a server, and is empty where it has one URL."""

UP = gauge(
    "engine_up",
    "1 when the last poll succeeded and the next is not overdue, else 0.",
    *_OF_ENGINE,
    note="While it is 0 the engine's other series are absent.",
    combine="each",
)
INFO = gauge(
    "engine_info", "Always 1, with the kind and version of the engine.", *_OF_ENGINE, "kind", "version", combine="each"
)
POLL_DURATION = gauge(
    "engine_poll_duration_seconds", "Duration of the last poll, failed or not.", *_OF_ENGINE, combine="max"
)
LAST_SUCCESS = gauge(
    "engine_last_success_timestamp_seconds",
    "Time of the last successful poll, in seconds since 1970.",
    *_OF_ENGINE,
    note="The age of everything that is shown of the engine.",
    combine="min",
)
POLL_FAILURES = counter(
    "engine_poll_failures",
    "Polls that failed, and pages that failed in a poll that did not, by reason.",
    *_OF_ENGINE,
    "reason",
    combine="sum",
)
SEVERAL_PROCESSES = gauge(
    "engine_several_processes",
    "1 when polls reach several processes in turn and counters are withheld, else 0.",
    *_OF_ENGINE,
    note="Behind a load balancer, or several workers on one port: list each process as a server or in `urls`.",
    combine="max",
)
UNPROXIED = gauge(
    "engine_unproxied_tokens_ratio",
    "Share of the engine's tokens of the last hour that did not pass the proxy.",
    "server",
    note=(
        "Requests that went around it, probes, and requests whose usage the proxy could not read. Absent "
        "without traffic and for servers without a proxy."
    ),
)
_GAUGES = {
    "requests_running": gauge(
        "engine_requests_running", "Requests that the engine is processing.", *_OF_ENGINE, combine="sum"
    ),
    "requests_waiting": gauge("engine_requests_waiting", "Requests in the engine's queue.", *_OF_ENGINE, combine="sum"),
    "request_capacity": gauge(
        "engine_request_capacity", "Requests that the engine can process at the same time.", *_OF_ENGINE, combine="sum"
    ),
    "kv_cache_usage_ratio": gauge(
        "engine_kv_cache_usage_ratio",
        "Share of the KV cache in use, the mean of several engines.",
        *_OF_ENGINE,
        note=(
            "llama.cpp: tokens of the busy slots over all that fit, an approximation; absent where the "
            "capacity is not known."
        ),
        combine="max",
    ),
    "kv_cache_capacity_tokens": gauge(
        "engine_kv_cache_capacity_tokens",
        "Tokens that fit in the KV cache of all engines.",
        *_OF_ENGINE,
        note=(
            "llama.cpp: the context that its slots share, or that of all slots; absent where its command "
            "line, which distinguishes the two, cannot be read."
        ),
        combine="sum",
    ),
}
WAITING_BY_REASON = gauge(
    "engine_requests_waiting_by_reason",
    "Requests in the engine's queue by reason.",
    *_OF_ENGINE,
    "reason",
    note=(
        "Parts of `modelhost_engine_requests_waiting`. vLLM: capacity, deferred (for an adapter, a transfer of KV "
        "cache or another transient reason), other."
    ),
    combine="sum",
)
INPUT_TOKENS = counter(
    "engine_input_tokens",
    "Input tokens by cache result: hit, miss, write or unknown.",
    *_OF_ENGINE,
    "cache",
    note="Disjoint; unknown where the engine does not report it.",
    combine="sum",
)
_COUNTERS = {
    "input_tokens_recomputed": counter(
        "engine_input_tokens_recomputed",
        "Input tokens that were found in a cache and computed again nevertheless.",
        *_OF_ENGINE,
        note="Part of the hits.",
        combine="sum",
    ),
    "external_cache_lookup_tokens": counter(
        "engine_external_cache_lookup_tokens",
        "Input tokens that were looked up in a KV cache outside the engine.",
        *_OF_ENGINE,
        note="Of a KV connector: on the host, on disk, or shared by several engines.",
        combine="sum",
    ),
    "external_cache_hit_tokens": counter(
        "engine_external_cache_hit_tokens",
        "Input tokens that were found in a KV cache outside the engine.",
        *_OF_ENGINE,
        combine="sum",
    ),
    "output_tokens": counter(
        "engine_output_tokens",
        "Output tokens as the engine counts them.",
        *_OF_ENGINE,
        note="llama.cpp's counter rises at the end of a request.",
        combine="sum",
    ),
    "prefill_seconds": counter(
        "engine_prefill_seconds",
        "Seconds spent on prompts, as the engine counts them.",
        *_OF_ENGINE,
        note="Time of requests that are processed together may overlap.",
        combine="sum",
    ),
    "decode_seconds": counter(
        "engine_decode_seconds",
        "Seconds spent on output, as the engine counts them.",
        *_OF_ENGINE,
        note="Time of requests that are processed together may overlap.",
        combine="sum",
    ),
    "preemptions": counter(
        "engine_preemptions", "Requests that were preempted to free KV cache for others.", *_OF_ENGINE, combine="sum"
    ),
    "speculative_drafts": counter(
        "engine_speculative_drafts", "Drafts of speculative decoding that were verified.", *_OF_ENGINE, combine="sum"
    ),
    "speculative_draft_tokens": counter(
        "engine_speculative_draft_tokens", "Tokens drafted by speculative decoding.", *_OF_ENGINE, combine="sum"
    ),
    "speculative_accepted_tokens": counter(
        "engine_speculative_accepted_tokens", "Drafted tokens that were accepted.", *_OF_ENGINE, combine="sum"
    ),
}
FINISHED = counter(
    "engine_requests_finished",
    "Finished requests by reason.",
    *_OF_ENGINE,
    "finish_reason",
    note=(
        "stop, length, abort, error, other; unknown where the engine does not report it. Requests that the engine "
        "refused are missing; what counts as a request differs between engines (docs/engines.md)."
    ),
    combine="sum",
)
_LATENCIES: Mapping[Latency, Family] = {
    "time_to_first_token": histogram(
        "engine_time_to_first_token_seconds",
        "Time to first token as the engine measures it, with the engine's bounds.",
        (),
        *_OF_ENGINE,
        note="Time before the request reached the engine is missing.",
        combine="sum",
    ),
    "inter_token_latency": histogram(
        "engine_inter_token_latency_seconds",
        "Time between two outputs of a request, with the engine's bounds.",
        (),
        *_OF_ENGINE,
        note="One output may hold several tokens.",
        combine="sum",
    ),
    "time_per_output_token": histogram(
        "engine_time_per_output_token_seconds",
        "Mean time per output token of each request, with the engine's bounds.",
        (),
        *_OF_ENGINE,
        combine="sum",
    ),
    "request_duration": histogram(
        "engine_request_duration_seconds",
        "Duration of requests as the engine measures them, with the engine's bounds.",
        (),
        *_OF_ENGINE,
        combine="sum",
    ),
    "request_queue": histogram(
        "engine_request_queue_seconds",
        "Time of requests in the engine's queue, with its own bounds.",
        (),
        *_OF_ENGINE,
        combine="sum",
    ),
    "request_prefill": histogram(
        "engine_request_prefill_seconds",
        "Time of requests in their prompt phase, with the engine's bounds.",
        (),
        *_OF_ENGINE,
        combine="sum",
    ),
    "request_decode": histogram(
        "engine_request_decode_seconds",
        "Time of requests in their output phase, with the engine's bounds.",
        (),
        *_OF_ENGINE,
        combine="sum",
    ),
}
_OF_MODEL = (*_OF_ENGINE, "model")
MODEL_INFO = gauge(
    "model_info",
    "Always 1, with labels that describe the model.",
    *_OF_MODEL,
    "quantization",
    "family",
    "parameters",
    "format",
    note="As the server describes it; empty where it does not.",
    combine="max",
)
LOADED = gauge(
    "model_loaded", "1 when the model is loaded, 0 when it is unloaded or asleep.", *_OF_MODEL, combine="max"
)
MEMORY = gauge(
    "model_memory_bytes",
    "Memory of a loaded model by type (vram, ram).",
    *_OF_MODEL,
    "type",
    note=(
        "As its server reports it; else, for a server on this machine with one model, that of its "
        "processes: mapped model files count as ram as far as they are resident, and vram is what the "
        "GPU driver reports by process."
    ),
    combine="sum",
)
CONTEXT = gauge(
    "model_context_length_tokens", "Tokens that one request of this model can hold.", *_OF_MODEL, combine="min"
)
EXPIRES = gauge(
    "model_expires_timestamp_seconds",
    "Time at which the model will be unloaded unless it is used, in seconds since 1970.",
    *_OF_MODEL,
    note="Absent when it stays loaded.",
    combine="max",
)
LOADS = counter(
    "model_loads",
    "Number of times the model was loaded.",
    *_OF_MODEL,
    note="As far as seen between two polls.",
    combine="sum",
)
UNLOADS = counter(
    "model_unloads",
    "Number of times the model was unloaded or fell asleep.",
    *_OF_MODEL,
    note="As far as seen between two polls.",
    combine="sum",
)
LOAD_DURATION = gauge(
    "model_load_duration_seconds",
    "Duration of the model's last load.",
    *_OF_MODEL,
    note="As the engine reports it, or as it reported it to the request that waited for it.",
    combine="max",
)
ENERGY = counter(
    "model_energy_joules",
    "Energy of the GPUs that hold the model, while loaded, since the exporter started.",
    *_OF_MODEL,
    "attribution",
    note=(
        "For servers on this machine. attribution is exclusive where nothing else had memory on the GPU, "
        "shared where it is estimated from the model's share of the used memory. Absent where a GPU does "
        "not count its energy, or its memory by process, and with MIG."
    ),
    combine="sum",
)
IDLE_ENERGY = counter(
    "model_idle_energy_joules",
    "Energy of the GPUs that hold the model, while loaded and its server had no request.",
    *_OF_MODEL,
    "attribution",
    note=(
        "Part of modelhost_model_energy_joules_total, compared poll by poll. Absent where neither the engine nor the "
        "proxy shows whether there were requests."
    ),
    combine="sum",
)
COLD_STARTS = counter(
    "request_cold_starts",
    "Proxied requests that found their model not loaded.",
    *RequestLabels._fields,
    note="As far as the polls knew; further requests that waited for the same load count too.",
)
COLD_TTFT = histogram(
    "request_cold_start_time_to_first_token_seconds",
    "Time to first token of requests that found their model not loaded.",
    TTFT,
    *RequestLabels._fields,
    note="What they add to the tail of the time to first token of all requests.",
)
PROBES = counter(
    "probes",
    "Requests that the exporter itself sent to check a model, by outcome.",
    *_OF_MODEL,
    "outcome",
    note=(
        "ok, client_error, server_error, timeout, upstream_unreachable, or not_understood for a response "
        "that is no valid one."
    ),
    combine="sum",
)
PROBE_DURATION = histogram(
    "probe_duration_seconds", "Duration of probes with outcome ok.", DURATION, *_OF_MODEL, combine="sum"
)
FAMILIES = (
    *(UP, INFO, POLL_DURATION, LAST_SUCCESS, POLL_FAILURES, SEVERAL_PROCESSES, UNPROXIED),
    *_GAUGES.values(),
    *(WAITING_BY_REASON, INPUT_TOKENS, *_COUNTERS.values(), FINISHED),
    *_LATENCIES.values(),
    *(MODEL_INFO, LOADED, MEMORY, CONTEXT, EXPIRES, LOADS, UNLOADS, LOAD_DURATION, ENERGY, IDLE_ENERGY),
    *(COLD_STARTS, COLD_TTFT, PROBES, PROBE_DURATION),
)

_MAX_LABEL = 128

EngineKey = tuple[str, str]
"""The values of the labels ``server`` and ``upstream``."""


@dataclass(frozen=True)
class ModelState:
    """One model's metrics: the state that its server reported, and what was counted over time."""

    model: Model
    loaded: bool | None
    loads: int | None = None
    unloads: int | None = None
    vram_bytes: float | None = None
    ram_bytes: float | None = None
    load_seconds: float | None = None
    joules: Mapping[str, float] = field(default_factory=dict)
    """By attribution."""
    idle_joules: Mapping[str, float] = field(default_factory=dict)
    """Those among them while its server had no request, likewise."""


@dataclass(frozen=True)
class ServerState:
    """One server, or one replica of a server, as it is shown."""

    server: str
    snapshot: ServerSnapshot | None
    """None while it does not answer."""
    engine: Engine = field(default_factory=Engine)
    models: Mapping[str, ModelState] = field(default_factory=dict)
    """By the label of the model."""
    poll_seconds: float | None = None
    last_success: float | None = None
    failures: Mapping[str, int] = field(default_factory=dict)
    upstream: str = ""
    """Which of its replicas; empty where it has one URL."""
    several_processes: bool = False

    def without_answer(self) -> ServerState:
        """Return this state as that of a server that does not answer."""
        return replace(self, snapshot=None, engine=Engine(), poll_seconds=None)


def families(state: ServerState) -> Iterator[Metric]:
    """Yield the families that a server's state fills."""
    key = state.server, state.upstream
    yield from UP.by([(key, float(state.snapshot is not None))])
    yield from POLL_DURATION.by([(key, state.poll_seconds)])
    yield from LAST_SUCCESS.by([(key, state.last_success)])
    yield from POLL_FAILURES.by(((*key, reason), failures) for reason, failures in state.failures.items())
    if state.snapshot is not None:
        yield from INFO.by([((*key, state.snapshot.kind, _short(state.snapshot.version)), 1)])
        yield from SEVERAL_PROCESSES.by([(key, float(state.several_processes))])
        yield from _of_engine(key, state.engine)
        yield from _of_models(key, state.models)
    yield from _counted(key, state.models)


def _of_engine(key: EngineKey, engine: Engine) -> Iterator[Metric]:
    for field_name, family in (_GAUGES | _COUNTERS).items():
        yield from family.by([(key, getattr(engine, field_name))])
    waiting = engine.requests_waiting_by_reason
    yield from WAITING_BY_REASON.by(((*key, reason), value) for reason, value in waiting.items())
    yield from INPUT_TOKENS.by(((*key, cache), value) for cache, value in engine.input_tokens.items())
    yield from FINISHED.by(((*key, reason), value) for reason, value in engine.requests_finished.items())
    for latency, family in _LATENCIES.items():
        if latency in engine.latencies:
            yield _histogram(family, key, engine.latencies[latency])


def _histogram(family: Family, key: EngineKey, measured: EngineHistogram) -> Metric:
    metric = Metric(family.name, family.help, "histogram")
    labels = dict(zip(_OF_ENGINE, key, strict=True))
    metric.samples = [
        Sample(f"{family.name}_bucket", {**labels, "le": _bound(bound)}, value) for bound, value in measured.buckets
    ]
    metric.samples.append(Sample(f"{family.name}_count", labels, measured.count))
    metric.samples.append(Sample(f"{family.name}_sum", labels, measured.sum))
    return metric


def _bound(bound: float) -> str:
    written: str = floatToGoString(bound)  # type: ignore[no-untyped-call] # has no types
    return written


def _of_models(key: EngineKey, models: Mapping[str, ModelState]) -> Iterator[Metric]:
    yield from MODEL_INFO.by(((*key, label, *_described(state.model)), 1) for label, state in models.items())
    plain: Mapping[Family, Callable[[ModelState], float | None]] = {
        LOADED: lambda state: None if state.loaded is None else float(state.loaded),
        CONTEXT: lambda state: state.model.context_length if state.loaded is not False else None,
        EXPIRES: lambda state: state.model.expires if state.loaded is not False else None,
        LOAD_DURATION: lambda state: state.load_seconds,
    }
    for family, value_of in plain.items():
        yield from family.by(((*key, label), value_of(state)) for label, state in models.items())
    yield from MEMORY.by(
        ((*key, label, kind), value)
        for label, state in models.items()
        for kind, value in (("vram", state.vram_bytes), ("ram", state.ram_bytes))
    )


def _counted(key: EngineKey, models: Mapping[str, ModelState]) -> Iterator[Metric]:
    """Yield what we count ourselves, also while the server does not answer."""
    yield from LOADS.by(((*key, label), state.loads) for label, state in models.items())
    yield from UNLOADS.by(((*key, label), state.unloads) for label, state in models.items())
    by_attribution: Mapping[Family, Callable[[ModelState], Mapping[str, float]]] = {
        ENERGY: lambda state: state.joules,
        IDLE_ENERGY: lambda state: state.idle_joules,
    }
    for family, joules_of in by_attribution.items():
        yield from family.by(
            ((*key, label, attribution), joules)
            for label, state in models.items()
            for attribution, joules in joules_of(state).items()
        )


def _described(model: Model) -> tuple[str, str, str, str]:
    return _short(model.quantization), _short(model.family), _short(model.parameters), _short(model.format)


def _short(text: str) -> str:
    """Return a bounded label value: a server may report anything."""
    return text[:_MAX_LABEL]
