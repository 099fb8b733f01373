"""With a full address space single responses may fail; everything recovers once memory is free."""

from __future__ import annotations

import contextlib
import time
import urllib.error
from typing import TYPE_CHECKING

import psutil

from tests.faults.limits import limited
from tests.faults.observed import HEALTHY_SECONDS, Resources, wait_until_normal
from tests.support.fakes import of_collector
from tests.support.programs import fetch, wait_until

if TYPE_CHECKING:
    from tests.conftest import StartExporter
    from tests.support.programs import Exporter

ROUNDS = 8
SCRAPES = 5


def test_a_full_address_space_is_survived(start_exporter: StartExporter) -> None:
    """At every limit up to a few megabytes above usage, health responds; afterwards the page is complete."""
    exporter = start_exporter()
    exporter.page()
    before = Resources.of(exporter)
    process = psutil.Process(exporter.process.pid)
    for round_ in range(ROUNDS):
        with limited(exporter, "as", process.memory_info().vms + (round_ << 18)):
            for _ in range(SCRAPES):
                scrape(exporter)
            began = time.monotonic()
            assert b"healthy" in fetch(f"http://{exporter.address}/-/healthy")
            assert time.monotonic() - began < HEALTHY_SECONDS
        wait_until(lambda: of_collector(exporter.page(), "success", "memory") == 1, "the page is whole")
    wait_until_normal(exporter, before)


def scrape(exporter: Exporter) -> None:
    """Scrape, and accept an error."""
    with contextlib.suppress(urllib.error.HTTPError):
        exporter.page()
