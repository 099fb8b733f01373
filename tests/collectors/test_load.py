from __future__ import annotations

import os

from modelhost_exporter.collector import CollectorContext, CollectorOptions
from modelhost_exporter.collectors.load import LoadCollector, create
from tests.support.machine import psutil_double
from tests.support.readings import readings


def test_each_average_has_its_name() -> None:
    """Psutil's three averages are load1, load5 and load15, in this order."""
    read = readings(LoadCollector(psutil_double()).collect())
    assert read == {"load1": {(): 0.5}, "load5": {(): 1.5}, "load15": {(): 2.5}}


def test_this_machine() -> None:
    """On the real machine the slow average is the kernel's (which moves every 5 s, and then by little)."""
    before = os.getloadavg()[2]
    load15 = readings(create(CollectorOptions(), CollectorContext()).collect())["load15"][()]
    assert abs(load15 - before) < 1
