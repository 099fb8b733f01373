"""Any server with OpenAI's /v1/models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.engines.kinds import GENERIC
from modelhost_exporter.engines.pages import FREE, attempt, listed_models
from modelhost_exporter.engines.snapshot import Model, ServerSnapshot

if TYPE_CHECKING:
    from modelhost_exporter.engines.pages import Fetch, PollPolicy

TITLE = "anything with `/v1/models`"
PAGES = "`/v1/models`"
PORTS = (8000, 8080, 5000)
PROGRAMS: tuple[str, ...] = ()
PRIORITY = GENERIC  # every other kind may serve /v1/models too
ACCEPTS_INCLUDE_USAGE = True


def detect(fetch: Fetch) -> bool:
    """Return whether its list of models is there."""
    return attempt(lambda: listed_models(fetch) is not None, otherwise=False)


def snapshot(fetch: Fetch, _care: PollPolicy = FREE) -> ServerSnapshot:
    """Return the models that it lists."""
    return ServerSnapshot("openai", "", tuple(Model(entry["id"]) for entry in listed_models(fetch)))
