"""Prometheus' settings for the stack: the shipped file with this stack's addresses, paths and interval."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from stack.options import PORTS

if TYPE_CHECKING:
    from stack.options import Options

SHIPPED = Path("prometheus/prometheus.yml")


def prometheus_settings(shipped: Path, options: Options) -> str:
    """Return the shipped settings as YAML: absolute paths, this stack's ports, and its scrape interval."""
    settings: dict[str, Any] = yaml.safe_load(shipped.read_text())
    addresses = {f"127.0.0.1:{port}": options.address(program) for program, port in PORTS.items()}
    settings["global"]["scrape_interval"] = options.scrape_interval
    settings["rule_files"] = [str(shipped.parent.resolve() / name) for name in settings["rule_files"]]
    for job in settings["scrape_configs"]:
        for targets in job.get("static_configs", ()):
            targets["targets"] = [addresses.get(target, target) for target in targets["targets"]]
        for files in job.get("file_sd_configs", ()):
            files["files"] = [str(shipped.parent.resolve() / name) for name in files["files"]]
    for manager in settings["alerting"]["alertmanagers"]:
        for targets in manager["static_configs"]:
            targets["targets"] = [addresses.get(target, target) for target in targets["targets"]]
    return yaml.safe_dump(settings, sort_keys=False)
