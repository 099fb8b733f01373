"""Convert promtool's test files to those of vmalert-tool."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

from tests.prometheus.rules import recorded_names

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_START = 946_684_800
"""vmalert-tool's tests begin in the year 2000, promtool's in 1970: values that are times are moved."""

_TIMES = re.compile(
    r"modelhost_time_seconds|modelhost_\w+_timestamp_seconds|\w+_start_time_seconds|modelhost_boot_time_seconds"
)

_QUOTE = re.compile(r"(\bvalues:) +([^'\"\s}][^}\n]*?)(?= *\}?$)", re.MULTILINE)
"""Values are strings, although 0x60 is a number in YAML."""

_VALUES = re.compile(r"(?P<first>-?[\d.]+(?:e\d+)?)(?P<step>[+-][\d.]+)?x(?P<times>\d+)")

_YOUNG = "rate() divides by the age of a series: it has its full value after two samples, not after five minutes"
_ONE_SAMPLE = "deriv() has a value with one sample"
_ROUND_BEFORE = "records of the same group are those of the round before"

_OOM = "fires, tasks stall on memory, pages are read back from disk, and a process is killed"
_REQUESTS = ("requests", "requests_eligible", "requests_failed")
_LATE = {
    "two GPUs that count busy seconds and energy, and one that does neither": (
        "10m",
        ("instance:gpu_utilization:avg_ratio_rate5m", "instance:gpu_power_watts:sum_mean_5m"),
    ),
    "requests, errors and what is neither": (
        "20m",
        (*(f"model:{what}:rate5m" for what in _REQUESTS), "instance:requests:rate5m"),
    ),
    "a model on two hosts": ("20m", tuple(f"job_model:{what}:rate5m" for what in _REQUESTS)),
}
"""Records that read records of the same group, in tests whose values change in the last minute."""

EXCEPTIONS: dict[tuple[str, str, str], str] = {
    (_OOM, "HostMemoryStalled", "8m"): _YOUNG,
    (_OOM, "HostMajorPageFaults", "19m"): _YOUNG,
    ("fires, a disk is saturated and a network device has errors both ways", "HostDiskSaturated", "34m"): _YOUNG,
    ("fires, slowed down by heat and power; a narrow link; a new driver", "GpuPcieLinkNarrow", "19m"): _YOUNG,
    ("fires, the clock is slow and not synchronised", "HostClockSkewed", "10m"): _ONE_SAMPLE,
    **{(test, name, at): _ROUND_BEFORE for test, (at, names) in _LATE.items() for name in names},
}
"""Cases that vmalert evaluates in another way, with the reason: (name of the test, alert or record, time)."""


def convert(path: Path, to: Path) -> None:
    """Write a test file of promtool as one of vmalert-tool, without the exceptions."""
    file = yaml.safe_load(_QUOTE.sub(r'\1 "\2"', path.read_text()))
    file.pop("fuzzy_compare", None)
    file["rule_files"] = [str((path.parent / rules).resolve()) for rules in file["rule_files"]]
    for test in file["tests"]:
        test["input_series"] = [_moved(series) for series in test.get("input_series", ())]
        test["alert_rule_test"] = _kept(test, test.get("alert_rule_test", ()), "alertname")
        cases = _kept(test, test.pop("promql_expr_test", ()), "expr")
        test["metricsql_expr_test"] = [{**case, "expr": _comparable(case)} for case in cases]
    to.write_text(yaml.safe_dump(file, width=1_000_000))


def _kept(test: dict[str, Any], cases: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    return [case for case in cases if (test["name"], subject(case[key]), case["eval_time"]) not in EXCEPTIONS]


def subject(expression: str) -> str:
    """Return the recorded series of an expression, or the name of an alert."""
    return next(iter(sorted(recorded_names(expression))), expression)


def _comparable(case: dict[str, Any]) -> str:
    """Return an expression with an exact value, and without the name that round() keeps in MetricsQL."""
    if not any(sample["labels"].startswith("{") for sample in case["exp_samples"]):
        return str(case["expr"])
    nameless = f"sum without (__name__) ({case['expr']})"
    return nameless if case["expr"].startswith("round(") else f"round({nameless}, 0.000001)"


def _moved(series: dict[str, str]) -> dict[str, str]:
    move = _START if _TIMES.match(series["series"]) else 0
    return {"series": series["series"], "values": " ".join(_expanded(series["values"], move))}


def _expanded(values: str, move: int) -> Iterator[str]:
    """Yield one word for each sample: vmalert-tool accepts only whole numbers as steps."""
    for word in str(values).split():
        repeated = _VALUES.fullmatch(word)
        if repeated:
            first, step = float(repeated["first"]) + move, float(repeated["step"] or 0)
            yield from (f"{first + step * index:.15g}" for index in range(int(repeated["times"]) + 1))
        elif word.startswith("_x"):
            yield from ["_"] * int(word[2:])
        else:
            yield word if word in {"_", "stale"} else f"{float(word) + move:.15g}"
