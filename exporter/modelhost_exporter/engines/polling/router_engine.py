"""Merge the engines of a router's models, whose counters end when a model is unloaded, into one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from modelhost_exporter.engines.snapshot import COUNTER_TABLES, COUNTERS, Engine

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_GAUGES = ("requests_running", "requests_waiting", "request_capacity", "kv_cache_capacity_tokens")


class RouterEngine:
    """The sum of a router's engines. Counts of a model stay when it is unloaded or restarted.

    A loaded model that was not read this time keeps its last numbers. One that sleeps continues its counters when it
    wakes, one that was unloaded begins at 0.
    """

    def __init__(self) -> None:
        self._last: dict[str, Engine] = {}
        self._gone = Engine()

    def merge(self, engines: Mapping[str, Engine], loaded: Collection[str], asleep: Collection[str] = ()) -> Engine:
        """Return the server's engine after a poll, from the engines that it read and the loaded and sleeping models."""
        for name, engine in engines.items():
            last = self._last.get(name)
            if last is not None and _fell(last, engine):
                self._retire(last)
                last = None
            self._last[name] = engine if last is None else _completed(engine, last)
        for name in self._last.keys() - {*loaded, *asleep}:
            self._retire(self._last.pop(name))
        return self._sum([engine for name, engine in self._last.items() if name in loaded])

    def _retire(self, engine: Engine) -> None:
        self._gone = _added([self._gone, engine], COUNTERS, COUNTER_TABLES)

    def _sum(self, awake: Collection[Engine]) -> Engine:
        counters = _added([self._gone, *self._last.values()], COUNTERS, COUNTER_TABLES)
        gauges = _added(awake, _GAUGES, ())
        return replace(
            counters,
            **{name: getattr(gauges, name) for name in _GAUGES},
            kv_cache_usage_ratio=_usage(awake),
        )


def _added(engines: Collection[Engine], numbers: Collection[str], tables: Collection[str]) -> Engine:
    """Return sums of some fields; None where no engine reports one."""
    values = {name: [v for engine in engines if (v := getattr(engine, name)) is not None] for name in numbers}
    sums = {name: sum(found) for name, found in values.items() if found}
    added: dict[str, dict[str, float]] = {table: {} for table in tables}
    for table in tables:
        for engine in engines:
            for key, value in getattr(engine, table).items():
                added[table][key] = added[table].get(key, 0.0) + value
    return replace(Engine(), **sums, **cast("dict[str, Any]", added))


def _fell(last: Engine, engine: Engine) -> bool:
    """Return whether any counter is smaller than it was: the model was restarted."""
    pairs = [(getattr(last, name), getattr(engine, name)) for name in COUNTERS]
    for table in COUNTER_TABLES:
        now = getattr(engine, table)
        pairs += [(before, now.get(key)) for key, before in getattr(last, table).items()]
    return any(before is not None and after is not None and after < before for before, after in pairs)


def _completed(engine: Engine, last: Engine) -> Engine:
    """Return an engine; counters missing this time (a page failed) keep their values: a sum must not fall."""
    numbers = {name: getattr(last, name) for name in COUNTERS if getattr(engine, name) is None}
    tables = {table: {**getattr(last, table), **getattr(engine, table)} for table in COUNTER_TABLES}
    return replace(engine, **numbers, **cast("dict[str, Any]", tables))


def _usage(engines: Collection[Engine]) -> float | None:
    known = [engine.kv_cache_usage_ratio for engine in engines if engine.kv_cache_usage_ratio is not None]
    return sum(known) / len(known) if known else None
