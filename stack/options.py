"""The command line of ``make stack``: run exporter, Prometheus, Alertmanager and Grafana without Docker."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

PORTS = {"exporter": 8585, "prometheus": 9090, "alertmanager": 9093, "grafana": 3000}
"""Each program and its port on the loopback address, as in docker-compose.yml."""

_DATA = Path(".data")
_DEMO_DATA = {"rack": _DATA / "demo", "workstation": _DATA / "demo-workstation"}
"""The folder of each simulated host; the first is the default."""

NORMAL_INTERVAL, LIVE_INTERVAL = "15s", "2s"
"""Prometheus' scrape interval; prometheus.yml has the first."""


@dataclass(frozen=True)
class Options:
    """The stack's data folder, ports, scrape interval and retention, and options for the exporter."""

    data: Path
    ports: dict[str, int]
    scrape_interval: str
    retention: str
    exporter_arguments: tuple[str, ...]
    demo: str | None
    """The simulated host, if any."""

    def url(self, program: str) -> str:
        """Return a program's URL."""
        return f"http://127.0.0.1:{self.ports[program]}"

    def address(self, program: str) -> str:
        """Return a program's address as HOST:PORT."""
        return f"127.0.0.1:{self.ports[program]}"


def parse(arguments: Sequence[str]) -> Options:
    """Parse the command line; arguments after ``--`` are passed to the exporter. Exits with 2 for an invalid one."""
    parser = argparse.ArgumentParser(
        prog="make stack", description=__doc__, usage="make stack ARGS='[OPTION]... [-- EXPORTER OPTION...]'"
    )
    parser.add_argument("--live", action="store_true", help=f"scrape every {LIVE_INTERVAL}, not {NORMAL_INTERVAL}")
    hosts = tuple(_DEMO_DATA)
    parser.add_argument(
        "--demo",
        nargs="?",
        const=hosts[0],
        choices=hosts,
        help=f"a simulated host instead of this one (default {hosts[0]}); implies --live",
    )
    parser.add_argument(
        "--data",
        type=Path,
        help=f"folder for history, settings and logs (default {_DATA}, with --demo {_DEMO_DATA[hosts[0]]})",
    )
    parser.add_argument("--retention", default="30d", help="how long Prometheus keeps history (default %(default)s)")
    for program, port in PORTS.items():
        parser.add_argument(f"--{program}-port", type=int, default=port, help=f"default {port}", metavar="PORT")
    parser.add_argument("exporter", nargs="*", help="options of the exporter, such as --config.file=config.yaml")
    given = parser.parse_args(arguments)
    return Options(
        data=(given.data or _DEMO_DATA.get(given.demo, _DATA)).resolve(),
        ports={program: getattr(given, f"{program}_port") for program in PORTS},
        scrape_interval=LIVE_INTERVAL if given.live or given.demo else NORMAL_INTERVAL,
        retention=given.retention,
        exporter_arguments=(*([f"--demo={given.demo}"] if given.demo else []), *given.exporter),
        demo=given.demo,
    )
