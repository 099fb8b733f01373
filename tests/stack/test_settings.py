"""Prometheus' settings and data folder for the real and the simulated host."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from stack import options
from stack.settings import prometheus_settings

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize(
    ("arguments", "job", "labels"), [([], "modelhost", None), (["--demo"], "modelhost-demo", {"instance": "demo"})]
)
def test_the_exporter_is_scraped_at_its_port(arguments: list[str], job: str, labels: dict[str, str] | None) -> None:
    """The target has the chosen port, and in a demo the labels of a host of its own."""
    given = options.parse(["--exporter-port=8111", *arguments])
    exporter, _ = yaml.safe_load(prometheus_settings(ROOT, given))["scrape_configs"]
    (target,) = exporter["static_configs"]
    assert (exporter["job_name"], target["targets"], target.get("labels")) == (job, ["127.0.0.1:8111"], labels)


def test_the_demo_has_a_data_folder_of_its_own() -> None:
    """The default differs, a given folder is used."""
    assert options.parse([]).data != options.parse(["--demo"]).data
    assert options.parse(["--demo", "--data=mine"]).data == Path("mine").resolve()
