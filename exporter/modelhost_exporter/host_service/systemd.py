"""A service of systemd, for the machine or for one user."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.host_service import systemd_unit
from modelhost_exporter.host_service.steps import Remove, RunProgram, Write

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from modelhost_exporter.host_service.steps import Step

UNIT = "modelhost-exporter.service"
SHIPPED = f"deploy/systemd/{UNIT}"
SHIPPED_USER = "deploy/systemd/modelhost-exporter.sysusers"


class SystemService:
    """For the whole machine, with a user of its own."""

    def __init__(self, etc: Path, shipped: str, sysusers: str | None, *, booted: bool) -> None:
        self._unit = etc / "systemd/system" / UNIT
        self._shipped, self._sysusers, self._booted = shipped, sysusers, booted

    def install(self, command: Sequence[str]) -> list[Step]:
        """Return the steps; without systemd-sysusers, systemd creates the user while the service runs.

        Where systemd does not run, such as in the build of an image, the service starts at the next boot.
        """
        text = systemd_unit.for_system(self._shipped, command, dynamic_user=self._sysusers is None)
        start = _start(("systemctl",)) if self._booted else [_run(("systemctl",), "enable", UNIT)]
        return [*self._user(), Write(self._unit, text), *start]

    def _user(self) -> list[Step]:
        lines = [line for line in (self._sysusers or "").splitlines() if not line.startswith("#")]
        return [RunProgram(("systemd-sysusers", "--inline", *lines))] if lines else []

    def uninstall(self) -> list[Step]:
        """Return the steps; the user goes too, since it owns no files."""
        reload: list[Step] = [_run(("systemctl",), "daemon-reload")] if self._booted else []
        removed: list[Step] = [Remove(self._unit), *reload]
        return [*_stop(("systemctl",)), *removed, RunProgram(("userdel", "modelhost-exporter"), may_fail=True)]

    def status(self) -> list[str]:
        """Return the command that shows the service's state."""
        return ["systemctl", "status", "--no-pager", UNIT]


class UserService:
    """For one user; it runs from boot on, also while the user is logged out."""

    def __init__(self, config: Path, shipped: str) -> None:
        self._unit = config / "systemd/user" / UNIT
        self._shipped = shipped

    def install(self, command: Sequence[str]) -> list[Step]:
        """Return the steps; lingering, which starts it at boot, may be forbidden by the machine's policy."""
        unit = Write(self._unit, systemd_unit.for_user(self._shipped, command))
        return [unit, *_start(("systemctl", "--user")), RunProgram(("loginctl", "enable-linger"), may_fail=True)]

    def uninstall(self) -> list[Step]:
        """Return the steps; lingering stays, since other services of the user may need it."""
        manager = ("systemctl", "--user")
        return [*_stop(manager), Remove(self._unit), RunProgram((*manager, "daemon-reload"), may_fail=True)]

    def status(self) -> list[str]:
        """Return the command that shows the service's state."""
        return ["systemctl", "--user", "status", "--no-pager", UNIT]


def _run(manager: tuple[str, ...], *words: str, may_fail: bool = False) -> RunProgram:
    return RunProgram((*manager, *words), may_fail=may_fail)


def _start(manager: tuple[str, ...]) -> list[Step]:
    return [_run(manager, "daemon-reload"), _run(manager, "enable", UNIT), _run(manager, "restart", UNIT)]


def _stop(manager: tuple[str, ...]) -> list[Step]:
    return [_run(manager, "stop", UNIT, may_fail=True), _run(manager, "disable", UNIT, may_fail=True)]
