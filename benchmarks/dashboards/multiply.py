"""Multiply a host's recorded series to many hosts and days, with values that vary by host and time.

Series that no panel queries have few samples, since they cost only space in the index. Panels over all hosts query
series of each host or of all hosts together, and, for one model at a time, series of each model of each host.
"""

from __future__ import annotations

import math
import random
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.measuring import ROOT
from tools.demo_history import instance

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from benchmarks.dashboards.template import Series

STEP = 300
"""Seconds between two samples."""
SPARSE_STEP = 6 * 3600
BLOCK_SECONDS = 54 * 3600
"""Length of a block, as Prometheus compacts them with a month of retention."""
ASKED_HOST, ASKED_MODEL = 1, "Qwen/Qwen3-32B-FP8"
"""The host and the model of selections of one; the model is also the first by name, whose row is drawn."""
_DAY = 86_400
_COURSES = 50  # different courses of a series; hosts share them
_AT_A_TIME = 2


@dataclass(frozen=True)
class Scale:
    """The amount of data: hosts, and days up to an end (seconds since 1970)."""

    hosts: int
    days: float
    end: int
    every_model: bool = False
    """Whether models of hosts have all their samples, including those that no panel queries."""

    def ranges(self) -> Iterator[tuple[int, int]]:
        """Yield the first and the last moment of each block."""
        start = self.end - round(self.days * _DAY)
        while start <= self.end:
            after = (start // BLOCK_SECONDS + 1) * BLOCK_SECONDS
            yield start, min(after - STEP, self.end)
            start = after


def names_read() -> set[str]:
    """Return the names of recorded series that dashboards query."""
    texts = (path.read_text() for path in (ROOT / "grafana/dashboards").glob("*.json"))
    return {name for text in texts for name in re.findall(r"\b[a-z_]+:\w+:\w+", text)}


def write(template: Sequence[Series], scale: Scale, data: Path) -> int:
    """Write the blocks; return their number of samples."""
    one = partial(_block, template, scale, data)
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        return sum(pool.map(one, scale.ranges()))


def _block(template: Sequence[Series], scale: Scale, data: Path, times: tuple[int, int]) -> int:
    text = data / f"{times[0]}.om"
    with text.open("wb") as file:
        samples = 0
        for each in exposition(template, scale, *times):
            samples += each.count(b"\n")
            file.write(each)
        file.write(b"# EOF\n")
    command = ("promtool", "tsdb", "create-blocks-from", "openmetrics", "--quiet")
    subprocess.run([*command, f"--max-block-duration={BLOCK_SECONDS}s", str(text), str(data)], check=True)
    text.unlink()
    return samples


def exposition(template: Sequence[Series], scale: Scale, start: int, end: int) -> Iterator[bytes]:
    """Yield the text of each host's series from a start to an end, one after the other, without an EOF mark."""
    read = names_read()
    for index, series in enumerate(template):
        is_read = series.name in read or ":" not in series.name
        few = range(start, end + 1, SPARSE_STEP)
        times = range(start, end + 1, STEP) if is_read else few
        if "instance" not in series.labels:
            yield _lines(series, "", _course(series, times, f"{index}", scale.hosts))
            continue
        is_dense = scale.every_model or series.labels.get("model", ASKED_MODEL) == ASKED_MODEL
        courses = [_course(series, times if is_dense else few, f"{index} {number}") for number in range(_COURSES)]
        for host in range(1, scale.hosts + 1):
            asked = host == ASKED_HOST and not is_dense
            course = _course(series, times, f"{index}") if asked else courses[(host * 7 + index) % _COURSES]
            yield _lines(series, instance(host), course)


def _lines(series: Series, host: str, course: Sequence[str]) -> bytes:
    labels = {**series.labels, "instance": host} if host else series.labels
    inner = ",".join(f'{label}="{value}"' for label, value in labels.items())
    start = f"{series.name}{{{inner}}} "
    return f"{start}{start.join(course)}".encode()


def _course(series: Series, times: range, seed: str, as_much: float = 1) -> list[str]:
    """Return a value and a time for each moment: higher by day, with random variation."""
    if ":" not in series.name:
        return [f"{series.value:g} {time}\n" for time in times]
    chance = random.Random(seed)  # noqa: S311 - no secret
    usual, phase = series.value * as_much * chance.uniform(0.5, 1.5), chance.uniform(0, math.tau)
    most = 1.0 if ":ratio" in series.name else math.inf

    def value(time: int) -> float:
        return usual * (1 + 0.4 * math.sin(phase + math.tau * time / _DAY)) * chance.uniform(0.9, 1.1)

    return [f"{min(most, value(time)):.6g} {time}\n" for time in times]
