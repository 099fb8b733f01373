"""The simulated machine's model servers, their models and their GPUs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

GIB = 2**30
GPUS = 8
GPU_MEMORY_BYTES = 81_559 * 2**20
MIG_GPU = 7

Kind = Literal["vllm", "sglang", "tgi", "llamacpp", "ollama"]


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


@dataclass(frozen=True)
class ServerSpec:
    """One model server."""

    name: str
    kind: Kind
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


SERVERS = (
    ServerSpec(
        "vllm",
        "vllm",
        "0.30.0",
        8000,
        4100,
        "vllm serve --tensor-parallel-size=4 --port 8000",
        (0, 1, 2, 3),
        64,
        140_000,
        gpu_bytes=70 * GIB,
        ram_bytes=22 * GIB,
        ttft_objective=(1.5, 0.99),
    ),
    ServerSpec(
        "sglang",
        "sglang",
        "0.5.6",
        30000,
        4200,
        "python3 -m sglang.launch_server --port 30000",
        (4,),
        48,
        150_000,
        gpu_bytes=68 * GIB,
        ram_bytes=12 * GIB,
    ),
    ServerSpec("ollama", "ollama", "0.13.5", 11434, 4300, "ollama serve", (5,), 8, 65_536, ttft_objective=(5.0, 0.95)),
    ServerSpec(
        "tgi",
        "tgi",
        "3.3.6",
        3000,
        4400,
        "text-generation-launcher --port 3000",
        (6,),
        128,
        120_000,
        gpu_bytes=62 * GIB,
    ),
    ServerSpec(
        "llamacpp",
        "llamacpp",
        "b11434-4e9f1c2",
        8080,
        4500,
        "llama-server --parallel 4 --port 8080",
        (MIG_GPU,),
        4,
        65_536,
        gpu_bytes=16 * GIB,
    ),
)

_LLAMA = ModelSpec(
    "meta-llama/Llama-3.3-70B-Instruct",
    *("vllm", 1.5, 1400, 320, 14_000, 0.018),
    cache_hit=0.45,
    bytes=141 * 10**9,
    load_seconds=95,
)
_QWEN = ModelSpec(
    "Qwen/Qwen3-32B-FP8",
    *("sglang", 0.8, 2200, 520, 16_000, 0.013),
    cache_hit=0.55,
    reasoning=0.55,
    bytes=33 * 10**9,
    load_seconds=38,
    context=40_960,
)
_GPT_OSS = ModelSpec(
    "gpt-oss-20b",
    *("llamacpp", 0.2, 900, 280, 5_000, 0.009),
    reasoning=0.3,
    bytes=13 * 10**9,
    context=65_536,
    parameters="20.9B",
    quantization="MXFP4",
)
# loaded, but without any request
_MISTRAL = ModelSpec(
    "mistralai/Mistral-7B-Instruct-v0.3",
    *("tgi", 0.0, 500, 200, 20_000, 0.008),
    bytes=14 * 10**9,
    context=32_768,
    quantization="bfloat16",
)
_OF_OLLAMA = (
    ModelSpec(
        "gemma3:27b",
        *("ollama", 0.10, 600, 220, 4_500, 0.024),
        in_bursts=True,
        bytes=17 * 10**9,
        load_seconds=8.5,
        context=32_768,
        family="gemma3",
        parameters="27.4B",
        quantization="Q4_K_M",
    ),
    ModelSpec(
        "llama3.2:3b",
        *("ollama", 0.30, 400, 120, 18_000, 0.006),
        in_bursts=True,
        bytes=2 * 10**9,
        load_seconds=1.9,
        family="llama",
        parameters="3.2B",
        quantization="Q4_K_M",
    ),
    ModelSpec(
        "nomic-embed-text:v1.5",
        *("ollama", 0.50, 300, 0, 30_000, 0.0),
        operation="embeddings",
        cache_hit=0.0,
        in_bursts=True,
        bytes=274 * 10**6,
        load_seconds=0.8,
        context=8_192,
        family="nomic-bert",
        parameters="137M",
        quantization="F16",
    ),
)
_MODELS = (_LLAMA, _QWEN, _GPT_OSS, *_OF_OLLAMA, _MISTRAL)
USUAL_MODELS = len(_MODELS)
_ADAPTED = (_LLAMA, _QWEN)
_ADAPTER_RATE = 0.06


def models(count: int) -> tuple[ModelSpec, ...]:
    """Return ``count`` models: the usual ones first, then adapters (LoRA) of the two large ones."""
    adapters = (
        replace(base, name=f"{base.name}-team-{number:02}", rate=_ADAPTER_RATE)
        for number, base in ((number, _ADAPTED[number % 2]) for number in range(1, count - USUAL_MODELS + 1))
    )
    return (*_MODELS[:count], *adapters)
