"""What each kind of export consists of: the content of its files by their paths."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.export import shipped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from modelhost_exporter.export.links import Links

    Files = Mapping[str, str]

ALL = "all"


def _dashboards(links: Links) -> Files:
    return {name: links.in_dashboard(text) for name, text in shipped.folder("grafana/dashboards", "*.json").items()}


def _rules(links: Links) -> Files:
    rules = {name: links.in_rules(text) for name, text in shipped.folder("prometheus/rules", "*.yml").items()}
    return {**rules, "runbook.md": shipped.text("prometheus/runbook.md")}


def _config(links: Links) -> Files:
    return {"config.yaml": links.in_config(shipped.text("config.example.yaml"))}


def _prometheus(links: Links) -> Files:
    return {
        "prometheus.yml": links.in_scrapes(shipped.text("prometheus/prometheus.yml")),
        "hosts.example.yml": shipped.text("prometheus/hosts.example.yml"),
        **{f"rules/{name}": text for name, text in _rules(links).items()},
    }


def _alertmanager(_links: Links) -> Files:
    return {"alertmanager.yml": shipped.text("prometheus/alertmanager.yml")}


def _systemd(_links: Links) -> Files:
    return shipped.folder("deploy/systemd", "modelhost-exporter.*")


EXPORTS: Mapping[str, tuple[Callable[[Links], Files], str]] = {
    "dashboards": (_dashboards, "Grafana's dashboards, to import or to provision"),
    "rules": (_rules, "recording rules and alerts, with their runbook"),
    "config": (_config, "the exporter's configuration: every key with its default"),
    "prometheus": (_prometheus, "settings of a Prometheus, with the rules"),
    "alertmanager": (_alertmanager, "settings of Alertmanager, without receivers"),
    "systemd": (_systemd, "unit and user for systemd"),
}
"""Each kind by its name: its files, and a description."""


def files(kind: str, links: Links) -> Files:
    """Return the files of a kind; of ``all`` kinds, each in a folder of its own."""
    if kind != ALL:
        return EXPORTS[kind][0](links)
    return {f"{name}/{path}": text for name, (of, _) in EXPORTS.items() for path, text in of(links).items()}
