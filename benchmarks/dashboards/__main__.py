"""Query times of the dashboards with the data of many hosts: ``python -m benchmarks.dashboards [--full]``.

One Prometheus has the recorded series of many demo hosts over days, every 5 minutes, and the raw series of some of them
over an hour. Every panel of every dashboard is queried over an hour and over the days, for all hosts and models and for
one. Figures with a target are marked PASS or MISS; the exit code is 0 either way.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.dashboards import multiply, template
from benchmarks.dashboards.report import report
from benchmarks.dashboards.serving import address, settled
from benchmarks.dashboards.timing import panels_of, timed
from benchmarks.measuring import ROOT, machine, version
from tools import dashboard_queries as query
from tools.dashboard_queries import View
from tools.demo_history import instance

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.dashboards.timing import Timed
    from benchmarks.measuring import Program

_DAY, _HOUR = 86_400, 3600
_AN_HOUR_WITHIN, _DAYS_WITHIN = 1.0, 3.0
"""Time limit of a panel in seconds."""
_SCALE = "scale.json"


@dataclass(frozen=True)
class Wanted:
    """The amount of data."""

    hosts: int = 50
    models: int = 20
    days: float = 7
    raw_hosts: int = 4
    every_model: bool = False


FULL = Wanted(hosts=500, raw_hosts=20)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the data if it does not exist, run the queries, and print the times."""
    logging.disable(logging.WARNING)  # of incidents
    given = _parser().parse_args(arguments)
    usual = FULL if given.full else Wanted()
    wanted = Wanted(**{name: getattr(given, name) or value for name, value in asdict(usual).items()})
    print(f"{version('prometheus')}\n{machine()}, load {os.getloadavg()[0]:.1f}")
    with contextlib.ExitStack() as stack:
        data = given.data or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        end = _written(wanted, data)
        server = stack.enter_context(contextlib.contextmanager(settled)(data))
        began = time.monotonic()
        whole = f"{wanted.days:g}d"
        allowed = {"1h": _AN_HOUR_WITHIN, whole: _DAYS_WITHIN}
        measured = {
            "1h": list(_over(server, View(end - _HOUR, end), _AN_HOUR_WITHIN)),
            whole: list(_over(server, View(end - wanted.days * _DAY, end), _DAYS_WITHIN)),
        }
        print(
            f"asked for {time.monotonic() - began:.0f} s; load {os.getloadavg()[0]:.1f}\n\n{report(measured, allowed)}"
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dashboards", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--full", action="store_true", help=f"{FULL.hosts} hosts, {FULL.raw_hosts} of them raw too")
    parser.add_argument("--hosts", type=int, help=f"with recorded series (default {Wanted.hosts})")
    parser.add_argument("--models", type=int, help=f"on each host (default {Wanted.models})")
    parser.add_argument("--days", type=float, help=f"of recorded series (default {Wanted.days})")
    parser.add_argument("--raw-hosts", type=int, help=f"with an hour of raw series (default {Wanted.raw_hosts})")
    parser.add_argument("--every-model", action="store_true", help="every sample of every model and host; takes longer")
    parser.add_argument("--data", type=Path, help="folder of the data, kept and used again (default: a temporary one)")
    return parser


def _written(wanted: Wanted, data: Path) -> int:
    """Write the data if it does not exist; return its end (seconds since 1970)."""
    data.mkdir(parents=True, exist_ok=True)
    note = data / _SCALE
    if note.exists():
        found = json.loads(note.read_text())
        if found["wanted"] != asdict(wanted):
            raise SystemExit(f"{data} holds {found['wanted']}, not {asdict(wanted)}")
    else:
        found = _write(wanted, data)
        note.write_text(json.dumps(found))
    print("\n".join(found["said"]))
    return int(found["end"])


def _write(wanted: Wanted, data: Path) -> dict[str, Any]:
    end = int(time.time()) // multiply.STEP * multiply.STEP
    raw = [f"--hosts={wanted.raw_hosts}", f"--models={wanted.models}", f"--seconds={_HOUR}s", f"--end={end}"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.history", str(data), *raw], cwd=ROOT, check=True, stdout=subprocess.PIPE
    )
    began = time.monotonic()
    series = template.recorded(wanted.models, end)
    samples = multiply.write(series, multiply.Scale(wanted.hosts, wanted.days, end, wanted.every_model), data)
    took = time.monotonic() - began
    few = "no dashboard reads" if wanted.every_model else "no panel below queries"
    said = (
        f"{wanted.hosts} hosts, {wanted.models} models, {wanted.days:g} d of recorded series",
        f"every {multiply.STEP} s; what {few}: every {multiply.SPARSE_STEP} s",
        f"{samples:,} samples in {took:.0f} s: {samples / took:,.0f} a second",
    )
    return {"wanted": asdict(wanted), "end": end, "said": [*done.stdout.decode().splitlines(), *said]}


def _over(server: Program, view: View, allowed: float) -> Iterator[Timed]:
    """Yield the time of every panel over a time range, for each selection of hosts and models."""
    api = query.Prometheus(address(server))
    for chosen, values in _choices().items():
        for path in sorted((ROOT / "grafana/dashboards").glob("*.json")):
            board = json.loads(path.read_text())
            opened = query.opened(api, board, replace(view, chosen=values))
            for panel in panels_of(board):
                yield timed(server, panel, opened, chosen, allowed)


def _choices() -> dict[str, dict[str, list[str]]]:
    host, model = {"instance": [instance(multiply.ASKED_HOST)]}, {"model": [multiply.ASKED_MODEL]}
    return {"all": {}, "one host": host, "one model": model, "one of each": {**host, **model}}


if __name__ == "__main__":
    main()
