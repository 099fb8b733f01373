from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.collector import CollectorContext, CollectorOptions, Unavailable
from modelhost_exporter.collectors.bonding import BondingCollector, create
from tests.support.machine import FILES, write
from tests.support.readings import readings, readings_or_reason

if TYPE_CHECKING:
    from pathlib import Path


def test_a_bond_with_one_broken_link(tmp_path: Path) -> None:
    """All its interfaces, and those whose link is up; one that goes down is not."""
    read = readings(BondingCollector(write(tmp_path, FILES) / "sys").collect())
    assert read == {"bonding_slaves": {("bond0",): 2}, "bonding_active": {("bond0",): 1}}


def test_a_bond_without_interfaces(tmp_path: Path) -> None:
    """A bond that is empty, or whose interface is gone, has none that is up."""
    write(tmp_path, {"class/net/lan/bonding/slaves": "\n", "class/net/wan/bonding/slaves": "gone\n"})
    read = readings(BondingCollector(tmp_path).collect())
    assert read == {
        "bonding_slaves": {("lan",): 0, ("wan",): 1},
        "bonding_active": {("lan",): 0, ("wan",): 0},
    }


def test_a_machine_without_bonds_is_unavailable(tmp_path: Path) -> None:
    """The driver's own file is no bond."""
    write(tmp_path, {"class/net/bonding_masters": "\n", "class/net/eth0/type": "1\n"})
    with pytest.raises(Unavailable):
        list(BondingCollector(tmp_path).collect())


def test_this_machine() -> None:
    """On the real machine no bond has more interfaces up than it has."""
    read = readings_or_reason(create(CollectorOptions(), CollectorContext()))
    assert isinstance(read, str) or all(
        read["bonding_active"][of] <= all_ for of, all_ in read["bonding_slaves"].items()
    )
