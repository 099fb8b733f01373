"""Snapshots of captured servers."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from modelhost_exporter.config.http_url import ServerUrl
from modelhost_exporter.engines import kinds
from modelhost_exporter.engines.local_processes import ServerProcesses
from modelhost_exporter.engines.metrics import FAMILIES
from modelhost_exporter.engines.pages import PollPolicy
from modelhost_exporter.engines.polling.server_poller import PollDependencies, ServerPoller
from modelhost_exporter.engines.polling.settings import PolledServer
from modelhost_exporter.metrics.families import NAMESPACE
from modelhost_exporter.metrics.prerendered import joined
from tests.support.pages import SERVERS, pages
from tests.support.stand_in import standing_in

if TYPE_CHECKING:
    from prometheus_client.samples import Sample

    from modelhost_exporter.engines.snapshot import ServerSnapshot

_ARGUMENTS = {"llama-server-pages": ("llama-server", "--parallel", "2")}
"""How a server was started, where that matters."""
_TIMES = ("engine_poll_duration_seconds", "engine_last_success_timestamp_seconds")


def snapshot(folder: str) -> ServerSnapshot:
    """Return what a captured server says, every page allowed."""
    care = PollPolicy("on", _ARGUMENTS.get(folder, ()))
    return kinds.engine_kind(SERVERS[folder]).snapshot(pages(folder).__getitem__, care)


def said(value: object) -> dict[str, Any]:
    """Return the fields that have a value, histograms as count and sum."""
    found = {field.name: getattr(value, field.name) for field in fields(value)}  # type: ignore[arg-type]
    if "latencies" in found:
        found["latencies"] = {name: (h.count, h.sum) for name, h in found["latencies"].items()}
    return {
        name: content
        for name, content in found.items()
        if content not in (None, "", (), {}) and (name != "asleep" or content)
    }


class _Processes:
    """A stand-in for LocalProcesses."""

    def __init__(self, folder: str) -> None:
        arguments = _ARGUMENTS.get(folder)
        self._found = ServerProcesses(frozenset({1}), 4e8, arguments) if arguments else None

    def find(self, _programs: object) -> ServerProcesses | None:
        """Return the process of the captured server."""
        return self._found

    def forget(self) -> None:
        """Do nothing."""


def polled(folder: str) -> dict[str, float]:
    """Return every sample that a poll of a captured server shows: name{label=value,…} → value.

    Histograms as count and sum; without the labels server and upstream, and without the times of the poll.
    """
    dependencies = PollDependencies(find_processes=lambda _host, _port: _Processes(folder))  # type: ignore[arg-type, return-value]
    with standing_in(pages(folder)) as server:
        settings = PolledServer("s", ServerUrl(server.url), kind=SERVERS[folder], metrics="on")
        poller = ServerPoller(settings, dependencies)
        server.clients.append(poller.close)
        assert poller.poll()
        return {
            _name(sample): sample.value
            for family in joined(FAMILIES, [poller.parts])
            for sample in family.samples
            if not sample.name.endswith("_bucket") and sample.name.removeprefix(NAMESPACE) not in _TIMES
        }


def _name(sample: Sample) -> str:
    labels = [f"{name}={value}" for name, value in sample.labels.items() if name not in ("server", "upstream")]
    return sample.name.removeprefix(NAMESPACE) + (f"{{{','.join(labels)}}}" if labels else "")
