"""Poll the engines that run on this machine, as they come and go."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from modelhost_exporter.engines.local_engines import LocalEngines
from modelhost_exporter.process.periodic_thread import PeriodicThread

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from modelhost_exporter.config.servers import Server
    from modelhost_exporter.service import Service

log = logging.getLogger(__name__)


class LocalDiscovery:
    """Searches at the start and every minute, and passes what it finds to the service."""

    def __init__(
        self, service: Service, own_ports: Callable[[], Collection[int]], engines: LocalEngines | None = None
    ) -> None:
        """Prepare; ``own_ports`` returns the ports of this exporter, whose proxies look like engines."""
        self._service = service
        self._own_ports = own_ports
        self._engines = engines or LocalEngines()

    def start(self) -> PeriodicThread:
        """Start the thread that searches; raises RuntimeError when the machine has none left."""
        return PeriodicThread(self.search, lambda _failures: self._service.config.discovery.interval, "discovery")

    def search(self) -> None:
        """Search once; blocks for seconds where a server does not respond."""
        config = self._service.config
        is_on = config.discovery.enabled and (config.discovery.proxy or "engines" in config.collectors)
        self._service.follow(self._engines.search(self._own_ports()) if is_on else ())
        now = self._service.config.servers
        _log("found an engine on this machine", [server for server in now if server not in config.servers])
        _log("an engine on this machine is gone", [server for server in config.servers if server not in now])


def _log(message: str, servers: Iterable[Server]) -> None:
    for server in servers:
        where = ", ".join(url.text for url in server.upstreams)
        log.info(message, extra={"fields": {"server": server.name, "kind": server.kind, "url": where}})
