"""The running exporter: the configuration in force, its collectors, and replacing both on a reload."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import psutil

from exporter import collectors, logs
from exporter.collectors import gpu, model_servers
from exporter.collectors.model_servers import ModelServers
from exporter.config import ConfigError
from exporter.gpu.owners import Owners, Server
from exporter.gpu.uses import Uses
from exporter.own_metrics import OwnMetrics
from exporter.polling.fleet import Fleet
from exporter.polling.local_processes import is_local
from exporter.scrape import Scrape

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from exporter.config import Config
    from exporter.polling.fleet import Schedule
    from exporter.polling.server_watch import Surroundings

log = logging.getLogger(__name__)

Build = tuple[collectors.Options, collectors.Paths]
"""What a collector was built from."""


@dataclass(frozen=True)
class Machine:
    """What is measured: this machine, or one that does not exist."""

    create: Callable[[str, collectors.Options, collectors.Paths], collectors.Collector] | None = None
    """Builds a collector by its name; None: as its module does."""
    around: Surroundings | None = None
    """What polling model servers needs of it; None: of this machine."""
    schedule: Schedule | None = None
    """What polls model servers again and again; None: threads."""
    simulated: bool = False


class Service:
    """Holds what a scrape needs; a reload replaces it as a whole or not at all."""

    def __init__(self, load: Callable[[], Config], config: Config, machine: Machine | None = None) -> None:
        """Take the first configuration; ``load`` reads it anew for a reload, or raises ConfigError."""
        self._load = load
        self._lock = threading.Lock()
        self._machine = machine or Machine()
        self.demo = self._machine.simulated
        """Whether what is measured is made up."""
        self._own = OwnMetrics(simulated=self.demo)
        self.registry = self._own.registry
        self._gpu_uses = Uses()
        self.fleet = Fleet(self.registry, self._gpu_uses, around=self._machine.around, schedule=self._machine.schedule)
        """The model servers that are watched."""
        self._given: Mapping[str, collectors.Collector] = {"model_servers": ModelServers(self.fleet.collect)}
        self._path = config.path
        self._owners = Owners((), config.path.procfs)
        self._built: dict[str, tuple[Build, collectors.Collector]] = {}
        self.config = config
        self.scrape = self._scrape_of(config, previous=None)

    def reload(self) -> None:
        """Read the configuration anew and put it in force; blocks.

        ConfigError leaves everything as it was, is logged, and shows in a metric.
        """
        with self._lock:
            try:
                config = self._load()
            except ConfigError as error:
                self._own.reloaded(successful=False)
                log.error("configuration not reloaded", extra={"fields": {"error": str(error)}})  # noqa: TRY400 - one line
                raise
            config = self._keeping_what_needs_a_restart(config)
            before, self.scrape = self.scrape, self._scrape_of(config, self.scrape)
            before.close(self.scrape)
            self.config = config
            logs.set_up(config.log)
            self._own.reloaded(successful=True)
            log.info("configuration reloaded", extra={"fields": {"collectors": ",".join(config.collectors)}})

    def _scrape_of(self, config: Config, previous: Scrape | None) -> Scrape:
        psutil.PROCFS_PATH = str(config.path.procfs)
        self._watch_model_servers(config)
        if config.path != self._path:
            self._path, self._owners = config.path, Owners((), config.path.procfs)
        self._owners.know(_local_servers(config))  # so that other servers cost the GPUs no counters
        self._built = {name: self._collector(name, config) for name in config.collectors}
        ready: Mapping[str, collectors.Collector] = {name: collector for name, (_, collector) in self._built.items()}
        scrape = Scrape(ready, config.scrape.timeout, own=self._own, previous=previous)
        self._tell_of_gpus(ready.get("gpu"), scrape)
        return scrape

    def _tell_of_gpus(self, collector: collectors.Collector | None, scrape: Scrape) -> None:
        if isinstance(collector, gpu.Gpu):
            self._gpu_uses.follow(lambda: collector.last_reading, lambda: scrape.start("gpu"))
        else:
            self._gpu_uses.follow_none()

    def _watch_model_servers(self, config: Config) -> None:
        options = config.collectors.get("model_servers")
        if not isinstance(options, model_servers.Options):  # switched off: nobody is asked
            self.fleet.close()
            return
        upstreams = {server.name: server.upstream for server in config.proxy.servers}
        # a proxied server that only a restart brings has no upstream yet
        servers = [server for server in config.model_servers if server.url or server.name in upstreams]
        self.fleet.watch(servers, upstreams, options.poll_interval)

    def _collector(self, name: str, config: Config) -> tuple[Build, collectors.Collector]:
        """Return the collector in use when its options are the same, else a new one."""
        wanted = (config.collectors[name], config.path)
        if name in self._given:
            return wanted, self._given[name]
        if name in self._built and self._built[name][0] == wanted:
            return self._built[name]
        options, paths = wanted
        if self._machine.create is not None:
            return wanted, self._machine.create(name, options, paths)
        if isinstance(options, gpu.Options):
            return wanted, gpu.create(options, paths, self._owners)
        return wanted, collectors.module(name).create(options, paths)

    def _keeping_what_needs_a_restart(self, config: Config) -> Config:
        """Return the new configuration with the addresses, path and proxy in force; a change of them is logged."""
        served = {key: getattr(self.config.web, key) for key in ("listen_addresses", "telemetry_path")}
        changed = [f"web.{key}" for key, value in served.items() if getattr(config.web, key) != value]
        if config.proxy != self.config.proxy:
            changed.append("proxy.servers")
        for key in changed:
            log.warning("changed, but needs a restart", extra={"fields": {"key": key}})
        return replace(config, web=replace(config.web, **served), proxy=self.config.proxy)


def _local_servers(config: Config) -> tuple[Server, ...]:
    """Return the model servers that may run here, known by their port, so that GPU memory carries their names."""
    urls = {server.name: server.upstream.url for server in config.proxy.servers}
    urls |= {server.name: server.url.url for server in config.model_servers if server.url}
    return tuple(Server(name, port=url.port) for name, url in urls.items() if url.port and is_local(url.host or ""))
