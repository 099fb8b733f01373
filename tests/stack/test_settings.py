"""Prometheus' settings and data folder for the real and the simulated host."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import yaml

from modelhost_exporter.config import flags
from modelhost_exporter.config.flags import DEMO_PROFILES
from stack import options
from stack.settings import prometheus_settings

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize(
    ("arguments", "job", "instance"), [([], "modelhost", socket.gethostname()), (["--demo"], "modelhost-demo", "demo")]
)
def test_the_exporter_is_scraped_at_its_port(arguments: list[str], job: str, instance: str) -> None:
    """The target has the chosen port, and is named after this host, or in a demo after a host of its own."""
    given = options.parse(["--exporter-port=8111", *arguments])
    exporter, _ = yaml.safe_load(prometheus_settings(ROOT, given))["scrape_configs"]
    (target,) = exporter["static_configs"]
    assert exporter["job_name"] == job
    assert target == {"targets": ["127.0.0.1:8111"], "labels": {"instance": instance}}


def test_the_demo_has_a_data_folder_of_its_own() -> None:
    """The default differs, a given folder is used."""
    folders = [options.parse(arguments).data for arguments in ([], ["--demo"], ["--demo=workstation"])]
    assert len(set(folders)) == len(folders)
    assert options.parse(["--demo=rack"]).data == options.parse(["--demo"]).data
    assert options.parse(["--demo", "--data=mine"]).data == Path("mine").resolve()


def test_the_exporter_shows_the_wanted_simulated_host() -> None:
    """The same hosts as --demo of the exporter, with options of the exporter after them."""
    assert options.parse(["--demo", "--", "--log.level=debug"]).exporter_arguments == (
        "--demo=rack",
        "--log.level=debug",
    )
    for name in DEMO_PROFILES:
        (argument,) = options.parse([f"--demo={name}"]).exporter_arguments
        assert flags.parse([argument]).demo == name
    assert flags.parse(["--demo"]).demo == flags.parse(list(options.parse(["--demo"]).exporter_arguments)).demo
    assert flags.parse([]).demo is None
