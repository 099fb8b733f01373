"""The programs of the stack: find them on this machine, and build their command lines."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from stack.options import LIVE_INTERVAL, NORMAL_INTERVAL
from stack.running import Program, StackError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stack.options import Options

_SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
DASHBOARDS = {NORMAL_INTERVAL: "dashboards", LIVE_INTERVAL: "dashboards-live"}
"""The folder of the dashboards that refresh as fits a scrape interval."""
_GRAFANA_HOMES = ("/usr/share/grafana", "/opt/homebrew/share/grafana", "/usr/local/share/grafana")


def exporter(options: Options) -> Program:
    """Return this checkout's exporter, run by the Python that runs the stack."""
    command = [sys.executable, "-m", "modelhost_exporter", f"--web.listen-address={options.address('exporter')}"]
    return _program(options, "exporter", [*command, *options.exporter_arguments], "/-/ready")


def prometheus(options: Options, settings: Path) -> Program:
    """Return the Prometheus on PATH; raises StackError when there is none."""
    binary = _on_path("prometheus")
    if binary is None:
        raise StackError(
            "needs prometheus on the PATH: install your system's package (Debian, Ubuntu: apt install prometheus;"
            " macOS: brew install prometheus) or unpack https://prometheus.io/download"
        )
    command = [
        binary,
        f"--config.file={settings}",
        f"--storage.tsdb.path={options.data / 'prometheus'}",
        f"--storage.tsdb.retention.time={options.retention}",
        f"--web.listen-address={options.address('prometheus')}",
        f"--web.external-url={options.url('prometheus')}",
    ]
    return _program(options, "prometheus", command, "/-/ready")


def alertmanager(options: Options, settings: Path) -> Program | None:
    """Return the Alertmanager on PATH, None when there is none."""
    binary = _on_path("alertmanager") or _on_path("prometheus-alertmanager")
    if binary is None:
        return None
    command = [
        binary,
        f"--config.file={settings}",
        f"--storage.path={options.data / 'alertmanager'}",
        f"--web.listen-address={options.address('alertmanager')}",
        f"--web.external-url={options.url('alertmanager')}",
        "--cluster.listen-address=",  # a single instance needs no gossip port
    ]
    return _program(options, "alertmanager", command, "/-/ready")


def grafana(options: Options, folder: Path, environment: Mapping[str, str] = os.environ) -> Program | None:
    """Return GRAFANA_HOME's Grafana, or the one on PATH; None when there is none.

    ``folder`` contains Grafana's settings, provisioning files and dashboards. Raises StackError when GRAFANA_HOME
    contains no Grafana, or the home of the one on PATH is not found.
    """
    found = _grafana(environment)
    if found is None:
        return None
    binary, home = found
    command: list[str | Path] = [binary, "server", f"--homepath={home}", f"--config={folder / 'grafana.ini'}"]
    return _program(options, "grafana", command, "/api/health", grafana_environment(options, folder))


def grafana_environment(options: Options, folder: Path) -> dict[str, str]:
    """Return the environment variables that Grafana's settings and provisioning files use."""
    return {
        "GF_SERVER_HTTP_ADDR": "127.0.0.1",
        "GF_SERVER_HTTP_PORT": str(options.ports["grafana"]),
        "GF_AUTH_ANONYMOUS_ENABLED": "true",  # everyone on this machine may view; changes need the password
        "GF_PATHS_DATA": str(options.data / "grafana"),
        "GF_PATHS_LOGS": str(options.data / "logs"),
        "GF_PATHS_PROVISIONING": str(folder / "provisioning"),
        "MODELHOST_DASHBOARDS": str(folder / DASHBOARDS[options.scrape_interval]),
        "MODELHOST_PROMETHEUS_URL": options.url("prometheus"),
        "MODELHOST_SCRAPE_INTERVAL": options.scrape_interval,
    }


def _grafana(environment: Mapping[str, str]) -> tuple[Path, Path] | None:
    """Return Grafana's binary and home; None when there is none."""
    if home := environment.get("GRAFANA_HOME"):
        binary = Path(home) / "bin" / "grafana"
        if not os.access(binary, os.X_OK):
            raise StackError(f"GRAFANA_HOME={home}: no executable bin/grafana")
        return binary, Path(home)
    on_path = _on_path("grafana")
    if on_path is None:
        return None
    binary = Path(on_path)
    for candidate in (binary.resolve().parent.parent, *map(Path, _GRAFANA_HOMES)):
        if (candidate / "conf" / "defaults.ini").is_file():
            return binary, candidate
    raise StackError(f"{on_path}: its home (with conf/defaults.ini) was not found; set GRAFANA_HOME=...")


def _program(
    options: Options, name: str, command: Sequence[str | Path], ready: str, environment: Mapping[str, str] | None = None
) -> Program:
    address = ("127.0.0.1", options.ports[name])
    return Program(name, command, address, f"{options.url(name)}{ready}", environment or {})


def _on_path(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), *_SYSTEM_FOLDERS]))
