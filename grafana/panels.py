"""Constructors for each type of panel in the common style."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from grafana_foundation_sdk.builders import bargauge, common, dashboard, heatmap, stat, statetimeline, timeseries
from grafana_foundation_sdk.builders import table as tables
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models

from grafana import queries as q
from grafana import style
from modelhost_exporter.config.servers import PollOptions

if TYPE_CHECKING:
    from grafana.queries import Query, Rank
    from grafana.style import Limits, Texts

NO_DATA = "No data yet"
NO_GPU = "No GPU detected"
NO_RULES = "The recording and alerting rules are not evaluated"
NO_REQUESTS = "No requests yet"
NOT_REPORTED = "Not reported by the model server"
SMOOTH, MINUTE = "15s", "60s"
"""Minimum intervals of panels about single requests: of time series, and of current values."""
FEWER = 120
"""Maximum data points of a panel of every core of many hosts, which reads thousands of raw series."""
_UNBOUNDED = re.compile(r"\{\{(instance|server|upstream|model|gpu|cpu|device|mountpoint|sensor|process|collector)\}\}")
"""Legends of series that a fleet has any number of."""
_POLLED = re.compile(r"(?:rate|increase)\(modelhost_(?:engine|model)_")
_LABEL, _VALUE, _GAUGE = 90, 70, 110
"""The least widths of the columns of a table in pixels: of labels, of values, and of gauges."""
_WIDTHS = {
    "instance": 140,
    "model": 270,
    "name": 150,
    "upstream": 130,
    "version": 140,
    "family": 100,
    "parameters": 105,
    "quantization": 105,
    "mountpoint": 105,
    "gpu": 50,
    "xid": 50,
}
"""The least widths of labels with values that are longer, or shorter."""
_INITIALS = frozenset({"gpu", "mig", "uuid", "xid"})
_LEAST = {
    style.BYTES: 2**20,
    style.RATIO: 0.01,
    style.COUNT: 1,
    **dict.fromkeys((style.REQUESTS, style.TOKENS, style.OPERATIONS, style.PACKETS), 1),
}
"""The end of an axis where all values are 0, such as those of missing swap space: Grafana's is 96 bytes or 10,000 %."""
POLLED = f"{12 * PollOptions().interval:.0f}s"
"""Minimum interval of panels over counters that change with each poll of an engine: below about ten polls, rates of
constant work alternate with the number of polls in the window."""
DRAWN = 20
"""Maximum number of lines of a panel, and of rows of a state timeline."""
POINTS = 300
"""Maximum data points of a heatmap or of a panel over many series: more are not visible and slow the query."""


def graph(
    title: str,
    description: str,
    *queries: Query,
    unit: str,
    empty: str = NO_DATA,
    max_: float | None = None,
    stacked: bool = False,
    steps: Limits = (),
    min_: float | None = 0,
    rank: Rank = "highest",
) -> timeseries.Panel:
    """Draw time series as lines or stacked areas; ``steps`` are thresholds, ``min_`` and ``max_`` bound the axis.

    Of series that a fleet has any number of, the first are drawn, by ``rank``.
    """
    description, queries = limited(description, queries, rank=rank)
    panel = style.styled(timeseries.Panel(), title, description, queries, unit=unit, empty=empty, texts=None)
    if any(_POLLED.search(query.expr) for query in queries):
        panel.interval(POLLED)
    kind = _legend(queries)
    panel.legend(style.legend(kind)).tooltip(style.all_values())
    panel.line_width(0 if stacked else 1).fill_opacity(_fill(queries, stacked))
    panel.show_points(common_models.VisibilityMode.NEVER).color_scheme(_palette())
    for name in (query.legend for query in queries if query.legend in style.NAMED):
        panel.override_by_name(name, style.colored(style.NAMED[name]))
    if stacked:
        panel.stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL).group("A"))
    if min_ is not None:
        panel.min(min_)
    if max_ is not None:
        panel.max(max_)
    elif unit in _LEAST:
        panel.axis_soft_max(_LEAST[unit])
    if steps:
        dashed = common.GraphThresholdsStyleConfig().mode(common_models.GraphThresholdsStyleMode.DASHED)
        panel.thresholds(style.limits(steps)).thresholds_style(dashed)
    return panel.span(8).height(9 if kind == "table" else 8)


def history(title: str, description: str, *queries: Query, unit: str, empty: str = NO_DATA) -> timeseries.Panel:
    """Draw recorded series with fewer points, since each covers minutes and a time range may be weeks.

    Hosts and models have long names: the legend has one value beside them.
    """
    panel = graph(title, description, *queries, unit=unit, empty=empty).max_data_points(POINTS)
    return panel.legend(style.legend(_legend(queries), values=("lastNotNull",)))


def per_request(
    title: str,
    description: str,
    *queries: Query,
    unit: str = style.SECONDS,
    empty: str = NO_DATA,
    stacked: bool = False,
    max_: float | None = None,
    steps: Limits = (),
) -> timeseries.Panel:
    """Draw properties of requests, averaged over at min_ 15 s, since one or two requests are noise."""
    panel = graph(title, description, *queries, unit=unit, empty=empty, stacked=stacked, max_=max_, steps=steps)
    return panel if any(_POLLED.search(query.expr) for query in queries) else panel.interval(SMOOTH)


def limited(
    description: str, queries: tuple[Query, ...], *, rank: Rank = "highest", most: int = DRAWN
) -> tuple[str, tuple[Query, ...]]:
    """Limit the series that a fleet has any number of, in all queries together, and say so in the description."""
    unbounded = [bool(_UNBOUNDED.search(query.legend)) for query in queries]
    if not any(unbounded):
        return description, queries
    share = most // sum(unbounded)
    drawn = tuple(
        replace(query, expr=q.top(share, query.expr, rank)) if is_unbounded else query
        for query, is_unbounded in zip(queries, unbounded, strict=True)
    )
    which = "the latest" if rank == "latest" else f"those with the {rank} values in the time range"
    return f"{description} At most {most} lines: {which}.", drawn


def number(
    title: str,
    description: str,
    *queries: Query,
    unit: str,
    empty: str = NO_DATA,
    steps: Limits = style.NONE,
    texts: Texts | None = None,
    decimals: int | None = None,
) -> stat.Panel:
    """Show current values, each in the colour of its threshold."""
    panel = style.styled(stat.Panel(), title, description, queries, unit=unit, empty=empty, texts=texts)
    panel.thresholds(style.limits(steps)).color_scheme(style.by_threshold()).reduce_options(style.last())
    panel.color_mode(common_models.BigValueColorMode.VALUE).graph_mode(common_models.BigValueGraphMode.NONE)
    if decimals is not None:
        panel.decimals(decimals)
    return panel.span(3).height(4)


def facts(title: str, description: str, *named: tuple[Query, str], empty: str = NO_DATA) -> stat.Panel:
    """Show small current values side by side, each with its own unit."""
    queries = tuple(query for query, _ in named)
    panel = number(title, description, *queries, unit=style.COUNT, empty=empty)
    for index, (_, unit) in enumerate(named):
        panel.override_by_query(chr(ord("A") + index), style.unit_of(unit))
    size = common.VizTextDisplayOptions().value_size(18).title_size(12)
    return panel.orientation(common_models.VizOrientation.VERTICAL).text(size).span(8).height(3)


def bars(
    title: str,
    description: str,
    *queries: Query,
    unit: str,
    empty: str = NO_DATA,
    steps: Limits = style.NONE,
    max_: float | None = None,
) -> bargauge.Panel:
    """Show current values as horizontal bars."""
    panel = style.styled(bargauge.Panel(), title, description, queries, unit=unit, empty=empty, texts=None)
    panel.thresholds(style.limits(steps)).color_scheme(style.by_threshold()).reduce_options(style.last()).min(0)
    panel.orientation(common_models.VizOrientation.HORIZONTAL)
    panel.display_mode(common_models.BarGaugeDisplayMode.BASIC)
    if max_ is not None:
        panel.max(max_)
    return panel.span(8).height(8)


def heat(title: str, description: str, query: Query, *, unit: str, empty: str = NO_DATA) -> heatmap.Panel:
    """Draw a heatmap of a histogram's buckets over time."""
    panel = style.styled(heatmap.Panel(), title, description, (query,), unit=unit, empty=empty, texts=None)
    colors = heatmap.HeatmapColorOptions().scheme("Turbo").steps(64)
    axis = heatmap.YAxisConfig().unit(unit).axis_placement(common_models.AxisPlacement.LEFT)
    tooltip = heatmap.HeatmapTooltip().mode(common_models.TooltipDisplayMode.SINGLE).y_histogram(True)
    panel.calculate(False).color(colors).y_axis(axis).tooltip(tooltip).show_legend().max_data_points(POINTS).interval(
        SMOOTH
    )
    return panel.span(8).height(8)


def states(
    title: str,
    description: str,
    *queries: Query,
    texts: Texts,
    empty: str = NO_DATA,
    rank: Rank | None = None,
    most: int = DRAWN,
) -> statetimeline.Panel:
    """Draw states over time as bands in the colours of ``texts``: at most so many, by ``rank``, else the worst.

    By thresholds Grafana would merge values by threshold and ignore the texts, with their colours.
    """
    worst: Rank = "lowest" if texts[min(texts)][1] == style.RED else "highest"
    description, queries = limited(description, queries, rank=rank or worst, most=most)
    panel = style.styled(statetimeline.Panel(), title, description, queries, unit=style.COUNT, empty=empty, texts=texts)
    panel.color_scheme(style.fixed(style.GREY)).merge_values(True)
    panel.show_value(common_models.VisibilityMode.NEVER).row_height(0.8).fill_opacity(80)
    hidden = common.VizLegendOptions().show_legend(False).display_mode(common_models.LegendDisplayMode.LIST)
    return panel.legend(hidden).max_data_points(POINTS).span(12).height(8)


@dataclass(frozen=True)
class Column:
    """A column of a table: heading, unit, query and thresholds; with ``full`` a gauge from 0 to that value.

    ``least`` is the least width in pixels, where that of a value is too narrow for heading or texts.
    """

    name: str
    unit: str
    query: Query
    steps: Limits = style.NONE
    full: float | None = None
    texts: Texts | None = None
    least: int = 0


def listing(
    title: str,
    description: str,
    *columns: Column,
    labels: tuple[str, ...],
    empty: str = NO_DATA,
    links: dict[str, dict[str, str]] | None = None,
    first: str = "",
    lowest: bool = False,
) -> tables.Panel:
    """Show a table with one row per combination of labels: the labels, then a column per query.

    ``links`` maps a column or label to the link of its cells. Rows are sorted by the column ``first``, the highest
    value first, or the lowest.
    """
    queries = tuple(_cell(column.query) for column in columns)
    panel = style.styled(tables.Panel(), title, description, queries, unit=style.COUNT, empty=empty, texts=None)
    values = {f"Value #{chr(ord('A') + index)}": column.name for index, column in enumerate(columns)}
    if len(columns) == 1:
        values = {"Value": columns[0].name, **values}
    names = {**{label: heading(label) for label in labels}, **values}
    order = {name: index for index, name in enumerate(names)}
    chosen = any(style.CHOSEN_CLUSTER in link["url"] for link in (links or {}).values())
    hidden = {"Time": True, **({"cluster": True} if "instance" in labels and "cluster" not in labels else {})}
    panel.with_transformation(models.DataTransformerConfig(id_val="merge", options={}))
    arranged = {"renameByName": names, "indexByName": order, "excludeByName": hidden}
    panel.with_transformation(models.DataTransformerConfig(id_val="organize", options=arranged))
    for label in labels:
        panel.override_by_name(heading(label), [*style.text(), _width(_WIDTHS.get(label, _LABEL))])
    if chosen:  # for links alone
        hidden_text = [*style.text(), models.DynamicConfigValue(id_val="custom.hidden", value=True)]
        panel.override_by_name(style.CHOSEN_CLUSTER, hidden_text)
    for column in columns:
        panel.override_by_name(column.name, _properties(column))
    for name, link in (links or {}).items():
        panel.override_by_name(heading(name) if name in labels else name, style.links(link))
    if first:
        panel.sort_by([common.TableSortByFieldState().display_name(first).desc(not lowest)])
    return panel.span(24).height(12)


def heading(label: str) -> str:
    """Return the heading of a label's column."""
    words = label.replace("_", " ")
    return words.upper() if label in _INITIALS else f"{words[0].upper()}{words[1:]}"


def _cell(query: Query) -> Query:
    return type(query)(query.expr, query.legend, instant=True, form="table")


def _width(pixels: int) -> models.DynamicConfigValue:
    """Return the least width of a column: Grafana's is 150 pixels, too wide for tables of ten columns."""
    return models.DynamicConfigValue(id_val="custom.minWidth", value=pixels)


def _properties(column: Column) -> list[models.DynamicConfigValue]:
    """Return the properties of the override of a column."""
    properties = style.unit_of(column.unit)
    set_: dict[str, Any] = {}
    if column.steps != style.NONE:
        set_["thresholds"] = style.limits(column.steps).build()
    if column.steps != style.NONE or column.texts:
        set_["custom.cellOptions"] = {"type": "color-text"}
    if column.full is not None:
        set_ |= {"custom.cellOptions": {"type": "gauge", "mode": "basic"}, "min": 0, "max": column.full}
    if column.texts:
        set_["mappings"] = [*style.values(column.texts), style.without_value()]
    return [
        *properties,
        _width(column.least or (_VALUE if column.full is None else _GAUGE)),
        *(models.DynamicConfigValue(id_val=name, value=value) for name, value in set_.items()),
    ]


def _palette() -> dashboard.FieldColor:
    """Return colours in the order of the series, which Prometheus sorts by labels.

    By name, colours of eight GPUs were alike, since the palette has few tones that differ.
    """
    return dashboard.FieldColor().mode(models.FieldColorModeId.PALETTE_CLASSIC)


def _legend(queries: tuple[Query, ...]) -> Literal["off", "names", "table"]:
    """Return the legend of a graph: none for one line, names where few are fixed, else a table.

    Grafana gives it 35 % of the height: those of 7 and 9 units show 2 and 3 whole rows of a table.
    """
    if _is_alone(queries):
        return "off"
    return "names" if all("{{" not in query.legend for query in queries) else "table"


def _is_alone(queries: tuple[Query, ...]) -> bool:
    return len(queries) == 1 and queries[0].legend != "" and "{{" not in queries[0].legend


def _fill(queries: tuple[Query, ...], stacked: bool) -> int:
    """Return the opacity below lines: only areas that are stacked, or alone, do not cover each other.

    Stacked areas have no lines: one of zeros would be a line on top of the others.
    """
    return 80 if stacked else 8 if _is_alone(queries) else 0
