"""Which listeners everybody who reaches this machine may use: a metric, and a warning at the start."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from modelhost_exporter.config.address import is_loopback
from modelhost_exporter.security.families import INSECURE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client.metrics_core import Metric

    from modelhost_exporter.config.address import Address

log = logging.getLogger(__name__)


class ListenerState(NamedTuple):
    """A listening socket."""

    address: Address
    server: str
    """The proxied server; '' for the web port."""
    is_authenticated: bool

    @property
    def is_open(self) -> bool:
        """Whether everybody who reaches this machine may use it."""
        return not self.is_authenticated and not is_loopback(self.address.host)


class OpenListeners:
    """Yields the metric of the listeners as they are now."""

    def __init__(self, listeners: Callable[[], Iterable[ListenerState]]) -> None:
        """Prepare; ``listeners`` is called from any thread."""
        self._listeners = listeners

    def collect(self) -> Iterator[Metric]:
        """Yield 1 or 0 for each listener."""
        states = {(str(each.address), each.server): float(each.is_open) for each in self._listeners()}
        yield from INSECURE.by(states.items())


def warn(listeners: Iterable[ListenerState], way_out: str) -> None:
    """Log once which listeners everybody may use, with what limits them; they belong to one server."""
    found = [each for each in listeners if each.is_open]
    if found:
        fields = {"server": found[0].server} if found[0].server else {}
        addresses = ", ".join(str(each.address) for each in found)
        log.warning(
            "listening without authentication",
            extra={"fields": {**fields, "address": addresses, "limit": way_out}},
        )
