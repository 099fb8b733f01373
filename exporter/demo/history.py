"""Simulated hosts' past, as Prometheus would have scraped it: OpenMetrics with times, for promtool to make blocks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from exporter.demo.host import DemoHost

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.demo.incidents import Schedule

JOB = "modelhost"
_SAMPLE = re.compile(rb"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)\n", re.MULTILINE)
_TAKEN = re.compile(rb'((?:^|,))((?:instance|job)=")')  # Prometheus puts its own labels first
_COMMENT = re.compile(rb"^#.*\n", re.MULTILINE)
END = b"# EOF\n"


def instance(number: int) -> str:
    """Return the name of one host among several."""
    return f"demo-{number:02}:8585"


def scrapes(  # noqa: PLR0913 - which host, and when
    number: int, start: float, seconds: float, interval: float, *, models: int, schedule: Schedule
) -> Iterator[bytes]:
    """Yield what each scrape of one host adds; ``END`` belongs behind the last of all hosts.

    Every interval from ``start`` (seconds since 1970) on; the host has lived for two minutes by then.
    """
    host = DemoHost(start - 120, seed=number, models=models, schedule=schedule)
    try:
        for scrape in range(int(seconds / interval) + 1):
            at = start + scrape * interval
            yield stamped(host.page(at), instance(number), at)
    finally:
        host.close()


def stamped(page: bytes, host: str, at: float) -> bytes:
    """Return a page's samples with the target's labels and a time, and what Prometheus itself says of the scrape."""
    target = f'instance="{host}",job="{JOB}"'.encode()
    time = f" {at:.3f}\n".encode()

    def write(found: re.Match[bytes]) -> bytes:
        labels = b"," + _TAKEN.sub(rb"\1exported_\2", found[2]) if found[2] else b""
        return b"%b{%b%b} %b%b" % (found[1], target, labels, found[3], time)

    samples = _SAMPLE.sub(write, _COMMENT.sub(b"", page))
    scraped = b"up{%b} 1%bscrape_duration_seconds{%b} 0.04%b" % (target, time, target, time)
    return samples + scraped
