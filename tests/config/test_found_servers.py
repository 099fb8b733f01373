"""Servers of found engines: names, proxies, and what is configured already."""

from __future__ import annotations

import socket

import pytest

from modelhost_exporter.config.address import Address
from modelhost_exporter.config.found_servers import FoundServers
from modelhost_exporter.config.model import read
from modelhost_exporter.engines.local_engines import LocalEngine
from modelhost_exporter.process.listening import can_listen

OLLAMA = LocalEngine("ollama", "127.0.0.1", 11434)
SECOND = LocalEngine("ollama", "127.0.0.1", 11435)
VLLM = LocalEngine("vllm", "::1", 8000)


def _names(found: FoundServers, *engines: LocalEngine, configured: object = None) -> list[str]:
    servers = read({"servers": configured}).servers
    return [server.name for server in found.servers(engines, servers, proxied=False)]


def test_an_engine_is_called_after_its_kind() -> None:
    """A second one has its port in its name; both keep them while they are there."""
    found = FoundServers()
    assert _names(found, OLLAMA, SECOND, VLLM) == ["ollama", "ollama-11435", "vllm"]
    assert _names(found, SECOND) == ["ollama-11435"]
    assert _names(found, OLLAMA, SECOND) == ["ollama", "ollama-11435"]
    assert _names(found, SECOND._replace(kind="vllm")) == ["vllm"]


def test_a_configured_server_wins() -> None:
    """One with the same address is not polled twice, one with the same name keeps it."""
    found = FoundServers()
    for host in ("127.0.0.1", "localhost", "[::1]", socket.gethostname()):
        assert _names(found, OLLAMA, VLLM, configured=[{"name": "a", "url": f"http://{host}:11434"}]) == ["vllm"]
    elsewhere = [{"name": "ollama", "url": "http://192.0.2.1:11434"}]
    assert _names(found, OLLAMA, configured=elsewhere) == ["ollama-11434"]


def test_a_found_server_is_polled_with_its_kind() -> None:
    """Without a proxy, unless there is to be one."""
    (server,) = FoundServers().servers([VLLM], (), proxied=False)
    assert [(one.name, one.url.text, one.kind) for one in server.polled] == [("vllm", "http://[::1]:8000", "vllm")]
    assert server.proxied is None


def test_a_proxy_listens_on_the_port_plus_10000() -> None:
    """On the next one where that is taken, and it stays there."""
    taken = {Address("127.0.0.1", 21434)}
    found = FoundServers(lambda address: address not in taken)

    def listen() -> list[str]:
        servers = found.servers([OLLAMA, VLLM], (), proxied=True)
        return [str(server.proxied.listen) for server in servers if server.proxied is not None]

    assert listen() == ["127.0.0.1:21435", "127.0.0.1:18000"]
    taken.clear()
    assert listen() == ["127.0.0.1:21435", "127.0.0.1:18000"]


def test_a_port_near_the_end_has_its_proxy_below() -> None:
    """There is no port beyond 65535."""
    high = OLLAMA._replace(port=60_000)
    (server,) = FoundServers(lambda _address: True).servers([high], (), proxied=True)
    assert server.proxied is not None
    assert server.proxied.listen.port == 50_000


def test_without_a_free_port_there_is_no_proxy() -> None:
    """The engine is polled all the same."""
    (server,) = FoundServers(lambda _address: False).servers([OLLAMA], (), proxied=True)
    assert server.proxied is None
    assert server.polled


@pytest.mark.parametrize(("host", "family"), [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)])
def test_an_address_in_use_is_not_free(host: str, family: socket.AddressFamily) -> None:
    """As the system says."""
    try:
        server = socket.create_server((host, 0), family=family)
    except OSError as error:
        pytest.skip(f"this machine has no such address: {error}")
    with server:
        port = server.getsockname()[1]
        assert not can_listen(Address(host, port))
    assert can_listen(Address(host, port))
