"""Descriptions of simulated models, servers and engine kinds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

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
class CpuReplica:
    """A further replica of a server, without GPUs."""

    port: int
    pid: int
    command: str
    slowness: float
    """Factor by which it is slower than the server."""


@dataclass(frozen=True)
class ServerSpec:
    """One model server, or a replica of it."""

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
    slowness: float = 1.0
    """Factor by which everything is slower than the models' speeds."""
    is_replica: bool = False
    """Whether it is a further replica, which incidents may take down alone."""
    cpu_replica: CpuReplica | None = None

    def replicas(self) -> Iterator[ServerSpec]:
        """Yield this server, and its further replica if it has one."""
        yield self
        if (one := self.cpu_replica) is not None:
            yield replace(
                self,
                port=one.port,
                pid=one.pid,
                command=one.command,
                slowness=one.slowness,
                gpus=(),
                gpu_bytes=0,
                is_killed_by_memory_pressure=False,
                is_replica=True,
                cpu_replica=None,
            )


class SimulatedKind(Protocol):
    """The contents of each file in ``demo/kinds``."""

    SERVER: ServerSpec
    MODELS: tuple[ModelSpec, ...]
    PAGES: Mapping[str, Callable[[SimulatedEngine, float], bytes]]
    """Function that writes each of the server's pages at a time, by path."""
    INCIDENTS: tuple[tuple[Kind, float, float], ...]
    """Incidents of the server: what, first minute of the hour, minutes."""
    LONG_INCIDENTS: tuple[tuple[Kind, float, float], ...]
    """Those that are too long for every hour, and happen twice a day; between others of the server."""
