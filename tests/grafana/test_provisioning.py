"""The settings and provisioning files of Grafana refer to each other and to existing files."""

from __future__ import annotations

import configparser
import re
from typing import Any

import yaml

from tests.grafana.boards import BOARDS, FOLDER, ROOT

GRAFANA = ROOT / "grafana"
VARIABLES = {"MODELHOST_PROMETHEUS_URL", "MODELHOST_SCRAPE_INTERVAL", "MODELHOST_DASHBOARDS"}


def provisioned(kind: str) -> dict[str, Any]:
    """Return the one provisioning file of a kind."""
    (file,) = (GRAFANA / "provisioning" / kind).glob("*.yml")
    found: dict[str, Any] = yaml.safe_load(file.read_text())
    assert found["apiVersion"] == 1
    return found


def test_the_datasource() -> None:
    """It has a fixed uid, its address and interval come from the environment, and is read-only."""
    (source,) = provisioned("datasources")["datasources"]
    assert (source["type"], source["uid"], source["isDefault"]) == ("prometheus", "modelhost-prometheus", True)
    assert source["url"] == "$MODELHOST_PROMETHEUS_URL"
    assert source["jsonData"]["timeInterval"] == "$MODELHOST_SCRAPE_INTERVAL"
    assert source["editable"] is False


def test_the_dashboards() -> None:
    """They come from a folder named in the environment and cannot be changed in the browser."""
    (provider,) = provisioned("dashboards")["providers"]
    assert (provider["type"], provider["options"]) == ("file", {"path": "$MODELHOST_DASHBOARDS"})
    assert provider["allowUiUpdates"] is False


def test_the_home_page_is_the_overview() -> None:
    """grafana.ini names the Overview's file as home, and allows a refresh every second."""
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(GRAFANA / "grafana.ini")
    home = settings["dashboards"]["default_home_dashboard_path"]
    assert home.startswith("$__env{MODELHOST_DASHBOARDS}/")
    assert (FOLDER / home.rpartition("/")[2]).exists()
    assert BOARDS["overview"]["uid"] == "modelhost-overview"
    assert settings["dashboards"]["min_refresh_interval"] == "1s"


def test_every_variable_is_explained() -> None:
    """The files use the variables that docs/dashboards.md explains, and no others."""
    used: set[str] = set()
    for path in (GRAFANA / "grafana.ini", *(GRAFANA / "provisioning").rglob("*.yml")):
        used |= set(re.findall(r"\$(?:__env\{)?([A-Z][A-Z_]+)", path.read_text()))
    assert used == VARIABLES
    page = (ROOT / "docs/dashboards.md").read_text()
    assert [name for name in VARIABLES if f"`{name}`" not in page] == []
