"""Constructors for each type of panel in the common style."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana_foundation_sdk.builders import bargauge, common, dashboard, heatmap, stat, statetimeline, timeseries
from grafana_foundation_sdk.builders import table as tables
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models

from grafana import style

if TYPE_CHECKING:
    from grafana.queries import Query
    from grafana.style import Limits, Texts

NO_DATA = "No data yet"
NO_GPU = "No GPU detected"
NO_REQUESTS = "No requests yet"
NOT_REPORTED = "Not reported by the model server"
SMOOTH, MINUTE = "15s", "60s"
"""Minimum intervals of panels about single requests: of time series, and of current values."""
FEWER = 120
"""Maximum data points of a panel of every core of many hosts, which reads thousands of raw series."""
_INITIALS = frozenset({"gpu", "mig", "uuid", "xid"})
_LEAST_BYTES = 2**20
"""The end of an axis of bytes where all are 0, such as those of missing swap space; Grafana's would be 96."""
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
) -> timeseries.Panel:
    """Draw time series as lines or stacked areas; ``steps`` are thresholds, ``min_`` and ``max_`` bound the axis."""
    panel = style.styled(timeseries.Panel(), title, description, queries, unit=unit, empty=empty, texts=None)
    panel.legend(style.legend()).tooltip(style.all_values()).line_width(1).fill_opacity(_fill(queries, stacked))
    panel.show_points(common_models.VisibilityMode.NEVER).color_scheme(_palette())
    for name in (query.legend for query in queries if query.legend in style.NAMED):
        panel.override_by_name(name, style.color_of(name))
    if stacked:
        panel.stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL).group("A"))
    if min_ is not None:
        panel.min(min_)
    if unit == style.BYTES:
        panel.axis_soft_max(_LEAST_BYTES)
    if max_ is not None:
        panel.max(max_)
    if steps:
        dashed = common.GraphThresholdsStyleConfig().mode(common_models.GraphThresholdsStyleMode.DASHED)
        panel.thresholds(style.limits(steps)).thresholds_style(dashed)
    return panel.span(8).height(8)


def history(title: str, description: str, *queries: Query, unit: str, empty: str = NO_DATA) -> timeseries.Panel:
    """Draw recorded series with fewer points, since each covers minutes and a time range may be weeks."""
    return graph(title, description, *queries, unit=unit, empty=empty).max_data_points(POINTS)


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
    return panel.interval(SMOOTH)


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


def states(title: str, description: str, *queries: Query, texts: Texts, empty: str = NO_DATA) -> statetimeline.Panel:
    """Draw states over time as bands in the colours of ``texts``.

    By thresholds Grafana would merge values by threshold and ignore the texts, with their colours.
    """
    panel = style.styled(statetimeline.Panel(), title, description, queries, unit=style.COUNT, empty=empty, texts=texts)
    panel.color_scheme(style.fixed(style.GREY)).merge_values(True)
    panel.show_value(common_models.VisibilityMode.NEVER).row_height(0.8).fill_opacity(80)
    hidden = common.VizLegendOptions().show_legend(False).display_mode(common_models.LegendDisplayMode.LIST)
    return panel.legend(hidden).max_data_points(POINTS).span(12).height(8)


def listing(
    title: str,
    description: str,
    *columns: tuple[str, str, Query, Limits],
    labels: tuple[str, ...],
    empty: str = NO_DATA,
    links: dict[str, dashboard.DashboardLink] | None = None,
) -> tables.Panel:
    """Show a table with one row per combination of labels: the labels, then a column per query.

    A column is (name, unit, query, thresholds); ``links`` maps a column or label to the link of its cells.
    """
    queries = tuple(_cell(query) for *_, query, _ in columns)
    panel = style.styled(tables.Panel(), title, description, queries, unit=style.COUNT, empty=empty, texts=None)
    values = {f"Value #{chr(ord('A') + index)}": name for index, (name, *_) in enumerate(columns)}
    if len(columns) == 1:
        values = {"Value": columns[0][0], **values}
    names = {**{label: _heading(label) for label in labels}, **values}
    order = {name: index for index, name in enumerate(names)}
    hidden = {"Time": True, **({"cluster": True} if "instance" in labels and "cluster" not in labels else {})}
    panel.with_transformation(models.DataTransformerConfig(id_val="merge", options={}))
    arranged = {"renameByName": names, "indexByName": order, "excludeByName": hidden}
    panel.with_transformation(models.DataTransformerConfig(id_val="organize", options=arranged))
    for label in labels:
        panel.override_by_name(_heading(label), style.unit_of(style.TEXT))
    for name, unit, _, steps in columns:
        panel.override_by_name(name, _column(unit, steps))
    for name, link in (links or {}).items():
        link_of = [models.DynamicConfigValue(id_val="links", value=[link.build()])]
        panel.override_by_name(_heading(name) if name in labels else name, link_of)
    return panel.span(24).height(12)


def _heading(label: str) -> str:
    """Return the heading of a label's column."""
    words = label.replace("_", " ")
    return words.upper() if label in _INITIALS else f"{words[0].upper()}{words[1:]}"


def _cell(query: Query) -> Query:
    return type(query)(query.expr, query.legend, instant=True, form="table")


def _column(unit: str, steps: Limits) -> list[models.DynamicConfigValue]:
    properties = style.unit_of(unit)
    if steps != style.NONE:
        properties += [
            models.DynamicConfigValue(id_val="thresholds", value=style.limits(steps).build()),
            models.DynamicConfigValue(id_val="custom.cellOptions", value={"type": "color-text"}),
        ]
    return properties


def _palette() -> dashboard.FieldColor:
    """Return colours in the order of the series, which Prometheus sorts by labels.

    By name, colours of eight GPUs were alike, since the palette has few tones that differ.
    """
    return dashboard.FieldColor().mode(models.FieldColorModeId.PALETTE_CLASSIC)


def _fill(queries: tuple[Query, ...], stacked: bool) -> int:
    """Return the opacity below lines: only areas that are stacked, or alone, do not cover each other."""
    alone = len(queries) == 1 and queries[0].legend != "" and "{{" not in queries[0].legend
    return 60 if stacked else 8 if alone else 0
