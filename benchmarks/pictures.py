"""Draw the dashboards for the documentation: ``python -m benchmarks.pictures [FOLDER] [NAME …]``.

The data is an afternoon of three simulated hosts, the first of which has incidents, recorded in a real Prometheus with
the shipped rules. Takes about three minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from grafana.build import BOARDS, FOLDER
from modelhost_exporter.demo.catalogue import USUAL_MODELS
from modelhost_exporter.demo.incidents import Incident, IncidentSchedule
from tests.support import past
from tools import demo_history
from tools.render import pictures, query

if TYPE_CHECKING:
    from collections.abc import Sequence

HOSTS, SHOWN_SECONDS = 3, 3600
DPI = 80
"""Of the long pictures."""
_MINUTE = 60.0
AFTERNOON = IncidentSchedule(
    (
        Incident("gpu_power_capped", 38 * _MINUTE, 14 * _MINUTE, "0"),
        Incident("server_errors", 47 * _MINUTE, 4 * _MINUTE, "sglang"),
        Incident("queue_growing", 65 * _MINUTE, 8 * _MINUTE, "vllm"),
        Incident("network_errors", 76 * _MINUTE, 24 * _MINUTE, "eth1"),
    ),
    origin=past.START,
)
_SHOWN = query.View(past.START + past.SECONDS - SHOWN_SECONDS, past.START + past.SECONDS)
_ONE_HOST: dict[str, list[str]] = {"instance": [demo_history.instance(1)]}
_VIEWS = {
    "fleet": _SHOWN,
    "models": replace(_SHOWN, repeated={"model": "gpt-oss-20b"}),
    "overview": replace(_SHOWN, chosen={**_ONE_HOST, "model": ["meta-llama/Llama-3.3-70B-Instruct"]}),
}
"""What is chosen; the first host alone elsewhere."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate, record, and draw."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pictures", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("folder", type=Path, nargs="?", default=Path("docs"))
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BOARDS))
    given = parser.parse_args(arguments)
    with multiprocessing.get_context("spawn").Pool() as pool, tempfile.TemporaryDirectory() as scratch:
        hosts = pool.imap(partial(_host, Path(scratch)), range(1, HOSTS + 1))
        with past.recorded(Path(scratch), (host.read_bytes() for host in hosts)) as server:
            for name in given.names or BOARDS:
                _draw(server.api, name, given.folder)


def _host(folder: Path, number: int) -> Path:
    """Write one host's scrapes to a file; in memory they would appear in the exporter's memory usage."""
    logging.disable(logging.WARNING)  # of incidents
    schedule = AFTERNOON if number == 1 else IncidentSchedule()
    every = demo_history.scrapes(
        number, past.START, past.SECONDS, past.INTERVAL, models=USUAL_MODELS, schedule=schedule
    )
    path = folder / f"host-{number}"
    with path.open("wb") as file:
        file.writelines(every)
    return path


def _draw(api: query.Prometheus, name: str, folder: Path) -> None:
    board = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    view = query.opened(api, board, _VIEWS.get(name, replace(_SHOWN, chosen=_ONE_HOST)))
    path = folder / f"grafana-{name}.png"
    pictures.save(pictures.picture(api, board, view), path, DPI if name != "overview" else pictures.DPI)
    print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
