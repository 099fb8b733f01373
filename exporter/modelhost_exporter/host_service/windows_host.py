"""The process that Windows starts as a service: it runs the exporter's command, given as its arguments, until stopped.

``python -m modelhost_exporter.host_service.windows_host COMMAND…``; needs pywin32 (the extra ``windows-service``).
"""

from __future__ import annotations

import subprocess
import sys

import servicemanager
import win32event
import win32service
import win32serviceutil

from modelhost_exporter.host_service.windows import NAME

_STOP_MILLISECONDS = 10_000


class ExporterService(win32serviceutil.ServiceFramework):  # type: ignore[misc] # pywin32 has no types here
    """The service: a child process, which ends with it. A child that ends by itself fails the service."""

    _svc_name_ = NAME

    def __init__(self, arguments: list[str]) -> None:
        super().__init__(arguments)
        self._stop = win32event.CreateEvent(None, True, False, None)

    def SvcStop(self) -> None:  # noqa: N802 - pywin32 calls it so
        """Request the stop."""
        self.ReportServiceStatus(win32service.SERVICE_STOP_PENDING, waitHint=_STOP_MILLISECONDS)
        win32event.SetEvent(self._stop)

    def SvcDoRun(self) -> None:  # noqa: N802 - likewise
        """Run the exporter until it ends or a stop is requested; Windows restarts a service that fails."""
        with subprocess.Popen(sys.argv[1:]) as child:  # noqa: S603 - the command of the installed service
            handles = [self._stop, int(child._handle)]  # type: ignore[attr-defined] # noqa: SLF001 - of Windows' Popen
            ended = win32event.WaitForMultipleObjects(handles, False, win32event.INFINITE)
            child.terminate()  # a service has no console, through which a child could be asked
        if ended != win32event.WAIT_OBJECT_0:
            raise SystemExit(child.returncode or 1)


def main() -> None:
    """Connect with Windows' service manager, which started this process."""
    servicemanager.Initialize()
    servicemanager.PrepareToHostSingle(ExporterService)
    servicemanager.StartServiceCtrlDispatcher()


if __name__ == "__main__":
    main()
