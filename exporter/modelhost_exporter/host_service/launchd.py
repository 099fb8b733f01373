"""A job of launchd (macOS): an agent of the user, or a daemon of the machine."""

from __future__ import annotations

import plistlib
from typing import TYPE_CHECKING

from modelhost_exporter.host_service.steps import Remove, RunProgram, Write

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from modelhost_exporter.host_service.steps import Step

LABEL = "modelhost-exporter"
_DAEMON_USER = "nobody"


class LaunchdService:
    """A job in a domain of launchd, such as ``system`` or ``gui/501``."""

    def __init__(self, library: Path, domain: str) -> None:
        self._domain, self._daemon = domain, domain == "system"
        self._plist = library / ("LaunchDaemons" if self._daemon else "LaunchAgents") / f"{LABEL}.plist"
        self._log = library / "Logs/modelhost-exporter.log"

    def install(self, command: Sequence[str]) -> list[Step]:
        """Return the steps; a job that was installed before is replaced."""
        log: list[Step] = []
        if self._daemon:  # the daemon's user may not create a file there
            log = [Write(self._log, ""), RunProgram(("chown", _DAEMON_USER, str(self._log)))]
        stop = RunProgram(self._bootout, may_fail=True)
        start = RunProgram(("launchctl", "bootstrap", self._domain, str(self._plist)))
        return [*log, Write(self._plist, self._text(command)), stop, start]

    def uninstall(self) -> list[Step]:
        """Return the steps."""
        return [RunProgram(self._bootout, may_fail=True), Remove(self._plist), Remove(self._log)]

    def status(self) -> list[str]:
        """Return the command that shows the job's state."""
        return ["launchctl", "print", f"{self._domain}/{LABEL}"]

    @property
    def _bootout(self) -> tuple[str, ...]:
        return ("launchctl", "bootout", f"{self._domain}/{LABEL}")

    def _text(self, command: Sequence[str]) -> str:
        job: dict[str, object] = {
            "Label": LABEL,
            "ProgramArguments": list(command),
            "RunAtLoad": True,
            "KeepAlive": {"SuccessfulExit": False},
            "ThrottleInterval": 10,
            "ProcessType": "Background",
            "StandardErrorPath": str(self._log),
            "SoftResourceLimits": {"NumberOfFiles": 65536},
        }
        if self._daemon:
            job["UserName"] = _DAEMON_USER
        return plistlib.dumps(job).decode()
