"""Descriptions of simulated models, servers and engine kinds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from modelhost_exporter.demo.engines import SimulatedEngine
    from modelhost_exporter.demo.incidents import Kind

GIB = 2**30
MIG_GPU = 7
"""Index of the GPU that is split (MIG)."""

ResponseTime = Literal["queue", "prefill", "decode", "load"]


@dataclass(frozen=True)
class ModelSpec:
    """One model: its traffic, and its speed on otherwise idle GPUs."""

    name: str
    server: str
    rate: float
    """Requests per second at the busiest time of the day."""
    input_tokens: float
    output_tokens: float
    prefill_rate: float
    """Tokens per second."""
    token_seconds: float
    operation: str = "chat"
    cache_hit: float = 0.3
    """Mean share of input tokens that are in the engine's cache."""
    reasoning: float = 0.0
    """Share of output tokens that are reasoning."""
    in_bursts: bool = False
    """Whether there are minutes without a request, in which a server unloads the model."""
    bytes: int = 0
    load_seconds: float = 0.0
    context: int = 131_072
    family: str = ""
    parameters: str = ""
    quantization: str = ""
    has_adapters: bool = False
    """Whether further models of the demo are adapters (LoRA) of this one."""


@dataclass(frozen=True)
class ServerSpec:
    """One model server."""

    name: str
    kind: str
    version: str
    port: int
    pid: int
    command: str
    gpus: tuple[int, ...]
    capacity: int
    """Requests that run at the same time."""
    kv_tokens: int
    """Tokens that fit in its KV cache."""
    gpu_bytes: int = 0
    """Memory allocated on each GPU at the start; 0: as its loaded models need."""
    ram_bytes: int = 4 * GIB
    ttft_objective: tuple[float, float] = (2.0, 0.95)
    """Threshold in seconds, and target share of requests."""
    duration_objective: tuple[float, float] = (60.0, 0.99)
    loads_on_request: bool = False
    """Whether a model is loaded by its first request, and unloaded after minutes without one."""
    is_probed: bool = True
    is_killed_by_memory_pressure: bool = False
    response_times: frozenset[ResponseTime] = frozenset()
    """Times that its responses contain."""


class SimulatedKind(Protocol):
    """The contents of each file in ``demo/kinds``."""

    SERVER: ServerSpec
    MODELS: tuple[ModelSpec, ...]
    PAGES: Mapping[str, Callable[[SimulatedEngine, float], bytes]]
    """Function that writes each of the server's pages at a time, by path."""
    INCIDENTS: tuple[tuple[Kind, float, float], ...]
    """Incidents of the server: what, first minute of the hour, minutes."""
