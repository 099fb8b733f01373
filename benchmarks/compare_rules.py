"""Run all rules on the demo in Prometheus and in VictoriaMetrics' vmalert at once, and list what differs.

Both evaluate the same samples: Prometheus scrapes, and writes what it scraped to VictoriaMetrics.
python -m benchmarks.compare_rules --minutes=25, with the programs of `.ci/need-go prometheus vmalert victoria-metrics`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from benchmarks.measuring import ROOT, exporter, free_port, listening

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

RULES = ROOT / "prometheus" / "rules"
BIN = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "modelhost-go-programs" / "bin"
TOLERANCE = 0.05
ONE_REQUEST = {"rate5m": 1 / 300, "increase5m": 1.0}
"""What one request more or less is, by the end of a record's name: windows end at other moments on each side."""
_COMPARED = "10m"
_LAG_SECONDS = 90
"""vmalert evaluates 30 s behind, and rules on rules a round later: values are compared as they were so long ago."""

Series = frozenset[tuple[str, str]]
Samples = list[tuple[float, float]]
"""Times in seconds and values."""


class Sides(NamedTuple):
    """The URLs of what evaluates the rules, and of VictoriaMetrics, where vmalert's results are."""

    prometheus: str
    vmalert: str
    victoria: str


class Difference(NamedTuple):
    """A recorded series or an alert that is not the same on both sides; None where it is missing."""

    labels: Series
    prometheus: float | None
    vmalert: float | None

    def __str__(self) -> str:
        labels = dict(self.labels)
        name = labels.pop("__name__")
        shown = ", ".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
        return f"{name}{{{shown}}}: Prometheus {self.prometheus}, vmalert {self.vmalert}"


@contextlib.contextmanager
def evaluating(
    folder: Path, target: str, interval: str, flags: Sequence[str] = (), delay: str = "30s"
) -> Iterator[Sides]:
    """Scrape a target with Prometheus, copy the samples to VictoriaMetrics, and evaluate the rules on both.

    ``delay`` is how far vmalert evaluates behind, by default for samples that arrive late.
    """
    ports = Sides(*(str(free_port()) for _ in Sides._fields))
    store = f"http://127.0.0.1:{ports.victoria}"
    left_out = [
        {"source_labels": ["__name__"], "regex": ".+:.+:.+|ALERTS.*", "action": "drop"},
        {"regex": "__type__|__unit__", "action": "labeldrop"},  # of the feature type-and-unit-labels
    ]
    at_once = {"queue_config": {"batch_send_deadline": "1s"}}
    configuration = {
        "global": {"scrape_interval": interval, "evaluation_interval": interval},
        "scrape_configs": [{"job_name": "modelhost", "static_configs": [{"targets": [target]}]}],
        "rule_files": [str(RULES / "*.yml")],
        "remote_write": [{"url": f"{store}/api/v1/write", "write_relabel_configs": left_out, **at_once}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    commands = {
        ports.prometheus: [
            str(BIN / "prometheus"),
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/prometheus",
            f"--web.listen-address=127.0.0.1:{ports.prometheus}",
            *flags,
        ],
        ports.victoria: [
            str(BIN / "victoria-metrics"),
            f"-storageDataPath={folder}/victoria",
            f"-httpListenAddr=127.0.0.1:{ports.victoria}",
            f"-search.latencyOffset={delay}",
        ],
        ports.vmalert: [
            str(BIN / "vmalert"),
            f"-rule={RULES}/*.yml",
            *(f"-{role}.url={store}" for role in ("datasource", "remoteRead", "remoteWrite")),
            f"-evaluationInterval={interval}",
            f"-rule.evalDelay={delay}",
            f"-httpListenAddr=127.0.0.1:{ports.vmalert}",
            "-notifier.blackhole",
            "-disableAlertgroupLabel",
        ],
    }
    with contextlib.ExitStack() as stack:
        for port, command in commands.items():
            stack.enter_context(listening(command, int(port)))
        yield Sides(*(f"http://127.0.0.1:{port}" for port in ports))


def recorded(url: str, until: float) -> dict[Series, Samples]:
    """Return the samples of all recorded series in the ten minutes until a time (seconds since 1970)."""
    found = _named(url, f"SERIES[{_COMPARED}]", '{__name__=~".+:.+:.+"}', until)
    return {labels: samples for labels, one in found.items() if (samples := _numbers(one["values"]))}


def means(one: dict[Series, Samples], other: dict[Series, Samples]) -> tuple[dict[Series, float], dict[Series, float]]:
    """Return the means over time of the series of both sides.

    Rules of a minute are evaluated up to a minute apart, in which the demo's load may change by a tenth: the mean is
    that of the lines between the samples, over the time in which both sides have some.
    """
    found: tuple[dict[Series, float], dict[Series, float]] = ({}, {})
    for side, own, others in zip(found, (one, other), (other, one), strict=True):
        for labels, samples in own.items():
            there = others.get(labels) or samples
            begin, end = max(samples[0][0], there[0][0]), min(samples[-1][0], there[-1][0])
            side[labels] = _mean(samples, begin, end)
    return found


def _mean(samples: Samples, begin: float, end: float) -> float:
    """Return the mean over time of the lines between samples; of the samples themselves where there is no such time."""
    if begin >= end:
        return sum(value for _, value in samples) / len(samples)
    inner = [sample for sample in samples if begin < sample[0] < end]
    line = [(begin, _at(samples, begin)), *inner, (end, _at(samples, end))]
    area = sum((t2 - t1) * (v1 + v2) / 2 for (t1, v1), (t2, v2) in pairwise(line))
    return area / (end - begin)


def _at(samples: Samples, moment: float) -> float:
    """Return the value at a moment on the line between the samples around it."""
    for (t1, v1), (t2, v2) in pairwise(samples):
        if t1 <= moment <= t2:
            return v1 + (v2 - v1) * (moment - t1) / (t2 - t1)
    return samples[-1][1]


def _numbers(values: list[tuple[float, str]]) -> Samples:
    return [(moment, float(value)) for moment, value in values if value != "NaN"]


def fired(url: str, minutes: int) -> dict[Series, float]:
    """Return 1 for each alert that has fired in the last minutes."""
    counted = f'count_over_time(SERIES{{alertstate="firing"}}[{minutes}m])'
    return dict.fromkeys(_named(url, counted, "ALERTS", time.time()), 1.0)


def failing(url: str) -> dict[str, str]:
    """Return the errors of the rules that a Prometheus or a vmalert evaluates."""
    rules = [rule for group in _get(url, "/api/v1/rules")["groups"] for rule in group["rules"]]
    return {rule["name"]: rule["lastError"] for rule in rules if rule.get("lastError")}


def differences(prometheus: dict[Series, float], vmalert: dict[Series, float]) -> Iterator[Difference]:
    """Yield what differs by more than the tolerance and one request, or is missing on one side."""
    for labels in sorted(prometheus.keys() | vmalert.keys(), key=sorted):
        one, other = prometheus.get(labels), vmalert.get(labels)
        if one is None or other is None or abs(one - other) > TOLERANCE * max(abs(one), abs(other)) + _slack(labels):
            yield Difference(labels, one, other)


def _slack(labels: Series) -> float:
    """Return what a value may differ besides the tolerance: for counted requests, by one."""
    name = dict(labels)["__name__"]
    return next((one for end, one in ONE_REQUEST.items() if name.endswith(f":{end}")), 1e-6)


def _named(url: str, function: str, selector: str, at: float) -> dict[Series, Any]:
    """Return a function of all series that a selector finds, by their labels with the name that functions drop."""
    found: dict[Series, Any] = {}
    names = {"match[]": selector, "start": str(at - 300), "end": str(at + 60)}
    for name in sorted({labels["__name__"] for labels in _get(url, "/api/v1/series", **names)}):
        query = {"query": function.replace("SERIES", name), "time": str(at), "nocache": "1"}
        for one in _get(url, "/api/v1/query", **query)["result"]:
            labels = {**one["metric"], "__name__": name}
            labels.pop("alertstate", None)
            found[frozenset(labels.items())] = one
    return found


def _get(url: str, path: str, **parameters: str) -> Any:
    query = urllib.parse.urlencode(parameters)
    with urllib.request.urlopen(f"{url}{path}?{query}", timeout=30) as reply:  # noqa: S310 - the address is ours
        return json.load(reply)["data"]


def main() -> int:
    """Run the demo for some minutes, and print what differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=int, default=25)
    parser.add_argument("--interval", default="15s", help="of scrapes and rules")
    parser.add_argument("--prometheus-flag", action="append", default=[], help="such as --enable-feature=NAME")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, exporter("--demo") as demo:
        target = urllib.parse.urlsplit(demo.url).netloc
        with evaluating(Path(folder), target, options.interval, options.prometheus_flag) as sides:
            time.sleep(60 * options.minutes)
            stores = sides.prometheus, sides.victoria
            until = time.time() - _LAG_SECONDS
            records = means(*(recorded(url, until) for url in stores))
            alerts = [fired(url, options.minutes) for url in stores]
            errors = [failing(sides.prometheus), failing(sides.vmalert)]
    for what, (one, other) in (("recorded series", records), ("alerts", alerts), ("rules that fail", errors)):
        print(f"{what}: {len(one)} in Prometheus, {len(other)} in vmalert")
    found = [*differences(*records), *differences(*alerts)]
    print("\n".join(map(str, [*found, *(error for error in errors if error)])))
    return 1 if found or any(errors) else 0


if __name__ == "__main__":
    sys.exit(main())
