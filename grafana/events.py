"""Marks on the graphs: restarts, reloads, changed drivers, and, unless switched off, loads and alerts.

Grafana asks an annotation query for about 100 points, and joins samples that are no further apart than ``step``. So
each query here yields the time of an event in milliseconds: an event is one mark, at a place that does not depend on
the dashboard's time range, or by less than a step. There are at most 20 marks of a kind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana_foundation_sdk.builders import dashboard

from grafana import queries as q
from grafana import style as s

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST = 20
"""The most marks of a kind."""
_HOST = "{{cluster}} {{instance}}"
_SERVER = f"{{{{server}}}} on {_HOST}"
_FROM = "$__from"
_STEP = "$__interval"
"""How far apart samples are looked at: each 15 s of 30 days, of 300 engines, would be more than Prometheus loads."""
_LONGEST = 15
"""Minutes that a host may be away while its driver is changed."""


def marks() -> Iterator[dashboard.AnnotationQuery]:
    """Yield the annotations of a dashboard."""
    started = q.highest(q.own("process_start_time_seconds"), "instance")
    reloaded = q.highest(q.select("modelhost_config_last_reload_success_timestamp_seconds"), "instance")
    yield _annotation("Exporter restarts", s.GREY, _each(started), "Exporter started", _HOST)
    yield _annotation(
        "Configuration reloads",
        s.GREY,
        _each(f"({reloaded} unless {reloaded} - {started} < 10)"),
        "Configuration reloaded",
        _HOST,
    )
    booted = q.highest(q.select("modelhost_boot_time_seconds"), "instance")
    yield _annotation("Host restarts", s.BLUE, _each(booted), "Host started", _HOST)
    back = _last(_back_up())
    yield _annotation("Model server restarts", s.BLUE, back, "Model server up again", f"{_SERVER} {{{{upstream}}}}")
    yield _annotation("GPU driver changes", s.AMBER, _new_driver(), "GPU driver {{driver_version}}", _HOST)
    for name, done, color, counter in (
        ("Loads", "loaded", s.GREEN, "modelhost_model_loads_total"),
        ("Unloads", "unloaded", s.GREY, "modelhost_model_unloads_total"),
    ):
        now, before = (
            q.total(selected, "instance", "server", "model")
            for selected in (q.select(counter), q.earlier(_STEP, counter))
        )
        yield _annotation(name, color, _last(f"{now} > {before}"), f"{{{{model}}}} {done}", _SERVER, shown=False)
    alert = f"{_HOST} {{{{severity}}}}"
    yield _annotation("Alerts", s.RED, _each(q.alerts_since()), "{{alertname}}", alert, shown=False)


def _each(seconds: str) -> str:
    """Return a query for every event of a gauge that contains the time of the latest.

    One step in eight is asked for, so that even a process that restarts all the time has less than 20 marks, and the
    last step, so that an event is marked at once.
    """
    eighth = "floor(vector(time() * 1000 / $__interval_ms)) % 8 == 0"
    last = "vector(time() * 1000) > $__to - $__interval_ms"
    return f"topk(1, 1000 * {seconds} > {_FROM}) and on () ({eighth} or {last})"


def _last(condition: str) -> str:
    """Return a query for the last time in the range at which a condition was true that is so for one step."""
    return _top(f"max_over_time({_times(condition)}[$__range:{_STEP}] @ end())")


def _back_up() -> str:
    """Return whether each engine is up and was not, at the first step at which that is so."""
    by = ("instance", "server", "upstream")

    def condition(offset: str = "") -> str:
        engine = q.select("modelhost_engine_up")
        up = q.highest(f"{engine}{offset}", *by)
        lowest = q.highest(f"min_over_time({engine}[{q.RATE}]{offset})", *by)
        return f"({up} == 1 and {lowest} == 0)"

    return f"{condition()} unless {condition(f' offset {_STEP}')}"


def _new_driver() -> str:
    """Return a query for the first time at which a host had another driver than a while before."""
    by = ("instance", "driver_version")
    before = q.total(f"max_over_time({q.select('modelhost_gpu_info')}[{_LONGEST}m] offset {_STEP})", *by)
    new = f"{q.total(q.select('modelhost_gpu_info'), *by)} unless {before}"
    changed = _times(f"{new} and on ({q.labels('instance')}) {before}")
    return f"{_top(f'min_over_time({changed}[$__range:{_STEP}] @ end())')} > {_FROM}"


def _times(condition: str) -> str:
    """Return the time in milliseconds wherever a condition is true."""
    return f"(1000 * timestamp({condition}))"


def _top(expr: str) -> str:
    return f"topk({MOST}, {expr})"


def _annotation(
    name: str, color: str, expr: str, title: str, text: str, *, shown: bool = True
) -> dashboard.AnnotationQuery:
    built = dashboard.AnnotationQuery().name(name).datasource(s.DATASOURCE).icon_color(color)
    built.enable(shown).hide(shown)  # no switch above the panels for marks that are always there
    return built.expr(expr).step("15s").use_value_for_time(True).title_format(title).text_format(text)
