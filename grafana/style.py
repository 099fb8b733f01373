"""The common style: colours, thresholds, units and legends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, TypeVar

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    timeseries,
)
from grafana_foundation_sdk.builders import table as tables
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

if TYPE_CHECKING:
    from grafana.queries import Query

DATASOURCE = common_models.DataSourceRef(type_val="prometheus", uid="${datasource}")

GREEN, AMBER, RED, BLUE, GREY = "green", "orange", "red", "blue", "text"

NOTHING = "–"
"""The text of a cell or legend without a value."""
CHOSEN_CLUSTER = "chosen_cluster"
"""A label with the value that a link to a host has for the variable ``cluster``."""
_NAN = models.SpecialValueMatch.NA_N

RATIO, SECONDS, BYTES, BYTES_PER_SECOND, COUNT = "percentunit", "s", "bytes", "Bps", "none"
REQUESTS, TOKENS, OPERATIONS, PACKETS = (f"suffix:{what}/s" for what in ("req", "tok", "ops", "packets"))
"""Rates without a prefix: Grafana's own units have "2 K req/s" for 1,998, and "500 mp/s" for one in two seconds."""
WATTS, CELSIUS, HERTZ, JOULES, YES_NO, TURNS = "watt", "celsius", "hertz", "joule", "bool_yes_no", "rotrpm"
TEXT = "string"
"""The unit of labels: as numbers, "9.0" is shown as "9"."""

Limits = tuple[tuple[float | None, str], ...]
NONE: Limits = ((None, BLUE),)
BUSY: Limits = ((None, GREEN), (0.7, AMBER), (0.9, RED))
FULL: Limits = ((None, GREEN), (0.8, AMBER), (0.9, RED))
FAILING: Limits = ((None, GREEN), (0.01, AMBER), (0.05, RED))
SUCCEEDING: Limits = ((None, RED), (0.95, AMBER), (0.99, GREEN))
ANY_IS_BAD: Limits = ((None, GREEN), (1, RED))
ALL_IS_WELL: Limits = ((None, RED), (1, GREEN))

_NAMES = {
    BLUE: ("mean", "used", "input", "answer", "prefill"),
    GREEN: ("p50", "free", "any token", "hits"),
    "yellow": ("p95", "cache", "queue"),
    AMBER: ("p99", "output", "decode"),
    "purple": ("reserved", "load"),
    RED: ("objective", "errors"),
    GREY: ("total",),
}
NAMED = {name: color for color, names in _NAMES.items() for name in names}
"""The colours of series with fixed names, on every board."""

Texts = Mapping[int, tuple[str, str]]
"""Text and colour of each value."""

Builder = bargauge.Panel | heatmap.Panel | stat.Panel | statetimeline.Panel | tables.Panel | timeseries.Panel
P = TypeVar("P", bound=Builder)


def styled(
    panel: P, title: str, description: str, queries: tuple[Query, ...], *, unit: str, empty: str, texts: Texts | None
) -> P:
    """Set what every panel has: title, data source, queries A, B, C …, unit, and the text for no data.

    Grafana shows ``noValue`` for a panel without series, and for each cell and legend without a value. The override
    applies to fields, so that ``empty`` is left for the panel without series.
    """
    panel.title(title).description(description).datasource(DATASOURCE).unit(unit).no_value(empty)
    null = [] if isinstance(panel, statetimeline.Panel) else [without_value()]  # draws gaps
    panel.mappings([*values(texts or {}), *null, without_value(_NAN, NOTHING)])
    panel.override_by_regexp("/.*/", [models.DynamicConfigValue(id_val="noValue", value=NOTHING)])
    for number, query in enumerate(queries):
        panel.with_target(_target(query, chr(ord("A") + number)))
    return panel


def _target(query: Query, ref: str) -> prometheus.Dataquery:
    legend = query.legend.replace("{{instance}}", "{{cluster}} {{instance}}") or "__auto"
    target = prometheus.Dataquery().expr(query.expr).legend_format(legend).ref_id(ref)
    target.format(PromQueryFormat(query.form)).datasource(DATASOURCE)
    return target.instant() if query.instant else target.range()


def values(texts: Texts) -> list[models.ValueMapping]:
    """Return the mapping of values to texts."""
    options = {
        str(value): models.ValueMappingResult(text=text, color=color, index=index)
        for index, (value, (text, color)) in enumerate(texts.items())
    }
    return [models.ValueMap(options=options)] if options else []


def without_value(
    match: models.SpecialValueMatch = models.SpecialValueMatch.NULL, text: str | None = None
) -> models.ValueMapping:
    """Map null or NaN (0 / 0) to the text's colour, which else is that of the lowest threshold."""
    nothing = models.ValueMappingResult(text=text, color=GREY, index=99)
    return models.SpecialValueMap(options=models.DashboardSpecialValueMapOptions(match=match, result=nothing))


def limits(steps: Limits) -> dashboard.ThresholdsConfig:
    """Return thresholds; each colour applies from its value upwards."""
    return dashboard.ThresholdsConfig().steps([models.Threshold(value=value, color=color) for value, color in steps])


def by_threshold() -> dashboard.FieldColor:
    """Return a colour mode: by the threshold of the value."""
    return dashboard.FieldColor().mode(models.FieldColorModeId.THRESHOLDS)


def fixed(color: str) -> dashboard.FieldColor:
    """Return a colour mode: one colour, except for values with a mapping of their own."""
    return dashboard.FieldColor().mode(models.FieldColorModeId.FIXED).fixed_color(color)


def legend(
    kind: Literal["off", "names", "table"], values: tuple[str, ...] = ("lastNotNull", "max")
) -> common.VizLegendOptions:
    """Return a legend: none, only names, or a table sorted by value, the highest first."""
    modes = common_models.LegendDisplayMode
    built = common.VizLegendOptions().placement(common_models.LegendPlacement.BOTTOM).show_legend(kind != "off")
    if kind != "table":
        return built.display_mode(modes.LIST).calcs([])
    return built.display_mode(modes.TABLE).calcs(list(values)).sort_by("Last *").sort_desc(True)


def all_values() -> common.VizTooltipOptions:
    """Return a tooltip with every series, the highest first."""
    tooltip = common.VizTooltipOptions().mode(common_models.TooltipDisplayMode.MULTI)
    return tooltip.sort(common_models.SortOrder.DESCENDING)


def last() -> common.ReduceDataOptions:
    """Return options that show the last value that is not null."""
    return common.ReduceDataOptions().calcs(["lastNotNull"]).values(False)


def colored(color: str) -> list[models.DynamicConfigValue]:
    """Return the properties of an override that sets a colour."""
    return [models.DynamicConfigValue(id_val="color", value=fixed(color).build())]


def below_zero() -> list[models.DynamicConfigValue]:
    """Return the properties of an override that draws values below zero, but writes them as they are."""
    return [models.DynamicConfigValue(id_val="custom.transform", value="negative-Y")]


def link(title: str, board: str, **variables: str) -> dict[str, str]:
    """Return a link to another dashboard: same data source, time and hosts, except for the variables given."""
    kept = (name for name in ("datasource", "cluster", "job", "instance") if name not in variables)
    chosen = (
        *(f"${{{name}:queryparam}}" for name in kept),
        *(f"var-{name}={value}" for name, value in variables.items()),
    )
    return {"title": title, "url": f"/d/{board}?${{__url_time_range}}&{'&'.join(chosen)}"}


def field(name: str) -> str:
    """Return what stands in a link for the value of another column of the same row."""
    return f'${{__data.fields["{name}"]:percentencode}}'


def host(title: str, board: str, **variables: str) -> dict[str, str]:
    """Return a link from a row of a table to its host on another dashboard."""
    return link(title, board, cluster=field(CHOSEN_CLUSTER), instance=field("Instance"), **variables)


def links(*of: dict[str, str]) -> list[models.DynamicConfigValue]:
    """Return the properties of an override that sets the links of values."""
    return [models.DynamicConfigValue(id_val="links", value=list(of))]


def text() -> list[models.DynamicConfigValue]:
    """Return the properties of an override for labels: no numbers, and no value is NaN, as text is for Grafana 9."""
    return [*unit_of(TEXT), models.DynamicConfigValue(id_val="mappings", value=[])]


def unit_of(unit: str) -> list[models.DynamicConfigValue]:
    """Return the properties of an override that sets the unit."""
    return [models.DynamicConfigValue(id_val="unit", value=unit)]
