"""Write the history of simulated hosts as Prometheus blocks: ``python -m benchmarks.history FOLDER [--hosts=20]``.

The blocks have the raw series of every host, as scraped; run Prometheus with ``--storage.tsdb.path=FOLDER`` to query
them. Requires promtool, and takes about seven minutes on two cores for 20 hosts with 20 models and an hour.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import subprocess
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from modelhost_exporter.config.duration import parse_seconds
from modelhost_exporter.demo.catalogue import USUAL_MODELS
from modelhost_exporter.demo.incidents import USUAL
from tools import demo_history

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the blocks and print their contents."""
    given = _parser().parse_args(arguments)
    end = given.end or time.time() // given.interval * given.interval
    given.folder.mkdir(parents=True, exist_ok=True)
    one = partial(_host, given, end - given.seconds)
    began = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(given.processes) as pool:
        samples = sum(pool.imap_unordered(one, range(1, given.hosts + 1)))
    took = time.monotonic() - began
    print(f"{given.hosts} hosts, {given.models} models, {given.seconds:g} s every {given.interval:g} s, to {end:.0f}")
    print(f"{samples:,} samples in {took:.0f} s: {samples / took:,.0f} a second")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.history", description=__doc__)
    parser.add_argument("folder", type=Path, help="Where the blocks are put.")
    parser.add_argument("--hosts", type=int, default=1)
    parser.add_argument("--models", type=int, default=USUAL_MODELS)
    parser.add_argument("--seconds", type=parse_seconds, default=3600.0, help="How long a past, such as 1h.")
    parser.add_argument("--interval", type=parse_seconds, default=15.0)
    parser.add_argument("--end", type=float, help="The last scrape, in seconds since 1970. Default: now.")
    parser.add_argument("--processes", type=int, help="Default: as many as there are CPUs.")
    return parser


def _host(given: argparse.Namespace, start: float, number: int) -> int:
    """Write one host's blocks; return their number of samples."""
    logging.disable(logging.WARNING)  # of incidents
    samples = 0
    with tempfile.NamedTemporaryFile(suffix=".om") as file:
        for scrape in demo_history.scrapes(
            number, start, given.seconds, given.interval, models=given.models, schedule=USUAL
        ):
            samples += scrape.count(b"\n")
            file.write(scrape)
        file.write(demo_history.END)
        file.flush()
        command = ("promtool", "tsdb", "create-blocks-from", "openmetrics", "--quiet", file.name, str(given.folder))
        subprocess.run(command, check=True)
    return samples


if __name__ == "__main__":
    main()
