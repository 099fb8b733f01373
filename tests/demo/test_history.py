from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from modelhost_exporter.demo.incidents import IncidentSchedule
from tests.demo.conftest import START
from tests.support.programs import installed
from tools import demo_history
from tools.demo_history import Target

if TYPE_CHECKING:
    from pathlib import Path


def test_samples_get_the_target_s_labels_and_a_time() -> None:
    """Every sample, and no comment, is written as Prometheus would have stored it at that time."""
    page = b'# HELP a A.\na 1\nb_total{x="y",le="+Inf"} 2.5\n'
    target = 'instance="host",job="modelhost"'
    assert Target("host").stamped(page, 12.5).decode().splitlines() == [
        f"a{{{target}}} 1 12.500",
        f'b_total{{{target},x="y",le="+Inf"}} 2.5 12.500',
        f"up{{{target}}} 1 12.500",
        f"scrape_duration_seconds{{{target}}} 0.04 12.500",
        f"scrape_samples_scraped{{{target}}} 2 12.500",
    ]


def test_labels_that_the_target_has_too_give_way() -> None:
    """A label of the target replaces one in the page, which becomes exported_instance; label values are unchanged."""
    page = b'a{gpu="7",instance="1",x="job=\\""} 1\n'
    (line, *_) = Target("host").stamped(page, 1).decode().splitlines()
    assert line == 'a{instance="host",job="modelhost",gpu="7",exported_instance="1",x="job=\\""} 1 1.000'


def test_the_simulated_process_is_as_old_as_its_host() -> None:
    """Start time and configuration have simulated times, not those of the process that writes the history."""
    page = next(demo_history.scrapes(1, START, 0, 15, models=3, schedule=IncidentSchedule())).decode()
    for name in ("process_start_time_seconds", "modelhost_config_last_reload_success_timestamp_seconds"):
        (line,) = (line for line in page.splitlines() if line.startswith(name))
        assert float(line.split()[1]) == START - 120


def test_promtool_makes_blocks_of_it(tmp_path: Path) -> None:
    """Two hosts' scrapes become blocks with as many samples as there were."""
    file = tmp_path / "past.om"
    samples = 0
    with file.open("wb") as out:
        for number in (1, 2):
            for scrape in demo_history.scrapes(number, START, 60, 15, models=3, schedule=IncidentSchedule()):
                samples += scrape.count(b"\n")
                out.write(scrape)
        out.write(demo_history.END)
    blocks = tmp_path / "blocks"
    promtool = installed("promtool")
    subprocess.run(
        [promtool, "tsdb", "create-blocks-from", "openmetrics", file, blocks], check=True, capture_output=True
    )
    listed = subprocess.run([promtool, "tsdb", "list", blocks], check=True, capture_output=True, text=True).stdout
    assert sum(int(line.split()[4]) for line in listed.splitlines()[1:]) == samples
