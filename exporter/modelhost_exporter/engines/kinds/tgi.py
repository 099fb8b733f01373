"""Hugging Face text-generation-inference: /info and /metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.engines.label_rules import each, parts
from modelhost_exporter.engines.metrics_page import EnginePage
from modelhost_exporter.engines.pages import FREE, known, known_latencies, optional_object, page, read_object
from modelhost_exporter.engines.snapshot import Engine, Model, ServerSnapshot
from modelhost_exporter.untrusted_json import count, text

if TYPE_CHECKING:
    from typing import Any

    from modelhost_exporter.engines.pages import Fetch, PollPolicy

TITLE = "TGI"
PAGES = "`/info`, `/metrics`"
PORTS = (8080, 3000)
PROGRAMS = ("text-generation",)
PRIORITY = 210
ACCEPTS_INCLUDE_USAGE = True

_FAILURES = ("request_failure", "request_failure_total")
_RULES = {
    **each(
        (
            *("batch_current_size", "queue_size", "batch_max_total_tokens", "request_input_length"),
            *("request_generated_tokens", "request_success", "request_success_total"),
            *("request_duration", "request_queue_duration"),
        ),
        parts(),  # no labels
    ),
    "batch_inference_duration": parts("method"),
    **each(_FAILURES, parts("err")),
}
_ERRORS = ("generation", "incomplete")
"""Failures of requests that ran; the others are refused (overloaded, validation, template) or their client left."""
_ABORTS = ("dropped",)


def detect(fetch: Fetch) -> bool:
    """Return whether /info has a model and the limit of its input and output; a server of embeddings has no output."""
    info = optional_object(fetch, "/info")
    return bool(text(info.get("model_id"))) and "max_total_tokens" in info


def snapshot(fetch: Fetch, care: PollPolicy = FREE) -> ServerSnapshot:
    """Return TGI's state."""
    info = read_object(fetch, "/info")
    metrics = EnginePage(page(fetch, "/metrics") if care.metrics != "off" else b"", "tgi_", rules=_RULES)
    name = text(info.get("model_id"))
    model = Model(
        name,
        loaded=True,
        quantization=text(info.get("model_dtype")).removeprefix("torch."),
        context_length=count(info.get("max_total_tokens")),
    )
    models = (model,) if name else ()
    engine = _engine(metrics, info)
    return ServerSnapshot("tgi", text(info.get("version")), models, engine, prompt_count="per_choice")


def _engine(metrics: EnginePage, info: dict[str, Any]) -> Engine:
    """Return the engine's numbers; names have no unit, and times are seconds.

    Not ``max_concurrent_requests``, the number that may run and wait together, and not its mean time per token, which
    includes the prompt's.
    """
    return Engine(
        requests_running=metrics.total("batch_current_size"),
        requests_waiting=metrics.total("queue_size"),
        request_capacity=count(info.get("max_batch_size")),
        kv_cache_capacity_tokens=count(info.get("max_batch_total_tokens"))
        or count(metrics.total("batch_max_total_tokens")),
        input_tokens=known(unknown=metrics.total("request_input_length_sum")),
        output_tokens=metrics.total("request_generated_tokens_sum"),
        prefill_seconds=metrics.total("batch_inference_duration_sum", method="prefill"),
        decode_seconds=metrics.total("batch_inference_duration_sum", method="decode"),
        requests_finished=_finished(metrics),
        latencies=known_latencies(
            request_duration=metrics.histogram("request_duration"),
            request_queue=metrics.histogram("request_queue_duration"),
        ),
    )


def _finished(metrics: EnginePage) -> dict[str, float]:
    """Return finished requests; those that were refused never began."""
    failures = metrics.by("err", *_FAILURES)
    return known(
        unknown=metrics.total("request_success", "request_success_total"),
        error=_sum_of(failures, _ERRORS),
        abort=_sum_of(failures, _ABORTS),
    )


def _sum_of(counts: dict[str, float], names: tuple[str, ...]) -> float | None:
    """Return the sum of some counts; None where there is none of them."""
    found = [counts[name] for name in names if name in counts]
    return sum(found) if found else None
