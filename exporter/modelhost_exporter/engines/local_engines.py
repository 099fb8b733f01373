"""Find the engines that run on this machine, again and again, so that nobody has to configure them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil

from modelhost_exporter.config.address import Address
from modelhost_exporter.engines import kinds
from modelhost_exporter.engines.discovery import usual_ports
from modelhost_exporter.engines.local_processes import is_one_of
from modelhost_exporter.engines.polling.poll_session import single_poll
from modelhost_exporter.linux.tcp_listeners import ListeningSocket, tcp_listeners
from modelhost_exporter.server_processes import lineage, ports_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

_TIMEOUT_SECONDS = 2.0
_GONE_SECONDS = 120.0
_RETRY_SECONDS, _MAX_RETRY_SECONDS = 50.0, 960.0
_MAX_ENGINES = 32


class LocalEngine(NamedTuple):
    """An engine that was found on this machine."""

    kind: str
    host: str
    port: int

    @property
    def url(self) -> str:
        """Where it serves."""
        return f"http://{Address(self.host, self.port)}"


@dataclass
class _Tried:
    """What a port's socket turned out to be."""

    listener: ListeningSocket
    engine: LocalEngine | None
    seen: float
    """When it last listened."""
    due: float
    """When it is tried again, if it is no engine."""
    pause: float = _RETRY_SECONDS

    def is_settled(self, listener: ListeningSocket, now: float) -> bool:
        """Return whether the port need not be tried now: the same socket, and an engine, or not due yet."""
        if self.listener != listener:
            return False
        return bool(listener.inode) if self.engine is not None else now < self.due


class LocalEngines:
    """A search for engines: the usual ports, and those of processes that run one.

    Only pages that are harmless to request of any server are requested. An engine that was found is not asked again
    while its socket stays; what is none is asked again after pauses that double up to 16 minutes, since a server may
    respond only once its model is loaded.
    """

    def __init__(
        self,
        *,
        usual: Collection[int] | None = None,
        listeners: Callable[[], Sequence[ListeningSocket] | None] | None = None,
        processes: Any = psutil,
        detect: Callable[[str], str | None] | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare a search; the arguments replace parts of the machine."""
        self._usual = usual_ports() if usual is None else usual
        self._listeners = listeners or listening
        self._processes = processes
        self._detect = detect or kind_at
        self._now = now
        self._tried: dict[int, _Tried] = {}

    def search(self, own_ports: Collection[int] = ()) -> tuple[LocalEngine, ...]:
        """Return the engines on this machine, in the order of their ports, except on these ports. Blocks for seconds.

        An engine is returned for two minutes after it stopped to listen, so that a restart does not remove it.
        """
        now = self._now()
        for listener in self._candidates(own_ports):
            self._try(listener, now)
        self._tried = {
            port: tried
            for port, tried in self._tried.items()
            if port not in own_ports and now - tried.seen < _GONE_SECONDS
        }
        found = [tried.engine for _, tried in sorted(self._tried.items()) if tried.engine is not None]
        return tuple(found[:_MAX_ENGINES])

    def _candidates(self, own_ports: Collection[int]) -> Iterable[ListeningSocket]:
        wanted = {*self._usual, *engine_ports(self._processes)} - {*own_ports}
        listeners = self._listeners()
        if listeners is None:
            return [ListeningSocket("127.0.0.1", port, "") for port in sorted(wanted)]
        return [listener for listener in listeners if listener.port in wanted]

    def _try(self, listener: ListeningSocket, now: float) -> None:
        before = self._tried.get(listener.port)
        if before is not None and before.is_settled(listener, now):
            before.seen = now
            return
        kind = self._detect(LocalEngine("", listener.host, listener.port).url)
        if kind is not None:
            engine = LocalEngine(kind, listener.host, listener.port)
            self._tried[listener.port] = _Tried(listener, engine, now, now)
        elif before is not None and before.engine is not None:
            return  # it starts again, or is busy: its grace period runs
        else:
            again = before is not None and before.listener == listener
            pause = min(2 * before.pause, _MAX_RETRY_SECONDS) if before is not None and again else _RETRY_SECONDS
            self._tried[listener.port] = _Tried(listener, None, now, now + pause, pause)


def listening() -> Sequence[ListeningSocket] | None:
    """Return the sockets of this machine that listen; None where the system does not tell."""
    try:
        if psutil.LINUX:
            return tcp_listeners()
        sockets = psutil.net_connections("tcp")
    except (OSError, psutil.Error):  # macOS tells root only
        return None
    ports = {one.laddr.port: str(one.pid or "") for one in sockets if one.laddr and one.status == psutil.CONN_LISTEN}
    return [ListeningSocket("127.0.0.1", port, pid) for port, pid in ports.items()]


def engine_ports(processes: Any) -> set[int]:
    """Return the ports that programs of any kind of engine serve, without those of engines that another one started."""
    programs = tuple({program for kind in kinds.names() for program in kinds.engine_kind(kind).PROGRAMS})
    found: dict[int, tuple[Any, frozenset[int]]] = {}
    for process in processes.process_iter():
        try:
            words = process.cmdline()
            if words and is_one_of(words, programs) and (ports := ports_of(process, words)):
                found[process.pid] = process, ports
        except (processes.Error, OSError):
            continue
    return {
        port
        for pid, (process, ports) in found.items()
        if not any(ancestor.pid != pid and ancestor.pid in found for ancestor, _ in lineage(process))
        for port in ports
    }


def kind_at(url: str) -> str | None:
    """Return the kind of the engine at a URL; None where there is none, or it does not respond."""
    try:
        with single_poll(url, {}, _TIMEOUT_SECONDS) as session:
            return kinds.detect(session)
    except (OSError, ValueError, LookupError):
        return None
