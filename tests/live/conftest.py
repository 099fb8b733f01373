"""A live feed of fake collectors, served in this process with a short interval."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest_asyncio
from aiohttp import web
from prometheus_client import CollectorRegistry

from modelhost_exporter.collector import Paths
from modelhost_exporter.config.model import Config
from modelhost_exporter.live import host_sources, routes
from modelhost_exporter.live.last_minute import LastMinute
from modelhost_exporter.live.request_totals import RequestTotals
from modelhost_exporter.live.settings import LiveOptions
from modelhost_exporter.live.token_progress import TokenProgress
from modelhost_exporter.requests.metrics import RequestMetrics
from modelhost_exporter.requests.observation import RequestLabels, RequestObservation
from modelhost_exporter.requests.recent import RecentRequests
from modelhost_exporter.requests.running import RunningRequests
from modelhost_exporter.requests.slo import Objectives
from modelhost_exporter.scraping.scrape import Scrape
from modelhost_exporter.web import origin_check
from tests.support.fakes import Fixed, family

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from modelhost_exporter.collector import Collector
    from modelhost_exporter.live.host_sources import HostSources
    from modelhost_exporter.live.meter import TimedReading

INTERVAL_SECONDS = 0.05


@dataclass
class Source:
    """The parts of the running exporter that the feed uses."""

    scrape: Scrape
    config: Config = field(default_factory=lambda: Config(live=LiveOptions(history=False)))
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    request_totals: RequestTotals = field(default_factory=RequestTotals)
    last_minute: LastMinute = field(default_factory=LastMinute)
    token_progress: TokenProgress = field(default_factory=TokenProgress)
    recent_requests: RecentRequests = field(default_factory=RecentRequests)
    running_requests: RunningRequests = field(default_factory=RunningRequests)
    host: HostSources = field(default_factory=lambda: host_sources.this_machine(Paths))
    demo: bool = False
    earlier_readings: Sequence[TimedReading] = ()

    def __post_init__(self) -> None:
        listeners = (self.request_totals.add, self.last_minute.add, self.token_progress.add)
        self.metrics = RequestMetrics(self.registry, listeners)

    def request(self, server: str, model: str) -> None:
        """Record a successful request."""
        labels = RequestLabels(server, model, "chat")
        observed = RequestObservation(labels, stream=False, outcome="ok", code="200", duration=0.3)
        self.metrics.record(observed, Objectives())


class Served:
    """A served feed."""

    def __init__(self, source: Source, load: Fixed, address: str) -> None:
        self.source = source
        self.load = load
        self.address = address

    @property
    def measured(self) -> int:
        """The number of measurements."""
        return self.load.runs


class Serve(Protocol):
    """Serve a feed until the test ends."""

    async def __call__(
        self,
        *,
        interval: float = INTERVAL_SECONDS,
        live: LiveOptions | None = None,
        procfs: Path = Path("/proc"),
        **more: Collector,
    ) -> Served:
        """Serve a feed; ``more`` are further collectors."""
        ...


@pytest_asyncio.fixture
async def serve() -> AsyncIterator[Serve]:
    """Return a function that serves feeds."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(
            *,
            interval: float = INTERVAL_SECONDS,
            live: LiveOptions | None = None,
            procfs: Path = Path("/proc"),
            **more: Collector,
        ) -> Served:
            load = Fixed(family("modelhost_load1", 1.5))
            source = Source(Scrape({"load": load, **more}, 5.0), Config(live=live or LiveOptions(history=False)))
            source.host = host_sources.this_machine(lambda: Paths(procfs=procfs))
            app = web.Application(middlewares=[origin_check.middleware(source)])
            websocket = routes.add_routes(app, source, interval)
            app.router.add_get("/metrics", websocket)
            runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            return Served(source, load, f"127.0.0.1:{runner.addresses[0][1]}")

        yield start
