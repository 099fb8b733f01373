"""The shipped Prometheus and Alertmanager settings in real servers, on free ports."""

from __future__ import annotations

import contextlib
import json
import shutil
import urllib.request
from typing import TYPE_CHECKING, Any

from tests.prometheus.rules import FOLDER
from tests.support.programs import Program, fetch, free_port, installed, running, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


class Server:
    """A server with an HTTP API on 127.0.0.1."""

    def __init__(self, port: int) -> None:
        self.port = port

    def get(self, path: str) -> Any:
        """Return the JSON response of a path."""
        return json.loads(fetch(f"http://127.0.0.1:{self.port}{path}"))

    def post(self, path: str, body: Any) -> None:
        """Send JSON."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        fetch(request)

    def ready(self) -> bool:
        """Return whether the server is ready."""
        try:
            fetch(f"http://127.0.0.1:{self.port}/-/ready")
        except OSError:
            return False
        return True


@contextlib.contextmanager
def _serving(command: Sequence[str | Path], port: int) -> Iterator[Server]:
    server = Server(port)
    program = Program([*command, f"--web.listen-address=127.0.0.1:{port}"])
    with running(program):
        wait_until(server.ready, f"{command[0]} serves\n{program.output()[-2000:]}")
        yield server


@contextlib.contextmanager
def alertmanager(folder: Path, file: Path = FOLDER / "alertmanager.yml") -> Iterator[Server]:
    """Start an Alertmanager with the shipped settings; skips the test (in CI: fails it) where none is installed."""
    binary = installed("alertmanager", "prometheus-alertmanager")
    settings = (f"--config.file={file}", f"--storage.path={folder / 'alertmanager'}")
    with _serving([binary, *settings, "--cluster.listen-address="], free_port()) as server:
        yield server


@contextlib.contextmanager
def prometheus(
    folder: Path, exporter: str, alertmanager_port: int, shell: Sequence[str | Path] = (), replica: str = "a"
) -> Iterator[Server]:
    """Start a Prometheus with the shipped settings and rules, but other ports and a rule evaluation every second.

    Its external labels are those of the comment, with this replica. With a shell it is started by container.sh, as in a
    container.
    """
    port = free_port()
    copy = shutil.copytree(FOLDER, folder / "shipped")
    settings = copy / "prometheus.yml"
    text = settings.read_text()
    for shipped, given in {
        '"127.0.0.1:8585"': f'"{exporter}"',
        '"127.0.0.1:9090"': f'"127.0.0.1:{port}"',
        '"127.0.0.1:9093"': f'"127.0.0.1:{alertmanager_port}"',
        "# external_labels: {cluster: one, replica: a}": f"external_labels: {{cluster: one, replica: {replica}}}",
        "scrape_interval: 15s": "scrape_interval: 1s",
        "evaluation_interval: 15s": "evaluation_interval: 1s",
    }.items():
        assert text.count(shipped) == 1
        text = text.replace(shipped, given)
    settings.write_text(text)
    shutil.copy(copy / "hosts.example.yml", copy / "hosts" / "mine.yml")
    command: list[str | Path] = [installed("prometheus"), f"--config.file={settings}"]
    if shell:
        temporary = folder / "tmp"
        temporary.mkdir()
        command = ["env", f"TMPDIR={temporary}", *shell, copy / "container.sh", settings]
    # the first alerts are lost, since Alertmanager is found five seconds later
    flags = (f"--storage.tsdb.path={folder / 'data'}", "--rules.alert.resend-delay=1s")
    with _serving([*command, *flags], port) as server:
        yield server
