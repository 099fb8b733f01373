"""The committed JSON matches the code, Grafana's types can read it, and panels do not overlap."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana import build
from tests.grafana.boards import BOARDS, FOLDER
from tools import dashboard_queries as query

if TYPE_CHECKING:
    from pathlib import Path

UIDS = {"overview", "models", "host", "gpu", "model-servers", "exporter", "fleet"}

boards = pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS.keys())


def test_the_committed_dashboards_are_up_to_date() -> None:
    """The committed files are byte for byte what the code writes."""
    assert build.main(["--check"]) == 0


def test_check_reports_and_build_repairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--check reports edited, missing and unknown files without changing any; without it they are repaired."""
    folder = tmp_path / "dashboards"
    for path in (*FOLDER.glob("*.json"), *build.live().glob("*.json")):
        copy = tmp_path / path.relative_to(FOLDER.parent)
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(path.read_bytes())
    (folder / "host.json").write_text("{}")
    (folder / "gpu.json").unlink()
    (build.live(folder) / "old.json").write_text("{}")
    assert build.main(["--check"], folder) == 1
    assert [line.split()[0] for line in capsys.readouterr().err.splitlines()] == ["host.json", "gpu.json", "old.json"]
    assert (folder / "host.json").read_text() == "{}"
    assert build.main([], folder) == 0
    for written, committed in ((folder, FOLDER), (build.live(folder), build.live())):
        assert {path.name: path.read_bytes() for path in written.iterdir()} == {
            path.name: path.read_bytes() for path in committed.glob("*.json")
        }
    assert build.main(["--check"], folder) == 0


@boards
def test_the_live_dashboards_differ_in_how_often_they_refresh(board: dict[str, Any]) -> None:
    """For a scrape every two seconds they refresh every 5 s, else every 30 s."""
    name = board["uid"].removeprefix("modelhost-")
    live = json.loads((build.live() / f"{name}.json").read_text())
    assert (board["refresh"], live["refresh"]) == ("30s", "5s")
    assert {**live, "refresh": "30s"} == board


def test_uids_are_fixed() -> None:
    """Uids never change, since links and bookmarks use them."""
    assert {name: board["uid"] for name, board in BOARDS.items()} == {name: f"modelhost-{name}" for name in UIDS}


@boards
def test_grafanas_types_read_it(board: dict[str, Any]) -> None:
    """The pinned SDK reads a dashboard into its types, and writes the same JSON again, with its defaults."""
    register_default_plugins()
    read = Dashboard.from_json(board)
    assert read.title == board["title"]
    written = json.loads(json.dumps(read, cls=JSONEncoder))
    for variable in written["templating"]["list"]:
        for name in ("auto", "auto_min", "auto_count"):
            variable.pop(name, None)
    for panel in written["panels"]:
        for each in (panel, *panel.get("panels", ())):
            each.pop("repeatDirection", None)
            each.get("options", {}).pop("footer", None)
    assert written == board


@boards
def test_panels_have_unique_ids_and_positions(board: dict[str, Any]) -> None:
    """Ids are unique; no two panels overlap, none leaves the 24 columns, rows are whole lines."""
    everything = [*board["panels"], *(inner for panel in board["panels"] for inner in panel.get("panels", ()))]
    ids = [panel["id"] for panel in everything]
    assert len(ids) == len(set(ids))
    taken: dict[tuple[int, int], str] = {}
    for panel in everything:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        assert panel["type"] != "row" or (at["x"], at["w"], at["h"]) == (0, 24, 1)
        for cell in itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])):
            assert cell not in taken, f"{panel['title']} overlaps {taken[cell]}"
            taken[cell] = panel["title"]


@boards
def test_lines_are_filled(board: dict[str, Any]) -> None:
    """Each line of panels fills the width."""
    places = sorted((panel["gridPos"]["y"], panel["gridPos"]["w"]) for panel in query.panels(board))
    for top, line in itertools.groupby(places, key=lambda place: place[0]):
        assert sum(wide for _, wide in line) == 24, f"line {top}"
