"""``make stack``: start all programs, print their addresses, run until Ctrl-C, stop cleanly."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from stack import options, programs
from stack.running import Program, Running, StackError
from stack.settings import prometheus_settings

if TYPE_CHECKING:
    from stack.options import Options

_ROOT = Path(__file__).resolve().parent.parent
_NO_GRAFANA = "not found on PATH; set GRAFANA_HOME, or open the live page and Prometheus"
_NO_ALERTMANAGER = "not found on PATH; Prometheus shows alerts, but no notifications are sent"


def main() -> int:
    """Run the stack; return 0 after a clean stop, 1 when it cannot run. Exits with 2 for an invalid command line."""
    given = options.parse(sys.argv[1:])
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        chosen = _programs(given)
        with Running(given.data / "logs", stop.is_set) as running:
            for program in chosen.values():
                if program:
                    running.start(program)
                    running.wait_until_ready(program)
            if not stop.is_set():
                print(_where(given, chosen), flush=True)  # noqa: T201 - the command's output
            running.watch()
            print("\nstopping", flush=True)  # noqa: T201 - the command's output
    except StackError as error:
        print(f"stack: {error}", file=sys.stderr)  # noqa: T201 - the command's output
        return 1
    return 0


def _programs(given: Options) -> dict[str, Program | None]:
    """Write Prometheus' settings and return the programs in the order of their start; None for a missing one."""
    (given.data / "logs").mkdir(parents=True, exist_ok=True)
    settings = given.data / "prometheus.yml"
    settings.write_text(prometheus_settings(_ROOT, given))
    return {
        "exporter": programs.exporter(given),
        "alertmanager": programs.alertmanager(given, _ROOT / "prometheus" / "alertmanager.yml"),
        "prometheus": programs.prometheus(given, settings),
        "grafana": programs.grafana(given, _ROOT / "grafana"),
    }


def _where(given: Options, chosen: dict[str, Program | None]) -> str:
    """Return a table of the programs' addresses."""
    absent = {"grafana": _NO_GRAFANA, "alertmanager": _NO_ALERTMANAGER}
    titles = {
        "exporter": "Live page",
        "grafana": "Grafana",
        "prometheus": "Prometheus",
        "alertmanager": "Alertmanager",
    }
    rows = [
        f"  {title:<13} {given.url(name) + '/' if chosen[name] else absent[name]}" for name, title in titles.items()
    ]
    return "\n".join(
        ["", *rows, "", f"  data in {given.data}, logs in {given.data / 'logs'}; Ctrl-C stops everything", ""]
    )


if __name__ == "__main__":
    sys.exit(main())
