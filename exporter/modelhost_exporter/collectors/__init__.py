"""Collectors: one file is one collector, and its file name is the collector's name.

It is the name in flags (``--collector.NAME``), in the configuration (``collectors.NAME``), in ``collect[]=NAME`` and in
the label ``collector``. A file has ``FAMILIES`` and ``create`` and, where needed, ``OPTIONS`` (a subclass of
CollectorOptions) and ``create_simulated`` (the collector of ``--demo``).
"""

from __future__ import annotations

import importlib
import logging
import pkgutil
from functools import cache
from typing import TYPE_CHECKING, Protocol, cast

from modelhost_exporter.collector import CollectorOptions, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.metrics_core import Metric

    from modelhost_exporter.collector import Collector, CollectorContext
    from modelhost_exporter.metrics.families import Family

log = logging.getLogger(__name__)


class CollectorModule(Protocol):
    """The contents of each file in this folder; OPTIONS and create_simulated are optional."""

    FAMILIES: tuple[Family, ...]

    def create(self, options: CollectorOptions, context: CollectorContext) -> Collector:
        """Build the collector; must neither block, nor fail for lack of hardware."""
        ...


class NotSimulated:
    """The stand-in for a collector without a simulated source, in ``--demo``."""

    def collect(self) -> Iterable[Metric]:
        """Raise Unavailable."""
        raise Unavailable("not simulated by --demo")


@cache
def names() -> tuple[str, ...]:
    """Return the names of all collectors, sorted."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def module(name: str) -> CollectorModule:
    """Return the module of one collector."""
    return cast("CollectorModule", importlib.import_module(f"{__name__}.{name}"))


def options_of(name: str) -> type[CollectorOptions]:
    """Return the class of a collector's options."""
    return getattr(module(name), "OPTIONS", CollectorOptions)


def create(name: str, options: CollectorOptions, context: CollectorContext) -> Collector:
    """Build a collector by its name; on a simulated host with its ``create_simulated``, if it has one."""
    if context.simulated is None:
        return module(name).create(options, context)
    simulate = getattr(module(name), "create_simulated", None)
    return cast("Collector", simulate(options, context, context.simulated)) if simulate else NotSimulated()


def close(name: str, collector: Collector) -> None:
    """Close a collector that has a ``close``, to end its threads; log an error."""
    try:
        getattr(collector, "close", _nothing)()
    except Exception:
        log.exception("collector could not be closed", extra={"fields": {"collector": name}})


def _nothing() -> None:
    pass
