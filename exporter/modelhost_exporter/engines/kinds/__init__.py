"""Kinds of model servers: one file here is one kind, and its file name is its ``kind:`` in the configuration.

A new kind is one new file with what ``Backend`` says.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import TYPE_CHECKING, Protocol, cast

from modelhost_exporter.json_reading import FREE

if TYPE_CHECKING:
    from modelhost_exporter.engines.snapshot import ServerSnapshot
    from modelhost_exporter.json_reading import Care, Fetch


class Backend(Protocol):
    """What each file in this folder offers."""

    PORTS: tuple[int, ...]
    """Where such a server usually listens."""
    PROGRAMS: tuple[str, ...]
    """Words of which one stands in the command line of such a server's process."""

    def recognises(self, fetch: Fetch) -> bool:
        """Tell whether a server is of this kind, by asking what no kind of server minds."""
        ...

    def snapshot(self, fetch: Fetch, care: Care = FREE) -> ServerSnapshot:
        """Return what the server says; a pure function of what is fetched.

        Raises what ``fetch`` and reading raise for the page that such a server must have; other pages may be missing.
        """
        ...


# The specific before the general: several kinds also serve /v1/models, which is all that openai asks for.
_ORDER = ("llamacpp", "ollama", "vllm", "sglang", "tgi", "lmstudio", "litellm", "triton", "openai")


@cache
def names() -> tuple[str, ...]:
    """Return every kind, sorted: the files of this folder."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def backend(kind: str) -> Backend:
    """Return one kind's module."""
    return cast("Backend", importlib.import_module(f"{__name__}.{kind}"))


def recognise(fetch: Fetch) -> str | None:
    """Return the kind of a server, None when it is none of them; OSError when it does not answer."""
    return next((kind for kind in _ORDER if backend(kind).recognises(fetch)), None)
