"""``modelhost-exporter discover``: look once for engines at some URLs, and print YAML for those that respond."""

from __future__ import annotations

import ipaddress
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from modelhost_exporter.config.http_url import ServerUrl
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
_NOTHING = "# Next: start one, or give its address: discover HOST:PORT, or the URL that your clients use\n"


_HOST_PORT = re.compile(r"(?P<host>\[[^\]]*\]|[^:/\[\]]+)(?::(?P<port>[0-9]{1,5}))?")
_MAX_PORT = 2**16 - 1


class UnknownHost(Exception):
    """A host whose name has no address."""


class Place(NamedTuple):
    """Where to look: the URLs to try, and how they are called."""

    shown: str
    urls: Sequence[str]


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


def place(text: str) -> Place:
    """Return where to look for a host (its usual ports), HOST:PORT or a URL; ValueError for anything else."""
    if "://" in text:
        url = ServerUrl.from_text(text)
        return Place(redact(url.text), (url.text,))
    host, port = _host_and_port(text)
    if port is not None:
        return Place(f"{host}:{port}", (f"http://{host}:{port}",))
    ports = usual_ports()
    return Place(f"ports {', '.join(map(str, ports))} of {host}", [f"http://{host}:{port}" for port in ports])


def _host_and_port(text: str) -> tuple[str, int | None]:
    """Return the host, an IPv6 address in brackets, and the port if one is given."""
    if _is_ipv6(text):
        return f"[{text}]", None
    found = _HOST_PORT.fullmatch(text)
    port = found and found["port"]
    if not found or (port and not 0 < int(port) <= _MAX_PORT):
        raise ValueError(f"{text!r} is not a host, HOST:PORT or a URL such as http://127.0.0.1:11434")
    if found["host"].startswith("[") and not _is_ipv6(found["host"][1:-1]):
        raise ValueError(f"{text!r}: no address of IPv6 is in the brackets")
    return found["host"], int(port) if port else None


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6  # noqa: PLR2004 - the protocol's own number
    except ValueError:
        return False


def discover(urls: Sequence[str], timeout_seconds: float = _TIMEOUT_SECONDS) -> list[Found | KeyRequired]:
    """Return the engines at these URLs, tried side by side; takes a few time-outs at most.

    Raises UnknownHost where the first URL's name has no address.
    """
    url = ServerUrl.from_text(urls[0]).url
    try:
        socket.getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UnknownHost(f"unknown host {url.host}") from error
    with ThreadPoolExecutor(len(urls)) as pool:
        results = pool.map(lambda url: _try(url, timeout_seconds), urls)
        return [found for found in results if found is not None]


def report(shown: str, answered: Sequence[Found | KeyRequired], program: str) -> str:
    """Return the servers that were found as YAML, with comments on what is uncertain and on what to do next."""
    looked = f"# looked at {shown}"
    if not answered:
        return f"{looked}: no model server responds there\n{_NOTHING}"
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
    return "\n".join(lines) + f"\n{_next_steps(program)}"


def _next_steps(program: str) -> str:
    return (
        f"# Next: {program}                   polls the engines of this machine, without any configuration\n"
        f"#       {program} --proxy=auto      measures their requests too: clients use the addresses that it prints\n"
        f"#       {program} --config.file=F   with these lines in F, for other machines, keys and objectives\n"
    )


def _try(url: str, timeout_seconds: float) -> Found | KeyRequired | None:
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
