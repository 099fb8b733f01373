"""KoboldCpp: /v1/models and its own pages below /api/extra. It has no page of metrics.

Its pages of Ollama and llama.cpp are never read: their sizes, times and slots are made up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modelhost_exporter.engines.pages import FREE, known, listed_models, optional_object, owned_by
from modelhost_exporter.engines.snapshot import Engine, Model, ServerSnapshot
from modelhost_exporter.untrusted_json import count, number, text

if TYPE_CHECKING:
    from modelhost_exporter.engines.pages import Fetch, PollPolicy

TITLE = "KoboldCpp"
PAGES = "`/v1/models`, `/api/extra/version`, `/api/extra/perf`, `/api/extra/true_max_context_length`; it has no metrics"
PORTS = (5001,)
PROGRAMS = ("koboldcpp",)
PRIORITY = 80
ACCEPTS_INCLUDE_USAGE = False

_NO_MODEL = "inactive"


def detect(fetch: Fetch) -> bool:
    """Return whether the owner of its model is KoboldCpp."""
    return owned_by(fetch, "koboldcpp")


def snapshot(fetch: Fetch, care: PollPolicy = FREE) -> ServerSnapshot:
    """Return KoboldCpp's state."""
    context = count(optional_object(fetch, "/api/extra/true_max_context_length").get("value"))
    models = tuple(
        Model(entry["id"], loaded=True, format="gguf", context_length=context)
        for entry in listed_models(fetch)
        if entry["id"] != _NO_MODEL
    )
    version = text(optional_object(fetch, "/api/extra/version").get("version"))
    performance = optional_object(fetch, "/api/extra/perf") if care.metrics != "off" else {}
    return ServerSnapshot("koboldcpp", version, models, _engine(performance))


def _engine(performance: dict[str, Any]) -> Engine:
    """Return the engine's numbers; the times and tokens of its last request are left out."""
    idle = number(performance.get("idle"))
    return Engine(
        requests_running=None if idle is None else float(not idle),
        requests_waiting=number(performance.get("queue")),
        requests_finished=known(unknown=number(performance.get("total_gens"))),
    )
