"""The servers of the message: from polls and from the configuration."""

from __future__ import annotations

from typing import Any

import pytest

from modelhost_exporter.config.model import read
from modelhost_exporter.engines.metrics import FAMILIES, INFO, UP
from modelhost_exporter.live.family_lookup import Families
from modelhost_exporter.live.servers import servers

WAITING = next(family for family in FAMILIES if family.name == "modelhost_engine_requests_waiting")
ABSENT = {"requestsRunning": None, "requestsWaiting": None}


def _configured(*entries: dict[str, Any]) -> Any:
    return read({"servers": list(entries)}).servers


def test_a_server_is_described_by_its_polls_and_its_configuration() -> None:
    """Two replicas are one server, which is up while one of them is."""
    families = Families(
        [
            *UP.by([(("chat", "a:1"), 0), (("chat", "b:2"), 1)]),
            *INFO.by([(("chat", "b:2", "vllm", "0.32"), 1)]),
            *WAITING.by([(("chat", "a:1"), 3), (("chat", "b:2"), 4)]),
        ]
    )
    urls = ["http://a:1", "http://b:2"]
    (found,) = servers(families, _configured({"name": "chat", "urls": urls, "proxy": {"listen": ":8000"}}))
    assert found == {
        "name": "chat",
        "kind": "vllm",
        "version": "0.32",
        "up": True,
        "address": None,
        "proxyAddress": ":8000",
        "requestsRunning": None,
        "requestsWaiting": 7,
    }


@pytest.mark.parametrize(
    ("url", "address"),
    [("http://127.0.0.1:11434", "127.0.0.1:11434"), ("http://[::1]:8000", "[::1]:8000"), ("http://gpu-1:8000", None)],
)
def test_only_addresses_of_this_machine_are_shown(url: str, address: str | None) -> None:
    """Those of others are internal to a network."""
    (found,) = servers(Families([]), _configured({"name": "a", "url": url}))
    assert found == {
        "name": "a",
        "kind": None,
        "version": None,
        "up": None,
        "address": address,
        "proxyAddress": None,
        **ABSENT,
    }


def test_a_proxy_on_any_free_port_has_no_address() -> None:
    """It is in the log."""
    listen = {"listen": "127.0.0.1:0"}
    (found,) = servers(Families([]), _configured({"name": "a", "url": "http://127.0.0.1:1", "proxy": listen}))
    assert found["proxyAddress"] is None


def test_a_polled_server_that_is_not_configured_is_shown() -> None:
    """As in the demo."""
    (found,) = servers(Families(UP.by([(("ollama", ""), 1)])), ())
    assert (found["name"], found["up"], found["address"]) == ("ollama", True, None)
