"""Prometheus' settings for the stack: the shipped file with this stack's addresses, paths and interval."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from stack.options import PORTS

if TYPE_CHECKING:
    from stack.options import Options

_EXPORTER = f"127.0.0.1:{PORTS['exporter']}"


def shipped(options: Options) -> Path:
    """Return the path of the shipped settings in this repository."""
    return Path("prometheus/prometheus.demo.yml" if options.demo else "prometheus/prometheus.yml")


def prometheus_settings(root: Path, options: Options) -> str:
    """Return the shipped settings as YAML: absolute paths, this stack's ports and scrape interval, this host's name.

    A store of several hosts would otherwise have all of them as instance 127.0.0.1:8585.
    """
    path = root.resolve() / shipped(options)
    settings: dict[str, Any] = yaml.safe_load(path.read_text())
    addresses = {f"127.0.0.1:{port}": options.address(program) for program, port in PORTS.items()}
    settings["global"]["scrape_interval"] = options.scrape_interval
    settings["rule_files"] = [str(path.parent / name) for name in settings["rule_files"]]
    for job in settings["scrape_configs"]:
        for targets in job.get("static_configs", ()):
            if _EXPORTER in targets["targets"]:
                targets["labels"] = {"instance": socket.gethostname(), **targets.get("labels", {})}
            targets["targets"] = [addresses.get(target, target) for target in targets["targets"]]
        for files in job.get("file_sd_configs", ()):
            files["files"] = [str(path.parent / name) for name in files["files"]]
    for manager in settings["alerting"]["alertmanagers"]:
        for targets in manager["static_configs"]:
            targets["targets"] = [addresses.get(target, target) for target in targets["targets"]]
    return yaml.safe_dump(settings, sort_keys=False)
