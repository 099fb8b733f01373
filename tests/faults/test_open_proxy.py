"""A listener that everybody who reaches the machine may use logs a warning, and has a metric."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.faults.observed import Stream, proxy_address, scraped, streaming_server

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import StartExporter
    from tests.support.programs import Exporter

MESSAGE = "listening without authentication"
HASH = "$2b$04$abcdefghijklmnopqrstuuK3Gf.Bjp1wIAsSDwZT4oDgNAvjwd0ha"


def logged(exporter: Exporter, message: str) -> list[dict[str, Any]]:
    """Return the fields of the lines with a message."""
    lines = [json.loads(line) for line in exporter.lines]
    return [line for line in lines if line["msg"] == message]


def listeners(exporter: Exporter) -> list[tuple[dict[str, str], float]]:
    """Return the labels and values of the listeners of a page, sorted."""
    found = [
        (sample.labels, sample.value)
        for metric in text_string_to_metric_families(exporter.page().decode())
        for sample in metric.samples
        if sample.name == "modelhost_insecure_listener"
    ]
    return sorted(found, key=lambda each: (each[1], each[0].get("server", ""), each[0]["listener"]))


@pytest.mark.parametrize("host", ["", "0.0.0.0", "[::]", "0"])  # noqa: S104 - that is what this is about
def test_a_proxy_on_every_address_is_warned_of(start_exporter: StartExporter, host: str) -> None:
    """The warning has the configured address and the remedy, and the logged URL can be opened on this machine."""
    with streaming_server() as server:
        exporter = start_exporter(f"--proxy=open={host}:0={server.url}")
        (proxying,) = logged(exporter, "proxying")
        port = proxying["url"].rpartition(":")[2]
        assert proxying["url"] == f"http://localhost:{port}"
        assert proxying["address"] == f"{host}:{port}"
        (warning,) = logged(exporter, MESSAGE)
        assert (warning["level"], warning["server"]) == ("warning", "open")
        addresses = warning["address"].split(", ")
        assert {address.rpartition(":")[0] for address in addresses} <= {"0.0.0.0", "[::]"}  # noqa: S104 - likewise
        assert f"127.0.0.1:{port}" in warning["limit"]
        assert sorted(addresses) == [labels["listener"] for labels, value in listeners(exporter) if value]
        with scraped(exporter):
            Stream(proxy_address(exporter, "open")).close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.2"])
def test_a_proxy_on_loopback_is_not(start_exporter: StartExporter, host: str) -> None:
    """Only this machine can connect to it."""
    exporter = start_exporter(f"--proxy=own={host}:0=http://127.0.0.1:9")
    assert logged(exporter, "proxying")
    assert not logged(exporter, MESSAGE)


@pytest.mark.parametrize("secured", [False, True])
def test_the_web_port_on_every_address(start_exporter: StartExporter, tmp_path: Path, *, secured: bool) -> None:
    """It is warned of unless clients have to authenticate; the proxy on loopback is 0, and no listener is missing."""
    file = tmp_path / "web.yml"
    file.write_text(f"basic_auth_users: {{ada: {HASH}}}" if secured else "")
    exporter = start_exporter(
        "--web.listen-address=0.0.0.0:0", f"--web.config.file={file}", "--proxy=own=127.0.0.1:0=http://127.0.0.1:9"
    )
    warnings = logged(exporter, MESSAGE)
    assert ["server" in warning for warning in warnings] == [False] * (not secured)
    if secured:
        return
    (_, own_page), (_, proxied), (every, everywhere) = listeners(exporter)
    assert (own_page, proxied, everywhere) == (0, 0, 1)
    assert every["listener"] == warnings[0]["address"]


def test_a_password_ends_the_warning(start_exporter: StartExporter, tmp_path: Path) -> None:
    """A proxy on every address with authentication is 0; after a reload without it is 1."""
    file = tmp_path / "config.yaml"
    entry = "servers: [{{name: a, url: 'http://127.0.0.1:9', poll: false, proxy: {{listen: '0.0.0.0:0', auth: {}}}}}]"
    file.write_text(entry.format(f"{{basic_auth_users: {{ada: {HASH}}}}}"))
    exporter = start_exporter(f"--config.file={file}")
    assert not logged(exporter, MESSAGE)
    assert [value for labels, value in listeners(exporter) if labels.get("server") == "a"] == [0]
    file.write_text(entry.format("{}"))
    exporter.process.send_signal(signal.SIGHUP)
    exporter.wait_for_message("configuration reloaded")
    assert [value for labels, value in listeners(exporter) if labels.get("server") == "a"] == [1]
