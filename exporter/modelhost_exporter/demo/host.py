"""The whole demo: a simulated world and a real exporter that measures it, advanced together."""

from __future__ import annotations

import random
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from modelhost_exporter.collector import Paths
from modelhost_exporter.collectors import gpu
from modelhost_exporter.config import model as configuration
from modelhost_exporter.config.address import Address
from modelhost_exporter.config.cost import Cost
from modelhost_exporter.config.duration import Seconds
from modelhost_exporter.config.servers import ProxyOptions, Server
from modelhost_exporter.demo import catalogue
from modelhost_exporter.demo.clock import SimulatedClock
from modelhost_exporter.demo.driver import SimulatedDriver
from modelhost_exporter.demo.earlier_hour import EARLIER_SECONDS, live_through
from modelhost_exporter.demo.kernel import KernelFiles
from modelhost_exporter.demo.live_sources import live_sources
from modelhost_exporter.demo.polls import Polls, SimulatedClient, gpu_uses
from modelhost_exporter.demo.profiles import RACK
from modelhost_exporter.demo.proxied import Proxied
from modelhost_exporter.demo.routing import server_url
from modelhost_exporter.demo.sources import SimulatedSources
from modelhost_exporter.demo.system import SimulatedSystem
from modelhost_exporter.demo.warm_up import WARM_UP_SECONDS, InFlightRequests
from modelhost_exporter.demo.world import SimulatedWorld
from modelhost_exporter.engines.local_processes import LocalProcesses
from modelhost_exporter.engines.polling.server_poller import PollDependencies
from modelhost_exporter.engines.polling.settings import Probe
from modelhost_exporter.metrics.exposition import TEXT
from modelhost_exporter.process.daemon_thread import start
from modelhost_exporter.proxy.self_metrics import SelfMetrics
from modelhost_exporter.requests.metrics import RequestMetrics
from modelhost_exporter.requests.slo import Objective, Objectives
from modelhost_exporter.service import Machine, Service

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from modelhost_exporter.config.model import Config
    from modelhost_exporter.demo.incidents import IncidentSchedule
    from modelhost_exporter.demo.profiles import Profile
    from modelhost_exporter.demo.specs import ServerSpec
    from modelhost_exporter.metrics.exposition import Format
    from modelhost_exporter.process.daemon_thread import Thread

_STEP_SECONDS = 1.0
_MAX_GAP_SECONDS = 300.0
_MAX_STOP_SECONDS = 1.0
_LAGS_PER_STEP = 2
_SLOW_SCRAPE = Seconds(60.0)
_NEVER_SECONDS = 1e6
_PRICE = Cost("EUR", 0.3)
_PROBE = Probe(Seconds(120.0))


class DemoHost:
    """A simulated host with its exporter, reproducible from seed and start.

    Without ``live`` time only advances through ``advance`` and ``page``, and a scrape waits for every collector. With
    it, a thread advances the time after ``run``, scrapes have the configured deadlines, and the usual load is there
    from the start, with all counters at zero; the live page has the hour before the start.
    """

    def __init__(  # noqa: PLR0913 - each has a default
        self,
        start: float,
        *,
        load: Callable[[], Config] = lambda: configuration.load(None, {}),
        seed: int = 1,
        profile: Profile = RACK,
        models: int | None = None,
        schedule: IncidentSchedule | None = None,
        live: bool = False,
    ) -> None:
        """Create the host of a profile; ``models`` of the rack and a ``schedule`` take the place of the profile's."""
        if models is not None:
            profile = replace(profile, models=catalogue.models(models))
        self._live = live
        self._start = start
        self._clock = SimulatedClock(start - EARLIER_SECONDS - WARM_UP_SECONDS if live else start)
        self._rng = random.Random(seed)  # noqa: S311 - no secret
        self._stop = threading.Event()
        self._folder = tempfile.TemporaryDirectory(prefix="modelhost-demo-")
        root = Path(self._folder.name)
        self.world = SimulatedWorld(self._clock, profile, schedule or profile.incidents, seed=seed)
        self._files = KernelFiles(root)
        self._driver = SimulatedDriver(self.world.cards)
        self._system = SimulatedSystem(self.world)
        self._polls = Polls(self._clock_of_polls)
        sources = SimulatedSources(
            self.world,
            self._system,
            self._driver,
            Paths(root / "proc", root / "sys"),
            now=time.time if live else self._clock,
            xid_wait_ms=500 if live else 20,
            sample_seconds=1.0 if live else _NEVER_SECONDS,
        )
        offset = time.time() - time.monotonic()
        machine = Machine(
            sources.create,
            self._surroundings(),
            self._polls.schedule,
            simulated=True,
            host=live_sources(self.world, sources.uname(), sources.now),
            clock=lambda: self._clock() - offset,
            now=self._clock,
        )
        self.service = Service(lambda: self._configured(load()), self._configured(load()), machine)
        self._in_flight = InFlightRequests()
        if live:
            earlier = live_through(self.world, self.service, self._rng, offset)
            self._in_flight, self.service.earlier_readings = earlier.in_flight, earlier.readings
        self._proxied: Proxied | None = None
        self._thread: Thread | None = None

    def feed(self, metrics: RequestMetrics, health: SelfMetrics) -> None:
        """Record the simulated requests in these metrics from now on."""
        servers = {server.name: server for server in self.service.config.proxied}
        self._health = health
        self._proxied = Proxied(servers, metrics, health, self._rng, self.world.routers)
        self._in_flight.hand_over(self._proxied)

    def advance(self, until: float) -> None:
        """Advance the world to a time, step by step; only the last five minutes of a longer gap are simulated."""
        if self._proxied is None:
            registry = self.service.registry
            service = self.service
            metrics = RequestMetrics(registry, service.request_listeners, running=service.running_requests)
            self.feed(metrics, SelfMetrics(registry))
        self.world.now = max(self.world.now, until - _MAX_GAP_SECONDS)
        while self.world.now + _STEP_SECONDS <= until and not self._stop.is_set():
            self._step(self.world.now + _STEP_SECONDS)

    def page(self, at: float | None = None, format_: Format = TEXT) -> bytes:
        """Advance to a time and return the page that is scraped then. For a demo without ``live``."""
        if at is not None:
            self.advance(at)
        self._show()
        return self.service.scrape.page(format_)

    def run(self) -> None:
        """Catch up with the time, so that rates do not begin with a jump, and advance in a thread until ``close``."""
        self._polls.run_due()  # even where less than a step has passed
        self._catch_up()
        self._thread = start(self._run, "demo")

    def close(self) -> None:
        """Stop, and remove the written files."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_MAX_STOP_SECONDS)
        self.service.pollers.close()
        self.service.scrape.close()
        self._folder.cleanup()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._catch_up()
            self._stop.wait(_STEP_SECONDS)

    def _catch_up(self) -> None:
        self.advance(time.time())
        self._show()

    def _show(self) -> None:
        self._files.write(self.world.machine)

    def _step(self, until: float) -> None:
        assert self._proxied is not None  # noqa: S101 - advance() has seen to it
        for card, xid in self.world.step(until, self._proxied):
            self._driver.report(card, xid)
        self._polls.run_due()
        for _ in range(_LAGS_PER_STEP):
            self._health.late(self._rng.lognormvariate(-8.5, 0.7))

    def _surroundings(self) -> PollDependencies:
        return PollDependencies(
            gpus=lambda: gpu_uses(self.world),
            connect=lambda url, _headers, _timeout: SimulatedClient(self.world, url),
            find_processes=lambda host, port: LocalProcesses(host, port, self._system, self._clock),
            now=self._clock_of_polls,
            wall_clock=self._clock_of_polls,
        )

    def _clock_of_polls(self) -> float:
        """Return the time; before the start, when nothing is polled, that of the start."""
        return max(self._start, self._clock())

    def _configured(self, given: Config) -> Config:
        """Return a configuration with the simulated servers in place of the configured ones."""
        servers = [
            _configured_server([replica.upstream.spec for replica in router.replicas])
            for router in self.world.routers.values()
        ]
        config = replace(given, servers=tuple(servers), cost=_PRICE if given.cost.per_kwh is None else given.cost)
        return config if self._live else _patient(config)


def _configured_server(replicas: Sequence[ServerSpec]) -> Server:
    server, urls = replicas[0], tuple(map(server_url, replicas))
    (ttft, ttft_target), (duration, target) = server.ttft_objective, server.duration_objective
    return Server(
        server.name,
        url=urls[0] if len(urls) == 1 else None,
        urls=urls if len(urls) > 1 else (),
        kind=server.kind,
        proxy=ProxyOptions(Address("127.0.0.1", 0)),
        probe=_PROBE if server.is_probed else None,
        slo=Objectives(
            ttft=Objective(Seconds(ttft), ttft_target),
            tpot=Objective(Seconds(0.06), 0.95),
            duration=Objective(Seconds(duration), target),
        ),
    )


def _patient(config: Config) -> Config:
    """Return a configuration with long time-outs, so that a page does not depend on the machine's load."""
    options = dict(config.collectors)
    if isinstance(wanted := options.get("gpu"), gpu.GpuOptions):
        options["gpu"] = replace(wanted, timeout=_SLOW_SCRAPE)
    return replace(config, scrape=replace(config.scrape, timeout=_SLOW_SCRAPE), collectors=options)
