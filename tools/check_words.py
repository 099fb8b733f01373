"""Fail if a retired name is used again: ``python -m tools.check_words``.

Only unambiguous names are listed: names in code that were replaced by plain words, and old names of metrics and
settings. Ordinary English words are left to the reviewer.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

RETIRED: Mapping[str, str] = {
    # names in code: pattern of the whole word, and what to write
    r"Asker": "Query…",
    r"Draft": "UsageBuilder",
    r"InputsReader|inputs_only": "PromptReader, prompt_only",
    r"MergedEngine|merged_engine": "RouterEngine, router_engine",
    r"MountSweep|mount_sweep": "ParallelReads, parallel_reads",
    r"NotReloaded": "ReloadFailed",
    r"OwnMetrics|own_metrics": "ExporterMetrics, exporter_metrics",
    r"ProxyCounts": "ProxyTotals",
    r"UnobservedShare": "UnproxiedShare",
    r"ServerWatch|server_watch": "ServerPoller, server_poller",
    r"Surroundings": "…Dependencies",
    r"WireFormat": "Dialect",
    r"asks_usage": "nothing: removed",
    r"engine_page": "metrics_page",
    r"log_limit|log_queue": "library_limit, logs.queue",
    r"recognises?": "detect",
    r"_(?:MOST|LONGEST|LARGEST)_\w+": "_MAX_…",
    # settings
    r"stuck_after": "timeout",
    # metrics
    r"(?:modelhost_)?disk_io_weighted_time_seconds(?:_total)?": "disk_io_time_weighted_seconds_total",
    r"(?:modelhost_)?engine_unobserved_ratio": "engine_unproxied_tokens_ratio",
    r"(?:modelhost_)?gpu_busy_read_timestamp_seconds": "gpu_busy_updated_timestamp_seconds",
    r"(?:modelhost_)?gpu_devices_resting": "gpu_devices_polling_paused",
    r"(?:modelhost_)?gpu_fan_ratio": "gpu_fan_speed_ratio",
    r"(?:modelhost_)?gpu_xid_watched": "gpu_xid_monitored",
    r"(?:modelhost_)?requests_finished_total": "choices_finished_total",
    r"(?:modelhost_)?usage_source_total": "requests_by_usage_source_total",
    r"modelhost_event_loop_lag_seconds": "modelhost_proxy_event_loop_lag_seconds",
    r"modelhost_fan_rpm": "modelhost_sensor_fan_rpm",
    r"modelhost_temperature_celsius": "modelhost_sensor_temperature_celsius",
}

EXEMPT = (
    "CHANGELOG.md",
    "LICENSE",
    "exporter/modelhost_exporter/config/old_keys.py",
    "tests/captures/",
    "tests/config/test_old_keys.py",
    "tests/tools/test_check_words.py",
    "tools/check_words.py",
)

_WORD = re.compile(r"(?<!\w)(?:" + "|".join(f"({pattern})" for pattern in RETIRED) + r")(?!\w)")
_REPLACEMENTS = tuple(RETIRED.values())


class Finding(NamedTuple):
    """A retired word in a file."""

    path: str
    line: int
    word: str
    replacement: str


def main() -> int:
    """Print every retired word of the repository; return 1 when there is one."""
    found = [finding for path in tracked() for finding in find(path, read(path))]
    for path, line, word, replacement in found:
        print(f"{path}:{line}: {word} was retired; write {replacement}", file=sys.stderr)  # noqa: T201 - for a person
    return 1 if found else 0


def find(path: str, text: str) -> Iterator[Finding]:
    """Yield the retired words of a text."""
    for number, line in enumerate(text.splitlines(), 1):
        for match in _WORD.finditer(line):
            yield Finding(path, number, match[0], _REPLACEMENTS[(match.lastindex or 1) - 1])


def tracked() -> Iterable[str]:
    """Return the paths of all files that Git does not ignore, but for those that are exempt."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\0")  # noqa: S603
    return [name for name in names if name and not name.startswith(EXEMPT) and Path(name).is_file()]


def read(path: str) -> str:
    """Return a file's text; '' for a binary file, such as a picture."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


if __name__ == "__main__":
    sys.exit(main())
