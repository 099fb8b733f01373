"""Engines of this machine that nobody configured: found, polled, proxied, and left alone where they are configured."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.config import model as configuration
from modelhost_exporter.config.model import Discovery
from modelhost_exporter.config.parsing import ConfigError
from modelhost_exporter.engines.local_engines import LocalEngine, LocalEngines
from modelhost_exporter.linux.tcp_listeners import ListeningSocket
from modelhost_exporter.local_discovery import LocalDiscovery
from modelhost_exporter.process.listening import CannotListen
from modelhost_exporter.service import Service
from tests.support.pages import pages
from tests.support.programs import Exporter, fetch, running, wait_until
from tests.support.readings import Page
from tests.support.stand_in import standing_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from modelhost_exporter.config.model import Config
    from modelhost_exporter.proxy.settings import ProxiedServer

ROOT = Path(__file__).parents[1]
OLLAMA = """
import sys
sys.path.insert(0, sys.argv[1])
from tests.support.pages import pages
from tests.support.stand_in import standing_in
with standing_in(pages("ollama")) as server:
    print(server.port, flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def ollama() -> Iterator[int]:
    """Run a program called ollama that serves its pages; yield its port."""
    command = ["ollama", "-c", OLLAMA, str(ROOT)]
    with subprocess.Popen(
        command, executable=sys.executable, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.stdin.close()


def test_an_engine_is_polled_and_proxied_without_configuration() -> None:
    """Its series appear under its own name, and the address of its proxy is in the log."""
    with ollama() as port, running(exporter := Exporter("--discovery", "--proxy=auto")):
        proxied = exporter.wait_for_message("proxying")
        while proxied["upstream"] != f"http://127.0.0.1:{port}":
            proxied = exporter.wait_for_message("proxying")  # of engines that other tests run
        server = proxied["server"]
        assert server.startswith("ollama")
        assert b"0.13.5" in fetch(f"{proxied['url']}/api/version")

        def up() -> bool:
            return Page(exporter.page().decode()).by("modelhost_engine_up", "server").get((server,)) == 1

        wait_until(up, "the engine is up")
        page = Page(exporter.page().decode())
        loaded = page.by("modelhost_model_loaded", "server", "model", where={"server": server})
        assert (server, "llama3.2:latest") in loaded


def test_without_discovery_nothing_is_found() -> None:
    """The switch of the command line and of the file."""
    with ollama() as port, running(exporter := Exporter("--no-discovery")):
        assert str(port).encode() not in exporter.page()
        assert b"modelhost_engine_up" not in exporter.page()


def _service(config: Config) -> Service:
    return Service(lambda: config, config)


def _names(service: Service) -> list[str]:
    return [server.name for server in service.config.servers]


@pytest.fixture
def config() -> Config:
    """Return a configuration without servers."""
    return configuration.read({"collectors": {"disable_defaults": True, "engines": {"enabled": True}}})


FOUND = LocalEngine("ollama", "127.0.0.1", 11434)


def test_found_servers_come_and_go(config: Config) -> None:
    """Without a change nothing is built anew, and a reload keeps them."""
    service = _service(config)
    service.follow([FOUND])
    assert _names(service) == ["ollama"]
    before = service.scrape
    service.follow([FOUND])
    assert service.scrape is before
    service.reload()
    assert _names(service) == ["ollama"]
    service.follow([])
    assert _names(service) == []
    service.pollers.close()


def test_a_reload_can_switch_it_off(config: Config) -> None:
    """Found servers leave with ``discovery: false``, and come back."""
    loaded = [config]
    service = Service(lambda: loaded[0], config)
    service.follow([FOUND])
    loaded[0] = replace(config, discovery=Discovery(enabled=False))
    service.reload()
    assert _names(service) == []
    loaded[0] = config
    service.reload()
    assert _names(service) == ["ollama"]
    service.pollers.close()


class _Refusing:
    """Listeners that cannot listen."""

    def prepare(self, servers: Sequence[ProxiedServer]) -> None:
        """Fail for any server."""
        if servers:
            raise CannotListen("address in use")


def test_a_proxy_that_cannot_listen_changes_nothing(config: Config) -> None:
    """The search is repeated."""
    service = _service(replace(config, discovery=Discovery(proxy=True)))
    service.proxy = _Refusing()  # type: ignore[assignment] # prepares nothing
    with pytest.raises(CannotListen):
        service.follow([FOUND])
    assert _names(service) == []


def test_an_exporter_does_not_find_itself(config: Config) -> None:
    """Its own proxies look like the engines behind them."""
    with standing_in(pages("ollama")) as engine, standing_in(pages("ollama")) as own:
        listeners = [ListeningSocket("127.0.0.1", port, str(port)) for port in (engine.port, own.port)]
        engines = LocalEngines(usual={engine.port, own.port}, listeners=lambda: listeners)
        service = _service(config)
        LocalDiscovery(service, lambda: {own.port}, engines).search()
        assert [url.text for server in service.config.servers for url in server.upstreams] == [engine.url]
    service.pollers.close()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ({}, Discovery()),
        ({"discovery": False}, Discovery(enabled=False)),
        ({"discovery": True}, Discovery()),
        ({"discovery": {"proxy": True}}, Discovery(proxy=True)),
    ],
)
def test_settings(text: object, expected: Discovery) -> None:
    """A section, or a switch."""
    assert configuration.read(text).discovery == expected


def test_flags() -> None:
    """``--proxy=auto`` is no server, and needs the search."""
    given = configuration.load(None, {"--proxy": ["auto"]})
    assert (given.servers, given.discovery) == ((), Discovery(proxy=True))
    with pytest.raises(ConfigError, match="proxy needs enabled"):
        configuration.load(None, {"--proxy": ["auto"], "discovery.enabled": False})
