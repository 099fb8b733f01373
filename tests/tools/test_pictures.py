"""Pictures show Prometheus's results, and a text where there are none."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from matplotlib.figure import Figure

from grafana import formats
from tests.grafana.boards import BOARDS
from tools.render import pictures, theme
from tools.render import timeseries as courses
from tools.render.query import Prometheus, View, opened, panels

if TYPE_CHECKING:
    from pathlib import Path

LABELS = {"instance": "host-1", "gpu": "0", "model": "tiny", "server": "ollama", "reason": "hw_thermal"}
VIEW = View(start=0, end=600)


class Stub(Prometheus):
    """A Prometheus that returns the same for every query: two buckets, or nothing."""

    def __init__(self, *values: float) -> None:
        super().__init__("http://127.0.0.1:9")
        self._values = values

    def vector(self, expr: str, at: float) -> list[dict[str, Any]]:
        """Return the result of an instant query."""
        return [{"metric": labels, "value": [at, str(value)]} for labels, value in self._found(expr)]

    def matrix(self, expr: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
        """Return level lines for a range query."""
        instants = [start + number * step for number in range(int((end - start) / step) + 1)]
        return [
            {"metric": labels, "values": [[at, str(value)] for at in instants]} for labels, value in self._found(expr)
        ]

    def label_values(self, label: str, match: str, start: float, end: float) -> list[str]:
        """Return a variable's values."""
        assert (match, start, end) != ("", end, start)
        return [LABELS.get(label, "x")]

    def _found(self, expr: str) -> list[tuple[dict[str, str], float]]:
        assert "$" not in expr
        return [({**LABELS, "le": f"{index + 1}"}, value) for index, value in enumerate(self._values)]


def written(figure: Figure) -> list[str]:
    """Return every text of a picture."""
    return [text.get_text() for text in (*figure.texts, *(text for axes in figure.axes for text in axes.texts))]


def drawn(name: str, *values: float) -> list[str]:
    """Draw a dashboard from fixed results and return its texts."""
    api = Stub(*values)
    return written(pictures.picture(api, BOARDS[name], opened(api, BOARDS[name], VIEW)))


@pytest.mark.parametrize("name", BOARDS)
def test_every_panel_is_drawn(name: str) -> None:
    """Panels that are not in collapsed rows have a title, its variable filled in, and content."""
    words = drawn(name, 0.25, 1.0)
    for panel, _ in panels(BOARDS[name]):
        if panel in BOARDS[name]["panels"]:
            assert panel["title"].replace("$model", "tiny") in words
    assert "No data yet" not in words


@pytest.mark.parametrize("name", BOARDS)
def test_panels_without_data_say_why(name: str) -> None:
    """A panel without data has a text that names what is missing."""
    words = drawn(name)
    assert {panel["fieldConfig"]["defaults"]["noValue"] for panel in BOARDS[name]["panels"] if "targets" in panel} <= {
        *words
    }


def test_values_are_those_of_the_answers() -> None:
    """The Overview shows 12.3 % for the value 0.123, and LIVE for 1."""
    assert "12.3 %" in drawn("overview", 0.123)
    assert "LIVE" in drawn("overview", 1.0)
    assert "DOWN" in drawn("overview", 0.0)


def test_no_number_is_a_dash() -> None:
    """0 / 0 is shown as a dash."""
    assert "–" in drawn("overview", math.nan)


def test_a_line_of_another_unit_says_it() -> None:
    """A series in a second unit has that unit in its name: tokens per guess are not a percentage."""
    panel = next(each for each, _ in panels(BOARDS["model-servers"]) if each["title"] == "Speculative decoding")
    lines = [
        theme.Series(name, {}, ((0, value), (60, value)), "A")
        for name, value in (("kept", 0.7), ("tokens a guess", 2.1))
    ]
    axes = Figure().add_subplot()
    courses.timeseries(axes, panel, lines)
    assert {text.get_text() for text in axes.texts} == {"— kept", "70 %", "— tokens a guess", "2.10"}


def test_no_line_is_drawn_across_missing_points() -> None:
    """A gap becomes one NaN, so that no line is drawn across it."""
    points = list(courses.with_gaps([(0.0, 1.0), (15.0, 2.0), (60.0, 3.0), (75.0, 4.0)]))
    assert [at for at, value in points if math.isnan(value)] == [30.0]
    assert [value for _, value in points if not math.isnan(value)] == [1, 2, 3, 4]


def test_a_name_that_is_too_long_keeps_its_end() -> None:
    """Names of models on one host differ at the end."""
    assert theme.short("ollama gemma3:27b", 17) == "ollama gemma3:27b"
    assert theme.short("ollama gemma3:27b", 11) == "…gemma3:27b"


def test_a_row_is_that_of_the_value_given() -> None:
    """The first value is used only if none was selected for the row."""
    board = BOARDS["models"]
    assert opened(Stub(1.0), board, VIEW).repeated == {"model": "tiny"}
    assert opened(Stub(1.0), board, replace(VIEW, repeated={"model": "large"})).repeated == {"model": "large"}


def test_the_command_writes_files(tmp_path: Path) -> None:
    """Each dashboard given is rendered to a picture of its name."""
    arguments = ["http://127.0.0.1:9", str(tmp_path / "new"), "fleet", "exporter"]
    assert pictures.main(arguments, lambda _url: Stub(1.0)) == 0
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"fleet.png", "exporter.png"}
    assert (tmp_path / "new" / "fleet.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (0.1234, "percentunit", "12.3 %"),
        (1.0, "percentunit", "100 %"),
        (0.0421, "s", "42.1 ms"),
        (90.0, "s", "1.50 min"),
        (3 * 2**30, "bytes", "3 GiB"),
        (1_234_567.0, "Bps", "1.23 MB/s"),
        (700.0, "watt", "700 W"),
        (12.5, "suffix:req/s", "12.5 req/s"),
        (1.0, "bool_yes_no", "Yes"),
        (0.0, "s", "0 s"),
        (0.0, "short", "0"),
        (0.0042, "short", "0.0042"),
        (-0.0, "suffix:packets/s", "0 packets/s"),
        (0.3 * 3, "percentunit", "90 %"),
        (math.inf, "s", "–"),
    ],
)
def test_units(value: float, unit: str, words: str) -> None:
    """Values have three digits and the unit that Grafana would choose."""
    assert formats.in_unit(value, unit) == words
