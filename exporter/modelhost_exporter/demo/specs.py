"""Descriptions of simulated models, servers and engine kinds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

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
    burst_seconds: float = 900.0
    """Time from the beginning of one burst to the next."""
    burst_share: float = 0.6
    """Share of that time with requests."""
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


@dataclass(frozen=True)
class CardSpec:
    """One kind of GPU."""

    name: str
    memory_bytes: int
    power_limit_watts: float
    capped_watts: float
    """Power limit while something else than the driver's default limits it."""
    idle_watts: float
    busy_watts: float
    """Additional power of a GPU that works at all."""
    active_watts: float
    """Additional power at full activity of its multiprocessors."""
    slowdown_celsius: float
    celsius_per_watt: float
    boost_mhz: int
    idle_mhz: int
    hot_mhz: int
    memory_mhz: int
    video_mhz: int
    prefill_rate: float
    """Input tokens per second that keep it busy."""
    capability: tuple[int, int]
    vbios: str
    pcie_generation: int
    desktop_bytes: int = 0
    """Memory of the desktop that it shows."""
    is_for_data_centers: bool = True
    """Whether it has ECC, NVLink and performance monitoring, and no fans of its own."""


@dataclass(frozen=True)
class MountSpec:
    """A mounted file system."""

    device: str
    mountpoint: str
    fstype: str
    size: int
    used: float


@dataclass(frozen=True)
class HostSpec:
    """The machine without its GPUs."""

    name: str
    """Name of the host."""
    cpus: int
    cpu_model: str
    model_folders: tuple[tuple[str, str], ...]
    """Folders of models: whose they are, and the path."""
    memory_bytes: int
    swap_bytes: int
    base_bytes: int
    """Memory of programs that are no model servers."""
    interface_names: tuple[str, ...]
    """Network interfaces, the one with most traffic first."""
    interface_megabits: int
    base_traffic_bytes: float
    """Bytes per second without requests."""
    mounts: tuple[MountSpec, ...]
    """The first is on the first drive, the second on the second, which has the models."""
    uptime_seconds: float
    busy_share: float
    """Share of the CPUs that is in use without requests."""
    busy_per_token: float
    """Additional share for each output token per second."""
    busy_per_request: float
    """Additional share for each request per second."""
    is_server: bool = True
    """Whether it has InfiniBand, bonded interfaces, a RAID, reports of memory errors, two processors and a BMC."""


class SimulatedServer(NamedTuple):
    """A model server and its models."""

    server: ServerSpec
    models: tuple[ModelSpec, ...]


class SimulatedKind(Protocol):
    """The contents of each file in ``demo/kinds``; all but ``PAGES`` and ``WORKSTATION`` are about the rack.

    ``WORKSTATION``, a SimulatedServer of the workstation, may be left out.
    """

    SERVER: ServerSpec
    MODELS: tuple[ModelSpec, ...]
    PAGES: Mapping[str, Callable[[SimulatedEngine, float], bytes]]
    """Function that writes each of the server's pages at a time, by path."""
    INCIDENTS: tuple[tuple[Kind, float, float], ...]
    """Incidents of the server: what, first minute of the hour, minutes."""
    LONG_INCIDENTS: tuple[tuple[Kind, float, float], ...]
    """Those that are too long for every hour, and happen twice a day; between others of the server."""
