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

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from modelhost_exporter.engines.snapshot import EngineHistogram, Latency, Model, ServerSnapshot

UP = gauge(
    "engine_up",
    "1 when the last poll succeeded and the next is not overdue, else 0: what the server says is then absent.",
    "server",
)
INFO = gauge(
    "engine_info", "Always 1; the labels name the kind and version of the model server.", "server", "kind", "version"
)
POLL_DURATION = gauge("engine_poll_duration_seconds", "How long the last poll took, failed or not.", "server")
LAST_SUCCESS = gauge(
    "engine_last_success_timestamp_seconds",
    "When the server was last polled with success, in seconds since 1970: the age of everything it says here.",
    "server",
)
POLL_FAILURES = counter(
    "engine_poll_failures",
    "Polls that failed, and pages that failed in a poll that did not, by reason.",
    "server",
    "reason",
)
UNPROXIED = gauge(
    "engine_unproxied_tokens_ratio",
    "Share of the engine's tokens of the last hour that did not pass the proxy: requests that went around it, probes,"
    " and requests whose usage the proxy was not told. Absent without traffic and for servers that are not proxied.",
    "server",
)
_GAUGES = {
    "requests_running": gauge("engine_requests_running", "Requests that the engine works on now.", "server"),
    "requests_waiting": gauge("engine_requests_waiting", "Requests in the engine's own queue.", "server"),
    "request_capacity": gauge(
        "engine_request_capacity", "Requests that the engine works on at the same time.", "server"
    ),
    "kv_cache_usage_ratio": gauge(
        "engine_kv_cache_usage_ratio",
        "Used share of the KV cache, the mean of several engines. llama.cpp: tokens of the slots that work over all"
        " that fit, an approximation; absent where it is not known how many fit.",
        "server",
    ),
    "kv_cache_capacity_tokens": gauge(
        "engine_kv_cache_capacity_tokens",
        "Tokens that fit in the KV cache of all engines. llama.cpp: the context that its slots share, or that of all"
        " slots; absent where its command line, which tells the two apart, cannot be seen.",
        "server",
    ),
}
INPUT_TOKENS = counter(
    "engine_input_tokens",
    "Input tokens by cache, disjoint: hit, miss, or unknown where the engine does not say.",
    "server",
    "cache",
)
_COUNTERS = {
    "output_tokens": counter(
        "engine_output_tokens",
        "Output tokens as the engine counts them; llama.cpp's step at a request's end.",
        "server",
    ),
    "prefill_seconds": counter(
        "engine_prefill_seconds",
        "Time on prompts as the engine counts it; that of requests worked on side by side may overlap.",
        "server",
    ),
    "decode_seconds": counter("engine_decode_seconds", "Time on output as the engine counts it; likewise.", "server"),
    "preemptions": counter(
        "engine_preemptions", "Requests that had to give up their place in the KV cache to others.", "server"
    ),
    "speculative_drafts": counter(
        "engine_speculative_drafts", "Speculative decoding: guesses that were verified.", "server"
    ),
    "speculative_draft_tokens": counter(
        "engine_speculative_draft_tokens", "Speculative decoding: tokens that were guessed.", "server"
    ),
    "speculative_accepted_tokens": counter(
        "engine_speculative_accepted_tokens", "Speculative decoding: guessed tokens that were kept.", "server"
    ),
}
FINISHED = counter(
    "engine_requests_finished",
    "Requests by the reason they ended: stop, length, abort, error, other; unknown where the engine does not say.",
    "server",
    "finish_reason",
)
_LATENCIES: Mapping[Latency, Family] = {
    "time_to_first_token": histogram(
        "engine_time_to_first_token_seconds",
        "Time to first token as the engine sees it, with its own bounds: what happened before the request reached it is"
        " missing.",
        (),
        "server",
    ),
    "inter_token_latency": histogram(
        "engine_inter_token_latency_seconds",
        "Time between two outputs of a request, with the engine's bounds; one output may hold several tokens.",
        (),
        "server",
    ),
    "time_per_output_token": histogram(
        "engine_time_per_output_token_seconds",
        "Mean time per output token of each request, with the engine's bounds.",
        (),
        "server",
    ),
    "request_duration": histogram(
        "engine_request_duration_seconds", "Whole requests as the engine sees them, with its own bounds.", (), "server"
    ),
    "request_queue": histogram(
        "engine_request_queue_seconds", "Time of requests in the engine's queue, with its own bounds.", (), "server"
    ),
    "request_prefill": histogram(
        "engine_request_prefill_seconds",
        "Time of requests in their prompt phase, with the engine's bounds.",
        (),
        "server",
    ),
    "request_decode": histogram(
        "engine_request_decode_seconds",
        "Time of requests in their output phase, with the engine's bounds.",
        (),
        "server",
    ),
}
_OF_MODEL = ("server", "model")
MODEL_INFO = gauge(
    "model_info",
    "Always 1; the labels describe the model as its server does, empty where it does not say.",
    *_OF_MODEL,
    "quantization",
    "family",
    "parameters",
    "format",
)
LOADED = gauge("model_loaded", "1 when the model is loaded, 0 when it is not or sleeps.", *_OF_MODEL)
MEMORY = gauge(
    "model_memory_bytes",
    "Memory of a loaded model by type: vram, ram. As its server says; else, for a server on this machine with one"
    " model, that of its processes: mapped model files count as ram as far as they are resident, and vram is what the"
    " GPUs' driver tells by process.",
    *_OF_MODEL,
    "type",
)
CONTEXT = gauge("model_context_length_tokens", "Tokens that one request of this model can hold.", *_OF_MODEL)
EXPIRES = gauge(
    "model_expires_timestamp_seconds",
    "When the model will be unloaded unless it is used, in seconds since 1970; absent when it stays.",
    *_OF_MODEL,
)
LOADS = counter("model_loads", "Times the model was loaded, as far as seen between two polls.", *_OF_MODEL)
UNLOADS = counter(
    "model_unloads", "Times the model was unloaded or fell asleep, as far as seen between two polls.", *_OF_MODEL
)
LOAD_DURATION = gauge(
    "model_load_duration_seconds",
    "How long its last load took: as the engine says, or as it told the request that waited for it.",
    *_OF_MODEL,
)
ENERGY = counter(
    "model_energy_joules",
    "Energy of the GPUs a loaded model sits on, of servers on this machine, since the exporter started: exclusive where"
    " nothing else had memory on the GPU; shared where it is the part that the model's share of the used memory stands"
    " for, an estimate. Absent where a GPU does not count its energy, or its memory by process, and with MIG.",
    *_OF_MODEL,
    "attribution",
)
COLD_STARTS = counter(
    "request_cold_starts",
    "Requests through the proxy that found their model not loaded, as far as the polls knew; the others of a queue that"
    " waited for the same load count too.",
    *_OF_MODEL,
    "operation",
)
COLD_TTFT = histogram(
    "request_cold_start_time_to_first_token_seconds",
    "Time to first token of these requests alone: what they add to the tail of the time to first token of all.",
    TTFT,
    *_OF_MODEL,
    "operation",
)
PROBES = counter(
    "probes",
    "Tiny requests that the exporter itself sent, by outcome: ok, client_error, server_error, timeout,"
    " upstream_unreachable, or not_understood for an answer that is none.",
    *_OF_MODEL,
    "outcome",
)
PROBE_DURATION = histogram("probe_duration_seconds", "How long probes with outcome ok took.", DURATION, *_OF_MODEL)
FAMILIES = (
    *(UP, INFO, POLL_DURATION, LAST_SUCCESS, POLL_FAILURES, UNPROXIED),
    *_GAUGES.values(),
    *(INPUT_TOKENS, *_COUNTERS.values(), FINISHED),
    *_LATENCIES.values(),
    *(MODEL_INFO, LOADED, MEMORY, CONTEXT, EXPIRES, LOADS, UNLOADS, LOAD_DURATION, ENERGY),
    *(COLD_STARTS, COLD_TTFT, PROBES, PROBE_DURATION),
)

_MAX_LABEL = 128


@dataclass(frozen=True)
class ModelState:
    """One model as it is shown: what its server said, and what was seen over time."""

    model: Model
    loaded: bool | None
    loads: int | None = None
    unloads: int | None = None
    vram_bytes: float | None = None
    ram_bytes: float | None = None
    load_seconds: float | None = None
    joules: Mapping[str, float] = field(default_factory=dict)
    """By attribution."""


@dataclass(frozen=True)
class ServerState:
    """One server as it is shown."""

    server: str
    snapshot: ServerSnapshot | None
    """None while it does not answer."""
    engine: Engine = field(default_factory=Engine)
    models: Mapping[str, ModelState] = field(default_factory=dict)
    """By the label of the model."""
    poll_seconds: float | None = None
    last_success: float | None = None
    failures: Mapping[str, int] = field(default_factory=dict)
    unproxied_ratio: float | None = None

    def without_answer(self) -> ServerState:
        """Return this state as that of a server that does not answer."""
        return replace(self, snapshot=None, engine=Engine(), poll_seconds=None, unproxied_ratio=None)


def families(state: ServerState) -> Iterator[Metric]:
    """Yield the families that a server's state fills."""
    name = state.server
    yield from UP.by([((name,), float(state.snapshot is not None))])
    yield from POLL_DURATION.by([((name,), state.poll_seconds)])
    yield from LAST_SUCCESS.by([((name,), state.last_success)])
    yield from POLL_FAILURES.by(((name, reason), failures) for reason, failures in state.failures.items())
    yield from UNPROXIED.by([((name,), state.unproxied_ratio)])
    if state.snapshot is not None:
        yield from INFO.by([((name, state.snapshot.kind, _short(state.snapshot.version)), 1)])
        yield from _of_engine(name, state.engine)
        yield from _of_models(name, state.models)
    yield from _counted(name, state.models)


def _of_engine(server: str, engine: Engine) -> Iterator[Metric]:
    for field_name, family in (_GAUGES | _COUNTERS).items():
        yield from family.by([((server,), getattr(engine, field_name))])
    yield from INPUT_TOKENS.by(((server, cache), value) for cache, value in engine.input_tokens.items())
    yield from FINISHED.by(((server, reason), value) for reason, value in engine.requests_finished.items())
    for latency, family in _LATENCIES.items():
        if latency in engine.latencies:
            yield _histogram(family, server, engine.latencies[latency])


def _histogram(family: Family, server: str, measured: EngineHistogram) -> Metric:
    metric = Metric(family.name, family.help, "histogram")
    labels = {"server": server}
    metric.samples = [
        Sample(f"{family.name}_bucket", {**labels, "le": _bound(bound)}, value) for bound, value in measured.buckets
    ]
    metric.samples.append(Sample(f"{family.name}_count", labels, measured.count))
    metric.samples.append(Sample(f"{family.name}_sum", labels, measured.sum))
    return metric


def _bound(bound: float) -> str:
    written: str = floatToGoString(bound)  # type: ignore[no-untyped-call] # has no types
    return written


def _of_models(server: str, models: Mapping[str, ModelState]) -> Iterator[Metric]:
    yield from MODEL_INFO.by(((server, label, *_described(state.model)), 1) for label, state in models.items())
    plain: Mapping[Family, Callable[[ModelState], float | None]] = {
        LOADED: lambda state: None if state.loaded is None else float(state.loaded),
        CONTEXT: lambda state: state.model.context_length if state.loaded is not False else None,
        EXPIRES: lambda state: state.model.expires if state.loaded is not False else None,
        LOAD_DURATION: lambda state: state.load_seconds,
    }
    for family, value_of in plain.items():
        yield from family.by(((server, label), value_of(state)) for label, state in models.items())
    yield from MEMORY.by(
        ((server, label, kind), value)
        for label, state in models.items()
        for kind, value in (("vram", state.vram_bytes), ("ram", state.ram_bytes))
    )


def _counted(server: str, models: Mapping[str, ModelState]) -> Iterator[Metric]:
    """Yield what we count ourselves, also while the server does not answer."""
    yield from LOADS.by(((server, label), state.loads) for label, state in models.items())
    yield from UNLOADS.by(((server, label), state.unloads) for label, state in models.items())
    yield from ENERGY.by(
        ((server, label, attribution), joules)
        for label, state in models.items()
        for attribution, joules in state.joules.items()
    )


def _described(model: Model) -> tuple[str, str, str, str]:
    return _short(model.quantization), _short(model.family), _short(model.parameters), _short(model.format)


def _short(text: str) -> str:
    """Return what fits a label: a server may say anything."""
    return text[:_MAX_LABEL]
