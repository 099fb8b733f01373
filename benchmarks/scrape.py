"""Cost of a scrape: this exporter and node_exporter, scraped in turn on one machine as Prometheus does.

Run with ``python -m benchmarks.scrape``. It measures twice: with the collectors that measure what every machine has,
and with all default collectors. node_exporter has its own defaults both times. Both programs run all the time; each
figure, and each ratio, is the median of the rounds.

Figures with a target are marked PASS or MISS; the exit code is 0 either way. CPU time is user and system time of all
threads of the process between the first and the last scrape of a round, including pauses.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import shutil
import statistics
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.measuring import (
    EXPORTER,
    Program,
    event_loop,
    exporter,
    free_port,
    listening,
    machine,
    percentile,
    table,
    verdict,
    version,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_NODE_EXPORTER_NAMES = ("prometheus-node-exporter", "node_exporter")  # Debian's and everyone else's
_TIMEOUT_SECONDS = 10
_HEADERS = {
    "Accept": "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
    "Accept-Encoding": "gzip",
    "X-Prometheus-Scrape-Timeout-Seconds": str(_TIMEOUT_SECONDS),
}
_OK = 200
_MAX_RESIDENT_MB = 50.0
_COMMON = (
    *("cgroup", "clock", "cpu", "disk", "engines", "file_descriptors", "filesystem", "gpu", "load", "memory"),
    *("network", "operating_system", "pressure", "processes", "sensors", "tcp"),
)
"""The collectors of what every machine has; the others are for firewalls, RAID, InfiniBand and the like."""


class Section(NamedTuple):
    """A measurement: the exporter's flags, and the highest ratios to node_exporter by title of the row."""

    title: str
    flags: Sequence[str]
    max_ratios: Mapping[str, float]


_SECTIONS = (
    Section(
        f"the {len(_COMMON)} collectors of what every machine has",
        ("--collector.disable-defaults", *(f"--collector.{name}" for name in _COMMON)),
        {"CPU per scrape, ms": 0.45, "latency p50, ms": 0.6, "latency p99, ms": 0.6},
    ),
    Section("all default collectors", (), {"CPU per sample, µs": 1.0}),
)


class Page(NamedTuple):
    """A scraped page, compressed and decompressed."""

    received: bytes
    plain: bytes

    def samples(self) -> int:
        """Count the lines that are samples."""
        return sum(1 for line in self.plain.splitlines() if line and not line.startswith(b"#"))


@dataclass
class Target:
    """A measured program, scraped over one persistent connection."""

    name: str
    program: Program
    seconds: list[float] = field(default_factory=list)
    page: Page = field(default_factory=lambda: Page(b"", b""))

    def __post_init__(self) -> None:
        self._connection = self.program.connect(_TIMEOUT_SECONDS)

    def scrape(self) -> None:
        """Scrape once; record the time until the whole page was received, and keep the page."""
        started = time.perf_counter()
        self._connection.request("GET", self.program.path, headers=_HEADERS)
        response = self._connection.getresponse()
        received = response.read()
        self.seconds.append(time.perf_counter() - started)
        if response.status != _OK:
            raise SystemExit(f"{self.name} answered {response.status}: {received[:200]!r}")
        zipped = response.getheader("Content-Encoding") == "gzip"
        self.page = Page(received, gzip.decompress(received) if zipped else received)

    def forget(self) -> None:
        """Discard the times of the warm-up, and start to measure CPU time."""
        self.seconds.clear()
        self._cpu_before = self.program.cpu_seconds()

    def figures(self) -> Figures:
        """Return the measurements since ``forget``."""
        cpu = self.program.cpu_seconds() - self._cpu_before
        samples = self.page.samples()
        return Figures(
            cpu_ms=cpu / len(self.seconds) * 1e3,
            cpu_us_per_sample=cpu / len(self.seconds) / samples * 1e6,
            median_ms=statistics.median(self.seconds) * 1e3,
            p99_ms=percentile(self.seconds, 99) * 1e3,
            resident_mb=self.program.resident_bytes() / 1e6,
            samples=samples,
            plain_bytes=len(self.page.plain),
            received_bytes=len(self.page.received),
        )


class Figures(NamedTuple):
    """The cost of one program's scrapes."""

    cpu_ms: float
    cpu_us_per_sample: float
    median_ms: float
    p99_ms: float
    resident_mb: float
    samples: int
    plain_bytes: int
    received_bytes: int


class Row(NamedTuple):
    """A line of the table: its figure and format, and its highest value (None: no target)."""

    title: str
    of: Callable[[Figures], float]
    format: str
    maximum: float | None = None

    def cells(self, ours: Sequence[Figures], theirs: Sequence[Figures], max_ratio: float | None) -> list[str]:
        """Return the line's cells: the medians of the rounds, and the median of their ratios."""
        median = statistics.median(map(self.of, ours))
        ratios = [self.of(one) / self.of(other) for one, other in zip(ours, theirs, strict=False)]
        return [
            self.title,
            format(median, self.format),
            format(statistics.median(map(self.of, theirs)), self.format) if theirs else "",
            f"{statistics.median(ratios):.2f}" if ratios else "",
            f"{min(ratios):.2f} to {max(ratios):.2f}" if ratios else "",
            self._verdict(median, statistics.median(ratios) if ratios else None, max_ratio),
        ]

    def _verdict(self, median: float, ratio: float | None, max_ratio: float | None) -> str:
        if self.maximum is not None:
            return f"{verdict(reached=median <= self.maximum)} (at most {self.maximum:g})"
        if max_ratio is not None and ratio is not None:
            return f"{verdict(reached=ratio <= max_ratio)} (at most {max_ratio:g} of theirs)"
        return ""


_ROWS = (
    Row("CPU per scrape, ms", lambda figures: figures.cpu_ms, ".2f"),
    Row("CPU per sample, µs", lambda figures: figures.cpu_us_per_sample, ".2f"),
    Row("latency p50, ms", lambda figures: figures.median_ms, ".2f"),
    Row("latency p99, ms", lambda figures: figures.p99_ms, ".2f"),
    Row("resident memory, MB", lambda figures: figures.resident_mb, ".1f", _MAX_RESIDENT_MB),
    Row("samples per page", lambda figures: figures.samples, ".0f"),
    Row("page, bytes", lambda figures: figures.plain_bytes, ".0f"),
    Row("page with gzip, bytes", lambda figures: figures.received_bytes, ".0f"),
)


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    node_exporter = next(filter(None, map(shutil.which, _NODE_EXPORTER_NAMES)), None)
    print(f"{version(*EXPORTER)}, {event_loop()}")
    print(version(node_exporter) if node_exporter else "node_exporter is not installed: only this exporter is measured")
    print(f"{machine()}\n{_how(arguments)}")
    for section in _SECTIONS:
        print(f"\n{section.title}\n{_measured(section, node_exporter, arguments)}", flush=True)


def _measured(section: Section, node_exporter: str | None, arguments: argparse.Namespace) -> str:
    """Run both programs, scrape them in rounds, and return the table."""
    with contextlib.ExitStack() as stack:
        targets = [Target("modelhost-exporter", stack.enter_context(exporter(*section.flags)))]
        if node_exporter:
            port = free_port()
            command = [node_exporter, f"--web.listen-address=127.0.0.1:{port}"]
            targets.append(Target("node_exporter", stack.enter_context(listening(command, port))))
        for _ in range(arguments.warm_up):
            _each(targets, Target.scrape, pause=arguments.interval)
        rounds = [_round(targets, arguments) for _ in range(arguments.rounds)]
    return _report(section, targets, rounds)


def _round(targets: Sequence[Target], arguments: argparse.Namespace) -> list[Figures]:
    """Scrape the programs in turn, and return the figures of each."""
    _each(targets, Target.forget)
    for _ in range(arguments.scrapes):
        _each(targets, Target.scrape, pause=arguments.interval)
    return [target.figures() for target in targets]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=partial(_at_least, 1), default=5, metavar="N", help="default 5")
    parser.add_argument(
        "--scrapes", type=partial(_at_least, 1), default=100, metavar="N", help="of each in a round (default 100)"
    )
    parser.add_argument(
        "--warm-up", type=partial(_at_least, 0), default=50, metavar="N", help="scrapes not counted (default 50)"
    )
    parser.add_argument(
        "--interval", type=float, default=0.02, metavar="SECONDS", help="pause after each scrape (default 0.02)"
    )
    return parser.parse_args()


def _at_least(least: int, text: str) -> int:
    number = int(text)
    if number < least:
        raise argparse.ArgumentTypeError(f"must be at least {least}")
    return number


def _each(targets: Sequence[Target], action: Callable[[Target], None], pause: float = 0.0) -> None:
    for target in targets:
        action(target)
        time.sleep(pause)


def _how(arguments: argparse.Namespace) -> str:
    return (
        f"{arguments.rounds} rounds of {arguments.scrapes} scrapes of each in turn, {arguments.warm_up} to warm up,"
        f" a pause of {arguments.interval:g} s after each, one connection each, gzip"
    )


def _report(section: Section, targets: Sequence[Target], rounds: Sequence[Sequence[Figures]]) -> str:
    ours, theirs = [one[0] for one in rounds], [one[1] for one in rounds if len(one) > 1]
    heading = ["", targets[0].name, targets[1].name if theirs else "", "ours/theirs", "rounds", "to reach"]
    rows = [row.cells(ours, theirs, section.max_ratios.get(row.title)) for row in _ROWS]
    return table([heading, *rows])


if __name__ == "__main__":
    main()
