"""Windows: a service (needs the extra ``windows-service``), or a task that starts when the user logs on."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from modelhost_exporter.host_service.steps import RunProgram

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modelhost_exporter.host_service.steps import Step

NAME = "modelhost-exporter"


class WindowsService:
    """A service that starts at boot as LocalService, which has few rights; pywin32 connects it with Windows."""

    def __init__(self, python: str) -> None:
        self._host = (python, "-m", "modelhost_exporter.host_service.windows_host")

    def install(self, command: Sequence[str]) -> list[Step]:
        """Return the steps; a service that was installed before is replaced."""
        program = subprocess.list2cmdline([*self._host, *command])
        created = ("sc.exe", "create", NAME, "binPath=", program, "start=", "auto", "obj=")
        return [
            *self.uninstall(),
            RunProgram((*created, r"NT AUTHORITY\LocalService", "DisplayName=", "modelhost-exporter")),
            RunProgram(
                ("sc.exe", "failure", NAME, "reset=", "300", "actions=", "restart/2000/restart/10000/restart/60000")
            ),
            RunProgram(("sc.exe", "start", NAME)),
        ]

    def uninstall(self) -> list[Step]:
        """Return the steps."""
        return [
            RunProgram(("sc.exe", "stop", NAME), may_fail=True),
            RunProgram(("sc.exe", "delete", NAME), may_fail=True),
        ]

    def status(self) -> list[str]:
        """Return the command that shows the service's state."""
        return ["sc.exe", "query", NAME]


class WindowsTask:
    """A task of the user's own, without an administrator."""

    def install(self, command: Sequence[str]) -> list[Step]:
        """Return the steps; a task that was installed before is replaced."""
        program = subprocess.list2cmdline(command)
        created = ("schtasks", "/Create", "/F", "/TN", NAME, "/SC", "ONLOGON", "/RL", "LIMITED", "/TR", program)
        return [RunProgram(created), RunProgram(("schtasks", "/RunProgram", "/TN", NAME))]

    def uninstall(self) -> list[Step]:
        """Return the steps."""
        end = RunProgram(("schtasks", "/End", "/TN", NAME), may_fail=True)
        return [end, RunProgram(("schtasks", "/Delete", "/F", "/TN", NAME), may_fail=True)]

    def status(self) -> list[str]:
        """Return the command that shows the task's state."""
        return ["schtasks", "/Query", "/TN", NAME, "/V", "/FO", "LIST"]
