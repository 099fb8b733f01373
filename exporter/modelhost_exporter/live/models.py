"""The models of the message: requests from the proxy, state from the model servers."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from modelhost_exporter.live.host import percent
from modelhost_exporter.live.last_minute import NO_READING
from modelhost_exporter.requests.model_names import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from modelhost_exporter.live.family_lookup import Families
    from modelhost_exporter.live.last_minute import MinuteReading
    from modelhost_exporter.live.measurements import Measurements, RequestsSpan
    from modelhost_exporter.live.message import LiveMessage, ModelMessage, PastRequests
    from modelhost_exporter.live.request_totals import ModelKey, RequestCounts
    from modelhost_exporter.requests.series_by_model import ByModel

MAX_MODELS = 100
"""Models in a message: those with the most requests."""


def models(
    families: Families, measurements: Measurements, minute: Mapping[ModelKey, MinuteReading], rate_seconds: float
) -> list[ModelMessage]:
    """Return the models, those with the most requests first; rates cover that many seconds."""
    memory = families.by("model_memory_bytes", "server", "model", "type")
    loaded = _by_model(families, "model_loaded")
    data = _ModelData(
        measurements,
        measurements.newest.requests,
        measurements.newest.in_flight,
        memory=_by_model(families, "model_memory_bytes"),
        gpu_memory={key[:2]: value for key, value in memory.items() if key[2] == "vram"},
        loaded=loaded,
        context=families.lowest("model_context_length_tokens", "server", "model"),
        of_engine=_of_only_model(families, loaded),
        rate_seconds=rate_seconds,
        rate_span=measurements.requests_span(rate_seconds),
        minute=minute,
    )
    known = {*data.totals, *data.memory, *data.loaded, *(key for key, count in data.in_flight.items() if count)}
    chosen = sorted((key for key in known if key[1] != UNKNOWN), key=data.order)
    return [data.message(key) for key in chosen[:MAX_MODELS]]


class _EngineUse(NamedTuple):
    """Numbers that engines have for all their models together; None where they have none."""

    waiting: float | None = None
    """Requests in the queue."""
    kv_cache: float | None = None
    """Share of the KV cache in use."""


_UNKNOWN_USE = _EngineUse()


class _ModelData(NamedTuple):
    """What the messages of all models are computed from."""

    measurements: Measurements
    totals: Mapping[ModelKey, RequestCounts]
    in_flight: ByModel
    memory: Mapping[ModelKey, float]
    gpu_memory: Mapping[tuple[str, ...], float]
    loaded: Mapping[ModelKey, float]
    context: Mapping[tuple[str, ...], float]
    of_engine: Mapping[ModelKey, _EngineUse]
    rate_seconds: float
    rate_span: RequestsSpan | None
    minute: Mapping[ModelKey, MinuteReading]

    def order(self, key: ModelKey) -> tuple[float, str]:
        """Return the sort key of a model: most requests first, then by id."""
        return (-self.totals[key].requests if key in self.totals else 0.0, "/".join(key))

    def message(self, key: ModelKey) -> ModelMessage:
        """Return one model."""
        since_start = self.totals.get(key)
        minute = self.minute.get(key, NO_READING)
        recent = minute.current
        engine = self.of_engine.get(key, _UNKNOWN_USE)
        return {
            "id": "/".join(key),
            "server": key[0],
            "model": key[1],
            "name": key[1],
            "requestsPerSecond": self._requests_per_second(key),
            "avgResponseTime": recent.mean_ms or 0.0,
            "p50": recent.p50_ms,
            "p95": recent.p95_ms,
            "p99": recent.p99_ms,
            "successRate": 0.0 if recent.error_percent is None else 100.0 - recent.error_percent,
            "recentRequests": recent.requests,
            "eligibleRequests": recent.eligible,
            "last": before_pause(minute),
            "tokensPerSecond": self.measurements.tokens_per_second(key, self.rate_seconds),
            "lastStreamTokensPerSecond": self.measurements.newest.tokens.last_speed(key),
            "timeToFirstToken": recent.first_token_ms,
            "inFlight": int(self.in_flight[key]) if key in self.in_flight else None,
            "totalRequests": since_start.requests if since_start else None,
            "requestsWaiting": engine.waiting,
            "contextLength": self.context.get(key),
            "kvCacheUsage": percent(engine.kv_cache, 1.0),
            "memoryUsage": self.memory.get(key, 0.0),
            "gpuMemoryUsage": self.gpu_memory.get(key),
            "loaded": bool(self.loaded[key]) if key in self.loaded else None,
        }

    def _requests_per_second(self, key: ModelKey) -> float:
        """Return requests per second; 0 also where they are not known yet."""
        span = self.rate_span
        return span.of(key).requests / span.seconds if span is not None else 0.0


def before_pause(minute: MinuteReading) -> PastRequests | None:
    """Return the statistics before a pause; None where there is none, or no request before it."""
    if minute.is_current or minute.age is None:
        return None
    stats = minute.stats
    return {
        "secondsAgo": round(minute.age, 1),
        "avgResponseTime": stats.mean_ms,
        "p50": stats.p50_ms,
        "p95": stats.p95_ms,
        "p99": stats.p99_ms,
        "timeToFirstToken": stats.first_token_ms,
        "successRate": None if stats.error_percent is None else 100.0 - stats.error_percent,
    }


def find_model(models: Sequence[ModelMessage], wanted: str) -> ModelMessage | None:
    """Return the model with this id, or with this name where only one server has it; None for neither."""
    found = [model for model in models if wanted == model["id"]] or [
        model for model in models if wanted == model["model"]
    ]
    return found[0] if len(found) == 1 else None


def all_models(message: LiveMessage) -> ModelMessage:
    """Return the sum of all models, those without a known name included; null where a sum makes no sense."""
    stats, models = message["apiStats"], message["models"]
    speeds = [model["tokensPerSecond"] for model in models if model["tokensPerSecond"] is not None]
    running = [model["inFlight"] for model in models if model["inFlight"] is not None]
    loaded = [model["loaded"] for model in models if model["loaded"] is not None]
    on_gpus = [model["gpuMemoryUsage"] for model in models if model["gpuMemoryUsage"] is not None]
    waiting = [server["requestsWaiting"] for server in message["servers"] if server["requestsWaiting"] is not None]
    return {
        "id": "",
        "server": "",
        "model": "",
        "name": "",
        "requestsPerSecond": stats["requestsPerSecond"],
        "avgResponseTime": stats["avgResponseTime"],
        "p50": stats["p50"],
        "p95": stats["p95"],
        "p99": stats["p99"],
        "successRate": 100.0 - stats["errorRate"] if stats["eligibleRequests"] else 0.0,
        "recentRequests": stats["recentRequests"],
        "eligibleRequests": stats["eligibleRequests"],
        "last": stats["last"],
        "tokensPerSecond": sum(speeds) if speeds else None,
        "lastStreamTokensPerSecond": None,
        "timeToFirstToken": None,
        "inFlight": sum(running) if running else None,
        "totalRequests": stats["totalRequests"],
        "requestsWaiting": sum(waiting) if waiting else None,
        "contextLength": None,
        "kvCacheUsage": None,
        "memoryUsage": sum(model["memoryUsage"] for model in models),
        "gpuMemoryUsage": sum(on_gpus) if on_gpus else None,
        "loaded": any(loaded) if loaded else None,
    }


def _of_only_model(families: Families, loaded: Mapping[ModelKey, float]) -> Mapping[ModelKey, _EngineUse]:
    """Return the numbers of engines that have one model loaded, by that model: they are its own."""
    waiting = families.by("engine_requests_waiting", "server")
    kv_cache = families.highest("engine_kv_cache_usage_ratio", "server")
    models: dict[str, list[str]] = {}
    for (server, model), is_loaded in loaded.items():
        if is_loaded:
            models.setdefault(server, []).append(model)
    return {
        (server, names[0]): _EngineUse(waiting.get((server,)), kv_cache.get((server,)))
        for server, names in models.items()
        if len(names) == 1
    }


def _by_model(families: Families, name: str) -> dict[ModelKey, float]:
    return {(server, model): value for (server, model), value in families.by(name, "server", "model").items()}
