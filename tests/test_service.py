"""A reload of the running exporter: all or nothing, after any error."""

from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import psutil
import pytest

from modelhost_exporter.collector import CollectorContext, CollectorOptions, Paths
from modelhost_exporter.config import model as configuration
from modelhost_exporter.config.parsing import ConfigError
from modelhost_exporter.metrics.exposition import TEXT
from modelhost_exporter.reloads import ReloadFailed, Reloads
from modelhost_exporter.service import Machine, Service
from tests.support.fakes import family, samples

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from prometheus_client.metrics_core import Metric

    from modelhost_exporter.config.model import Config


class Closing:
    """A collector that can be closed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.closed = False

    def collect(self) -> Iterable[Metric]:
        """Return one family."""
        return [family(f"modelhost_{self.name}")]

    def close(self) -> None:
        """End."""
        self.closed = True


class Host:
    """A machine with collectors of its own, one of which cannot be built."""

    def __init__(self) -> None:
        self.built: list[Closing] = []
        self.broken: Exception | None = None

    def create(self, name: str, _options: CollectorOptions, _context: CollectorContext) -> Closing:
        """Build a collector."""
        if self.broken is not None and name == "memory":
            raise self.broken
        self.built.append(Closing(name))
        return self.built[-1]


@pytest.fixture
def procfs_path() -> Iterator[None]:
    """Set psutil's path of /proc back at the end."""
    before = psutil.PROCFS_PATH
    yield
    psutil.PROCFS_PATH = before


def configured(names: Iterable[str] = ("load", "memory"), paths: Paths | None = None) -> Config:
    """Return a configuration with these collectors."""
    raw = {"collectors": {"disable_defaults": True, **{name: {"enabled": True} for name in names}}}
    return replace(configuration.read(raw), path=paths or Paths())


@pytest.mark.parametrize(
    ("error", "reason", "traceback"),
    [
        (RuntimeError("can't start new thread"), "RuntimeError: can't start new thread", False),
        (MemoryError(), "MemoryError", False),
        (ValueError("two\nlines"), "ValueError: two lines", True),
        (ConfigError("web", "must be a mapping"), "web: must be a mapping", False),
    ],
)
@pytest.mark.usefixtures("procfs_path")
def test_what_cannot_be_built_changes_nothing(
    error: Exception, reason: str, traceback: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The old collectors stay open and in force, the new ones are closed, and the reason is logged once."""
    host = Host()
    wanted = [configured()]
    service = Service(lambda: wanted[0], wanted[0], Machine(host.create))
    scrape, old = service.scrape, list(host.built)
    wanted[0] = configured(("load", "disk", "memory", "cpu"), Paths(procfs=tmp_path))
    host.broken = error
    with pytest.raises(ReloadFailed) as caught:
        service.reload()
    assert str(caught.value) == reason
    assert service.scrape is scrape
    assert service.config.path == Paths()
    assert psutil.PROCFS_PATH == "/proc"
    assert [collector.closed for collector in old] == [False, False]
    assert all(collector.closed for collector in host.built[2:])
    page = samples(scrape.page(TEXT))
    assert page["modelhost_config_last_reload_successful", ()] == 0
    assert page["modelhost_load", ()] == 1
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.message == "configuration not reloaded"
    assert bool(record.exc_info) == traceback

    host.broken = None
    service.reload()
    assert service.config.path == Paths(procfs=tmp_path)
    assert [collector.closed for collector in old] == [True, True]
    assert samples(service.scrape.page(TEXT))["modelhost_config_last_reload_successful", ()] == 1
    service.scrape.close()


class Reloading:
    """A reload that blocks until it is released."""

    def __init__(self) -> None:
        self.runs = 0
        self.begun = threading.Semaphore(0)
        self.release = threading.Semaphore(0)
        self.error: Exception | None = None

    def __call__(self) -> None:
        """Reload."""
        self.runs += 1
        self.begun.release()
        self.release.acquire(timeout=10)
        if self.error is not None:
            raise self.error


async def until(condition: Callable[[], bool]) -> None:
    """Run the event loop until a condition holds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the condition belongs to a thread
            await asyncio.sleep(0.001)


async def test_requests_during_a_reload_share_the_next_one() -> None:
    """Requests during a reload share the next one and get its outcome."""
    reload = Reloading()
    reloads = Reloads(reload, lambda error: ReloadFailed(str(error)))
    first = asyncio.create_task(reloads.request())
    await until(lambda: reload.runs == 1)
    later = [asyncio.create_task(reloads.request()) for _ in range(100)]
    await asyncio.sleep(0)
    reload.release.release()
    await first
    assert not any(task.done() for task in later)
    await until(lambda: reload.runs == 2)
    reload.error = ReloadFailed("no")
    reload.release.release()
    outcomes = await asyncio.gather(*later, return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["no"] * 100
    assert reload.runs == 2


async def test_a_reload_that_cannot_begin_is_an_outcome_and_the_next_one_works() -> None:
    """Other errors are converted to ReloadFailed; a reload that nothing awaits logs no error of the event loop."""
    reload = Reloading()
    reload.error = RuntimeError("can't start new thread")
    reload.release.release(3)
    reloads = Reloads(reload, lambda error: ReloadFailed(f"noted: {error}"))
    with pytest.raises(ReloadFailed, match="noted: can't start new thread"):
        await reloads.request()
    reloads.start()
    await until(lambda: reload.runs == 2)
    reload.error = None
    await reloads.request()
