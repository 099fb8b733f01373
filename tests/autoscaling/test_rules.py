"""The rules for autoscalers fit the exporter, its proxy and its demo."""

from __future__ import annotations

import math
import re
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.autoscaling.autoscalers import Keda
from tests.autoscaling.manifests import RULES, recording_rules, scaled_object
from tests.autoscaling.service import turns
from tests.faults.observed import proxy_address
from tests.prometheus.rule_testers import TESTERS, failures
from tests.prometheus.rules import RECORDED, samples, unquoted
from tests.prometheus.test_names import AGGREGATIONS
from tests.support.past import INTERVAL, SECONDS, START
from tests.support.programs import DEADLINE_SECONDS, fetch, free_port, installed, wait_until
from tests.support.prometheus_server import running_prometheus

if TYPE_CHECKING:
    from tests.conftest import StartExporter
    from tests.support.past import Past

ACTIVE = recording_rules()["model:autoscaling_active:bool"]


def test_promtool_accepts_the_rules() -> None:
    """Without a warning."""
    command = [installed("promtool"), "check", "rules", "--lint=all", "--lint-fatal", str(RULES)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=DEADLINE_SECONDS)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("tester", TESTERS)
def test_rules_pass_their_unit_tests(tester: str, tmp_path: Path) -> None:
    """Gaps, first requests, several clusters and what no replica answers, in each program that runs rules."""
    said = failures(tester, Path(__file__).parent / "rules_test.yml", tmp_path)
    assert not said, said


def test_names_and_labels_exist() -> None:
    """Each metric is one of the exporter and has the labels that are matched; no record has the name of another."""
    assert not set(recording_rules()) & set(RECORDED)
    for expression in recording_rules().values():
        read = re.findall(r"\b(modelhost_\w+)(?:\{([^}]*)\})?", unquoted(expression))
        assert read
        for name, matchers in read:
            assert set(re.findall(r"(\w+)\s*[=!]", matchers)) <= set(samples()[name].labels)


@pytest.mark.parametrize("record", recording_rules())
def test_each_number_is_of_one_server(record: str) -> None:
    """Clusters, namespaces and servers stay apart."""
    for _, modifier, labels in re.findall(AGGREGATIONS, unquoted(recording_rules()[record])):
        assert modifier == "by"
        assert {"cluster", "namespace", "server"} <= {label.strip() for label in labels.split(",")}


def test_one_failed_request_of_a_real_proxy_is_seen(start_exporter: StartExporter, tmp_path: Path) -> None:
    """Nothing runs behind a new proxy: its first request, answered with 502, has no increase but wakes the service."""
    exporter = start_exporter(f"--proxy=chat=127.0.0.1:0=http://127.0.0.1:{free_port()}")
    proxy = proxy_address(exporter, "chat")
    with running_prometheus(exporter.address, tmp_path) as server:
        wait_until(lambda: server.value(ACTIVE) == 0, "a number without a request")
        with pytest.raises(urllib.error.HTTPError) as error:
            fetch(_chat(proxy))
        error.value.close()
        assert error.value.code == 502
        wait_until(lambda: server.value(ACTIVE) == 1, "the request is seen")
        assert server.value('sum(increase(modelhost_requests_total{operation!="other"}[2m])) or vector(0)') == 0


def _chat(proxy: str) -> urllib.request.Request:
    body = b'{"model": "m", "stream": true, "messages": [{"role": "user", "content": "?"}]}'
    url = f"http://{proxy}/v1/chat/completions"
    return urllib.request.Request(url, body, {"Content-Type": "application/json"})


def _course(past: Past, query: str, server: str) -> dict[float, float]:
    """Return a query's values for a server by time, five seconds after each scrape."""
    found: list[dict[str, Any]] = past.api.matrix(query, START + 5, START + SECONDS, INTERVAL)
    (series,) = [series for series in found if series["metric"]["server"] == server]
    return {float(at): float(value) for at, value in series["values"]}


def _means(scraped: dict[float, float]) -> dict[float, float]:
    """Return the mean of the values of the last minute at each time at which there is one."""
    times = [START + 5 + number * INTERVAL for number in range(SECONDS // INTERVAL)]
    minutes = {at: [scraped[at - ago] for ago in (0, 15, 30, 45) if at - ago in scraped] for at in times}
    return {at: sum(values) / len(values) for at, values in minutes.items() if values}


@pytest.mark.parametrize(
    ("server", "calm", "busy", "rises"), [("vllm", (60, 8), (35, 64), 2), ("sglang", (12, 4), (50, 90), 1)]
)
def test_the_demo_is_scaled_as_a_calculation_by_hand_gives(
    server: str, calm: tuple[int, int], busy: tuple[int, int], rises: int, past: Past
) -> None:
    """In 90 minutes with incidents: each number is the mean of four scrapes, each incident one rise of the replicas."""
    scaling = scaled_object("keda-queue.yaml")
    families = {"waiting": 5, "running": 16}
    by_rule = {
        family: _course(past, recording_rules()[f"model:autoscaling_requests_{family}:sum"], server)
        for family in families
    }
    for family, values in by_rule.items():
        assert values == pytest.approx(
            _means(_course(past, f"last_over_time(modelhost_engine_requests_{family}[10s])", server))
        )
    keda, course = Keda(scaling), {0.0: 1}
    for at in by_rule["waiting"]:
        course[at] = keda.scale(at, [*course.values()][-1], [values[at] for values in by_rule.values()])
    for minute, least in (calm, busy):
        at = START + 5 + minute * 60.0
        by_hand = max(math.ceil(by_rule[family][at] / target) for family, target in families.items())
        assert course[at] == min(max(by_hand, scaling.minimum), scaling.maximum)
        assert by_rule["waiting"][at] + by_rule["running"][at] >= least
    assert turns([*course.values()]) == 2 * rises - 1 - (server == "vllm")
