"""Assembly of a dashboard: variables, annotations, links, and rows of panels."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import table

from grafana import events, queries, style

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from grafana.style import Builder

TAG = "modelhost"
SCHEMA = 41
"""Schema version of Grafana 11.6 and 12.0; later versions read it as well."""
COLUMNS = 24
_LABEL_VALUES, _QUERY_RESULT = 1, 3
"""Types of a variable's query in Grafana's Prometheus data source."""
REFRESH = "30s"
REFRESHES = ["1s", "2s", "5s", "10s", "30s", "1m", "5m", "15m"]


@dataclass(frozen=True)
class Row:
    """A titled row of panels."""

    title: str
    panels: tuple[Builder, ...]
    collapsed: bool = False


def row(title: str, *panels: Builder, collapsed: bool = False) -> Row:
    """Return a row with its panels in reading order."""
    return Row(title, panels, collapsed)


@dataclass(frozen=True)
class Variable:
    """A query variable of a dashboard; without ``multi`` one value is selected at a time."""

    name: str
    label: str
    query: str
    multi: bool = True
    everything: str = ".+"
    """The regular expression of All."""
    regex: str = ""
    """Takes the value out of each line of ``query_result()``, whose order stays."""


CLUSTER = Variable("cluster", "Cluster", "label_values(modelhost_build_info, cluster)", everything=".*")
JOB = Variable("job", "Job", f"label_values(modelhost_build_info{{{queries.CLUSTER}}}, job)")
INSTANCE = Variable(
    "instance", "Instance", f'label_values(modelhost_build_info{{{queries.CLUSTER},job=~"$job"}}, instance)'
)
SERVER = Variable("server", "Server", queries.values_of("server", "modelhost_requests_total"))
_NAME = r'/\{model="([^`]*)"\} \S+ \S+$/'  # see ONE_MODEL
MODEL = Variable("model", "Model", queries.models_by_traffic(), multi=False, regex=_NAME)
MODEL_OF_SERVER = Variable("model", "Model", queries.models_by_traffic(queries.SERVER), multi=False, regex=_NAME)


@dataclass(frozen=True)
class Board:
    """A dashboard: fixed uid, title, description, rows, and variables in addition to job and instance."""

    uid: str
    title: str
    description: str
    rows: tuple[Row, ...]
    variables: tuple[Variable, ...] = ()
    since: str = "now-1h"
    events: bool = True
    """Whether restarts and the like are marked on the graphs."""

    def json(self, refresh: str = REFRESH) -> dict[str, Any]:
        """Return the dashboard in Grafana's classic JSON model; ``refresh`` is how often it asks for new data."""
        built = dashboard.Dashboard(self.title).uid(self.uid).description(self.description).tags([TAG]).readonly()
        built.time(self.since, "now").refresh(refresh).timezone("browser").tooltip(models.DashboardCursorSync.CROSSHAIR)
        built.timepicker(dashboard.TimePicker().refresh_intervals(REFRESHES)).link(_dropdown())
        built.with_variable(_datasource())
        for variable in (CLUSTER, JOB, INSTANCE, *self.variables):
            built.with_variable(_variable(variable))
        for annotation in events.marks() if self.events else ():
            built.annotation(annotation)
        model = built.build()
        model.annotations.list_val = model.annotations.list_val or []
        model.schema_version = SCHEMA
        model.panels = list(_arrange(self.rows))
        for variable_model in model.templating.list_val or ():  # what only variables of intervals have
            variable_model.auto = variable_model.auto_min = variable_model.auto_count = None
        plain: dict[str, Any] = json.loads(json.dumps(model, cls=JSONEncoder))
        return plain


def _arrange(rows: Iterable[Row]) -> Iterator[models.Panel | models.RowPanel]:
    """Yield rows and panels with ids and positions; panels are enlarged to fill each line."""
    top, number = 0, 0
    for line in rows:
        number += 1
        head = dashboard.Row(line.title).id(number).collapsed(line.collapsed)
        head.grid_pos(models.GridPos(x=0, y=top, w=COLUMNS, h=1))
        placed, top = _place(line.panels, number, top + 1)
        number += len(placed)
        built = head.build()
        if line.collapsed:
            built.panels = placed
        yield built
        if not line.collapsed:
            yield from placed


def _place(panels: Iterable[Builder], number: int, top: int) -> tuple[list[models.Panel], int]:
    """Return panels with ids from ``number`` + 1, and the vertical position of the next row."""
    built = [_trimmed(panel.id(number + index).build()) for index, panel in enumerate(panels, 1)]
    for line in _lines(built):
        left, spare = 0, COLUMNS - sum(at.w for at in line)
        tallest = max(at.h for at in line)
        for index, at in enumerate(line):
            at.h = tallest
            at.w += spare // len(line) + (index < spare % len(line))
            at.x, at.y = left, top
            left += at.w
        top += tallest
    return built, top


def _trimmed(panel: models.Panel) -> models.Panel:
    """Remove what the SDK writes by default and Grafana's types have elsewhere, or misread.

    Grafana 11.1 draws a panel with a direction of repetition at full width, even if it is not repeated. A table's
    footer is now a field's (``custom.footer``); none is shown.
    """
    panel.repeat_direction = None
    if isinstance(panel.options, table.Options):
        panel.options.footer = None
    return panel


def _lines(panels: Iterable[models.Panel]) -> Iterator[list[models.GridPos]]:
    """Yield the positions of panels line by line; a new line starts where the next panel does not fit."""
    line: list[models.GridPos] = []
    for panel in panels:
        at = panel.grid_pos
        if at is None:
            raise ValueError(f"{panel.title} has no size")
        if sum(other.w for other in line) + at.w > COLUMNS:
            yield line
            line = []
        line.append(at)
    yield line


def _datasource() -> dashboard.DatasourceVariable:
    return dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")


def _variable(variable: Variable) -> dashboard.QueryVariable:
    built = dashboard.QueryVariable(variable.name).label(variable.label).datasource(style.DATASOURCE)
    kind = _QUERY_RESULT if variable.regex else _LABEL_VALUES
    built.query({"qryType": kind, "query": variable.query, "refId": f"Variable-{variable.name}"})
    built.definition(variable.query).refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
    built.regex(variable.regex)
    built.sort(models.VariableSort.DISABLED if variable.regex else models.VariableSort.NATURAL_ASC)
    if variable.multi:
        built.multi(True).include_all(True).all_value(variable.everything)
        built.current(models.VariableOption(text="All", value="$__all"))
    return built


def _dropdown() -> dashboard.DashboardLink:
    built = dashboard.DashboardLink("Model host").type(models.DashboardLinkType.DASHBOARDS).tags([TAG])
    return built.as_dropdown(True).include_vars(True).keep_time(True)
