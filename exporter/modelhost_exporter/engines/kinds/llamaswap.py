"""llama-swap: /v1/models and /running.

Paths below /upstream are never read: they load the model, and start its idle time anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modelhost_exporter.engines.pages import (
    FREE,
    listed_models,
    names_no_owner,
    optional_object,
    owned_by,
    read_object,
)
from modelhost_exporter.engines.snapshot import Model, ServerSnapshot
from modelhost_exporter.untrusted_json import child, count, objects, text, texts

if TYPE_CHECKING:
    from modelhost_exporter.engines.pages import Fetch, PollPolicy

TITLE = "llama-swap"
PAGES = "`/v1/models`, `/running`, `/api/version`; never `/upstream/…`, which loads models"
PORTS = (8080,)
PROGRAMS = ("llama-swap",)
PRIORITY = 110
ACCEPTS_INCLUDE_USAGE = False  # the engines behind it decide

_ELSEWHERE = ("peer", "selector", "profile")
"""Entries that are not models of this server: models of another server, and names for one of several."""


def detect(fetch: Fetch) -> bool:
    """Return whether the owner of its models is llama-swap, or it has none and its own list of processes is there."""
    if owned_by(fetch, "llama-swap"):
        return True
    return names_no_owner(fetch) and isinstance(optional_object(fetch, "/running").get("running"), list)


def snapshot(fetch: Fetch, _care: PollPolicy = FREE) -> ServerSnapshot:
    """Return the models that it lists or runs; those of other servers have no state here."""
    entries = listed_models(fetch)
    running = objects(read_object(fetch, "/running").get("running"))
    states = {text(process.get("model")): text(process.get("state")) for process in running}
    own = [entry for entry in entries if _type(entry) not in ("alias", *_ELSEWHERE)]
    models = [_model(entry, loaded=states.get(entry["id"]) == "ready") for entry in own]
    listed = {entry["id"] for entry in entries}
    models += [Model(name, loaded=state == "ready") for name, state in states.items() if name and name not in listed]
    models += [Model(entry["id"]) for entry in entries if _type(entry) == "peer"]
    version = text(optional_object(fetch, "/api/version").get("version"))
    return ServerSnapshot("llamaswap", version, tuple(models), loads_on_request="by_name")


def _type(entry: dict[str, Any]) -> str:
    return text(child(entry, "meta", "llamaswap", "type"))


def _model(entry: dict[str, Any], *, loaded: bool) -> Model:
    aliases = set(texts(child(entry, "meta", "llamaswap", "aliases"))) - {entry["id"]}
    return Model(
        entry["id"],
        aliases=tuple(sorted(aliases)),
        loaded=loaded,
        context_length=count(child(entry, "meta", "n_ctx")),
    )
