"""Poll one server in a thread of its own, and keep its state for scrapes."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from modelhost_exporter.connect_errors import cause_of
from modelhost_exporter.engines import kinds
from modelhost_exporter.engines.energy import ModelEnergy
from modelhost_exporter.engines.local_processes import LocalProcesses, is_local
from modelhost_exporter.engines.metrics import ModelState, ServerState, families
from modelhost_exporter.engines.model_history import ModelHistory
from modelhost_exporter.engines.pages import PollPolicy
from modelhost_exporter.engines.polling.answering_processes import AnsweringProcesses
from modelhost_exporter.engines.polling.detected_kind import DetectedKind
from modelhost_exporter.engines.polling.fetching import REASONS, Fetcher, reason_of
from modelhost_exporter.engines.polling.idle_time import IdleTime
from modelhost_exporter.engines.polling.poll_session import PollSession
from modelhost_exporter.engines.polling.proxy_totals import Passed, ProxyTraffic, RecentTokens
from modelhost_exporter.engines.polling.router_engine import RouterEngine
from modelhost_exporter.engines.snapshot import Engine
from modelhost_exporter.logs.state_log import StateLog
from modelhost_exporter.metrics.prerendered import written

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from modelhost_exporter.engines.energy import GpuUses
    from modelhost_exporter.engines.local_processes import ServerProcesses
    from modelhost_exporter.engines.model_history import Known
    from modelhost_exporter.engines.polling.fetching import Client, Connect
    from modelhost_exporter.engines.polling.proxy_totals import TokenTotals
    from modelhost_exporter.engines.polling.settings import PolledServer
    from modelhost_exporter.engines.snapshot import Model, ServerSnapshot
    from modelhost_exporter.gpu.usage_cache import GpuUse
    from modelhost_exporter.metrics.prerendered import Parts

log = logging.getLogger(__name__)

_OVERDUE_INTERVALS = 3
_OVERDUE_TIMEOUTS = 3


def _nothing() -> None:
    pass


def _nothing_passed() -> Passed:
    return Passed()


@dataclass(frozen=True)
class PollDependencies:
    """The dependencies of a server's poller."""

    passed: Callable[[], Passed] = _nothing_passed
    """What passed the proxy for this server."""
    is_proxied: bool = False
    gpus: GpuUses | None = None
    connect: Connect = Fetcher
    find_processes: Callable[[str, int], LocalProcesses] = LocalProcesses
    now: Callable[[], float] = time.monotonic
    wall_clock: Callable[[], float] = time.time


class ServerPoller:
    """A poller of one server, or of one of its replicas.

    ``parts`` is what a scrape returns, replaced as a whole by each poll.
    """

    def __init__(self, server: PolledServer, dependencies: PollDependencies) -> None:
        self.server = server
        self.history = ModelHistory(server.max_models)
        self.snapshot: ServerSnapshot | None = None
        self.parts: Parts = {}
        self.tokens: TokenTotals | None = None
        """Of the last hour; None where the engine does not count them, or has no proxy."""
        self._state = ServerState(server.name, None, upstream=server.upstream)
        self.wake: Callable[[], None] = _nothing
        """Starts the next poll now."""
        self._polled = dependencies.now()
        self._was_polled = self._is_silent = False
        """Whether nothing responded to the last poll."""
        self._overdue_logged = StateLog(initial=False)
        self._dependencies = dependencies
        self._fetcher = dependencies.connect(server.url.text, server.headers, server.timeout)
        self._metrics = _metrics_client(server, dependencies.connect)
        self._kind = DetectedKind(server.kind)
        parts = urlsplit(server.url.text)
        self._is_local = is_local(parts.hostname or "")
        self._processes = dependencies.find_processes(parts.hostname or "", parts.port or 0)
        self._traffic = ProxyTraffic(dependencies.passed)
        self._tokens = RecentTokens()
        self._merged = RouterEngine()
        self._answering = AnsweringProcesses()
        self._several_logged = StateLog(initial=False)
        self._energy = ModelEnergy()
        self._idle_time = IdleTime()
        self._failures = dict.fromkeys((*REASONS, "refused", "not_understood"), 0)  # from 0: rate() counts the first
        self._last_success: float | None = None
        self._up_logged: StateLog[str | None] = StateLog(initial=None)
        self._found: ServerProcesses | None = None
        self._loads_on_request = False
        self._loaded: frozenset[str] = frozenset()
        self._gpus: Mapping[str, GpuUse] = {}

    @property
    def kind(self) -> str | None:
        """The engine's kind: as the last poll found it, else as configured or kept; None where it is not known."""
        return self.snapshot.kind if self.snapshot is not None else self._kind.name

    def poll(self) -> bool:
        """Poll the server once and store the result; return whether it responded. Blocks, never raises."""
        began = self._dependencies.now()
        problem = ""
        try:
            self.snapshot = self._read()
        except (OSError, LookupError, ValueError) as error:
            problem = self._failed(error)
        except Exception as error:
            log.exception("a model server could not be read", extra={"fields": self.server.log_fields})
            problem = self._failed(error)
        self._report(problem)
        now = self._dependencies.now()
        if self.snapshot is not None:
            self._last_success = self._dependencies.wall_clock()
            self._loads_on_request = self.snapshot.loads_on_request != "never"
        self.history.poll(now, self.snapshot)
        self._search_new_processes()
        self._show(now - began)
        self._polled, self._was_polled = now, True
        return self.snapshot is not None

    def current_parts(self, interval_seconds: float) -> Parts:
        """Return ``parts``, or those of a server that is down if its polls are overdue.

        Polls are overdue if the last one is older than three intervals and three timeouts: the thread hangs or died.
        """
        age = self._age()
        is_overdue = self._is_overdue(age, interval_seconds)
        self._log_overdue(age, is_overdue=is_overdue)
        if not is_overdue or not self._is_shown():
            return self.parts
        return written(families(self._state.without_answer()))

    def is_up(self, interval_seconds: float) -> bool:
        """Return whether the last poll succeeded and the next is not overdue."""
        return self.snapshot is not None and not self._is_overdue(self._age(), interval_seconds)

    def _age(self) -> float:
        return self._dependencies.now() - self._polled

    def _is_overdue(self, age: float, interval_seconds: float) -> bool:
        limit = _OVERDUE_INTERVALS * interval_seconds + _OVERDUE_TIMEOUTS * self.server.timeout
        down = self._was_polled and self.snapshot is None  # polls of a server that is down may be further apart
        return age > limit and not down

    def _log_overdue(self, age: float, *, is_overdue: bool) -> None:
        """Log when polls become overdue, with the seconds since the last one, and when they go on."""
        if not self._overdue_logged.changed(is_overdue):
            return
        fields = self.server.log_fields
        if is_overdue:
            log.warning("polls are overdue", extra={"fields": {**fields, "last_poll_seconds_ago": round(age, 1)}})
        else:
            log.info("polls go on", extra={"fields": fields})

    def note_response(self) -> None:
        """Poll soon a server that was down and responded to a request: polls of it may be minutes apart."""
        is_worth_it = self._is_local or self._is_silent  # a hosted API that no kind matches is left alone
        if self.snapshot is None and is_worth_it and self._age() >= self.server.interval:
            self.wake()

    def _is_shown(self) -> bool:
        """Return whether the server has metrics.

        The server behind a proxy may be a hosted API, which is not down because no kind of engine matches it: it has
        none before its kind is detected, unless nothing responds on this machine.
        """
        is_down = self._is_silent and self._is_local
        return not self._dependencies.is_proxied or self._kind.was_found or is_down

    def may_load_unseen(self) -> bool:
        """Return whether a request may load a model: the server does so, and its loaded models are unknown."""
        return self.snapshot is None and self._loads_on_request

    def _search_new_processes(self) -> None:
        """Search processes again after a change of loaded models: some servers start a process for each."""
        loaded = frozenset(label for label, known in self.history.models() if known.loaded)
        if loaded != self._loaded:
            self._loaded = loaded
            self._processes.forget()

    def close(self) -> None:
        """Close the connections."""
        self._fetcher.close()
        if self._metrics is not None:
            self._metrics.close()

    def _read(self) -> ServerSnapshot:
        visit = PollSession(self._fetch, self._count)
        kind = self._kind.find(visit)
        engine_kind = kinds.engine_kind(kind)
        self._found = self._processes.find(engine_kind.PROGRAMS)
        arguments = tuple(self._found.arguments) if self._found else ()
        self._traffic.begin_poll()
        snapshot = engine_kind.snapshot(visit, PollPolicy(self.server.metrics, arguments, self._traffic))
        self._kind.keep(kind, visit)
        self._answering.note(visit.received(), snapshot)
        return snapshot

    def _fetch(self, path: str) -> bytes:
        page, mark, query = path.partition("?")
        if self._metrics is not None and page.rstrip("/").endswith("/metrics"):
            return self._metrics.get(mark + query)
        return self._fetcher.get(path)

    def _count(self, reason: str) -> None:
        self._failures[reason] = self._failures.get(reason, 0) + 1

    def _failed(self, error: Exception) -> str:
        """Discard the previous result; return the error."""
        if isinstance(error, LookupError):
            self._count("refused")
        elif not isinstance(error, OSError):  # those are counted where they happen
            self._count("not_understood")
        self.snapshot = None
        self._is_silent = isinstance(error, OSError) and reason_of(error) in ("unreachable", "timeout")
        self._kind.failed(error)
        self._answering.note_failure()
        self._processes.forget()
        return str(cause_of(error)) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"

    def _report(self, problem: str) -> None:
        """Log a change between up, down and not known, once."""
        state = "up" if self.snapshot is not None else "down" if self._is_shown() else "unknown"
        if not self._up_logged.changed(state):
            return
        fields = {**self.server.log_fields, "kind": self._kind.name or "unknown", "url": self.server.url.text}
        if self.snapshot is not None:
            log.info("model server is up", extra={"fields": {**fields, "version": self.snapshot.version}})
        elif state == "unknown":
            log.info("no kind of engine detected behind the proxy", extra={"fields": {**fields, "detail": problem}})
        else:
            log.warning("model server does not answer", extra={"fields": {**fields, "detail": problem}})

    def _show(self, poll_seconds: float) -> None:
        """Store the state that a scrape returns."""
        snapshot, engine = self.snapshot, Engine()
        several = self._are_several()
        if snapshot is None:
            self._energy.pause()
            self._idle_time.forget()
        else:
            engine = self._engine_of(snapshot)
            self._measure_energy(engine.without_counters() if several else engine)
        if several:
            engine, self._tokens = engine.without_counters(), RecentTokens()
        if self._dependencies.is_proxied:
            passed = self._dependencies.passed().tokens_as_counted(snapshot.prompt_count if snapshot else "once")
            self._tokens.note(self._dependencies.now(), engine.tokens, passed)
            self.tokens = self._tokens.totals()
        self._state = ServerState(
            self.server.name,
            snapshot,
            engine,
            upstream=self.server.upstream,
            models={label: self._model_state(label, known, several) for label, known in self.history.models()},
            several_processes=several,
            poll_seconds=poll_seconds,
            last_success=self._last_success,
            failures=self._failures,
        )
        self.parts = written(families(self._state)) if self._is_shown() else {}

    def _are_several(self) -> bool:
        """Return whether polls reach several processes in turn, whose counters are of no use; log a change."""
        several = self._answering.are_several
        if self._several_logged.changed(several):
            if several:
                fields = {**self.server.log_fields, "fix": "list each process as a server, or in urls"}
                log.warning("several processes answer here in turn: counters are withheld", extra={"fields": fields})
            else:
                log.info("one process answers here again", extra={"fields": self.server.log_fields})
        return several

    def _engine_of(self, snapshot: ServerSnapshot) -> Engine:
        if snapshot.engine_by_model is None:
            return snapshot.engine
        loaded = [model.name for model in snapshot.models if model.loaded]
        asleep = [model.name for model in snapshot.models if model.asleep]
        return self._merged.merge(snapshot.engine_by_model, loaded, asleep)

    def _measure_energy(self, engine: Engine) -> None:
        passed = self._dependencies.passed() if self._dependencies.is_proxied else None
        was_idle = self._idle_time.note(engine, passed)
        self._gpus = self._read_gpus()
        loaded = {label: known.model.vram_bytes for label, known in self.history.models() if known.loaded}
        pids = self._found.pids if self._found is not None else ()
        self._energy.note(self._gpus, pids, loaded, was_idle=was_idle)

    def _read_gpus(self) -> Mapping[str, GpuUse]:
        if self._dependencies.gpus is None or self._found is None:
            return {}
        try:
            return self._dependencies.gpus()
        except Exception:  # noqa: BLE001 - the GPU collector reports errors of GPUs
            return {}

    def _model_state(self, label: str, known: Known, several: bool) -> ModelState:
        vram, ram = self._memory(known.model)
        return ModelState(
            known.model,
            known.loaded,
            loads=known.loads if known.has_states and not several else None,
            unloads=known.unloads if known.has_states and not several else None,
            vram_bytes=vram if known.loaded else None,
            ram_bytes=ram if known.loaded else None,
            load_seconds=known.load_seconds,
            joules=self._energy.of(label),
            idle_joules=self._energy.idle_of(label),
        )

    def _memory(self, model: Model) -> tuple[float | None, float | None]:
        """Return a model's memory on GPUs and on the host: as reported, else that of the server's processes."""
        found: ServerProcesses | None = self._found
        loaded = [m for m in self.snapshot.models if m.loaded] if self.snapshot else []
        if model.vram_bytes is not None or model.ram_bytes is not None or found is None or loaded != [model]:
            return model.vram_bytes, model.ram_bytes
        on_gpus = [used for gpu in self._gpus.values() for pid, used in gpu.memory_by_pid.items() if pid in found.pids]
        return sum(on_gpus) or None, found.resident_bytes


def _metrics_client(server: PolledServer, connect: Connect) -> Client | None:
    if server.metrics_url is None:
        return None
    url = server.metrics_url.text
    return connect(url if urlsplit(url).path else f"{url}/metrics", server.headers, server.timeout)
