"""Engine kinds: each file or folder here is one kind, and its name is the ``kind:`` in the configuration.

A new kind is one new file that provides what ``EngineKind`` lists. No other part of the package names a kind, except
``demo/kinds``, which may simulate it.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

from modelhost_exporter.engines.pages import FREE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modelhost_exporter.engines.pages import Fetch, PollPolicy
    from modelhost_exporter.engines.snapshot import ServerSnapshot


AUTO = "auto"
"""The ``kind:`` of a server whose kind is detected."""
GENERIC = 1000
"""The ``PRIORITY`` of a kind that servers of other kinds resemble as well: it is detected when no other is."""


class EngineKind(Protocol):
    """The facts and functions that each kind provides."""

    TITLE: str
    """The engine's name in documents."""
    PAGES: str
    """The pages that are read, in Markdown, for documents."""
    PORTS: tuple[int, ...]
    """Default ports of the server."""
    PROGRAMS: tuple[str, ...]
    """Words, any of which in the command line identifies a process of the server."""
    PRIORITY: int
    """Position in the order of detection, lowest first: specific kinds before those that any server resembles."""
    ACCEPTS_INCLUDE_USAGE: bool
    """Whether the server accepts ``stream_options.include_usage``: the proxy adds it only then."""

    def detect(self, fetch: Fetch) -> bool:
        """Return whether a server is of this kind, from pages that are harmless to request of any server."""
        ...

    def snapshot(self, fetch: Fetch, care: PollPolicy = FREE) -> ServerSnapshot:
        """Return the server's state; a pure function of the fetched pages.

        Raises the errors of ``fetch`` and of parsing for the page that the kind requires; other pages are optional.
        """
        ...


class ModelPlaces(NamedTuple):
    """Where servers of a kind keep their models."""

    folders: Sequence[str]
    """Usual folders; ``~`` is the home of any user."""
    options: Sequence[str]
    """Options of the command line whose value is a folder or file of models."""
    variables: Sequence[str]
    """Variables of the environment whose value is one."""


def names() -> tuple[str, ...]:
    """Return the names of all kinds, sorted."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def engine_kind(name: str) -> EngineKind:
    """Return a kind's module."""
    return cast("EngineKind", importlib.import_module(f"{__name__}.{name}"))


def by_priority() -> tuple[str, ...]:
    """Return the names of all kinds in the order of detection."""
    return tuple(sorted(names(), key=lambda name: engine_kind(name).PRIORITY))


def detect(fetch: Fetch) -> str | None:
    """Return the kind of a server, None if none matches; OSError if the server does not respond."""
    return next((name for name in by_priority() if engine_kind(name).detect(fetch)), None)


def is_generic(name: str) -> bool:
    """Return whether servers of other kinds resemble this one."""
    return engine_kind(name).PRIORITY >= GENERIC


def model_places(kind: EngineKind) -> ModelPlaces:
    """Return where servers of a kind keep their models: the facts that a kind may leave out."""
    return ModelPlaces(*(tuple(getattr(kind, f"MODEL_{name}", ())) for name in ("FOLDERS", "OPTIONS", "VARIABLES")))


def reading_metrics_matters(kind: EngineKind) -> bool:
    """Return whether a server's page of metrics may only be read with care, since that changes its state."""
    return getattr(kind, "METRICS_HAVE_STATE", False)


def full_name(kind: str, model: str) -> str:
    """Return a model's name with the tag that servers of a kind add to one without."""
    tag = _default_tag(kind)
    if not tag:
        return model
    return model + tag if ":" not in model.rpartition("/")[2] else model


@cache
def _default_tag(kind: str) -> str:
    return getattr(engine_kind(kind), "DEFAULT_TAG", "") if kind in names() else ""


@cache
def accepts_include_usage(name: str) -> bool:
    """Return whether servers of a ``kind:`` are known to accept ``stream_options.include_usage``."""
    return name in names() and engine_kind(name).ACCEPTS_INCLUDE_USAGE
