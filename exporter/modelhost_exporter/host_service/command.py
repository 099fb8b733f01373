"""``modelhost-exporter service``: choose the machine's service manager, and perform or print its steps."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from modelhost_exporter.export import shipped
from modelhost_exporter.host_service import steps, systemd
from modelhost_exporter.host_service.arguments import INSTALL, STATUS
from modelhost_exporter.host_service.launchd import LaunchdService
from modelhost_exporter.host_service.steps import StepFailed
from modelhost_exporter.host_service.systemd import SystemService, UserService
from modelhost_exporter.host_service.windows import WindowsService, WindowsTask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modelhost_exporter.host_service.arguments import ServiceArguments
    from modelhost_exporter.host_service.steps import Step

_CONFIG = Path("/etc/modelhost-exporter/config.yaml")
_OTHERS_MAY_ENTER = 0o001


class Manager(Protocol):
    """A service manager."""

    def install(self, command: Sequence[str]) -> list[Step]:
        """Return the steps that start a command now and at boot."""
        ...

    def uninstall(self) -> list[Step]:
        """Return the steps that stop it and remove what install wrote."""
        ...

    def status(self) -> list[str]:
        """Return the command that shows its state."""
        ...


def run(given: ServiceArguments) -> int:
    """Perform the action; return the exit code. Raises StepFailed."""
    manager = manager_of(sys.platform, user=given.user)
    if given.action == STATUS:
        return int(steps.status_of(manager.status()) != 0)
    if given.action == INSTALL:
        if not given.user and os.name == "posix":
            check_access(Path(sys.executable))
        todo = manager.install(command(given.flags, given.user))
    else:
        todo = manager.uninstall()
    steps.perform(todo, print, dry_run=given.dry_run)
    return 0


def manager_of(platform: str, *, user: bool) -> Manager:
    """Return the service manager of a platform; raises StepFailed where there is none."""
    home = Path.home()
    if platform == "darwin":
        return (
            LaunchdService(home / "Library", f"gui/{os.getuid()}")
            if user
            else LaunchdService(Path("/Library"), "system")
        )
    if platform == "win32":
        return WindowsTask() if user else _windows_service()
    if not shutil.which("systemctl"):
        raise StepFailed("this machine has no systemd: start the exporter with the service manager that it has")
    unit = shipped.text(systemd.SHIPPED)
    if user:
        return UserService(Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config"), unit)
    has_sysusers = shutil.which("systemd-sysusers") is not None
    return SystemService(Path("/etc"), unit, shipped.text(systemd.SHIPPED_USER) if has_sysusers else None)


def _windows_service() -> WindowsService:
    if importlib.util.find_spec("win32serviceutil") is None:
        raise StepFailed("a service needs pywin32: install modelhost-exporter[windows-service], or use --user")
    return WindowsService(sys.executable)


def command(flags: Sequence[str], user: bool) -> list[str]:
    """Return the service's command; the usual configuration file of a machine is used if it exists."""
    has_config = any(flag.partition("=")[0] == "--config.file" for flag in flags)
    usual = [f"--config.file={_CONFIG}"] if not user and not has_config and _CONFIG.is_file() else []
    return [sys.executable, "-m", "modelhost_exporter", *usual, *flags]


def check_access(program: Path) -> None:
    """Raise StepFailed if a program is in a folder that only its owner may enter: the service has its own user."""
    for path in (program.absolute(), program.resolve()):
        for folder in path.parents:
            if not folder.stat().st_mode & _OTHERS_MAY_ENTER:
                raise StepFailed(
                    f"{program}: the service's own user cannot enter {folder}: install the exporter in a folder that"
                    " everybody may read, such as /opt/modelhost-exporter, or use --user"
                )
