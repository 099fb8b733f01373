"""A simulated TGI server whose model is loaded, but never used: probes would use it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.demo.page_formats import histogram_lines, json_page, sample_lines
from modelhost_exporter.demo.specs import GIB, ModelSpec, ServerSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from modelhost_exporter.demo.engines import SimulatedEngine
    from modelhost_exporter.demo.incidents import Kind

SERVER = ServerSpec(
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
    is_probed=False,
)
MODELS = (
    ModelSpec(
        "mistralai/Mistral-7B-Instruct-v0.3",
        *("tgi", 0.0, 500, 200, 20_000, 0.008),
        bytes=14 * 10**9,
        context=32_768,
        quantization="bfloat16",
    ),
)
INCIDENTS: tuple[tuple[Kind, float, float], ...] = ()
LONG_INCIDENTS: tuple[tuple[Kind, float, float], ...] = (("server_crash_loop", 3, 50),)


def _metrics(engine: SimulatedEngine, at: float) -> bytes:
    tally = engine.tally
    values = {
        "batch_current_size": engine.running(at),
        "queue_size": engine.waiting(at),
        "request_input_length_sum": tally.prompt_hit + tally.prompt_miss,
        "request_generated_tokens_sum": tally.generated,
        "request_success": tally.finished["stop"] + tally.finished["length"],
    }
    lines = sample_lines("tgi_", "", values.items())
    lines.append(f'tgi_request_failure{{err="generation"}} {tally.finished["error"]}\n')
    lines += histogram_lines("tgi_request_duration", "", tally.latencies["duration"])
    return "".join(lines).encode()


def _info(engine: SimulatedEngine, _at: float) -> bytes:
    (model, *_) = engine.models
    about = {
        "model_id": model.name,
        "model_dtype": f"torch.{model.quantization}",
        "max_total_tokens": model.context,
        "max_concurrent_requests": engine.spec.capacity,
        "max_batch_total_tokens": engine.spec.kv_tokens,
        "version": engine.spec.version,
    }
    return json_page(about)


PAGES: Mapping[str, Callable[[SimulatedEngine, float], bytes]] = {"/info": _info, "/metrics": _metrics}
