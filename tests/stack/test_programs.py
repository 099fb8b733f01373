"""How the stack finds Grafana and sets its environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stack import options, programs
from stack.running import StackError

if TYPE_CHECKING:
    from pathlib import Path

GIVEN = options.parse(["--data=data", "--grafana-port=3111", "--prometheus-port=9111"])


def grafana_in(home: Path) -> Path:
    """Create a program and its defaults as in a Grafana installation."""
    binary = home / "bin" / "grafana"
    (home / "conf").mkdir(parents=True)
    (home / "conf" / "defaults.ini").touch()
    binary.parent.mkdir()
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o755)
    return binary


def test_the_home_that_the_environment_names_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """GRAFANA_HOME takes precedence."""
    named, on_path = grafana_in(tmp_path / "named"), grafana_in(tmp_path / "on_path")
    monkeypatch.setenv("PATH", str(on_path.parent))
    found = programs.grafana(GIVEN, tmp_path, {"GRAFANA_HOME": str(tmp_path / "named")})
    assert found is not None
    assert found.command[:3] == [named, "server", f"--homepath={tmp_path / 'named'}"]


def test_the_home_of_the_one_on_path_is_beside_it_also_through_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The home of the grafana on PATH is found through a symbolic link."""
    grafana_in(tmp_path / "home")
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "grafana").symlink_to(tmp_path / "home" / "bin" / "grafana")
    monkeypatch.setenv("PATH", str(tmp_path / "links"))
    found = programs.grafana(GIVEN, tmp_path, {})
    assert found is not None
    assert f"--homepath={tmp_path / 'home'}" in found.command
    assert found.ready_url == "http://127.0.0.1:3111/api/health"
    assert found.environment["MODELHOST_PROMETHEUS_URL"] == "http://127.0.0.1:9111"


def test_without_a_grafana_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an installed grafana the result is None."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(programs, "_SYSTEM_FOLDERS", ())
    assert programs.grafana(GIVEN, tmp_path, {}) is None
    assert programs.alertmanager(GIVEN, tmp_path) is None


def test_without_a_prometheus_the_error_says_where_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a prometheus the error names the package to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(programs, "_SYSTEM_FOLDERS", ())
    with pytest.raises(StackError, match=r"needs prometheus on the PATH: .*apt install prometheus"):
        programs.prometheus(GIVEN, tmp_path)


def test_a_home_without_a_grafana_is_an_error(tmp_path: Path) -> None:
    """A home without a grafana is an error."""
    with pytest.raises(StackError, match=r"GRAFANA_HOME=.*: no executable bin/grafana"):
        programs.grafana(GIVEN, tmp_path, {"GRAFANA_HOME": str(tmp_path)})


def test_a_grafana_whose_home_cannot_be_found_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A grafana whose home cannot be found is an error."""
    binary = grafana_in(tmp_path)
    (tmp_path / "conf" / "defaults.ini").unlink()
    monkeypatch.setenv("PATH", str(binary.parent))
    monkeypatch.setattr(programs, "_GRAFANA_HOMES", ())
    with pytest.raises(StackError, match=r"its home .* was not found; set GRAFANA_HOME"):
        programs.grafana(GIVEN, tmp_path, {})
