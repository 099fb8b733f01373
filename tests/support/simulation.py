"""Long simulations in processes of their own, outside the coverage: measuring it makes them take three times as long.

Short ones in the tests measure the same code.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from modelhost_exporter.demo.catalogue import USUAL_MODELS
from modelhost_exporter.demo.host import DemoHost
from modelhost_exporter.demo.incidents import USUAL, IncidentSchedule
from tools import demo_history

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path(__file__).parents[2]
_MINUTE = 60.0


def incidents(start: float, seconds: float, interval: float) -> Iterator[bytes]:
    """Yield the scrapes of a host on which everything goes wrong, in OpenMetrics format."""
    command = [sys.executable, "-m", __name__, "incidents", str(start), str(seconds), str(interval)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=_ROOT) as process:
        assert process.stdout is not None
        yield from process.stdout
    assert process.returncode == 0


def pages(start: float, minutes: int, *, incidents: bool) -> list[str]:
    """Return the page after each minute of a host, with every incident or without any."""
    kind = "hourly" if incidents else "none"
    command = [sys.executable, "-m", __name__, "pages", str(start), str(minutes), kind]
    done = subprocess.run(command, check=True, capture_output=True, cwd=_ROOT)
    found: list[str] = json.loads(done.stdout)
    return found


def _print_incidents(start: str, seconds: str, interval: str) -> None:
    for scrape in demo_history.scrapes(
        1, float(start), float(seconds), float(interval), models=USUAL_MODELS, schedule=USUAL
    ):
        sys.stdout.buffer.write(scrape)


def _print_pages(start: str, minutes: str, kind: str) -> None:
    host = DemoHost(float(start), schedule=USUAL if kind == "hourly" else IncidentSchedule())
    try:
        json.dump(
            [host.page(float(start) + _MINUTE * each).decode() for each in range(1, int(minutes) + 1)], sys.stdout
        )
    finally:
        host.close()


if __name__ == "__main__":
    {"incidents": _print_incidents, "pages": _print_pages}[sys.argv[1]](*sys.argv[2:])
