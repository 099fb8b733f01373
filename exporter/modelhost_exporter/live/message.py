"""The message of the live feed: fields, types and units.

The tables of docs/live-api.md are generated from these classes and the strings below their fields. A number is null
where it is not known; those of requests that views format without a check are 0, and have a count beside them.
"""

from __future__ import annotations

from typing import TypedDict


class LiveMessage(TypedDict):
    """One message of the live feed."""

    timestamp: str
    """Time of the measurement: ISO 8601, UTC, with milliseconds."""
    interval: float
    """Seconds between two messages."""
    demo: bool
    """Whether the machine is simulated (`--demo`)."""
    version: str
    """Version of the exporter."""
    host: HostIdentity
    """Name and operating system of the machine."""
    limits: ContainerLimits
    """Limits of the container that count as those of the machine."""
    cpuUsage: float | None
    """CPU time with work, in percent of all CPUs, or of the limit of the container, over the last 10 s."""
    cpuCores: float | None
    """Number of logical CPUs, or the limit of the container that the exporter shares with the programs."""
    cpuCoreUsage: list[int] | None
    """CPU time with work of each logical CPU that is online, by number, in percent over the last 10 s."""
    loadAverage: float | None
    """Load average of 1 minute."""
    loadAverages: list[float] | None
    """Load averages of 1, 5 and 15 minutes."""
    memoryUsage: float | None
    """Used memory in percent."""
    memoryUsed: float | None
    """Used memory in bytes."""
    memoryAvailable: float | None
    """Available memory in bytes."""
    memoryTotal: float | None
    """Total memory in bytes, or the limit of that container."""
    swapUsed: float | None
    """Used swap space in bytes."""
    swapTotal: float | None
    """Swap space in bytes; 0 without swap."""
    gpuUsage: float | None
    """`usage` of the first GPU."""
    gpuInfo: GpuSummary | None
    """The first GPU; null without one."""
    gpus: list[GpuMessage]
    """All GPUs, by index."""
    gpusMissing: int | None
    """Number of GPUs that were expected and are absent; null where no GPU is expected."""
    gpuDetection: GpuDetection
    """What is known about the GPUs of the machine."""
    energy: EnergyMessage | None
    """Power, and energy of today; null where neither GPUs nor processors report it."""
    networkStats: NetworkRates
    """Traffic of all measured interfaces; each byte is counted once."""
    diskUsage: DiskUsage | None
    """The file system at `/`, or the largest where that one is not measured."""
    diskStats: DiskRates
    """Traffic of all physical disks."""
    fileSystems: list[FileSystem]
    """File systems with folders of models, then that at `/` and the largest others, at most 6."""
    diskTroubles: list[DiskTrouble]
    """File systems that cannot be written to or read now, at most 8; empty as a rule."""
    apiStats: ApiStats
    """Requests for inference that passed the proxy, all models together."""
    servers: list[ServerMessage]
    """Model servers that are configured or were found on this machine, by name, at most 100."""
    models: list[ModelMessage]
    """Models with requests or a known state, at most 100; those with the most requests first."""


class HostIdentity(TypedDict):
    """The machine."""

    name: str
    """Host name."""
    system: str
    """Operating system, such as Linux."""
    release: str | None
    """Name and version of the distribution, such as Debian GNU/Linux 13 (trixie)."""
    kernel: str
    """Release of the kernel."""
    cpuModel: str | None
    """Model of the CPU."""
    bootTime: str | None
    """When the machine was booted: ISO 8601, UTC."""


class ContainerLimits(TypedDict):
    """Limits that are lower than what the machine has; null where the machine's own count."""

    cpuCores: float | None
    """CPUs that the container may use."""
    memoryBytes: float | None
    """Memory that the container may use in bytes."""


class GpuSummary(TypedDict):
    """The most important numbers of a GPU."""

    id: str
    """Index of the GPU."""
    name: str | None
    """Product name."""
    usage: float | None
    """Utilization in percent."""
    memoryUsed: float | None
    """Used memory in bytes."""
    memoryTotal: float | None
    """Total memory in bytes."""
    temperature: float | None
    """Temperature of the chip in °C."""


class GpuDetection(TypedDict):
    """Whether the GPUs of the machine are known."""

    state: str
    """`found`; `none`: it has none; `unknown`: a driver is missing, or has not answered yet; `failed`: a driver fails
    or hangs; `replaced`: the exporter must be restarted, since the driver was replaced; `off`: GPUs are not measured.
    """
    detail: str | None
    """Why, unless they were found."""


class GpuMemoryUser(TypedDict):
    """The processes of one name in the memory of a GPU."""

    name: str
    """Name of the server in the configuration, else of the program, else `unknown`."""
    bytes: int
    """Memory in bytes."""


class GpuMessage(TypedDict):
    """One GPU. A GPU that does not respond keeps its identity, and its numbers are null."""

    id: str
    """Index of the GPU."""
    uuid: str
    """Unique id of the GPU."""
    name: str | None
    """Product name."""
    state: str
    """`ok`; `suspended` by the system to save power; `silent`: it does not respond; `lost`: it fell off the bus."""
    usage: float | None
    """Utilization in percent."""
    memoryUsed: float | None
    """Used memory in bytes."""
    memoryTotal: float | None
    """Total memory in bytes."""
    memoryUsers: list[GpuMemoryUser]
    """What holds its memory, the largest first, at most 8; empty where the system does not report it."""
    powerWatts: float | None
    """Power in watts."""
    powerLimitWatts: float | None
    """Power limit in watts."""
    temperature: float | None
    """Temperature of the chip in °C."""
    temperatureLimit: float | None
    """Temperature in °C at which it slows down."""
    throttledBy: list[str]
    """Reasons that hold its clocks down now, as in `gpu_throttled`, without low clocks that are idle or were set."""


class EnergyMessage(TypedDict):
    """Energy of GPUs and processors, without board, disks, fans and power supply."""

    powerWatts: float | None
    """Power now in watts; null in the first message where it is computed from counters."""
    parts: list[str]
    """What is measured: `GPUs`, `processors`."""
    todayKwh: float
    """Energy in kilowatt-hours since `todaySince`."""
    todaySince: str
    """Midnight, or later the first measurement of the exporter: ISO 8601, UTC."""
    todayCost: float | None
    """Its price; null where none is configured (`cost`)."""
    currency: str | None
    """The currency of the price."""


class NetworkRates(TypedDict):
    """Network traffic over the last 10 s."""

    bytesInPerSecond: float | None
    """Received bytes per second."""
    bytesOutPerSecond: float | None
    """Sent bytes per second."""


class DiskRates(TypedDict):
    """Disk traffic over the last 10 s."""

    bytesReadPerSecond: float | None
    """Bytes read per second."""
    bytesWrittenPerSecond: float | None
    """Bytes written per second."""


class FileSystem(TypedDict):
    """One file system, its space computed like `df` does."""

    mountpoint: str
    """Where it is mounted."""
    used: float | None
    """Used space in bytes; null while it does not respond."""
    total: float | None
    """Size in bytes; null while it does not respond."""
    available: float | None
    """Space in bytes that unprivileged users can still fill."""
    percent: float | None
    """Used space in percent of what unprivileged users can use."""
    readOnly: bool
    """Whether the machine cannot write to it: mounted read-only, or after an error."""
    models: list[str]
    """Whose models are on it, such as Ollama or Hugging Face; empty where no folder of models was found."""


class DiskUsage(TypedDict):
    """Space of one file system, computed like `df` does."""

    used: float | None
    """Used space in bytes."""
    total: float
    """Size in bytes."""
    percent: float | None
    """Used space in percent of what unprivileged users can use."""


class DiskTrouble(TypedDict):
    """One file system that is broken or full."""

    mountpoint: str
    """Where it is mounted."""
    problem: str
    """`full`: less than 3 % are available; `read_only`: it could be written to before; `silent`: it does not respond,
    or with errors.
    """


class PastRequests(TypedDict):
    """The requests of the minute before a pause: what to show, with its age, while there are none."""

    secondsAgo: float
    """Seconds since the last request."""
    avgResponseTime: float | None
    """Mean duration in ms."""
    p50: float | None
    """Median of the duration in ms."""
    p95: float | None
    """95th percentile of the duration in ms."""
    p99: float | None
    """99th percentile of the duration in ms."""
    timeToFirstToken: float | None
    """Mean time to the first token of streams in ms."""
    successRate: float | None
    """Successes in percent; client errors and disconnects are left out."""


class ApiStats(TypedDict):
    """Requests of all models. Rates cover the last 10 s; means, quantiles and shares the last 60 s."""

    totalRequests: int
    """Requests since the exporter started."""
    requestsPerSecond: float
    """Requests per second; 0 without requests."""
    avgResponseTime: float
    """Mean duration in ms; 0 without requests."""
    errorRate: float
    """Errors in percent; client errors and disconnects are left out. 0 without requests."""
    rateSeconds: float
    """Seconds that `requestsPerSecond` covers, also of models; 0 in the first message, where it is not known."""
    recentRequests: int
    """Requests of the last 60 s; with 0, `avgResponseTime` is not known."""
    eligibleRequests: int
    """Successes and errors among them; with 0, `errorRate` is not known."""
    last: PastRequests | None
    """The requests before a pause; null while there are requests of the last 60 s, and before the first."""
    p50: float | None
    """Median of the duration in ms."""
    p95: float | None
    """95th percentile of the duration in ms."""
    p99: float | None
    """99th percentile of the duration in ms."""
    responseTimeDistribution: dict[str, int]
    """Requests since the start by duration: `<100ms`, `100-500ms`, `500ms-1s`, `1-5s`, `>5s`."""
    maxDistributionCount: int
    """The largest number in `responseTimeDistribution`, and 1 without requests."""


class ServerMessage(TypedDict):
    """One model server."""

    name: str
    """Name of the server in the configuration, or of its kind where it was found."""
    kind: str | None
    """Kind of its engine, such as ollama."""
    version: str | None
    """Version of its engine."""
    up: bool | None
    """Whether its engine responds to polls; null where it is not polled."""
    address: str | None
    """Host and port of a server on this machine."""
    proxyAddress: str | None
    """Host and port of its proxy, an empty host for every address; null without a proxy."""
    requestsRunning: float | None
    """Requests that its engine processes."""
    requestsWaiting: float | None
    """Requests in the queue of its engine."""


class ModelMessage(TypedDict):
    """One model. Rates cover the last 10 s; means, quantiles and shares the last 60 s."""

    id: str
    """`SERVER/MODEL`."""
    server: str
    """Name of the server in the configuration."""
    model: str
    """Name of the model."""
    name: str
    """Likewise."""
    requestsPerSecond: float
    """Requests per second; 0 without requests."""
    avgResponseTime: float
    """Mean duration in ms; 0 without requests."""
    p50: float | None
    """Median of the duration in ms."""
    p95: float | None
    """95th percentile of the duration in ms."""
    p99: float | None
    """99th percentile of the duration in ms."""
    successRate: float
    """Successes in percent; client errors and disconnects are left out. 0 without requests."""
    recentRequests: int
    """Requests of the last 60 s; with 0, `avgResponseTime` is not known."""
    eligibleRequests: int
    """Successes and errors among them; with 0, `successRate` is not known."""
    last: PastRequests | None
    """The requests before a pause; null while there are requests of the last 60 s, and before the first."""
    tokensPerSecond: float | None
    """Output tokens per second, streams in progress included; null for a model that never had any."""
    lastStreamTokensPerSecond: float | None
    """Output tokens per second of decode of the stream that finished last."""
    timeToFirstToken: float | None
    """Mean time to the first token of streams in ms."""
    inFlight: int | None
    """Requests in progress."""
    totalRequests: int | None
    """Requests since the exporter started; null for a model that never had any."""
    requestsWaiting: float | None
    """Requests in the queue of its engine; null where that has other models loaded, or reports none."""
    contextLength: float | None
    """Tokens that one of its requests can hold."""
    kvCacheUsage: float | None
    """KV cache of its engine in use, in percent; null as `requestsWaiting`."""
    memoryUsage: float
    """Memory of the model in bytes, on GPUs and of the host, as its server reports it; 0 where it does not."""
    gpuMemoryUsage: float | None
    """The part of it that is on GPUs."""
    loaded: bool | None
    """Whether the server has the model loaded."""
