"""All rules run in real Prometheus 3 and in VictoriaMetrics' vmalert, side by side."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from benchmarks import compare_rules as compared
from tests.support.programs import DEADLINE_SECONDS, built, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import StartExporter

SAME = ("instance:memory_usage:ratio", "instance:load1_per_core:ratio", "gpu:memory_usage:ratio")


def test_differences_are_values_and_missing_series() -> None:
    """Within 5 % values are the same, and where they differ by one request."""
    all_names = ("same", "other", "left", "right", "a:b:increase5m", "c:d:increase5m")
    names = {name: frozenset({("__name__", name)}) for name in all_names}
    left = {names["same"]: 100.0, names["other"]: 100.0, names["left"]: 1.0}
    right = {names["same"]: 104.0, names["other"]: 106.0, names["right"]: 1.0}
    left |= {names["a:b:increase5m"]: 1.0, names["c:d:increase5m"]: 1.0}
    right |= {names["a:b:increase5m"]: 2.0, names["c:d:increase5m"]: 2.2}
    assert [str(one) for one in compared.differences(left, right)] == [
        "c:d:increase5m{}: Prometheus 1.0, vmalert 2.2",
        "left{}: Prometheus 1.0, vmalert None",
        "other{}: Prometheus 100.0, vmalert 106.0",
        "right{}: Prometheus None, vmalert 1.0",
    ]


def test_means_are_those_of_the_same_time() -> None:
    """A value that rises evenly has the same mean, whenever each side evaluates."""
    series, alone = frozenset({("__name__", "a:b:c")}), frozenset({("__name__", "d:e:f")})
    one = {series: [(60.0 * n, 60.0 * n) for n in range(10)]}
    other = {series: [(60.0 * n + 30, 60.0 * n + 30) for n in range(10)], alone: [(1.0, 5.0)]}
    assert compared.means(one, other) == ({series: 285}, {series: 285, alone: 5})


def test_no_rule_fails_in_either(start_exporter: StartExporter, tmp_path: Path) -> None:
    """Both evaluate every rule on the demo without an error, and record gauges with the same labels."""
    for program in ("prometheus", "vmalert", "victoria-metrics"):
        built(program)
    demo = start_exporter("--demo")
    flags = ["--enable-feature=type-and-unit-labels"]
    with compared.evaluating(tmp_path, demo.address, "1s", flags, delay="5s") as sides:

        def labels(url: str) -> set[compared.Series]:
            return {one for one in compared.recorded(url, time.time()) if dict(one)["__name__"] in SAME}

        wait_until(lambda: len(labels(sides.prometheus)) > len(SAME), "Prometheus records")
        wait_until(
            lambda: labels(sides.victoria) == labels(sides.prometheus), "and vmalert the same", 3 * DEADLINE_SECONDS
        )
        assert compared.failing(sides.prometheus) == {}
        assert compared.failing(sides.vmalert) == {}
