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

    def __init__(self, etc: Path, shipped: str, sysusers: str | None) -> None:
        self._unit = etc / "systemd/system" / UNIT
        self._user = etc / "sysusers.d/modelhost-exporter.conf"
        self._shipped, self._sysusers = shipped, sysusers

    def install(self, command: Sequence[str]) -> list[Step]:
        """Return the steps; without systemd-sysusers, systemd creates the user while the service runs."""
        text = systemd_unit.for_system(self._shipped, command, dynamic_user=self._sysusers is None)
        user: list[Step] = []
        if self._sysusers is not None:
            user = [Write(self._user, self._sysusers), RunProgram(("systemd-sysusers", str(self._user)))]
        return [*user, Write(self._unit, text), *_start(("systemctl",))]

    def uninstall(self) -> list[Step]:
        """Return the steps; the user goes too, since it owns no files."""
        removed: list[Step] = [Remove(self._unit), Remove(self._user), RunProgram(("systemctl", "daemon-reload"))]
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


def _start(manager: tuple[str, ...]) -> list[Step]:
    return [RunProgram((*manager, *words)) for words in (("daemon-reload",), ("enable", UNIT), ("restart", UNIT))]


def _stop(manager: tuple[str, ...]) -> list[Step]:
    return [RunProgram((*manager, "stop", UNIT), may_fail=True), RunProgram((*manager, "disable", UNIT), may_fail=True)]
