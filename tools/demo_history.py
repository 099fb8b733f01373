"""Simulated hosts' past, as Prometheus would have scraped it: OpenMetrics with times, for promtool to make blocks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from modelhost_exporter.demo.host import DemoHost

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelhost_exporter.demo.incidents import IncidentSchedule

JOB = "modelhost"
_TAKEN = re.compile(rb'((?:^|,))((?:instance|job)=")')  # Prometheus puts its own labels first
_BORN = re.compile(  # these are the real process's
    rb"^(process_start_time_seconds|modelhost_config_last_reload_success_timestamp_seconds) .*", re.MULTILINE
)
END = b"# EOF\n"


def instance(number: int) -> str:
    """Return the name of one host among several."""
    return f"demo-{number:02}:8585"


def scrapes(
    number: int, start: float, seconds: float, interval: float, *, models: int, schedule: IncidentSchedule
) -> Iterator[bytes]:
    """Yield what each scrape of one host adds; ``END`` belongs behind the last of all hosts.

    Every interval from ``start`` (seconds since 1970) on; the host has lived for two minutes by then.
    """
    born = start - 120
    host, target = DemoHost(born, seed=number, models=models, schedule=schedule), Target(instance(number))
    try:
        for scrape in range(int(seconds / interval) + 1):
            at = start + scrape * interval
            yield target.stamped(_BORN.sub(rb"\g<1> %.0f" % born, host.page(at)), at)
    finally:
        host.close()


class Target:
    """One scraped host: adds its labels to every series, once for each, and times to every sample."""

    def __init__(self, host: str) -> None:
        self._labels = f'instance="{host}",job="{JOB}"'.encode()
        self._series: dict[bytes, bytes] = {}

    def stamped(self, page: bytes, at: float) -> bytes:
        """Return a page's samples with labels and time, and what Prometheus itself says of the scrape."""
        time = f" {at:.3f}\n".encode()
        lines = []
        for line in page.splitlines():
            if not line.startswith(b"#"):
                series, _, value = line.rpartition(b" ")
                lines.append(b"%b %b" % (self._series.get(series) or self._labelled(series), value))
        of_prometheus = ((b"up", 1), (b"scrape_duration_seconds", 0.04), (b"scrape_samples_scraped", len(lines)))
        lines += [b"%b{%b} %a" % (name, self._labels, value) for name, value in of_prometheus]
        return time.join([*lines, b""])

    def _labelled(self, series: bytes) -> bytes:
        """Return a series with the target's labels; its own of the same names give way, as in Prometheus."""
        name, _, rest = series.partition(b"{")
        labels = b"," + _TAKEN.sub(rb"\1exported_\2", rest[:-1]) if rest else b""
        self._series[series] = b"%b{%b%b}" % (name, self._labels, labels)
        return self._series[series]
