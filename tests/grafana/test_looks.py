"""What Grafana draws from the dashboards' JSON: colours, and texts for empty cells."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, get_args

import pytest

from modelhost_exporter.requests.observation import Outcome
from tests.grafana import type_names
from tests.grafana.boards import BOARDS
from tests.grafana.text_width import room_for_title, title_width
from tools import dashboard_queries as query

UNTYPED = {
    *(
        f".annotations.list.{name}" for name in ("expr", "step", "textFormat", "titleFormat", "useValueForTime")
    ),  # of Prometheus's plugin
    ".templating.list.definition",  # written by Grafana itself
}
"""Names that Grafana reads although its types of a dashboard do not have them."""

if TYPE_CHECKING:
    from collections.abc import Iterator


def panels(*types: str) -> Iterator[dict[str, Any]]:
    """Yield the panels of all dashboards, or those of some types."""
    for board in BOARDS.values():
        yield from (panel for panel in query.panels(board) if not types or panel["type"] in types)


def test_state_timelines_have_the_colours_of_their_values() -> None:
    """Each value has a colour; the colour mode is not by thresholds, which ignores mappings of merged values."""
    found = list(panels("state-timeline"))
    assert len(found) >= 7
    for panel in found:
        field = panel["fieldConfig"]["defaults"]
        assert field["color"]["mode"] == "fixed", panel["title"]
        texts = [each["options"] for each in field["mappings"] if each["type"] == "value"]
        colors = {result["color"] for options in texts for result in options.values()}
        assert len(colors) > 1, panel["title"]


def test_what_is_wrong_is_among_the_states_that_are_drawn() -> None:
    """Of more rows than are drawn, those with the values that are red come first, such as a server that is down."""
    found = 0
    for panel in panels("state-timeline"):
        (mapping,) = (each for each in panel["fieldConfig"]["defaults"]["mappings"] if each["type"] == "value")
        colors = {int(value): result["color"] for value, result in mapping["options"].items()}
        red = [value for value, color in colors.items() if color == "red"]
        if red and re.search(r" and (bottom|top)k", panel["targets"][0]["expr"]):
            pick = "bottomk(" if min(colors) in red else "topk("
            assert all(f" and {pick}" in target["expr"] for target in panel["targets"]), panel["title"]
            found += 1
    assert found >= 4


def test_only_a_panel_without_series_has_a_sentence() -> None:
    """Cells and legends without a value have a dash, by an override of every field that comes before all others."""
    for panel in panels():
        first, *others = panel["fieldConfig"]["overrides"]
        assert first["matcher"] == {"id": "byRegexp", "options": "/.*/"}, panel["title"]
        assert first["properties"] == [{"id": "noValue", "value": "–"}], panel["title"]
        assert not [each for other in others for each in other["properties"] if each["id"] == "noValue"]


def test_no_value_has_the_colour_of_text() -> None:
    """Null and NaN are not coloured by the lowest threshold, which is red for a success rate."""
    for panel in panels():
        maps = [each["options"] for each in panel["fieldConfig"]["defaults"]["mappings"] if each["type"] == "special"]
        results = {each["match"]: each["result"] for each in maps}
        assert {result["color"] for result in results.values()} == {"text"}
        assert results["nan"]["text"] == "–"
        if panel["type"] == "state-timeline":
            assert "null" not in results, "would be drawn as a state where there are no samples"
        else:
            assert "text" not in results["null"], "a text here would replace the panel's own"


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS.keys())
def test_the_newest_grafana_has_every_name(board: dict[str, Any]) -> None:
    """Dashboards, panels, their options and fields have only names of @grafana/schema, of the version in the file."""
    names = json.loads(type_names.FILE.read_text())
    wrong = sorted(set(type_names.unknown(names["dashboard"], board)) - UNTYPED)
    for panel in board["panels"]:
        for each in (panel, *panel.get("panels", ())):
            wrong += type_names.unknown(names[each["type"].replace("-", "")], each, f"{each['type']} {each['title']}")
    assert not wrong


def test_only_a_repeated_panel_has_a_direction() -> None:
    """A direction without a variable to repeat for makes Grafana 11.1 draw a panel at full width."""
    assert not [panel["title"] for panel in panels() if "repeatDirection" in panel and "repeat" not in panel]


def test_counts_and_rates_are_digits() -> None:
    """No unit has a prefix below 10,000, or one for thousandths, as in "2 K" and "500 mp/s"; no time has decimals."""
    for panel in panels():
        defaults, overrides = panel["fieldConfig"]["defaults"], panel["fieldConfig"]["overrides"]
        own = {each["value"] for override in overrides for each in override["properties"] if each["id"] == "unit"}
        assert not {defaults["unit"], *own} & {"short", "cps", "iops", "ops", "pps", "reqps"}, panel["title"]
        assert defaults["unit"] != "s" or "decimals" not in defaults, panel["title"]
        if "okens/s" in panel["title"]:
            assert defaults["unit"] == "suffix:tok/s", panel["title"]


def test_a_share_of_seconds_is_at_most_the_whole() -> None:
    """A counter of seconds that grows by more than the time between two scrapes is limited to a share of 1."""
    for panel in panels():
        if panel["fieldConfig"]["defaults"]["unit"] == "percentunit":
            for target in panel["targets"]:
                if re.search(r"rate\(\w+_seconds_total", target["expr"]):
                    assert re.search(r"clamp\(.+, 0, 1\)", target["expr"]), panel["title"]


def test_no_number_of_requests_is_negative() -> None:
    """The difference of two buckets of a new series is below 0 in VictoriaMetrics."""
    (panel,) = (each for each in panels("bargauge") if each["title"] == "Response time distribution")
    differences = [target["expr"] for target in panel["targets"] if ") - sum(" in target["expr"]]
    assert len(differences) == len(panel["targets"]) - 1
    assert all(expr.startswith("clamp_min(") and expr.endswith(", 0)") for expr in differences)


def test_no_legend_has_a_minus() -> None:
    """What is drawn below zero is a transformation of the graph, not of the value."""
    assert not [panel["title"] for panel in panels() for target in panel["targets"] if target["expr"][0] == "-"]


def test_an_axis_of_zeros_has_a_sensible_end() -> None:
    """Neither 96 bytes, nor 10,000 %, nor a count of 100."""
    rates = dict.fromkeys((f"suffix:{what}/s" for what in ("req", "tok", "ops", "packets")), 1)
    least = {"bytes": 2**20, "percentunit": 0.01, "none": 1} | rates
    for panel in panels("timeseries"):
        field = panel["fieldConfig"]["defaults"]
        wanted = None if "max" in field else least.get(field["unit"])  # a soft end would come before the hard one
        if panel["title"] == "CPU" and wanted == 1:  # of the exporter, in cores
            wanted = 0.1
        assert field["custom"].get("axisSoftMax") == wanted, panel["title"]


def test_a_cell_without_a_value_has_the_colour_of_text() -> None:
    """A column with texts of its own replaces the mappings of the table, null among them."""
    found = 0
    for panel in panels("table"):
        for override in panel["fieldConfig"]["overrides"]:
            for mapped in (each["value"] for each in override["properties"] if each["id"] == "mappings"):
                if mapped:  # empty for labels
                    found += 1
                    assert {each["options"].get("match") for each in mapped} >= {"null"}, panel["title"]
    assert found >= 6


def test_labels_are_text() -> None:
    """Labels in a table have the unit of text: a compute capability of 9.0 is not 9."""
    for panel in panels("table"):
        names = panel["transformations"][1]["options"]["renameByName"]
        labels = {heading for name, heading in names.items() if not name.startswith("Value")} | {"chosen_cluster"}
        text = {
            override["matcher"]["options"]
            for override in panel["fieldConfig"]["overrides"]
            if {"id": "unit", "value": "string"} in override["properties"]
        }
        assert text | {"chosen_cluster"} == labels, panel["title"]


def test_lines_have_the_colours_of_the_palette_in_order() -> None:
    """By name, colours of similar names are alike."""
    assert {panel["fieldConfig"]["defaults"]["color"]["mode"] for panel in panels("timeseries")} == {"palette-classic"}


def test_a_fixed_name_has_one_colour() -> None:
    """Where all names are fixed, each has a colour, other than its neighbours' and the same on every board."""
    colors: dict[str, set[str]] = {}
    for panel in panels("timeseries"):
        names = [target["legendFormat"] for target in panel["targets"]]
        fixed = {
            override["matcher"]["options"]: each["value"]["fixedColor"]
            for override in panel["fieldConfig"]["overrides"]
            for each in override["properties"]
            if each["id"] == "color" and each["value"]["mode"] == "fixed"
        }
        if len(names) > 1 and not any("{{" in name for name in names):
            assert fixed.keys() == {*names}, panel["title"]
            assert len({*fixed.values()}) == len(names), panel["title"]
        for name, color in fixed.items():
            colors.setdefault(name, set()).add(color)
    assert {"p50", "p95", "p99", "used", "free", "input", "output"} <= colors.keys()
    assert {name for name, found in colors.items() if len(found) > 1} == set()


def test_only_areas_that_cannot_cover_each_other_are_filled() -> None:
    """An area is filled if it is stacked, or the only one of its panel."""
    for panel in panels("timeseries"):
        custom = panel["fieldConfig"]["defaults"]["custom"]
        legends = [target["legendFormat"] for target in panel["targets"]]
        alone = len(legends) == 1 and "{{" not in legends[0] and legends[0] != "__auto"
        if custom.get("stacking", {}).get("mode") != "normal" and not alone:
            assert custom["fillOpacity"] == 0, panel["title"]


def test_successful_requests_are_green_and_failed_ones_red() -> None:
    """Each outcome of a request has shades of one colour; by order, an error would be green."""
    (panel,) = (each for each in panels() if each["title"] == "Outcomes")
    colors = {
        override["matcher"]["options"].strip("/"): each["value"]
        for override in panel["fieldConfig"]["overrides"]
        for each in override["properties"]
        if each["id"] == "color"
    }
    for outcome in get_args(Outcome):
        found = [color for pattern, color in colors.items() if re.search(pattern, f"{outcome} 200")]
        expected = "green" if outcome == "ok" else "orange" if outcome.startswith("client_") else "red"
        (color,) = found
        assert color["mode"] == "fixed"
        assert color["fixedColor"].endswith(expected), outcome
    assert len({color["fixedColor"] for color in colors.values()}) == len(get_args(Outcome))


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS.keys())
def test_titles_are_whole(board: dict[str, Any]) -> None:
    """Each title fits beside the information icon in a window of 1280 pixels."""
    cut = {
        (panel["title"], panel["gridPos"]["w"], round(title_width(panel["title"])))
        for panel in query.panels(board)
        if title_width(panel["title"].replace("$model", 12 * "m")) > room_for_title(panel["gridPos"]["w"], 1280)
    }
    assert not cut


def test_legends_show_whole_rows() -> None:
    """A legend is off, one line of a few fixed names, or a table in a height at which its last row is whole."""
    for panel in panels("timeseries"):
        legend, names = panel["options"]["legend"], [target["legendFormat"] for target in panel["targets"]]
        if not legend["showLegend"]:
            alone = len(names) == 1 and "{{" not in names[0]
            assert alone or panel["gridPos"]["h"] == 5, panel["title"]  # a strip of small graphs
        elif legend["displayMode"] == "list":
            assert len(names) <= 5, panel["title"]
            assert not any("{{" in name for name in names), panel["title"]
        else:
            assert legend["placement"] == "bottom"
            # of Grafana 9.5 and 11.1 in pixels: a unit of the grid, a title with margins, the table's header, a row
            rows = (0.35 * (38 * panel["gridPos"]["h"] - 8 - 50) - 23.4) / 23.9
            assert rows > 1.9, panel["title"]
            assert rows % 1 < 0.25 or rows % 1 > 0.97, panel["title"]


def test_a_legend_has_no_series_without_values() -> None:
    """NaN of one server, sorted by value, would be the first row of the legend, with others out of sight."""
    for panel in panels("timeseries"):
        for target in panel["targets"]:
            if "{{" in target["legendFormat"]:
                quantiles = re.findall(r"histogram_quantile\(", target["expr"])
                assert len(quantiles) <= target["expr"].count(">= 0"), panel["title"]
                counts = re.findall(r"/ (\(?)sum by [^/]+_count\b", target["expr"])
                assert all(counts), panel["title"]


def test_a_panel_has_at_most_twenty_lines() -> None:
    """Of series that a fleet has any number of, only the highest or lowest are drawn, as the description says."""
    unbounded = re.compile(
        r"\{\{(instance|server|upstream|model|gpu|cpu|device|mountpoint|sensor|process|collector)\}\}"
    )
    for panel in panels("timeseries", "state-timeline"):
        many = [target["expr"] for target in panel["targets"] if unbounded.search(target["legendFormat"])]
        picked = [re.search(r" and (?:topk|bottomk)\((\d+), ", expr) for expr in many]
        assert all(picked), panel["title"]
        assert sum(int(found[1]) for found in picked if found) <= 20, panel["title"]
        assert not many or re.search(r"At most (6|9|20) lines", panel["description"]), panel["title"]


def test_a_gpu_at_work_is_not_red() -> None:
    """Amber and red are for heat, throttling and errors: no threshold is on the share of a GPU that is in use."""
    for panel in panels():
        for target in panel["targets"]:
            busy = re.search(r"gpu_(utilization|busy_seconds|memory_used)|instance:gpu_(util|memory)", target["expr"])
            steps = panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", [])
            if busy and panel["type"] != "table":
                assert not {step["color"] for step in steps} & {"red", "orange"}, panel["title"]


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS.keys())
def test_an_opened_board_is_light(board: dict[str, Any]) -> None:
    """Before a closed row is opened, a dashboard has at most 45 panels and 60 queries."""
    loaded = [panel for panel in board["panels"] if panel["type"] != "row"]
    assert len(loaded) <= 45
    assert sum(len(panel["targets"]) for panel in loaded) <= 60


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS.keys())
def test_the_first_table_is_at_the_top(board: dict[str, Any]) -> None:
    """Its subject at a glance, with links: it begins on the first screen."""
    first = next(panel for panel in board["panels"] if panel["type"] == "table")
    assert first["gridPos"]["y"] <= 12
    assert first["gridPos"]["w"] == 24


def test_columns_of_wide_tables_fit() -> None:
    """Into a window of 1366 pixels, of which Grafana 9 leaves 1261 beside its menu, margins and the panel's edges."""
    for panel in panels("table"):
        widths = {
            override["matcher"]["options"]: each["value"]
            for override in panel["fieldConfig"]["overrides"]
            for each in override["properties"]
            if each["id"] == "custom.minWidth"
        }
        assert panel["gridPos"]["w"] < 24 or sum(widths.values()) <= 1366 - 105, panel["title"]
