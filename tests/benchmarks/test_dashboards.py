"""The data and the report of the dashboards' benchmark."""

from __future__ import annotations

from benchmarks.dashboards import multiply
from benchmarks.dashboards.multiply import ASKED_MODEL, BLOCK_SECONDS, SPARSE_STEP, STEP, Scale
from benchmarks.dashboards.report import report
from benchmarks.dashboards.template import Series
from benchmarks.dashboards.timing import Timed, panels_of

BEGIN = 100 * BLOCK_SECONDS


def test_blocks_hold_each_moment_once() -> None:
    """The ranges follow each other without a gap, each within one block of Prometheus', from first to last."""
    scale = Scale(1, 7, BEGIN + 1200)
    ranges = list(scale.ranges())
    moments = [time for start, end in ranges for time in range(start, end + 1, STEP)]
    assert moments == list(range(BEGIN + 1200 - 7 * 86_400, BEGIN + 1201, STEP))
    assert all(start // BLOCK_SECONDS == end // BLOCK_SECONDS for start, end in ranges)
    assert ranges[-1] == (BEGIN, BEGIN + 1200)


def sample_count(scale: Scale, name: str, **labels: str) -> list[int]:
    """Return the number of samples of each series generated from one template over the longest sparse step."""
    series = Series(name, labels, 0.5)
    return [text.count(b"\n") for text in multiply.exposition([series], scale, BEGIN, BEGIN + SPARSE_STEP - STEP)]


def test_what_panels_ask_for_has_all_samples() -> None:
    """Series that panels query have every sample; other models are sparse unless every model is requested."""
    many, model = SPARSE_STEP // STEP, "model:requests:rate5m"
    few, all_ = Scale(2, 7, BEGIN), Scale(2, 7, BEGIN, every_model=True)
    assert sample_count(few, "instance:requests:rate5m", instance="a") == [many, many]
    assert sample_count(few, model, instance="a", model=ASKED_MODEL) == [many, many]
    assert sample_count(few, model, instance="a", model="tiny") == [many, 1]
    assert sample_count(all_, model, instance="a", model="tiny") == [many, many]
    assert sample_count(all_, "model:requests_failed:increase5m", instance="a", model="tiny") == [1, 1]
    assert sample_count(few, "job_model:requests:rate5m", model="tiny") == [many]


def test_a_sample_is_one_line_of_the_exposition() -> None:
    """A ratio stays below 1, and each series has its host's name."""
    series = Series("instance:gpu_memory_usage:ratio", {"instance": "a", "job": "b"}, 0.99)
    first = next(multiply.exposition([series], Scale(1, 1, BEGIN), BEGIN, BEGIN)).decode()
    name, _, rest = first.partition(" ")
    value, time = rest.split()
    assert name == 'instance:gpu_memory_usage:ratio{instance="demo-01:8585",job="b"}'
    assert 0 < float(value) <= 1
    assert int(time) == BEGIN


def test_a_panel_asks_for_as_many_points_as_it_is_wide() -> None:
    """A third of a 1920-pixel screen is 640 points, unless the panel sets maxDataPoints."""
    panel = {"type": "timeseries", "title": "CPU", "gridPos": {"w": 8}, "targets": [{"refId": "A", "expr": "up"}]}
    board = {
        "title": "board",
        "templating": {"list": []},
        "annotations": {"list": []},
        "panels": [panel, {**panel, "maxDataPoints": 100}],
    }
    assert [one.questions[0].points for one in panels_of(board)] == [640, 100]


def test_a_slow_panel_is_a_miss_and_named() -> None:
    """The table has the slowest panel of each dashboard, and a list of all panels that are too slow."""

    def took(seconds: float, board: str = "Models") -> Timed:
        return Timed(board, f"panel {seconds}", "all", 9, seconds, 0.5)

    measured = {"1h": [took(0.9), took(1.1), took(0.2, "Fleet")], "7d": [took(2.9), took(1.0, "Fleet")]}
    text = report(measured, {"1h": 1, "7d": 3})
    models, fleet = (next(line for line in text.splitlines() if line.startswith(name)) for name in ("Models", "Fleet"))
    assert "MISS  1h: panel 1.1 (all); 7d: panel 2.9 (all)" in models
    assert "PASS" in fleet
    assert "1.10 s over 1h (9.00 at first, 0.50 of CPU): Models, panel 1.1 (all)" in text
    assert "panel 0.9" not in text
