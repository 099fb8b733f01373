"""A real Alertmanager with the shipped settings routes, groups and inhibits."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.prometheus.rules import ALERTS, FOLDER
from tests.prometheus.servers import alertmanager
from tests.support.programs import DEADLINE_SECONDS, installed, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.prometheus.servers import Server

AREAS = {rule["alert"]: rule["labels"]["area"] for rule in ALERTS}


def test_amtool_accepts_the_settings() -> None:
    """`amtool check-config` accepts the settings."""
    command = [installed("amtool"), "check-config", str(FOLDER / "alertmanager.yml")]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=DEADLINE_SECONDS)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start a real Alertmanager."""
    with alertmanager(tmp_path_factory.mktemp("alertmanager")) as running:
        yield running


def _labels(instance: str, name: str, severity: str, **more: str) -> dict[str, str]:
    return {
        "alertname": name,
        "severity": severity,
        "area": AREAS[name],
        "instance": instance,
        "job": "modelhost",
        **more,
    }


def _inhibited(server: Server, labels: dict[str, str]) -> bool | None:
    """Return whether Alertmanager inhibits an alert, or None while it has not processed it."""
    for alert in server.get("/api/v2/alerts"):
        if alert["labels"] == labels and alert["status"]["state"] != "unprocessed":
            return bool(alert["status"]["inhibitedBy"])
    return None


CHAT = {"server": "chat", "model": "m"}
INHIBITED = {
    "broken hardware explains a ticket about a model": (
        ("GpuMissing", "critical", {}),
        ("ModelErrorRateHigh", "warning", CHAT),
    ),
    "a hardware ticket does as well": (
        ("GpuHardwareSlowdown", "warning", {"gpu": "0"}),
        ("ModelSloBudgetBurn", "warning", {**CHAT, "slo": "ttft", "window": "3d"}),
    ),
    "a program that a contained memory error ended": (
        ("GpuXidError", "warning", {"gpu": "0", "xid": "94"}),
        ("ModelErrorRateHigh", "warning", CHAT),
    ),
    "a GPU that does not respond has no other tickets": (
        ("GpuNotResponding", "critical", {"gpu": "0"}),
        ("GpuPcieLinkNarrow", "warning", {"gpu": "0"}),
    ),
    "a GPU that needs a reset has memory errors": (
        ("GpuXidError", "critical", {"gpu": "0", "xid": "95"}),
        ("GpuUncorrectableEccErrors", "warning", {"gpu": "0", "type": "uncorrected"}),
    ),
    "all GPUs at once are not each of them": (
        ("GpuAllNotResponding", "critical", {}),
        ("GpuNotResponding", "critical", {"gpu": "0"}),
    ),
    "a server that is down explains its models' pages": (
        ("ModelServerDown", "critical", {"server": "chat"}),
        ("ModelErrorBudgetBurn", "critical", {**CHAT, "window": "1h"}),
    ),
    "a server that is down cannot be reached either": (
        ("ModelServerDown", "critical", {"server": "chat"}),
        ("ProxyUpstreamUnreachable", "critical", {"server": "chat"}),
    ),
    "a server that loads its model explains tickets": (
        ("ModelServerDown", "warning", {"server": "chat"}),
        ("ModelErrorRateHigh", "warning", CHAT),
    ),
    "a replica that is down is ejected": (
        ("ModelServerDown", "warning", {"server": "chat", "upstream": "h:1"}),
        ("ProxyUpstreamEjected", "warning", {"server": "chat", "upstream": "h:1"}),
    ),
    "a page about a server replaces the tickets of its replicas": (
        ("ModelServerDown", "critical", {"server": "chat"}),
        ("ModelServerDown", "warning", {"server": "chat", "upstream": "h:1"}),
    ),
    "a server without replicas that work explains what they do": (
        ("ModelServerDown", "critical", {"server": "chat"}),
        ("ProxyUpstreamEjected", "warning", {"server": "chat", "upstream": "h:1"}),
    ),
    "a server that cannot be reached explains errors": (
        ("ProxyUpstreamUnreachable", "critical", {"server": "chat"}),
        ("ModelErrorRateHigh", "warning", CHAT),
    ),
    "errors are missed objectives": (
        ("ModelErrorBudgetBurn", "critical", {**CHAT, "window": "6h"}),
        ("ModelSloBudgetBurn", "critical", {**CHAT, "slo": "ttft", "window": "6h"}),
    ),
    "a page replaces the ticket": (
        ("HostFilesystemFull", "critical", {"device": "/dev/sdb"}),
        ("HostFilesystemFull", "warning", {"device": "/dev/sdb"}),
    ),
}
KEPT = {
    "a page goes out whatever the hardware does": (
        ("GpuMissing", "critical", {}),
        ("ModelErrorBudgetBurn", "critical", {**CHAT, "window": "1h"}),
    ),
    "the host's own tickets are not the hardware's": (
        ("GpuMissing", "critical", {}),
        ("HostMemoryHigh", "warning", {}),
    ),
    "a GPU's use is no hardware fault": (
        ("GpuPowerCapped", "info", {"gpu": "0"}),
        ("ModelErrorRateHigh", "warning", CHAT),
    ),
    "a ticket about a server holds back no page": (
        ("ModelServerDown", "warning", {"server": "chat"}),
        ("ProxyUpstreamUnreachable", "critical", {"server": "chat"}),
    ),
    "the other replicas of a server do its work": (
        ("ModelServerDown", "warning", {"server": "chat", "upstream": "h:1"}),
        ("ModelErrorRateHigh", "warning", CHAT),
    ),
    "a replica that is down explains no other": (
        ("ModelServerDown", "warning", {"server": "chat", "upstream": "h:1"}),
        ("ModelQueueGrowing", "warning", {"server": "chat", "upstream": "h:2"}),
    ),
    "another GPU's tickets": (
        ("GpuNotResponding", "critical", {"gpu": "0"}),
        ("GpuPcieLinkNarrow", "warning", {"gpu": "1"}),
    ),
    "another page about the same GPU": (
        ("GpuNotResponding", "critical", {"gpu": "0"}),
        ("GpuRowRemapFailed", "critical", {"gpu": "0"}),
    ),
    "a memory error that was contained until the next reset": (
        ("GpuUncorrectableEccErrors", "warning", {"gpu": "0", "type": "uncorrected"}),
        ("ModelErrorRateHigh", "warning", CHAT),
    ),
    "a card that wants to be replaced works until then": (
        ("GpuRowRemapFailed", "critical", {"gpu": "0"}),
        ("ModelErrorRateHigh", "warning", CHAT),
    ),
    "nobody receives an XID of a program": (
        ("GpuXidError", "info", {"gpu": "0", "xid": "13"}),
        ("ModelErrorRateHigh", "warning", CHAT),
    ),
    "a repair that can wait explains nothing": (
        ("GpuRowRemapPending", "warning", {"gpu": "0"}),
        ("ModelErrorRateHigh", "warning", CHAT),
    ),
    "a host of the same name in another cluster": (
        ("GpuMissing", "critical", {"cluster": "east"}),
        ("ModelErrorRateHigh", "warning", {**CHAT, "cluster": "west"}),
    ),
    "another server's models": (
        ("ModelServerDown", "critical", {"server": "embed"}),
        ("ModelErrorBudgetBurn", "critical", {**CHAT, "window": "1h"}),
    ),
    "another file system": (
        ("HostFilesystemFull", "critical", {"device": "/dev/sda"}),
        ("HostFilesystemFull", "warning", {"device": "/dev/sdb"}),
    ),
}
CASES = [(name, *pair, True) for name, pair in INHIBITED.items()] + [
    (name, *pair, False) for name, pair in KEPT.items()
]


@pytest.mark.parametrize(
    ("name", "source", "target", "expected"), CASES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_an_alert_is_inhibited_by_its_cause(
    server: Server,
    name: str,
    source: tuple[str, str, dict[str, str]],
    target: tuple[str, str, dict[str, str]],
    *,
    expected: bool,
) -> None:
    """The target is inhibited by the source of the same host, and never by that of another host."""
    here, elsewhere = f"{name}:8585", f"{name}, elsewhere:8585"
    fired = [_labels(here, *source[:2], **source[2]), _labels(here, *target[:2], **target[2])]
    other = _labels(elsewhere, *target[:2], **target[2])
    server.post("/api/v2/alerts", [{"labels": labels} for labels in (*fired, other)])
    wait_until(lambda: _inhibited(server, other) is not None, "Alertmanager has looked at the alerts")
    wait_until(lambda: _inhibited(server, fired[1]) is expected, "and decided")
    assert _inhibited(server, other) is False
    assert _inhibited(server, fired[0]) is False


@pytest.mark.parametrize(("severity", "receiver"), [("critical", "pages"), ("warning", "tickets"), ("info", "nobody")])
def test_severity_selects_the_receiver(server: Server, severity: str, receiver: str) -> None:
    """Each severity has its own receiver, and alerts are grouped by host and area."""
    labels = _labels(f"routed-{severity}:8585", "HostCpuHigh", severity)
    server.post("/api/v2/alerts", [{"labels": {**labels, "cpu": number}} for number in ("0", "1")])

    def group() -> list[dict[str, Any]]:
        groups = server.get("/api/v2/alerts/groups")
        return [g for g in groups if g["labels"].get("instance") == labels["instance"] and len(g["alerts"]) == 2]

    wait_until(lambda: len(group()) == 1, "both alerts are in one group")
    (found,) = group()
    assert found["receiver"] == {"name": receiver}
    assert found["labels"] == {name: labels[name] for name in ("instance", "area", "job")}


def test_hosts_that_go_down_together_are_one_page(server: Server) -> None:
    """A failing switch does not send one page for each of its hosts."""
    fired = [_labels(f"rack-1-{number}:8585", "ExporterDown", "critical", job="rack-1") for number in (1, 2, 3)]
    server.post("/api/v2/alerts", [{"labels": labels} for labels in fired])

    def groups() -> list[dict[str, Any]]:
        found = server.get("/api/v2/alerts/groups")
        return [group for group in found if group["labels"].get("job") == "rack-1"]

    wait_until(lambda: sum(len(group["alerts"]) for group in groups()) == 3, "all alerts are in groups")
    (found,) = groups()
    assert found["receiver"] == {"name": "pages"}
