"""The real stack, started like ``make stack``: it scrapes itself, records, prints its addresses, and stops."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.programs import fetch, free_port, installed, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAMS = ("exporter", "prometheus", "alertmanager", "grafana")


class Stack:
    """A stack on free ports, with its data in a folder of the test."""

    def __init__(self, folder: Path, *arguments: str, environment: dict[str, str] | None = None) -> None:
        installed("prometheus")
        self.ports = {name: free_port() for name in PROGRAMS}
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "stack", f"--data={folder / 'data'}"),
                *(f"--{name}-port={port}" for name, port in self.ports.items()),
                *arguments,
            ],
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def table(self) -> str:
        """Return the stack's output once everything runs."""
        assert self.process.stdout is not None
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if "Ctrl-C" in line:
                return "".join(lines)
        pytest.fail(f"it ended: {self.process.communicate()}")

    def answer(self, path: str, **query: str) -> list[dict[str, object]] | dict[str, object]:
        """Return the data of a response of Prometheus."""
        text = fetch(f"http://127.0.0.1:{self.ports['prometheus']}/api/v1/{path}?{urllib.parse.urlencode(query)}")
        data: list[dict[str, object]] | dict[str, object] = json.loads(text)["data"]
        return data

    def has(self, promql: str) -> bool:
        """Return whether a query has a result."""
        data = self.answer("query", query=promql)
        assert isinstance(data, dict)
        return bool(data["result"])


@pytest.fixture
def stacks() -> Iterator[list[Stack]]:
    """Yield a list of stacks that are stopped when the test ends."""
    started: list[Stack] = []
    yield started
    for stack in started:
        if stack.process.poll() is None:
            stack.process.send_signal(signal.SIGTERM)
        stack.process.communicate(timeout=30)


def test_it_scrapes_records_takes_alerts_and_stops_cleanly(tmp_path: Path, stacks: list[Stack]) -> None:
    """The stack scrapes, records, receives alerts, and stops without an error."""
    installed("alertmanager", "prometheus-alertmanager")
    stack = Stack(tmp_path, "--live", "--", "--no-collector.gpu")
    stacks.append(stack)
    table = stack.table()
    for name in ("exporter", "prometheus", "alertmanager"):
        assert f"http://127.0.0.1:{stack.ports[name]}/" in table
    wait_until(lambda: stack.has('up{job="modelhost"} == 1'), "a scrape")
    assert not stack.has('modelhost_scrape_collector_success{collector="gpu"}')  # what follows -- is the exporter's
    wait_until(lambda: stack.has("instance:memory_usage:ratio"), "a recorded series", every=0.5)
    managers = stack.answer("alertmanagers")
    assert isinstance(managers, dict)
    assert f"127.0.0.1:{stack.ports['alertmanager']}" in str(managers["activeAlertmanagers"])
    stack.process.send_signal(signal.SIGINT)
    _, complaint = stack.process.communicate(timeout=30)
    assert (stack.process.returncode, complaint) == (0, "")
    for port in stack.ports.values():
        with pytest.raises(OSError, match="refused"):
            fetch(f"http://127.0.0.1:{port}/")


def test_history_is_there_again_after_a_restart(tmp_path: Path, stacks: list[Stack]) -> None:
    """History is there again after a restart."""
    first = Stack(tmp_path, "--live")
    stacks.append(first)
    first.table()
    wait_until(lambda: first.has("modelhost_build_info"), "a scrape")
    first.process.send_signal(signal.SIGTERM)
    first.process.communicate(timeout=30)
    ended = time.time()
    second = Stack(tmp_path)
    stacks.append(second)
    second.table()
    assert second.has(f'min_over_time(process_start_time_seconds{{job="modelhost"}}[1h]) < {ended}')


def test_a_program_that_ends_takes_the_stack_down_and_is_named(tmp_path: Path, stacks: list[Stack]) -> None:
    """A program that ends takes the stack down and is named."""
    stack = Stack(tmp_path, "--", "--no-such-flag")
    stacks.append(stack)
    _, complaint = stack.process.communicate(timeout=30)
    assert stack.process.returncode == 1
    assert complaint.startswith("stack: exporter ended with exit code 2")
    assert "--no-such-flag" in complaint


GRAFANA = """#!{python}
import http.server, json, os, sys
settings = {{key: value for key, value in os.environ.items() if key.startswith(("GF_", "MODELHOST_"))}}
open({said!r}, "w").write(json.dumps({{"arguments": sys.argv[1:], "environment": settings}}))
address = (os.environ["GF_SERVER_HTTP_ADDR"], int(os.environ["GF_SERVER_HTTP_PORT"]))
http.server.HTTPServer(address, type("Ok", (http.server.SimpleHTTPRequestHandler,), {{"do_GET": lambda self: (
    self.send_response(200), self.end_headers())}})).serve_forever()
"""


def test_a_grafana_gets_the_same_provisioning_files(tmp_path: Path, stacks: list[Stack]) -> None:
    """A stand-in program replaces Grafana, which is not available as a package here."""
    home, said = tmp_path / "grafana", tmp_path / "said.json"
    (home / "bin").mkdir(parents=True)
    (home / "bin" / "grafana").write_text(GRAFANA.format(python=sys.executable, said=str(said)))
    (home / "bin" / "grafana").chmod(0o755)
    stack = Stack(tmp_path, "--live", environment={"GRAFANA_HOME": str(home)})
    stacks.append(stack)
    assert f"http://127.0.0.1:{stack.ports['grafana']}/" in stack.table()
    heard = json.loads(said.read_text())
    assert heard["arguments"][:2] == ["server", f"--homepath={home}"]
    environment = heard["environment"]
    assert environment["MODELHOST_PROMETHEUS_URL"] == f"http://127.0.0.1:{stack.ports['prometheus']}"
    assert environment["MODELHOST_SCRAPE_INTERVAL"] == "2s"
    for key in ("GF_PATHS_PROVISIONING", "MODELHOST_DASHBOARDS"):
        assert Path(environment[key]).is_dir()
    overview = json.loads((Path(environment["MODELHOST_DASHBOARDS"]) / "overview.json").read_text())
    assert overview["refresh"] == "5s"
