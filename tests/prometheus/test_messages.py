"""A real Alertmanager with the shipped settings sends its messages to a real receiver, which counts them."""

from __future__ import annotations

import contextlib
import http.server
import json
import re
import threading
from typing import TYPE_CHECKING, Any

from tests.prometheus.rules import ALERTS, FOLDER
from tests.prometheus.servers import alertmanager, prometheus
from tests.support.programs import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.prometheus.servers import Server

AREAS = {rule["alert"]: rule["labels"]["area"] for rule in ALERTS}


class Receiver:
    """A webhook receiver that keeps the messages it gets."""

    def __init__(self) -> None:
        messages: list[Any] = []

        class _Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_arguments: Any) -> None:
                pass

        self.messages = messages
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)

    def hosts(self, alertname: str) -> list[list[str]]:
        """Return the hosts of each message with an alert, in order of arrival."""
        named = (
            [alert["labels"]["instance"] for alert in message["alerts"] if alert["labels"]["alertname"] == alertname]
            for message in self.messages
        )
        return [sorted(hosts) for hosts in named if hosts]


@contextlib.contextmanager
def receiving() -> Iterator[Receiver]:
    """Start a receiver."""
    receiver = Receiver()
    thread = threading.Thread(target=receiver.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.server.shutdown()
        receiver.server.server_close()
        thread.join()


def _settings(folder: Path, receiver: Receiver) -> Path:
    """Write the shipped settings with every receiver at this address, and without waiting."""
    text = (FOLDER / "alertmanager.yml").read_text()
    text = re.sub(r"group_(wait|interval): \w+", r"group_\1: 1s", text)
    hook = f"    webhook_configs: [{{url: 'http://127.0.0.1:{receiver.server.server_port}/', send_resolved: false}}]"
    text, count = re.subn(r"(?m)^  - name: (?:pages|tickets|watchdog)$", lambda found: f"{found[0]}\n{hook}", text)
    assert count == 3
    file = folder / "alertmanager.yml"
    file.write_text(text)
    return file


def _fire(server: Server, name: str, severity: str, *hosts: str) -> None:
    labels = {"alertname": name, "severity": severity, "area": AREAS[name], "job": "modelhost"}
    server.post("/api/v2/alerts", [{"labels": {**labels, "instance": host}} for host in hosts])


def test_a_cause_beside_the_hosts_is_one_message(tmp_path: Path) -> None:
    """A dead time server sends one message for three hosts; memory that is short on two of them sends two."""
    with receiving() as receiver, alertmanager(tmp_path, _settings(tmp_path, receiver)) as server:
        _fire(server, "HostClockUnsynchronized", "warning", "a", "b", "c")
        _fire(server, "HostMemoryHigh", "warning", "a", "b")
        _fire(server, "HostCpuHigh", "info", "a")
        _fire(server, "Watchdog", "info", "-")
        wait_until(lambda: len(receiver.hosts("HostMemoryHigh")) == 2, "a message for each host")
        wait_until(lambda: bool(receiver.hosts("HostClockUnsynchronized")), "a message for all")
        wait_until(lambda: bool(receiver.hosts("Watchdog")), "the watchdog")
        assert receiver.hosts("HostClockUnsynchronized") == [["a", "b", "c"]]
        assert sorted(receiver.hosts("HostMemoryHigh")) == [["a"], ["b"]]
        assert receiver.hosts("HostCpuHigh") == []


def _watchdogs(server: Server) -> list[dict[str, str]]:
    alerts = server.get("/api/v2/alerts")
    return [alert["labels"] for alert in alerts if alert["labels"]["alertname"] == "Watchdog"]


def test_replicas_of_prometheus_send_one_alert(tmp_path: Path) -> None:
    """Two Prometheus servers with different external labels "replica" are one source to Alertmanager."""
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        folder.mkdir()
    with alertmanager(tmp_path) as receiver, contextlib.ExitStack() as stack:
        servers = [
            stack.enter_context(prometheus(folder, "127.0.0.1:9", receiver.port, replica=folder.name))
            for folder in folders
        ]
        for server in servers:
            wait_until(lambda server=server: _sent(server) > 0, "it has sent alerts")  # type: ignore[misc]
        (labels,) = _watchdogs(receiver)
        assert labels == {"alertname": "Watchdog", "severity": "info", "area": "watchdog", "cluster": "one"}


def _sent(server: Server) -> float:
    query = "/api/v1/query?query=sum(prometheus_notifications_sent_total)"
    return sum(float(one["value"][1]) for one in server.get(query)["data"]["result"])
