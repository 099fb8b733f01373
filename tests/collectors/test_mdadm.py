from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.collector import CollectorContext, CollectorOptions, Unavailable
from modelhost_exporter.collectors.mdadm import MdadmCollector, create
from tests.support.machine import FILES, write
from tests.support.readings import readings, readings_or_reason

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.support.readings import Readings


def measured(tmp_path: Path, files: Mapping[str, str]) -> Readings:
    """Return what is measured of md0 with these files."""
    write(tmp_path / "block/md0/md", files)
    return readings(MdadmCollector(tmp_path).collect())


def test_a_degraded_array_that_recovers(tmp_path: Path) -> None:
    """Disks by state, those that it should have, its state and how far it has come."""
    read = readings(MdadmCollector(write(tmp_path, FILES) / "sys").collect())
    assert read == {
        "md_disks": {("md127", "active"): 1, ("md127", "failed"): 1, ("md127", "spare"): 1},
        "md_disks_required": {("md127",): 2},
        "md_state": {
            ("md127", "active"): 0,
            ("md127", "inactive"): 0,
            ("md127", "recovering"): 1,
            ("md127", "resync"): 0,
            ("md127", "check"): 0,
        },
        "md_sync_completed_ratio": {("md127",): 0.25},
    }


@pytest.mark.parametrize(
    ("array", "action", "state"),
    [
        ("clean", "idle", "active"),
        ("active", "check", "check"),
        ("active-idle", "repair", "check"),
        ("clean", "resync", "resync"),
        ("active", "reshape", "recovering"),
        ("clean", "frozen", "active"),
        ("clean", "", "active"),
        ("inactive", "idle", "inactive"),
        ("broken", "", "inactive"),
    ],
)
def test_states(array: str, action: str, state: str, tmp_path: Path) -> None:
    """An array is in one state; RAID 0 has no action."""
    read = measured(tmp_path, {"array_state": f"{array}\n", **({"sync_action": f"{action}\n"} if action else {})})
    assert [name for (_, name), value in read["md_state"].items() if value] == [state]


@pytest.mark.parametrize("odd", ["", "odd\n", "-1\n", "none\n", "1 / 0\n", "5 /\n", "\0\n"])
def test_odd_files_cost_only_their_number(odd: str, tmp_path: Path) -> None:
    """The other numbers are there."""
    read = measured(tmp_path, {"array_state": "clean\n", "raid_disks": odd or "x", "sync_completed": odd})
    assert "md_sync_completed_ratio" not in read
    assert set(read) >= {"md_state", "md_disks"}


def test_a_number_of_disks_that_changes(tmp_path: Path) -> None:
    """During a reshape the kernel writes the old number too."""
    assert measured(tmp_path, {"raid_disks": "4 (3)\n"})["md_disks_required"] == {("md0",): 4}


def test_disks_with_several_states(tmp_path: Path) -> None:
    """A disk that has failed counts once, one that is written mostly or blocked by its main state."""
    states = {"a": "faulty,in_sync", "b": "in_sync,write_mostly", "c": "spare,blocked", "d": "want_replacement"}
    read = measured(tmp_path, {f"dev-{name}/state": f"{state}\n" for name, state in states.items()})
    assert read["md_disks"] == {("md0", "active"): 1, ("md0", "failed"): 1, ("md0", "spare"): 1}


def test_a_machine_without_arrays_is_unavailable(tmp_path: Path) -> None:
    """A machine without software RAID has nothing to measure, which is no failure."""
    write(tmp_path, {"block/sda/size": "1"})
    with pytest.raises(Unavailable):
        list(MdadmCollector(tmp_path).collect())


def test_this_machine() -> None:
    """On the real machine each array has a state."""
    read = readings_or_reason(create(CollectorOptions(), CollectorContext()))
    assert isinstance(read, str) or set(read["md_state"].values()) == {0, 1}
