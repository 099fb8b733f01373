from __future__ import annotations

from modelhost_exporter.metrics.summed_counters import SummedCounter


def test_it_grows_with_each_counter() -> None:
    """The sum starts at 0 and has the increases of all counters."""
    subject = SummedCounter()
    assert subject.add([("eth0", 1_000), ("eth1", 50)]) == 0
    assert subject.add([("eth0", 1_010), ("eth1", 55)]) == 15
    assert subject.add([("eth0", 1_010), ("eth1", 56)]) == 16


def test_devices_that_come_and_go() -> None:
    """A device that is removed, appears with a large count or starts again makes the sum neither fall nor jump."""
    subject = SummedCounter()
    subject.add([("eth0", 1_000), ("eth1", 10**12)])
    assert subject.add([("eth0", 1_010)]) == 10
    assert subject.add([("eth0", 1_020), ("eth1", 10**12 + 5)]) == 20
    assert subject.add([("eth0", 1_020), ("eth1", 10**12 + 6)]) == 21
    assert subject.add([("eth0", 3), ("eth1", 10**12 + 6)]) == 21
    assert subject.add([("eth0", 4), ("eth1", 10**12 + 6)]) == 22
    assert subject.add([]) == 22
