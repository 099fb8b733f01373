"""A real proxy in this process, in front of a scripted server, whose metrics the test reads."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, Protocol

import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry

from modelhost_exporter.config.address import Address
from modelhost_exporter.config.http_url import ServerUrl
from modelhost_exporter.proxy import reachability
from modelhost_exporter.proxy.server import Proxy, ProxyEnvironment
from modelhost_exporter.proxy.settings import ProxiedServer, ProxySettings
from modelhost_exporter.security.tls_settings import TlsServer
from tests.proxy.client import Client
from tests.proxy.upstream import DEADLINE_SECONDS, Script, Upstream, refusing_port
from tests.support.certificates import Authority

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Iterator

SERVER = "it"


class Proxied:
    """A proxy, its upstream, and what the proxy counted."""

    def __init__(self, proxy: Proxy, upstream: Upstream, port: int, registry: CollectorRegistry) -> None:
        self.proxy = proxy
        self.upstream = upstream
        self.port = port
        self.registry = registry
        self.client_tls: ssl.SSLContext | None = None
        """What clients connect with; None: without TLS."""

    def client(self, **options: Any) -> Client:
        """Return a client of the proxy, not yet connected."""
        return Client(self.port, tls=self.client_tls, **options)

    def direct(self, **options: Any) -> Client:
        """Return a client of the upstream, not yet connected."""
        return Client(self.upstream.port, **options)

    def samples(self, name: str) -> dict[tuple[tuple[str, str], ...], float]:
        """Return a metric's values by sorted labels; ``server`` is left out, since there is one."""
        return {
            tuple(sorted((k, v) for k, v in sample.labels.items() if k != "server")): sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == f"modelhost_{name}"
        }

    def total(self, name: str) -> float:
        """Return the sum over all labels; 0 where there is no series."""
        return sum(self.samples(name).values())

    def value(self, name: str, **labels: str) -> float | None:
        """Return one value of this server; None where there is no such series."""
        return self.registry.get_sample_value(f"modelhost_{name}", {"server": SERVER, **labels})

    def in_flight(self) -> dict[tuple[str, str], float]:
        """Return the requests in flight by (model, state), those that are not 0."""
        found = self.samples("requests_in_flight").items()
        return {(dict(labels)["model"], dict(labels)["state"]): value for labels, value in found if value}

    async def until(self, name: str, value: float) -> None:
        """Wait until the sum of a metric's series has a value."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while self.total(name) < value:  # noqa: ASYNC110 - a metric has no event
                await asyncio.sleep(0.001)

    async def observed(self, count: int = 1) -> list[dict[str, str]]:
        """Wait until requests are over and return the labels of each; there must be no more, and none in flight."""
        await self.until("requests_total", count)
        for _ in range(20):  # a second observation of the same request would come now
            await asyncio.sleep(0)
        assert self.total("request_duration_seconds_count") == count
        assert self.in_flight() == {}
        counted = self.samples("requests_total").items()
        return [dict(labels) for labels, value in counted for _ in range(int(value))]

    async def one(self) -> dict[str, str]:
        """Wait for the one observation and return its labels."""
        (labels,) = await self.observed(1)
        return labels


class StartProxied(Protocol):
    """Starts a proxy in front of a scripted server; both stop when the test ends."""

    async def __call__(
        self,
        script: Script,
        *,
        host: str = "127.0.0.1",
        prefix: str = "",
        port: int | None = None,
        tls: ssl.SSLContext | None = None,
        **settings: Any,
    ) -> Proxied:
        """Start it with these settings.

        ``tls`` is the upstream's, ``listener_tls`` the proxy's. ``environment`` and ``listeners`` are the proxy's;
        ``limits`` instead returns the configuration's ``proxy``.
        """
        ...


@pytest.fixture
def dead_port() -> Iterator[int]:
    """Give a port where connections are refused, and that nobody else can get meanwhile."""
    with refusing_port() as port:
        yield port


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Make an authority that clients trust."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def listener_tls(authority: Authority) -> TlsServer:
    """Return the settings of a listener with a certificate."""
    pair = authority.issue("server")
    return TlsServer(cert_file=pair.certificate, key_file=pair.key)


@pytest_asyncio.fixture
async def start_proxied(caplog: pytest.LogCaptureFixture) -> AsyncIterator[StartProxied]:
    """Give a function that starts proxies; afterwards nothing may be left: no task, connection, error, request."""
    errors: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: errors.append(context))
    before = asyncio.all_tasks()
    started: list[Proxied] = []
    async with contextlib.AsyncExitStack() as stack:

        async def start(
            script: Script,
            *,
            host: str = "127.0.0.1",
            prefix: str = "",
            port: int | None = None,
            tls: ssl.SSLContext | None = None,
            **settings: Any,
        ) -> Proxied:
            upstream = await stack.enter_async_context(Upstream(script, tls=tls))
            registry = CollectorRegistry()
            limits = settings.pop("limits", ProxySettings)
            environment = settings.pop("environment", ProxyEnvironment(settings=limits))
            listeners = settings.pop("listeners", ())
            listener_tls = settings.pop("listener_tls", None)
            url = f"http{'s' if tls else ''}://{host}:{port or upstream.port}{prefix}"
            settings = {"allowed_hosts": frozenset("*"), **settings}
            urls = (ServerUrl.from_text(url),)
            server = ProxiedServer(SERVER, Address("127.0.0.1", 0), urls, tls=listener_tls, **settings)
            proxy = Proxy(registry, listeners, environment)
            stack.push_async_callback(proxy.close)
            started.append(Proxied(proxy, upstream, await proxy.listen(server), registry))
            return started[-1]

        yield start
        for each in started:
            assert each.in_flight() == {}
            assert each.proxy.metrics.running.longest_first() == []
    for each in started:
        await each.upstream.idle()
    async with asyncio.timeout(DEADLINE_SECONDS):
        while any(each.proxy.connections.descriptors.connections for each in started):  # noqa: ASYNC110 - no event
            await asyncio.sleep(0)
    for _ in range(3):
        await asyncio.sleep(0)
    assert asyncio.all_tasks() - before - {asyncio.current_task()} == set()
    assert errors == []
    records = [record for record in caplog.records if record.name != reachability.__name__]
    assert [record.getMessage() for record in records if record.levelno >= logging.WARNING] == []
