"""A real Prometheus runs with the shipped settings and rules."""

from __future__ import annotations

import re
import shutil
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.grafana.boards import BOARDS, queries, selectors
from tests.prometheus.rules import ALERTS, FOLDER, RECORDED, read, samples
from tests.prometheus.servers import alertmanager, prometheus
from tests.prometheus.test_names import PROMETHEUS
from tests.support.programs import fetch, free_port, installed, wait_until

if TYPE_CHECKING:
    from tests.conftest import StartExporter
    from tests.prometheus.servers import Server
    from tools.dashboard_queries import Question


def test_the_live_profile_differs_in_its_interval_only() -> None:
    """prometheus.live.yml is prometheus.yml with a scrape every 2 s."""
    normal, live = read(FOLDER / "prometheus.yml"), read(FOLDER / "prometheus.live.yml")
    assert (normal["global"].pop("scrape_interval"), live["global"].pop("scrape_interval")) == ("15s", "2s")
    assert normal == live


def test_the_demo_s_host_has_a_job_and_an_instance_of_its_own() -> None:
    """Otherwise its graphs would be continued by those of the host that is scraped at the same address."""
    live, demo = read(FOLDER / "prometheus.live.yml"), read(FOLDER / "prometheus.demo.yml")
    real, simulated = live["scrape_configs"].pop(0), demo["scrape_configs"].pop(0)
    assert live == demo
    assert simulated == {
        "job_name": f"{real['job_name']}-demo",
        "static_configs": [{**real["static_configs"][0], "labels": {"instance": "demo"}}],
    }


@pytest.mark.parametrize(
    ("name", "times"), [("prometheus.yml", 1), ("prometheus.live.yml", 1), ("prometheus.demo.yml", 0)]
)
def test_settings_have_the_comment_for_the_host_s_name(name: str, times: int) -> None:
    """container.sh replaces it, except in the demo, whose host has a name of its own."""
    (replaced,) = re.findall(r"sed \"s/([^/]+)/", (FOLDER / "container.sh").read_text())
    assert (FOLDER / name).read_text().count(replaced) == times


@pytest.mark.parametrize("name", ["prometheus.yml", "prometheus.live.yml"])
def test_what_is_sent_to_a_long_term_store_is_enough(name: str) -> None:
    """The example, out of its comment, is valid and keeps what Fleet and panels of objectives query, raw only that."""
    _, _, example = (FOLDER / name).read_text().partition("# remote_write:\n")
    settings = yaml.safe_load("remote_write:\n" + re.sub(r"(?m)^# ", "", example))
    (relabelling,) = settings["remote_write"][0]["write_relabel_configs"]
    assert relabelling["action"] == "keep"
    queried = {one.metric for question in queries() if _is_kept(question) for one in selectors(question)}
    assert {"modelhost_build_info", "modelhost_time_seconds", "job_model:slo_budget:ratio"} <= queried
    assert [metric for metric in sorted(queried) if not re.fullmatch(relabelling["regex"], metric)] == []
    assert {name for name in samples() if re.fullmatch(relabelling["regex"], name)} <= queried


def _is_kept(question: Question) -> bool:
    """Return whether a question is one of Fleet, or of a panel of objectives over many hosts."""
    panels = re.compile(r"(SLO attainment|Budget burn over \d+ hours?|Goodput) \w")
    return question.board == BOARDS["fleet"]["title"] or bool(panels.fullmatch(question.where))


SHELLS = [["sh"], *([[busybox, "sh"]] if (busybox := shutil.which("busybox")) else [])]
"""The image of Prometheus has busybox's."""


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: Path(shell[0]).name)
def test_in_a_container_the_exporter_has_the_host_s_name(shell: list[str], tmp_path: Path) -> None:
    """The target on the loopback address only; hosts of a file keep theirs, and the rules are loaded."""
    installed("prometheus")
    with prometheus(tmp_path, f"127.0.0.1:{free_port()}", 9, shell=shell) as server:
        wait_until(lambda: "gpu-1.example.com:8585" in _targets(server), "the hosts of a file are found")
        names = {socket.gethostname(), f"127.0.0.1:{server.port}", "gpu-1.example.com:8585", "gpu-2.example.com:8585"}
        assert set(_targets(server)) == names
        assert len(_rules(server)) == len(ALERTS) + len(RECORDED)


def _targets(server: Server) -> dict[str, str]:
    active = server.get("/api/v1/targets")["data"]["activeTargets"]
    return {target["labels"]["instance"]: target["health"] for target in active}


def _rules(server: Server) -> list[dict[str, str]]:
    groups = server.get("/api/v1/rules")["data"]["groups"]
    return [rule for group in groups for rule in group["rules"]]


def _own_metrics(server: Server) -> list[str]:
    return fetch(f"http://127.0.0.1:{server.port}/metrics").decode().splitlines()


def _recorded(server: Server, instance: str) -> bool:
    query = f'/api/v1/query?query=instance:memory_usage:ratio{{instance="{instance}"}}'
    return bool(server.get(query)["data"]["result"])


def test_prometheus_scrapes_records_and_finds_its_alertmanager(start_exporter: StartExporter, tmp_path: Path) -> None:
    """It finds the exporter, itself, the hosts of a file and Alertmanager; every rule is loaded and evaluates."""
    exporter = start_exporter()
    with alertmanager(tmp_path) as receiver, prometheus(tmp_path, exporter.address, receiver.port) as server:
        wait_until(lambda: _targets(server).get(exporter.address) == "up", "the exporter is scraped")
        wait_until(lambda: _targets(server).get(f"127.0.0.1:{server.port}") == "up", "Prometheus scrapes itself")
        assert {"gpu-1.example.com:8585", "gpu-2.example.com:8585"} <= set(_targets(server))
        assert {f"{line.split()[2]}" for line in _own_metrics(server) if line.startswith("# TYPE")} >= PROMETHEUS
        wait_until(lambda: _recorded(server, exporter.address), "rules are evaluated")
        assert len(_rules(server)) == len(ALERTS) + len(RECORDED)
        assert {rule["health"] for rule in _rules(server)} <= {"ok", "unknown"}
        assert [rule["name"] for rule in _rules(server) if rule.get("lastError")] == []
        known = server.get("/api/v1/alertmanagers")["data"]["activeAlertmanagers"]
        assert [manager["url"] for manager in known] == [f"http://127.0.0.1:{receiver.port}/api/v2/alerts"]
