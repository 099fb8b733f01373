"""Hugging Face text-embeddings-inference: /info and /metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.engines.label_rules import each, parts
from modelhost_exporter.engines.metrics_page import EnginePage
from modelhost_exporter.engines.pages import FREE, known, known_latencies, optional_object, page, read_object, wants_key
from modelhost_exporter.engines.snapshot import Engine, Model, ServerSnapshot
from modelhost_exporter.untrusted_json import count, text

if TYPE_CHECKING:
    from modelhost_exporter.engines.pages import Fetch, PollPolicy

TITLE = "TEI (text-embeddings-inference)"
PAGES = "`/info`, `/metrics`"
PORTS = (8080, 3000)
PROGRAMS = ("text-embeddings",)
PRIORITY = 220
ACCEPTS_INCLUDE_USAGE = False

_RULES = {
    **each(("queue_size", "request_input_length", "request_duration", "request_queue_duration"), parts()),
    **each(("request_success", "request_success_total"), parts("method")),
    **each(("request_failure", "request_failure_total"), parts("err")),
}
_FAILURES = {"inference": "error", "dropped": "abort"}
"""Reasons of failed requests; others are refusals: invalid, too large, or more than the server admits."""


def detect(fetch: Fetch) -> bool:
    """Return whether /info has a type of model and the limit of a batch; with a key, whether it has TEI's metrics."""
    info = optional_object(fetch, "/info")
    if "model_type" in info and "max_batch_tokens" in info:
        return True
    return wants_key(fetch, "/info") and bool(EnginePage(page(fetch, "/metrics"), "te_"))


def snapshot(fetch: Fetch, care: PollPolicy = FREE) -> ServerSnapshot:
    """Return TEI's state."""
    info = read_object(fetch, "/info")
    metrics = EnginePage(page(fetch, "/metrics") if care.metrics != "off" else b"", "te_", rules=_RULES)
    model_id = text(info.get("model_id"))
    name = text(info.get("served_model_name")) or model_id
    model = Model(
        name,
        aliases=tuple({model_id} - {"", name}),
        loaded=True,
        quantization=text(info.get("model_dtype")),
        context_length=count(info.get("max_input_length")),
    )
    return ServerSnapshot("tei", text(info.get("version")), (model,) if name else (), _engine(metrics))


def _engine(metrics: EnginePage) -> Engine:
    """Return the engine's numbers; a batch counts as one request, and each of its texts waits in the queue."""
    return Engine(
        requests_waiting=metrics.total("queue_size"),
        input_tokens=known(unknown=metrics.total("request_input_length_sum")),
        requests_finished=known(unknown=metrics.total("request_success", "request_success_total")) | _failed(metrics),
        latencies=known_latencies(
            request_duration=metrics.histogram("request_duration"),
            request_queue=metrics.histogram("request_queue_duration"),
        ),
    )


def _failed(metrics: EnginePage) -> dict[str, float]:
    reasons = metrics.by("err", "request_failure", "request_failure_total")
    return {_FAILURES[reason]: requests for reason, requests in reasons.items() if reason in _FAILURES}
