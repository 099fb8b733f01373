"""Docker Model Runner: /v1/models, /engines/ps and /metrics, which has the pages of the engines that run.

Reading /metrics keeps no model loaded: the runner unloads by the requests that pass through it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modelhost_exporter.engines.kinds import llamacpp, vllm
from modelhost_exporter.engines.metrics_page import EnginePage
from modelhost_exporter.engines.pages import (
    FREE,
    attempt,
    listed_models,
    names_no_owner,
    optional_object,
    owned_by,
    page,
    read_json,
)
from modelhost_exporter.engines.snapshot import Model, ServerSnapshot
from modelhost_exporter.untrusted_json import child, count, objects, text

if TYPE_CHECKING:
    from modelhost_exporter.engines.pages import Fetch, PollPolicy
    from modelhost_exporter.engines.snapshot import Engine

TITLE = "Docker Model Runner"
PAGES = "`/v1/models`, `/engines/ps`, `/version`, `/metrics`"
PORTS = (12434,)
PROGRAMS = ("model-runner", "com.docker.llama-server")
PRIORITY = 120
ACCEPTS_INCLUDE_USAGE = True

_REGISTRY, _NAMESPACE, _TAG = "docker.io/", "ai/", ":latest"
"""Parts of a model's name that a client may leave out."""


def detect(fetch: Fetch) -> bool:
    """Return whether the owner of its models is Docker, or it has none and lists its engines."""
    if owned_by(fetch, "docker"):
        return True
    return names_no_owner(fetch) and "llama.cpp" in optional_object(fetch, "/engines/status")


def snapshot(fetch: Fetch, care: PollPolicy = FREE) -> ServerSnapshot:
    """Return the runner's state: every model that was pulled, loaded or not."""
    runners = objects(attempt(lambda: read_json(fetch, "/engines/ps"), None))
    loaded = {_full(text(runner.get("model_name"))) for runner in runners if runner.get("loading") is not True}
    models = tuple(_model(entry, loaded=_full(entry["id"]) in loaded) for entry in listed_models(fetch))
    metrics = page(fetch, "/metrics") if care.metrics != "off" else b""
    return ServerSnapshot(
        "docker",
        text(optional_object(fetch, "/version").get("version")),
        models,
        engine_by_model=_engines(metrics, {_full(model.name): model.name for model in models if model.loaded}),
        loads_on_request="by_name",
    )


def _full(reference: str) -> str:
    """Return the full name of a model: runners have the one that a client wrote, such as gemma3 or ai/gemma3."""
    name = reference.removeprefix(_REGISTRY)
    name = name if "/" in name else f"{_NAMESPACE}{name}"
    return name if ":" in name.rpartition("/")[2] else f"{name}{_TAG}"


def _model(entry: dict[str, Any], *, loaded: bool) -> Model:
    described, name = entry.get("dmr"), entry["id"].removeprefix(_REGISTRY)
    short = name.removesuffix(_TAG)
    return Model(
        entry["id"],
        aliases=tuple(sorted({name, short, short.removeprefix(_NAMESPACE)} - {"", entry["id"]})),
        loaded=loaded,
        quantization=text(child(described, "quantization")),
        family=text(child(described, "architecture")),
        parameters=text(child(described, "parameters")),
        context_length=count(child(described, "context_window")),
    )


def _engines(metrics: bytes, loaded: dict[str, str]) -> dict[str, Engine]:
    """Return the engines of loaded models, from the page of each, which has the model as a label.

    ``loaded``: full name → name as listed.
    """
    engines: dict[str, Engine] = {}
    for prefix, read in (("vllm:", vllm.engine), ("llamacpp:", llamacpp.engine)):
        for model, own in EnginePage(metrics, prefix).split("model").items():
            if (name := loaded.get(_full(model))) is not None:
                engines[name] = read(own)
    return engines
