"""States and restarts of systemd units: those of configured servers, and a list."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from modelhost_exporter.collector import Collector, CollectorContext, CollectorOptions, Unavailable, log_once
from modelhost_exporter.linux.kernel_files import count, read_if_possible
from modelhost_exporter.metrics.families import counter, gauge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from prometheus_client.metrics_core import Metric

STATE = gauge("systemd_unit_state", "1 for the state that the unit is in, 0 for the others.", "name", "state")
RESTARTS = counter(
    "systemd_service_restart",
    "Times that systemd has restarted the service by itself since it was started.",
    "name",
    note="As for `Restart=on-failure`: a rise is a crash.",
)
FAMILIES = (STATE, RESTARTS)

_STATES = ("active", "activating", "deactivating", "inactive", "failed")
_SAME_STATE = {"reloading": "active", "refreshing": "active", "maintenance": "inactive"}
_PROPERTIES = ("Id", "LoadState", "ActiveState", "NRestarts")
_MISSING = "not-found"
_UNIT = re.compile(r"[\w@:.\\][\w@:.\\-]*", re.ASCII)
_SERVICE = re.compile(r"/([^/\n]+\.service)(?:/|$)", re.MULTILINE)
_MAX_UNITS = 64
_TIMEOUT_SECONDS = 4.0
_SERVERS_SECONDS = 60.0
_PIDS_OF_UNIT = 4

_Properties = dict[str, str]


@dataclass(frozen=True)
class SystemdOptions(CollectorOptions):
    """The units."""

    enabled_by_default: ClassVar[bool] = False

    units: tuple[str, ...] = ()
    """Names without a suffix are services."""

    def __post_init__(self) -> None:
        """Raise ValueError for what is no name of a unit: systemctl also accepts patterns, of any number of units."""
        if wrong := [unit for unit in self.units if not _UNIT.fullmatch(unit)]:
            raise ValueError(f"not a name of a unit: {wrong[0]!r}")
        if len(self.units) > _MAX_UNITS:
            raise ValueError(f"more than {_MAX_UNITS} units")


OPTIONS = SystemdOptions


class SystemdCollector:
    """The units of a list, and those in which configured servers run.

    ``query`` returns their properties. systemctl is the only interface of systemd that needs neither a library for
    D-Bus nor its bus, which a machine without a desktop may lack. A container needs the program and the host's
    /run/systemd.
    """

    def __init__(
        self,
        units: Iterable[str],
        query: Callable[[Sequence[str]], str],
        of_servers: Callable[[], Iterable[str]] = lambda: (),
    ) -> None:
        self._units = [unit if "." in unit else f"{unit}.service" for unit in units]
        self._query = query
        self._of_servers = of_servers

    def collect(self) -> Iterator[Metric]:
        """Yield the units; Unavailable without any, and without systemd."""
        units = list(dict.fromkeys((*self._units, *self._of_servers())))[:_MAX_UNITS]
        if not units:
            raise Unavailable("no unit is configured (collectors.systemd.units), and no server runs in one")
        found = {}
        for properties in parse_units(self._query(units)):
            name = properties.get("Id", "")
            if properties.get("LoadState") == _MISSING:
                log_once(f"systemd {name}", f"there is no unit {name}")
            elif name:
                found[name] = properties
        yield from STATE.by(
            ((name, state), float(state == current))
            for name, properties in found.items()
            if (current := _state(properties)) is not None
            for state in _STATES
        )
        yield from RESTARTS.by(((name,), _restarts(properties)) for name, properties in found.items())


class UnitsOfServers:
    """The services in which configured servers run, looked up at most once a minute."""

    def __init__(
        self, procfs: Path, owner_of: Callable[[int], str | None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._procfs = procfs
        self._owner_of = owner_of
        self._clock = clock
        self._due = 0.0
        self._units: list[str] = []

    def __call__(self) -> list[str]:
        """Return their names; those that were found stay, so that a server that has stopped is seen."""
        if self._clock() >= self._due:
            self._due = self._clock() + _SERVERS_SECONDS
            found = (unit for unit, pids in self._processes().items() if any(map(self._owner_of, pids)))
            self._units = list(dict.fromkeys((*self._units, *found)))[:_MAX_UNITS]
        return self._units

    def _processes(self) -> dict[str, list[int]]:
        """Return the first processes of each service; systemd names their control group after it."""
        pids: dict[str, list[int]] = {}
        for file in self._procfs.glob("[0-9]*/cgroup"):
            unit = _SERVICE.search(read_if_possible(file) or "")
            if unit and file.parent.name.isdecimal() and len(pids.setdefault(unit[1], [])) < _PIDS_OF_UNIT:
                pids[unit[1]].append(int(file.parent.name))
        return pids


def parse_units(text: str) -> list[_Properties]:
    """Parse the output of ``systemctl show``: lines of ``Name=value``, and an empty line between units."""
    blocks = [block.split("\n") for block in text.split("\n\n")]
    return [dict(line.split("=", 1) for line in block if "=" in line) for block in blocks if any(block)]


def _state(properties: _Properties) -> str | None:
    state = properties.get("ActiveState", "")
    state = _SAME_STATE.get(state, state)
    return state if state in _STATES else None


def _restarts(properties: _Properties) -> int | None:
    try:
        return count(properties.get("NRestarts", ""))
    except ValueError:
        return None  # no service, or an older systemd


def systemctl(units: Sequence[str]) -> str:
    """Return the properties of units; Unavailable without systemd, TimeoutExpired where it does not respond."""
    program = shutil.which("systemctl")
    if program is None:
        raise Unavailable("there is no systemctl")
    command = [program, "show", "--no-pager", f"--property={','.join(_PROPERTIES)}", "--", *units]
    environment = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(  # noqa: S603 - the names are checked
        command,
        env=environment,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_TIMEOUT_SECONDS,
        check=False,
    )
    if done.returncode:
        raise Unavailable(f"systemctl: {done.stderr.strip().partition(chr(10))[0]}")
    return done.stdout


def create(options: SystemdOptions, context: CollectorContext) -> Collector:
    """Build the collector of units."""
    of_servers = UnitsOfServers(context.paths.procfs, context.owner_of) if context.owner_of else lambda: ()
    return SystemdCollector(options.units, systemctl, of_servers)
