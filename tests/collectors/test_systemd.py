from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.collector import CollectorContext, Unavailable
from modelhost_exporter.collectors import systemd
from modelhost_exporter.collectors.systemd import SystemdCollector, SystemdOptions, UnitsOfServers, create, systemctl
from tests.support.machine import UNITS, write
from tests.support.readings import readings, readings_or_reason

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class Query:
    """A systemd that answers with a text, and notes what it was asked."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.units: list[list[str]] = []

    def __call__(self, units: Sequence[str]) -> str:
        """Return the text."""
        self.units.append(list(units))
        return self._text


def test_states_and_restarts() -> None:
    """Each unit is in one state; a name without a suffix is a service, and only services have restarts."""
    query = Query(UNITS)
    read = readings(SystemdCollector(("vllm", "data.mount", "odd.service"), query).collect())
    assert query.units == [["vllm.service", "data.mount", "odd.service"]]
    states = {name: state for (name, state), value in read["systemd_unit_state"].items() if value}
    assert states == {"vllm.service": "activating", "data.mount": "active"}
    assert len(read["systemd_unit_state"]) == 10
    assert read["systemd_service_restart_total"] == {("vllm.service",): 4}


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        *((state, state) for state in ("active", "activating", "deactivating", "inactive", "failed")),
        ("reloading", "active"),
        ("refreshing", "active"),
        ("maintenance", "inactive"),
        ("odd", None),
        ("", None),
    ],
)
def test_states(state: str, shown: str | None) -> None:
    """States that newer versions add to the five are one of them; any other is left out."""
    collector = SystemdCollector(("a",), lambda _: f"Id=a.service\nActiveState={state}\n")
    read = readings(collector.collect())
    assert [of for (_, of), value in read.get("systemd_unit_state", {}).items() if value] == ([shown] if shown else [])


@pytest.mark.parametrize("text", ["", "\n\n\n", "odd\n\n=\n", "Id=\n", "NRestarts=-1\nId=a.service\n"])
def test_odd_output(text: str) -> None:
    """What cannot be read is left out."""
    assert readings(SystemdCollector(("a",), lambda _: text).collect()) == {}


@pytest.mark.parametrize("unit", ["", "-a", "a*", "a?", "[a]", "a b", "a\n", "--help", "ä"])
def test_names_that_systemctl_reads_in_another_way(unit: str) -> None:
    """Options and patterns are no names."""
    with pytest.raises(ValueError, match="not a name of a unit"):
        SystemdOptions(units=(unit,))


def test_the_number_of_units_is_bounded() -> None:
    """A long list is an error, and what servers add beyond it is left out."""
    with pytest.raises(ValueError, match="more than 64"):
        SystemdOptions(units=tuple(map(str, range(65))))
    of_servers = [f"server{number}.service" for number in range(100)]
    query = Query("")
    list(SystemdCollector(("a",), query, lambda: of_servers).collect())
    assert query.units == [["a.service", *of_servers[:63]]]


def test_the_units_of_servers(tmp_path: Path) -> None:
    """The services whose processes belong to a configured server, in both versions of control groups."""
    write(
        tmp_path,
        {
            "7/cgroup": "0::/system.slice/ollama.service\n",
            "8/cgroup": "3:cpu:/\n1:name=systemd:/system.slice/system-vllm.slice/vllm@a.service\n0::/\n",
            "9/cgroup": "0::/system.slice/ssh.service\n",
            "10/cgroup": "0::/user.slice/user-0.slice/session-1.scope\n",
            "self/cgroup": "0::/system.slice/own.service\n",
        },
    )
    owners = {7: "ollama", 8: "vllm"}
    now = [0.0]
    units = UnitsOfServers(tmp_path, owners.get, lambda: now[0])
    assert sorted(units()) == ["ollama.service", "vllm@a.service"]
    owners.clear()
    owners[9] = "other"
    assert sorted(units()) == ["ollama.service", "vllm@a.service"]
    now[0] = 61.0
    assert sorted(units()) == ["ollama.service", "ssh.service", "vllm@a.service"]


def test_without_units_it_is_unavailable() -> None:
    """Nothing is asked of systemd then."""
    with pytest.raises(Unavailable, match="no unit"):
        list(create(SystemdOptions(), CollectorContext()).collect())


def program(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a systemctl first on the path."""
    file = write(folder, {"systemctl": f"#!/bin/sh\n{script}\n"}) / "systemctl"
    file.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def test_how_systemctl_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names come after the options, and its output is returned."""
    program(tmp_path, 'echo "$LC_ALL $*"', monkeypatch)
    expected = "C show --no-pager --property=Id,LoadState,ActiveState,NRestarts -- a.service b.mount\n"
    assert systemctl(["a.service", "b.mount"]) == expected


def test_a_machine_without_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its message is the reason; without the program that is."""
    program(tmp_path, 'echo "System has not been booted" >&2; echo more >&2; exit 1', monkeypatch)
    with pytest.raises(Unavailable, match=r"^systemctl: System has not been booted$"):
        systemctl(["a.service"])
    monkeypatch.setenv("PATH", str(tmp_path / "missing"))
    with pytest.raises(Unavailable, match="no systemctl"):
        systemctl(["a.service"])


def test_a_manager_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program is ended at the deadline."""
    monkeypatch.setattr(systemd, "_TIMEOUT_SECONDS", 0.1)
    program(tmp_path, "exec sleep 60", monkeypatch)
    with pytest.raises(subprocess.TimeoutExpired):
        systemctl(["a.service"])


def test_this_machine() -> None:
    """Where systemd runs, its own journal has a state."""
    read = readings_or_reason(create(SystemdOptions(units=("systemd-journald",)), CollectorContext()))
    assert isinstance(read, str) or sum(read["systemd_unit_state"].values()) == 1
