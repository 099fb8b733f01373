"""``modelhost-exporter discover``: try the default ports of all engines once, and print YAML for those that respond."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from modelhost_exporter.engines import kinds
from modelhost_exporter.engines.pages import PollPolicy, wants_key
from modelhost_exporter.engines.polling.answering_processes import AnsweringProcesses
from modelhost_exporter.engines.polling.fetching import Fetcher
from modelhost_exporter.engines.polling.poll_session import PollSession
from modelhost_exporter.engines.snapshot import ServerSnapshot
from modelhost_exporter.logs.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from modelhost_exporter.engines.kinds import EngineKind
    from modelhost_exporter.engines.snapshot import Model

_TIMEOUT_SECONDS = 2.0
_MAX_NAMED = 5
_CHECKS = 6
"""How often a server with counters is polled, to notice several processes that answer in turn."""
_SEVERAL = "    # several processes answer here in turn, with counters of their own: list the url of each one"
_KEY = "headers: {Authorization: Bearer KEY}"


class Found(NamedTuple):
    """A model server that was found."""

    url: str
    snapshot: ServerSnapshot
    several_processes: bool = False
    """Whether several processes answer there in turn."""


class KeyRequired(NamedTuple):
    """A server that requires a key before its kind can be detected."""

    url: str


def usual_ports() -> tuple[int, ...]:
    """Return the ports of every kind."""
    return tuple(sorted({port for kind in kinds.names() for port in kinds.engine_kind(kind).PORTS}))


def discover(host: str, ports: Sequence[int], timeout_seconds: float = _TIMEOUT_SECONDS) -> list[Found | KeyRequired]:
    """Return the engines on these ports, tried side by side; takes a few time-outs at most."""
    with ThreadPoolExecutor(max(1, len(ports))) as pool:
        results = pool.map(lambda port: _try_port(f"http://{host}:{port}", timeout_seconds), ports)
        return [found for found in results if found is not None]


def report(host: str, ports: Sequence[int], answered: Sequence[Found | KeyRequired]) -> str:
    """Return the servers that were found as YAML, with comments on what is uncertain."""
    looked = f"# looked at ports {', '.join(map(str, ports))} of {redact(host)}"
    if not answered:
        return f"{looked}: no model server responds there\n"
    found = [one for one in answered if isinstance(one, Found)]
    lines = [f"{looked}: found {len(found)}", "servers:" if found else "# servers:"]
    for name, one in zip(_names(found), found, strict=True):
        lines += [f"  # {_described(one.snapshot)}", f"  - name: {name}", f"    url: {one.url}"]
        lines.append(f"    kind: {one.snapshot.kind}")
        lines += [_SEVERAL] if one.several_processes else []
        lines += [] if one.snapshot.models else [f"    # {_KEY}"]
    for locked in answered:
        if isinstance(locked, KeyRequired):
            lines += ["  # this answers that it wants a key; if it is a model server, give it one and it is found out:"]
            lines += [
                f"  # - name: server-{locked.url.rpartition(':')[2]}",
                f"  #   url: {locked.url}",
                f"  #   {_KEY}",
            ]
    return "\n".join(lines) + "\n"


def _try_port(url: str, timeout_seconds: float) -> Found | KeyRequired | None:
    fetcher = Fetcher(url, {}, timeout_seconds)
    kind = None
    try:
        visit = PollSession(fetcher.get, lambda _reason: None)
        kind = kinds.detect(visit)
        if kind is None:
            return KeyRequired(url) if wants_key(visit) else None
        found = kinds.engine_kind(kind).snapshot(visit, PollPolicy("off"))
        return Found(url, found, several_processes=_are_several(kinds.engine_kind(kind), fetcher))
    except LookupError:  # its kind was detected, but not its models
        return Found(url, ServerSnapshot(kind)) if kind else None
    except (OSError, ValueError):
        return None
    finally:
        fetcher.close()


def _are_several(kind: EngineKind, fetcher: Fetcher) -> bool:
    """Return whether several processes answer, each poll on a connection of its own."""
    answering = AnsweringProcesses()
    if kinds.reading_metrics_matters(kind):
        return False
    for _ in range(_CHECKS):
        fetcher.close()
        visit = PollSession(fetcher.get, lambda _reason: None)
        try:
            snapshot = kind.snapshot(visit)
        except (OSError, LookupError, ValueError):
            return answering.are_several
        answering.note(visit.received(), snapshot)
        if not answering.has_counters:
            return False
    return answering.are_several


def _names(found: Iterable[Found]) -> list[str]:
    """Return a name for each: its kind, with its port where there are several of a kind."""
    kinds = [one.snapshot.kind for one in found]
    return [
        kind if kinds.count(kind) == 1 else f"{kind}-{one.url.rpartition(':')[2]}"
        for kind, one in zip(kinds, found, strict=True)
    ]


def _described(snapshot: ServerSnapshot) -> str:
    if not snapshot.models:
        return f"{snapshot.kind}, which lists no model: it may need a key (headers)"
    loaded = [model for model in snapshot.models if model.loaded is not False]
    version = f" {_plain(snapshot.version)}" if snapshot.version else ""
    return f"{snapshot.kind}{version}, {_counted(loaded, len(snapshot.models))}"


def _counted(loaded: Sequence[Model], listed: int) -> str:
    names = ", ".join(_plain(model.name) for model in loaded[:_MAX_NAMED])
    more = f" and {len(loaded) - _MAX_NAMED} more" if len(loaded) > _MAX_NAMED else ""
    return f"models: {names}{more}" if loaded else f"no model loaded, {listed} listed"


def _plain(text: str) -> str:
    """Return text that cannot end a comment's line."""
    return "".join(character if character.isprintable() else "?" for character in text[:100])
