"""The real program with a page that hangs from SIGUSR1 on, and an event loop that blocks from SIGUSR2 on."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

from modelhost_exporter import cli
from modelhost_exporter.config import model as configuration
from modelhost_exporter.logs import formatting as logs
from modelhost_exporter.process import systemd
from modelhost_exporter.process.descriptors import Descriptors, raise_limit
from modelhost_exporter.process.passed_sockets import PassedSockets
from modelhost_exporter.service import Service

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.metrics_core import Metric


class Wedge:
    """The exporter's own metrics, which hang from SIGUSR1 on."""

    def __init__(self) -> None:
        self.is_on = False

    def collect(self) -> Iterable[Metric]:
        """Return no metric, or never return."""
        if self.is_on:
            threading.Event().wait()
        return ()


def main() -> None:
    """Serve until SIGTERM."""
    given = configuration.load(None, {"web.listen_addresses": ["127.0.0.1:0"], "log.format": "json"})
    logs.set_up(given.log)
    service = Service(lambda: given, given)
    wedge = Wedge()
    service.registry.register(wedge)
    signal.signal(signal.SIGUSR1, lambda *_: setattr(wedge, "is_on", True))
    signal.signal(signal.SIGUSR2, lambda *_: threading.Event().wait(float(sys.argv[1])))
    manager, limit = systemd.from_environment(os.environ), Descriptors(raise_limit())
    asyncio.run(cli._serve(service, cli._Process(manager, PassedSockets(()), limit)))


if __name__ == "__main__":
    main()
