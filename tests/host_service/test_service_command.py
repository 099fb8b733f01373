"""``modelhost-exporter service``, run as a user runs it; programs in place of systemd's record their calls."""

from __future__ import annotations

import os
import plistlib
import subprocess
import sys
from pathlib import Path

import pytest

from modelhost_exporter.host_service import command, steps
from modelhost_exporter.host_service.launchd import LaunchdService
from modelhost_exporter.host_service.steps import Remove, RunProgram, StepFailed, Write
from modelhost_exporter.host_service.systemd import SystemService
from modelhost_exporter.host_service.windows import WindowsService, WindowsTask
from tests.support.programs import DEADLINE_SECONDS

UNIT = ".config/systemd/user/modelhost-exporter.service"


def files(folder: Path) -> set[str]:
    """Return the files below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


class Machine:
    """A home folder, and a ``systemctl`` that records how it was called and exits with a chosen code."""

    def __init__(self, folder: Path) -> None:
        self.home, self.programs, self._calls = folder / "home", folder / "bin", folder / "calls"
        self.home.mkdir()
        self.programs.mkdir()
        self.replace("systemctl", 0)
        self.replace("loginctl", 1)

    def replace(self, name: str, code: int) -> None:
        """Write a program that records its arguments."""
        program = self.programs / name
        program.write_text(f'#!/bin/sh\necho {name} "$@" >>"{self._calls}"\necho said by {name}\nexit {code}\n')
        program.chmod(0o755)

    def service(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the command."""
        environment = {**os.environ, "HOME": str(self.home), "PATH": f"{self.programs}:{os.environ['PATH']}"}
        environment.pop("XDG_CONFIG_HOME", None)
        return subprocess.run(
            [sys.executable, "-m", "modelhost_exporter", "service", *words],
            env=environment,
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS,
            check=False,
        )

    def calls(self) -> list[str]:
        """Return the recorded calls."""
        return self._calls.read_text().splitlines() if self._calls.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Return a machine where nothing is installed."""
    return Machine(tmp_path)


def test_a_user_installs_changes_and_removes_the_service(machine: Machine) -> None:
    """Install starts it and enables it at boot, a second one replaces the flags, uninstall leaves no file."""
    first = machine.service("install", "--user", "--proxy=auto")
    assert first.returncode == 0, first.stderr
    assert machine.calls() == [
        "systemctl --user daemon-reload",
        "systemctl --user enable modelhost-exporter.service",
        "systemctl --user restart modelhost-exporter.service",
        "loginctl enable-linger",
    ]
    assert f"ExecStart={sys.executable} -m modelhost_exporter --proxy=auto\n" in (machine.home / UNIT).read_text()
    assert machine.service("install", "--user", "--web.listen-address=:9000").returncode == 0
    text = (machine.home / UNIT).read_text()
    assert "--web.listen-address=:9000" in text
    assert "--proxy=auto" not in text
    assert machine.service("uninstall", "--user").returncode == 0
    assert files(machine.home) == set()
    assert machine.calls()[-2:] == [
        "systemctl --user disable modelhost-exporter.service",
        "systemctl --user daemon-reload",
    ]
    assert machine.service("uninstall", "--user").returncode == 0  # what is gone may be removed again


def test_a_dry_run_prints_every_step_and_does_none(machine: Machine) -> None:
    """The unit's whole text and every command are shown."""
    result = machine.service("install", "--user", "--dry-run")
    assert result.returncode == 0
    assert f"write {machine.home / UNIT}:\n    # Written by" in result.stdout
    assert "run systemctl --user restart modelhost-exporter.service\n" in result.stdout
    assert (files(machine.home), machine.calls()) == (set(), [])


def test_a_flag_that_the_exporter_does_not_have_is_refused(machine: Machine) -> None:
    """Else the service would fail at every boot."""
    result = machine.service("install", "--user", "--no-such-flag")
    assert (result.returncode, machine.calls()) == (2, [])
    assert "--no-such-flag" in result.stderr
    assert machine.service("uninstall", "--proxy=auto").returncode == 2


def test_status_is_that_of_the_manager(machine: Machine) -> None:
    """What systemctl prints is shown, and its failure is exit code 1."""
    shown = machine.service("status", "--user")
    assert (shown.returncode, shown.stdout) == (0, "said by systemctl\n")
    machine.replace("systemctl", 3)
    assert machine.service("status", "--user").returncode == 1


def test_a_refusing_manager_is_one_line(machine: Machine) -> None:
    """The command, its exit code and what it printed are named."""
    machine.replace("systemctl", 4)
    result = machine.service("install", "--user")
    assert result.returncode == 1
    assert result.stderr == (
        "modelhost-exporter: systemctl --user daemon-reload failed with exit code 4: said by systemctl\n"
    )


def test_a_system_service_has_a_user_of_its_own(tmp_path: Path) -> None:
    """The user is created before the unit that names it; without systemd-sysusers, systemd creates it."""
    service = SystemService(tmp_path, "[Unit]\n[Service]\nExecStart=x\nUser=a\n", "u a\n")
    wrote = [step.path.name if isinstance(step, Write) else str(step) for step in service.install(["/bin/x"])]
    assert wrote[:3] == [
        "modelhost-exporter.conf",
        f"run systemd-sysusers {tmp_path}/sysusers.d/modelhost-exporter.conf",
        "modelhost-exporter.service",
    ]
    written = {step.path for step in service.install(["/bin/x"]) if isinstance(step, Write)}
    assert written == {step.path for step in service.uninstall() if isinstance(step, Remove)}
    without = SystemService(tmp_path, "[Unit]\n[Service]\nExecStart=x\nUser=a\n", None).install(["/bin/x"])[0]
    assert isinstance(without, Write)
    assert "\nDynamicUser=yes\nUser=a\n" in without.text


def test_a_private_installation_is_refused(tmp_path: Path) -> None:
    """The service's own user could not start it; the message says what to do."""
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    with pytest.raises(StepFailed, match=r"cannot enter .*: install the exporter in a folder"):
        command.check_access(private / "python")
    command.check_access(Path("/usr/bin/env"))


def test_a_step_that_the_system_refuses_is_named(tmp_path: Path) -> None:
    """A file in place of a folder, and a program that does not exist."""
    (tmp_path / "file").touch()
    with pytest.raises(StepFailed, match=r"write .*/file/unit: .*(Not a directory|File exists)"):
        steps.perform([Write(tmp_path / "file/unit", "x")], lambda _: None, dry_run=False)
    with pytest.raises(StepFailed, match="run no-such-program: No such file"):
        steps.perform([RunProgram(("no-such-program",))], lambda _: None, dry_run=False)
    steps.perform([RunProgram(("no-such-program",), may_fail=True)], lambda _: None, dry_run=False)


@pytest.mark.parametrize(("domain", "folder"), [("system", "LaunchDaemons"), ("gui/501", "LaunchAgents")])
def test_launchd_starts_the_command_at_boot(domain: str, folder: str, tmp_path: Path) -> None:
    """The property list is valid; a daemon does not run as root; everything written is removed."""
    service = LaunchdService(tmp_path, domain)
    todo = service.install(["/opt/a folder/python", "-m", "modelhost_exporter"])
    plist = next(step for step in todo if isinstance(step, Write) and step.text)
    assert plist.path == tmp_path / folder / "modelhost-exporter.plist"
    job = plistlib.loads(plist.text.encode())
    assert (job["ProgramArguments"][0], job["RunAtLoad"]) == ("/opt/a folder/python", True)
    assert job.get("UserName") == ("nobody" if domain == "system" else None)
    assert str(todo[-1]) == f"run launchctl bootstrap {domain} {plist.path}"
    removed = {step.path for step in service.uninstall() if isinstance(step, Remove)}
    assert removed >= {step.path for step in todo if isinstance(step, Write)}


def test_windows_quotes_the_command() -> None:
    """A path with a space stays one word; the service has few rights; a task belongs to the user."""
    python = r"C:\Program Files\Python\python.exe"
    create = next(step for step in WindowsService(python).install([python, "-m", "x"]) if "create" in str(step))
    assert isinstance(create, RunProgram)
    host = f'"{python}" -m modelhost_exporter.host_service.windows_host "{python}" -m x'
    assert create.command[3:5] == ("binPath=", host)
    assert r"NT AUTHORITY\LocalService" in create.command
    task = WindowsTask().install([python, "-m", "x"])[0]
    assert isinstance(task, RunProgram)
    assert task.command[-2:] == ("/TR", f'"{python}" -m x')


def test_every_platform_has_a_manager() -> None:
    """Windows without pywin32 names the extra."""
    assert isinstance(command.manager_of("darwin", user=True), LaunchdService)
    assert isinstance(command.manager_of("win32", user=True), WindowsTask)
    with pytest.raises(StepFailed, match="windows-service"):
        command.manager_of("win32", user=False)
