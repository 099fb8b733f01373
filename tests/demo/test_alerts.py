"""An hour of incidents fires the real alerts, evaluated by a real Prometheus over simulated history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.prometheus.rules import ALERTS
from tests.support.past import waits

if TYPE_CHECKING:
    from tests.support.past import Past

# alert, severity (and window) → why an hour of incidents cannot fire it
_CANNOT = {
    "ExporterCertificateExpiresSoon warning": "the demo has no certificate",
    "ExporterConfigReloadFailed warning": "nothing reloads the configuration",
    "ExporterFileDescriptorsShort warning": "the recorded host has no listener",
    "ExporterTargetGone warning": "needs a day",
    "HostCgroupCpuThrottled warning": "the simulated host has no limits of a container",
    "HostCgroupMemoryFull warning": "the simulated host has no limits of a container",
    "HostFileDescriptorsShort warning": "simulated programs close their files",
    "HostFilesystemInodesFilling warning": "needs an hour",
    "HostNetworkLinkDown warning": "simulated links stay up",
    "HostSwapFull warning": "the simulated kernel measures pressure",
    "ModelProbeFailing warning": "nothing is probed",
    "ModelServerPollIncomplete warning": "every page can be read, or none",
    "PrometheusConfigReloadFailed warning": "not of the simulated host",
    "PrometheusNotificationsFailing warning": "not of the simulated host",
    "PrometheusRulesFailing warning": "not of the simulated host",
    "PrometheusStorageFailing warning": "not of the simulated host",
    "ProxyBypassed info": "needs an hour and a half",
    "ExporterDown critical": "the demo is always up",
    "ExporterFlapping warning": "the demo is always up",
    "ExporterRestarting warning": "the demo runs once",
    "ExporterScrapedTwice warning": "one job scrapes the demo",
    "ExporterScrapeSlow warning": "the demo is fast",
    "HostClockDiffers warning": "the demo has the clock of its machine",
    "GpuAllNotResponding critical": "one GPU fails at a time",
    "GpuDriverReplaced warning": "it would last until a restart",
    "GpuIdleWithModel info": "needs six hours",
    "GpuNvlinkDown warning": "simulated links stay up",
    "GpuTemperatureHigh warning": "a hot GPU is above its limit for less than ten minutes",
    "GpuThermalSlowdown warning": "the driver of the demo lets the hardware slow down",
    "GpuXidNotMonitored info": "the simulated driver reports events",
    "GpuUnstable critical": "a GPU that is lost stays away",
    "HostFilesystemFilling critical": "needs an hour",
    "HostFilesystemFilling warning": "needs an hour",
    "HostFilesystemOutOfInodes critical": "needs an hour",
    "HostFilesystemOutOfInodes warning": "needs an hour",
    "HostFilesystemNotResponding warning": "simulated file systems respond",
    "HostConntrackNearlyFull warning": "few connections are simulated",
    "HostInfinibandPortDown critical": "simulated ports stay up",
    "HostListenDrops warning": "simulated programs accept connections",
    "HostMemoryUncorrectableErrors critical": "simulated memory has no errors",
    "HostNvmeWarning critical": "simulated drives are well",
    "HostNvmeWornOut warning": "simulated drives are young",
    "HostRaidDegraded critical": "the simulated array is complete",
    "HostNetworkReceiveErrors warning": "needs an hour",
    "HostNetworkTransmitErrors warning": "needs an hour",
    "ModelErrorBudgetBurn critical 6h": "needs six hours",
    "ModelErrorBudgetBurn warning 3d": "needs three days",
    "ModelAlwaysFails warning": "needs two hours without a success",
    "ModelServerDown critical": "needs longer than a model takes to load",
    "ModelServerSeveralProcesses warning": "each simulated server is one process",
    "ModelSloBudgetBurn critical 6h": "needs six hours",
    "ModelSloBudgetBurn warning 3d": "needs three days",
}


def name_of(rule: dict[str, Any]) -> str:
    """Return the labels that distinguish an alert from its variants."""
    labels = rule["labels"]
    return " ".join(filter(None, (rule["alert"], labels["severity"], labels.get("window"))))


@pytest.mark.parametrize("rule", ALERTS, ids=name_of)
def test_an_incident_fires_the_alert(rule: dict[str, Any], past: Past) -> None:
    """Each alert's condition holds for its `for` duration, except for the alerts in _CANNOT."""
    assert (past.longest(rule["expr"]) >= waits(rule)) == (name_of(rule) not in _CANNOT)


def test_the_exceptions_are_alerts() -> None:
    """Every exception names an existing alert."""
    assert _CANNOT.keys() <= {name_of(rule) for rule in ALERTS}
