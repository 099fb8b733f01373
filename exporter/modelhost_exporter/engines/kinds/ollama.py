"""Ollama: /api/ps, which neither loads nor wakes a model, and /api/version. It has no metrics of its own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from modelhost_exporter.engines.pages import FREE, UnexpectedContent, optional_object, read_object
from modelhost_exporter.engines.snapshot import Model, ServerSnapshot
from modelhost_exporter.untrusted_json import child, count, number, objects, text

if TYPE_CHECKING:
    from modelhost_exporter.engines.pages import Fetch, PollPolicy

TITLE = "Ollama"
PAGES = "`/api/ps`, `/api/version`; it has no metrics"
PORTS = (11434,)
PROGRAMS = ("ollama",)
MODEL_FOLDERS = ("~/.ollama/models", "/usr/share/ollama/.ollama/models", "/var/lib/ollama/models")
MODEL_VARIABLES = ("OLLAMA_MODELS",)
PRIORITY = 200
ACCEPTS_INCLUDE_USAGE = True
DEFAULT_TAG = ":latest"

_FIRST_YEAR = 2000
_MAX_KEEP_ALIVE = timedelta(days=366)
"""A model that never expires is written with a time that is years away."""


def detect(fetch: Fetch) -> bool:
    """Return whether its own list of running models is there, as no imitation of Ollama writes it.

    Known ones are detected before; others by the digests of their models, which in Ollama have no prefix.
    """
    running = optional_object(fetch, "/api/ps").get("models")
    return isinstance(running, list) and not any(
        text(entry.get("digest")).startswith("sha256:") for entry in objects(running)
    )


def snapshot(fetch: Fetch, _care: PollPolicy = FREE) -> ServerSnapshot:
    """Return Ollama's state: the models that are loaded now, and no others."""
    running = read_object(fetch, "/api/ps").get("models", "missing")
    if running is None:  # how Go writes an empty list
        running = []
    if not isinstance(running, list):
        raise UnexpectedContent("/api/ps is no list of models")
    version = text(optional_object(fetch, "/api/version").get("version"))
    models = tuple(_model(entry) for entry in objects(running) if text(entry.get("name") or entry.get("model")))
    return ServerSnapshot("ollama", version, models, loads_on_request="by_name")


def _model(entry: dict[str, Any]) -> Model:
    size = count(entry.get("size"))
    vram = None if size is None else number(entry.get("size_vram"))  # without a size, 0 is no measurement
    model = text(entry.get("model"))
    name = text(entry.get("name")) or model
    return Model(
        name,
        aliases=tuple(sorted({model, name.removesuffix(":latest")} - {"", name})),
        loaded=True,
        quantization=text(child(entry, "details", "quantization_level")),
        family=text(child(entry, "details", "family")),
        parameters=text(child(entry, "details", "parameter_size")),
        format=text(child(entry, "details", "format")),
        vram_bytes=vram,
        ram_bytes=size - vram if size is not None and vram is not None and size >= vram else None,
        context_length=count(entry.get("context_length")),
        expires=_expiry(text(entry.get("expires_at"))),
    )


def _expiry(written: str) -> float | None:
    """Return when a model will be unloaded; None for never, and for what is no time."""
    try:
        expires = datetime.fromisoformat(written)
    except ValueError:
        return None
    expires = expires if expires.tzinfo else expires.replace(tzinfo=UTC)
    if expires.year < _FIRST_YEAR or expires - datetime.now(UTC) > _MAX_KEEP_ALIVE:
        return None
    return expires.timestamp()
