"""llama.cpp's server, with one model or as a router of several: /props, /v1/models, /metrics and /slots.

/props and /v1/models neither load, wake nor keep a model awake. Of the others (llama.cpp #18228, #23096, #27376):

- builds before ``_HARMLESS_METRICS_BUILD`` wake a sleeping model for /metrics, and each request restarts the idle time;
- every build does so for /slots;
- a router loads the model that either is requested for, unless configured not to.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import quote

from modelhost_exporter.engines.kinds.llamacpp.kv_cache import capacity
from modelhost_exporter.engines.metrics_page import EnginePage
from modelhost_exporter.engines.pages import (
    FREE,
    UnexpectedContent,
    attempt,
    known,
    listed_models,
    names_no_owner,
    optional_object,
    owned_by,
    page,
    read_json,
)
from modelhost_exporter.engines.snapshot import Engine, Model, ServerSnapshot
from modelhost_exporter.untrusted_json import child, count, number, objects, text, texts

if TYPE_CHECKING:
    from modelhost_exporter.engines.pages import Fetch, PollPolicy

TITLE = "llama.cpp"
PAGES = "`/props`, `/v1/models`, `/metrics`, `/slots`; the last two only where no model is woken or kept awake"
PORTS = (8080,)
PROGRAMS = ("llama-server", "llama_server", "llamafile")
MODEL_FOLDERS = ("~/.cache/llama.cpp",)
MODEL_OPTIONS = ("-m", "--model", "--models-dir")
MODEL_VARIABLES = ("LLAMA_CACHE",)
PRIORITY = 10
ACCEPTS_INCLUDE_USAGE = False
METRICS_HAVE_STATE = True

_HARMLESS_METRICS_BUILD = 10600  # a good while after #27376, merged in August 2026
_MAX_ASKED = 64  # models of a router: bounds a poll, however long the list is
_BUILD = re.compile(r"b(\d{1,9})\b")
_SLEEP_FLAG = "--sleep-idle-seconds"


def detect(fetch: Fetch) -> bool:
    """Return whether the owner of its models is llama.cpp; builds that name none have properties.

    KoboldCpp has similar properties, and names itself as the owner.
    """
    if owned_by(fetch, "llamacpp"):
        return True
    return names_no_owner(fetch) and "default_generation_settings" in optional_object(fetch, "/props")


def snapshot(fetch: Fetch, care: PollPolicy = FREE) -> ServerSnapshot:
    """Return llama.cpp's state, with /metrics and /slots only where reading them does no harm."""
    entries = listed_models(fetch)
    props = optional_object(fetch, "/props")
    if props.get("role") == "router" or any("status" in entry for entry in entries):
        return _router(fetch, care, props, entries)
    return _single(fetch, care, props, entries)


def _single(fetch: Fetch, care: PollPolicy, props: dict[str, Any], entries: list[dict[str, Any]]) -> ServerSnapshot:
    if not entries:
        raise UnexpectedContent("/v1/models lists no model")
    can_sleep, awake = "is_sleeping" in props, props.get("is_sleeping") is not True
    model = _model(entries[0], loaded=awake, props=props)
    metrics, slots = _deep(fetch, care, awake=awake, can_sleep=can_sleep, build=_build(props))
    context = count(child(props, "default_generation_settings", "n_ctx"))
    room = _Room(
        care.arguments, count(props.get("total_slots")), context if awake else None, _trained_context(entries[0])
    )
    engine = _engine(metrics, slots, room)
    on_request: Literal["never", "by_any_name"] = "by_any_name" if can_sleep else "never"
    return ServerSnapshot("llamacpp", text(props.get("build_info")), (model,), engine, loads_on_request=on_request)


def _deep(
    fetch: Fetch, care: PollPolicy, *, awake: bool, can_sleep: bool, build: int
) -> tuple[EnginePage, list[dict[str, Any]] | None]:
    """Return /metrics and /slots of a server with one model, as far as they may be read; no model is ever woken."""
    auto = care.metrics == "auto"
    if awake and (care.metrics == "on" or (auto and (not can_sleep or _stays_loaded(care.arguments)))):
        return _metrics(fetch), _slots(fetch)
    if care.metrics != "off" and build >= _HARMLESS_METRICS_BUILD:
        metrics = _metrics(fetch)
        # a server that works is awake anyway, and will wait anew when it is done
        return metrics, _slots(fetch) if awake and metrics.total("requests_processing") else None
    if auto and awake and care.traffic(None):
        return _metrics(fetch), _slots(fetch)
    return EnginePage(b""), None


def _router(fetch: Fetch, care: PollPolicy, props: dict[str, Any], entries: list[dict[str, Any]]) -> ServerSnapshot:
    models = tuple(_routed_model(entry, child(entry, "status", "value")) for entry in entries)
    harmless = _build(props) >= _HARMLESS_METRICS_BUILD
    engines: dict[str, Engine] = {}
    for model, entry in zip(models, entries, strict=True):
        if not model.loaded or care.metrics == "off" or len(engines) == _MAX_ASKED:
            continue
        wanted = f"?model={quote(model.name, safe='')}&autoload=false"
        sleepless = care.metrics == "on" or not _may_sleep(entry)
        deep = sleepless or care.traffic(model.names)
        if deep or harmless:
            room = _Room(texts(child(entry, "status", "args")), None, None, _trained_context(entry))
            metrics = _metrics(fetch, wanted)
            engines[model.name] = _engine(metrics, _slots(fetch, wanted) if deep else None, room)
    return ServerSnapshot(
        "llamacpp", text(props.get("build_info")), models, engine_by_model=engines, loads_on_request="by_name"
    )


def _may_sleep(entry: dict[str, Any]) -> bool:
    """Return whether a router's model may fall asleep: its start arguments say so, or are not known."""
    return not _stays_loaded(texts(child(entry, "status", "args")))


def _stays_loaded(arguments: tuple[str, ...]) -> bool:
    """Return whether a server with these start arguments never sleeps; False when that is not known."""
    return bool(arguments) and not any(argument.startswith(_SLEEP_FLAG) for argument in arguments)


def _model(entry: dict[str, Any], *, loaded: bool, props: dict[str, Any] | None = None) -> Model:
    meta = entry.get("meta")
    aliases = {*texts(entry.get("aliases")), text(child(props, "model_alias"))} - {"", entry["id"]}
    return Model(
        entry["id"],
        aliases=tuple(sorted(aliases)),
        loaded=loaded,
        quantization=text(child(meta, "ftype")) or text(child(props, "model_ftype")),
        parameters=_parameters(count(child(meta, "n_params"))),
        format="gguf",
        context_length=count(child(meta, "n_ctx")) or count(child(props, "default_generation_settings", "n_ctx")),
    )


def _routed_model(entry: dict[str, Any], state: object) -> Model:
    return replace(_model(entry, loaded=state == "loaded"), asleep=state == "sleeping")


def _parameters(exact: float | None) -> str:
    """Return a number of parameters as people write it: 268M, 7.2B."""
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6)):
        if exact is not None and exact >= size:
            return f"{exact / size:.3g}{unit}"
    return ""


def _build(props: dict[str, Any]) -> int:
    """Return the build number (``b11434-abc``); 0 when it is not known."""
    found = _BUILD.match(text(props.get("build_info")))
    return int(found[1]) if found else 0


def _metrics(fetch: Fetch, query: str = "") -> EnginePage:
    return EnginePage(page(fetch, f"/metrics{query}"), "llamacpp:")


def _slots(fetch: Fetch, query: str = "") -> list[dict[str, Any]] | None:
    found = attempt(lambda: read_json(fetch, f"/slots{query}"), None)
    return list(objects(found)) if isinstance(found, list) else None


class _Room(NamedTuple):
    """The state of a model's slots, as far as it is known without reading them."""

    arguments: tuple[str, ...]
    slots: float | None
    context: float | None
    trained: float | None


def _trained_context(entry: dict[str, Any]) -> float | None:
    return count(child(entry, "meta", "n_ctx_train"))


def _engine(metrics: EnginePage, slots: list[dict[str, Any]] | None, room: _Room) -> Engine:
    if slots:
        room = room._replace(slots=float(len(slots)), context=count(slots[0].get("n_ctx")) or room.context)
    whole = capacity(*room)
    running = metrics.total("requests_processing")
    if running is None and slots is not None:
        running = float(sum(slot.get("is_processing") is True for slot in slots))
    return Engine(
        requests_running=running,
        requests_waiting=metrics.total("requests_deferred"),
        request_capacity=room.slots,
        kv_cache_usage_ratio=_usage(metrics, slots, whole),
        kv_cache_capacity_tokens=whole,
        input_tokens=known(miss=metrics.total("prompt_tokens_total"), hit=metrics.total("prompt_tokens_cached_total")),
        output_tokens=metrics.total("tokens_predicted_total"),
        prefill_seconds=metrics.total("prompt_seconds_total"),
        decode_seconds=metrics.total("tokens_predicted_seconds_total"),
        speculative_drafts=metrics.total("spec_decode_num_drafts_total"),
        speculative_draft_tokens=metrics.total("spec_decode_num_draft_tokens_total"),
        speculative_accepted_tokens=metrics.total("spec_decode_num_accepted_tokens_total"),
    )


def _usage(metrics: EnginePage, slots: list[dict[str, Any]] | None, whole: float | None) -> float | None:
    """Return the server's ratio (before #13660), else the tokens of the busy slots over all that fit."""
    reported = metrics.ratio("kv_cache_usage_ratio")
    if reported is not None or slots is None or not whole:
        return reported
    working = [slot for slot in slots if slot.get("is_processing") is True]
    held = [number(slot.get("n_prompt_tokens")) for slot in working]
    if any(tokens is None for tokens in held):
        return None
    return min(1.0, sum(tokens for tokens in held if tokens is not None) / whole)


def engine(metrics: EnginePage) -> Engine:
    """Return the numbers of a page that another server passes on, without its slots."""
    return _engine(metrics, None, _Room((), None, None, None))
