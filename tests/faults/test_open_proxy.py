"""A proxy that listens on every address without authentication logs a warning."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.observed import Stream, proxy_address, scraped, streaming_server

if TYPE_CHECKING:
    from tests.conftest import StartExporter
    from tests.support.programs import Exporter

MESSAGE = "listening on every address without authentication"


def logged(exporter: Exporter, message: str) -> list[dict[str, Any]]:
    """Return the fields of the lines with a message."""
    lines = [json.loads(line) for line in exporter.lines]
    return [line for line in lines if line["msg"] == message]


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
        assert (warning["level"], warning["server"], warning["address"]) == ("warning", "open", f"{host}:{port}")
        assert f"127.0.0.1:{port}" in warning["limit"]
        with scraped(exporter):
            Stream(proxy_address(exporter, "open")).close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.2"])
def test_a_proxy_on_loopback_is_not(start_exporter: StartExporter, host: str) -> None:
    """Only this machine can connect to it."""
    exporter = start_exporter(f"--proxy=own={host}:0=http://127.0.0.1:9")
    assert logged(exporter, "proxying")
    assert not logged(exporter, MESSAGE)
