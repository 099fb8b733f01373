"""Collectors: one file here is one collector, and its file name is the collector's name everywhere.

The name in flags (``--collector.NAME``), in the configuration (``collectors.NAME``), in ``collect[]=NAME``, in the
``collector`` label and in the tests. A new collector is one new file with ``FAMILIES`` and ``create``, and, where it
needs them, ``OPTIONS`` (a subclass of CollectorOptions) and ``create_simulated`` (what ``--demo`` shows).
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
    """The contents of each file in this folder; OPTIONS and create_simulated may be left out."""

    FAMILIES: tuple[Family, ...]

    def create(self, options: CollectorOptions, context: CollectorContext) -> Collector:
        """Build the collector; must not block and must not fail for lack of hardware."""
        ...


class NotSimulated:
    """A collector that has no simulated source, in ``--demo``."""

    def collect(self) -> Iterable[Metric]:
        """Raise Unavailable."""
        raise Unavailable("not simulated by --demo")


@cache
def names() -> tuple[str, ...]:
    """Return every collector's name, sorted: the files of this folder."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def module(name: str) -> CollectorModule:
    """Return the module of one collector."""
    return cast("CollectorModule", importlib.import_module(f"{__name__}.{name}"))


def options_of(name: str) -> type[CollectorOptions]:
    """Return the class of a collector's options."""
    return getattr(module(name), "OPTIONS", CollectorOptions)


def create(name: str, options: CollectorOptions, context: CollectorContext) -> Collector:
    """Build a collector by its name; on a simulated host through its ``create_simulated``, where it has one."""
    if context.simulated is None:
        return module(name).create(options, context)
    simulate = getattr(module(name), "create_simulated", None)
    return cast("Collector", simulate(options, context, context.simulated)) if simulate else NotSimulated()


def close(name: str, collector: Collector) -> None:
    """End the threads of a collector that has its own; an error is logged."""
    try:
        getattr(collector, "close", _nothing)()
    except Exception:
        log.exception("collector not closed", extra={"fields": {"collector": name}})


def _nothing() -> None:
    pass
