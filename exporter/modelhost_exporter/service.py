"""The running exporter: its configuration and collectors, and their replacement on a reload."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import psutil

from modelhost_exporter import collectors
from modelhost_exporter.collector import Collector, CollectorContext, CollectorOptions, Paths
from modelhost_exporter.config.found_servers import FoundServers
from modelhost_exporter.config.model import ConfigError
from modelhost_exporter.engines.local_processes import is_local
from modelhost_exporter.engines.polling.pollers import Pollers
from modelhost_exporter.gpu.process_owners import LocalServer, ProcessOwners
from modelhost_exporter.gpu.usage_cache import UsageCache
from modelhost_exporter.live import host_sources
from modelhost_exporter.live.last_minute import LastMinute
from modelhost_exporter.live.request_totals import RequestTotals
from modelhost_exporter.live.token_progress import TokenProgress
from modelhost_exporter.logs import formatting as logs
from modelhost_exporter.metrics.exporter_metrics import ExporterMetrics
from modelhost_exporter.process.listening import CannotListen
from modelhost_exporter.reloads import ReloadFailed, Reloads
from modelhost_exporter.requests.recent import RecentRequests
from modelhost_exporter.requests.running import RunningRequests
from modelhost_exporter.scraping.readiness import Readiness
from modelhost_exporter.scraping.scrape import Scrape
from modelhost_exporter.security.web_security import WebSecurity

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from modelhost_exporter.config.model import Config
    from modelhost_exporter.engines.local_engines import LocalEngine
    from modelhost_exporter.engines.polling.pollers import PollChange, Schedule
    from modelhost_exporter.engines.polling.server_poller import PollDependencies
    from modelhost_exporter.live.host_sources import HostSources
    from modelhost_exporter.live.meter import TimedReading
    from modelhost_exporter.proxy.settings import ProxiedServer
    from modelhost_exporter.requests.listener import ObservationListener, RemovalListener

log = logging.getLogger(__name__)

_NEED_RESTART = {"web": ("listen_addresses", "systemd_socket", "telemetry_path"), "scrape": ("max_label_value_bytes",)}
"""Keys of the configuration, by section, that a reload does not change."""

Build = tuple[CollectorOptions, Paths]
"""What a collector was built from."""


@dataclass(frozen=True)
class Machine:
    """The measured machine: this one, or a simulated one."""

    create: Callable[[str, CollectorOptions, CollectorContext], Collector] = collectors.create
    """Builds a collector by its name."""
    dependencies: PollDependencies | None = None
    """What polling of engines depends on; None: this machine's."""
    schedule: Schedule | None = None
    """Starts the periodic polls of a server; None: in threads."""
    simulated: bool = False
    host: HostSources | None = None
    """What the live feed reads besides; None: of this machine."""
    clock: Callable[[], float] = time.monotonic
    """The monotonic clock of requests, in seconds."""
    now: Callable[[], float] = time.time
    """The time of day of requests, in seconds since 1970."""


class ListenersChange(Protocol):
    """A prepared change of the proxy's listeners."""

    def put_in_force(self) -> None:
        """Use the new listeners and stop the removed ones; must not fail."""
        ...

    def undo(self) -> None:
        """Stop the listeners that were started."""
        ...


class Listeners(Protocol):
    """The listeners of proxied servers."""

    def prepare(self, servers: Sequence[ProxiedServer]) -> ListenersChange:
        """Start the listeners that are new; blocks. Errors are reported as the reason why a reload failed."""
        ...


@dataclass(frozen=True)
class _Prepared:
    """Everything that a configuration needs, built and started but not yet in force."""

    config: Config
    proxied: ListenersChange | None
    polled: PollChange
    secured: Callable[[], None]
    owners: ProcessOwners
    built: dict[str, tuple[Build, Collector]]
    scrape: Scrape


class Service:
    """The configuration in force with its collectors and pollers; a reload replaces all or nothing."""

    def __init__(self, load: Callable[[], Config], config: Config, machine: Machine | None = None) -> None:
        """Start with ``config``; ``load`` reads the configuration again for a reload, or raises ConfigError."""
        self._load = load
        self._lock = threading.Lock()
        self._machine = machine or Machine()
        self.demo = self._machine.simulated
        """Whether the measured machine is simulated."""
        self.earlier_readings: Sequence[TimedReading] = ()
        """What the live page shows of the time before the start, the oldest reading first; only a demo has any."""
        self._own = ExporterMetrics(simulated=self.demo)
        self.registry = self._own.registry
        self._gpu_uses = UsageCache()
        self.pollers = Pollers(
            self.registry, self._gpu_uses, dependencies=self._machine.dependencies, schedule=self._machine.schedule
        )
        self.request_totals = RequestTotals()
        self.last_minute = LastMinute(self._machine.clock)
        self.token_progress = TokenProgress(self._machine.clock)
        self.recent_requests = RecentRequests(self._machine.now)
        self.running_requests = RunningRequests(self._machine.clock)
        self.live_listeners: Sequence[ObservationListener] = (
            self.request_totals.add,
            self.last_minute.add,
            self.token_progress.add,
            self.recent_requests.add,
        )
        """Receive every finished request for the live page."""
        self.request_listeners: Sequence[ObservationListener] = (*self.live_listeners, self.pollers.note_request)
        """Receive every finished request of the proxy."""
        self.removal_listeners: Sequence[RemovalListener] = (
            self.request_totals.remove_model,
            self.last_minute.remove_model,
            self.token_progress.remove_model,
            self.pollers.remove_model,
        )
        """Receive every model whose series the proxy removes."""
        self.host = self._machine.host or host_sources.this_machine(lambda: self.config.path)
        """What the live feed reads of the machine besides the families."""
        self._owners = ProcessOwners(())
        self._built: dict[str, tuple[Build, Collector]] = {}
        self.config = config
        """The configuration in force, with the servers of engines that were found."""
        self._configured = config
        self._engines: Sequence[LocalEngine] = ()
        self._found_servers = FoundServers()
        self.web_security = WebSecurity()
        self.registry.register(self.web_security)
        """TLS and authentication of the web port."""
        self.proxy: Listeners | None = None
        """The listeners of proxied servers, which reloads change; None before they are started."""
        self.readiness = Readiness()
        """Whether the first collection is over."""
        self.reloads = Reloads(self.reload, self._not_reloaded)
        """Reloads for the event loop: one at a time, however many are requested."""
        first = self._prepared(config, previous=None)
        self.scrape = first.scrape
        self._put_in_force(first)

    def reload(self) -> None:
        """Read the configuration again and put it in force; blocks.

        Everything new is built and started before anything old is stopped. After ReloadFailed the old configuration is
        still in force as a whole; the failure is logged and exported as a metric.
        """
        with self._lock:
            try:
                configured = self._keeping_what_needs_a_restart(self._load())
                config = self._with_found(configured, self._engines)
                prepared = self._prepared(config, self.scrape)
            except Exception as error:  # noqa: BLE001 - after any error the old configuration stays in force
                raise self._not_reloaded(error) from None
            self._configured = configured
            self._replace(prepared)
            logs.set_up(config.log)
            self._own.reloaded(successful=True)
            log.info("configuration reloaded", extra={"fields": {"collectors": ",".join(config.collectors)}})

    def follow(self, engines: Sequence[LocalEngine]) -> None:
        """Poll these engines besides the configured servers, in place of those that were found before; blocks.

        Raises the errors of starting a poll or a proxy; nothing has changed then.
        """
        with self._lock:
            config = self._with_found(self._configured, engines)
            if config.servers != self.config.servers:
                self._replace(self._prepared(config, self.scrape))
            self._engines = engines

    def _with_found(self, configured: Config, engines: Sequence[LocalEngine]) -> Config:
        discovery = configured.discovery
        wanted = engines if discovery.enabled else ()
        found = self._found_servers.servers(wanted, configured.servers, proxied=discovery.proxy)
        return replace(configured, servers=(*configured.servers, *found))

    def _replace(self, prepared: _Prepared) -> None:
        before = self.scrape
        self._put_in_force(prepared)
        before.close(self.scrape)

    def _not_reloaded(self, error: Exception) -> ReloadFailed:
        """Count and log a failed reload; return the reason as one line."""
        self._own.reloaded(successful=False)
        reason = str(error) if isinstance(error, (ConfigError, CannotListen)) else f"{type(error).__name__}: {error}"
        reason = " ".join(reason.split()).removesuffix(":")
        foreseen = (
            isinstance(error, (ConfigError, CannotListen, OSError, MemoryError)) or "can't start new thread" in reason
        )
        fields = {"error": reason}
        log.error("configuration not reloaded", extra={"fields": fields}, exc_info=None if foreseen else error)
        return ReloadFailed(reason)

    def _prepared(self, config: Config, previous: Scrape | None) -> _Prepared:
        """Build and start what a configuration needs; everything is undone when a step fails."""
        before = psutil.PROCFS_PATH
        psutil.PROCFS_PATH = str(config.path.procfs)  # collectors may read it when they are built
        owners = self._owners if config.path == self.config.path else ProcessOwners(())
        with contextlib.ExitStack() as undo:
            undo.callback(setattr, psutil, "PROCFS_PATH", before)
            proxied = self._proxied(config)
            if proxied is not None:
                undo.callback(proxied.undo)
            polled = self._polled(config)
            undo.callback(polled.undo)
            secured = self._secured(config, previous)
            built: dict[str, tuple[Build, Collector]] = {}
            undo.callback(self._end_new, built)
            for name in config.collectors:
                built[name] = self._collector(name, config, owners)
            ready: Mapping[str, Collector] = {name: collector for name, (_, collector) in built.items()}
            scrape = Scrape(ready, config.scrape.timeout, own=self._own, previous=previous)
            undo.pop_all()
            return _Prepared(config, proxied, polled, secured, owners, built, scrape)

    def _end_new(self, built: Mapping[str, tuple[Build, Collector]]) -> None:
        """Close collectors that were built for a configuration that failed."""
        for name, (_, collector) in built.items():
            if name not in self._built or self._built[name][1] is not collector:
                collectors.close(name, collector)

    def _put_in_force(self, prepared: _Prepared) -> None:
        """Replace the configuration in force. No step may fail: nothing here is undone."""
        self.config = prepared.config
        self.recent_requests.switch(on=self.config.requests.recent)
        self._own.set_energy_price(self.config.cost.currency, self.config.cost.per_kwh)
        self.scrape = prepared.scrape
        self._built = prepared.built
        self._owners = prepared.owners
        self._owners.replace_servers(_local_servers(self.config))  # keeps the GPU collector, and with it its counters
        prepared.polled.put_in_force()
        prepared.secured()
        if prepared.proxied is not None:
            prepared.proxied.put_in_force()
        self._follow_gpus(self.scrape)

    def _follow_gpus(self, scrape: Scrape) -> None:
        """Connect the pollers to the GPU collector's last reading; to none when the collector is off or keeps none."""
        _, collector = self._built.get("gpu", (None, None))
        if hasattr(collector, "last_reading"):
            self._gpu_uses.follow(lambda: getattr(collector, "last_reading", None), lambda: scrape.start("gpu"))
        else:
            self._gpu_uses.follow_none()

    def _proxied(self, config: Config) -> ListenersChange | None:
        """Start listeners for the proxied servers that are new in a configuration; None without a proxy."""
        return self.proxy.prepare(config.proxied) if self.proxy is not None else None

    def _secured(self, config: Config, previous: Scrape | None) -> Callable[[], None]:
        """Read the file with TLS and passwords again, unless only the engines of the machine have changed."""
        if previous is not None and config.web is self.config.web:
            return _do_nothing
        return self.web_security.prepare(config.web.config_file, config.web.auth)

    def _polled(self, config: Config) -> PollChange:
        """Start to poll the servers that are new in a configuration."""
        if "engines" not in config.collectors:
            return self.pollers.prepare(())
        return self.pollers.prepare(config.polled, {server.name for server in config.proxied})

    def _collector(self, name: str, config: Config, owners: ProcessOwners) -> tuple[Build, Collector]:
        """Return the collector in use when its options are the same, else a new one."""
        wanted = (config.collectors[name], config.path)
        if name in self._built and self._built[name][0] == wanted:
            return self._built[name]
        options, paths = wanted
        return wanted, self._machine.create(name, options, CollectorContext(paths, owners, self.pollers.collect))

    def _keeping_what_needs_a_restart(self, config: Config) -> Config:
        """Return the new configuration with current values of what cannot be changed; log a change of them."""
        for section, keys in _NEED_RESTART.items():
            current, new = getattr(self.config, section), getattr(config, section)
            in_force = {key: getattr(current, key) for key in keys}
            for key, value in in_force.items():
                if getattr(new, key) != value:
                    log.warning("changed, but needs a restart", extra={"fields": {"key": f"{section}.{key}"}})
            config = replace(config, **{section: replace(new, **in_force)})
        return config


def _do_nothing() -> None:
    pass


def _local_servers(config: Config) -> tuple[LocalServer, ...]:
    """Return the servers with local URLs, by port, to label GPU memory with their names."""
    urls = [(server.name, replica.url) for server in config.servers for replica in server.upstreams]
    return tuple(LocalServer(name, port=url.port) for name, url in urls if url.port and is_local(url.host or ""))
