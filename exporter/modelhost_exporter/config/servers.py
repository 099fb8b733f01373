"""The ``servers:`` list: servers whose engines are polled and, with ``proxy``, whose requests are measured."""

from __future__ import annotations

import re
from collections.abc import Mapping  # noqa: TC003 - read at run time, by the parser
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from modelhost_exporter.config.address import Address
from modelhost_exporter.config.duration import Seconds
from modelhost_exporter.config.http_url import ServerUrl, upstream_labels
from modelhost_exporter.config.loops import reject_loops, reject_own_web
from modelhost_exporter.config.parsing import SECRET, ConfigError, parse
from modelhost_exporter.config.size import Bytes
from modelhost_exporter.engines import kinds
from modelhost_exporter.engines.kinds import AUTO
from modelhost_exporter.engines.polling.settings import PolledServer, Probe
from modelhost_exporter.proxy.balancing import HEADER, LEAST_REQUESTS, PREFIX_HASH
from modelhost_exporter.proxy.headers import RESERVED
from modelhost_exporter.proxy.settings import ProxiedServer, ProxyAuth
from modelhost_exporter.requests.slo import Objectives

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NOT_POLLED = ("anthropic", "other")
"""Kinds of servers that have nothing to poll, only requests to measure."""

MAX_NAME = 128
"""Characters of a server's name, which is a label of most metrics."""

MAX_UPSTREAM = 300
"""Characters of the label ``upstream``: a host name has at most 253."""

_FIELD_NAME = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)  # RFC 9110, section 5.1
_HOST_NAME = re.compile(r"[\w.-]+", re.ASCII)
_PROXY_FORM = "[NAME=]LISTEN=URL, such as ollama=127.0.0.1:8434=http://127.0.0.1:11434"


def kind_names() -> tuple[str, ...]:
    """Return every value of ``kind``: auto, the kinds of engines, and those that are only proxied."""
    return (AUTO, *kinds.names(), *NOT_POLLED)


def _check_headers(key: str, headers: Mapping[str, str]) -> None:
    """Raise ValueError for what cannot be a header field."""
    for name, value in headers.items():
        is_name = _FIELD_NAME.fullmatch(name) is not None
        if not is_name or not value.isascii() or set(value) & set("\r\n\0"):
            shown = name if is_name else "***"  # a name that is none may hold the value
            raise ValueError(f"{key}: {shown!r} is not a header field of plain text")


@dataclass(frozen=True)
class ProxyHost:
    """A host name that clients may use for a proxy on loopback, or ``*`` for any."""

    name: str

    @classmethod
    def from_text(cls, text: str) -> ProxyHost:
        """Parse a name without a port; ValueError for anything else."""
        if text != "*" and not _HOST_NAME.fullmatch(text):
            raise ValueError(f"{text!r} is not a host name such as models.example.com")
        return cls(text.lower().removesuffix("."))


@dataclass(frozen=True)
class Balance:
    """Which of several ``urls`` a request is forwarded to."""

    policy: str = LEAST_REQUESTS

    def __post_init__(self) -> None:
        name = self.policy.removeprefix(HEADER) if self.policy.startswith(HEADER) else None
        if self.policy not in (LEAST_REQUESTS, PREFIX_HASH) and not (name and _FIELD_NAME.fullmatch(name)):
            raise ValueError(
                f"{self.policy!r} is not {LEAST_REQUESTS}, {PREFIX_HASH} or {HEADER}NAME, such as {HEADER}X-Session-Id"
            )

    @classmethod
    def from_text(cls, text: str) -> Balance:
        """Parse the name of a policy; ValueError for anything else."""
        return cls(text)


@dataclass(frozen=True)
class ProxyOptions:
    """How requests to a server are forwarded and measured."""

    listen: Address
    include_usage: Literal["auto", "on", "off"] = "auto"
    """Request token usage from OpenAI-style streams where the client did not: where the kind accepts it and the server
    does not send it by itself (auto), always, or never."""
    max_inspected_body_bytes: Bytes = Bytes(1 << 20)
    """A larger request body is forwarded without being read for the model's name."""
    connect_timeout: Seconds = Seconds(10.0)
    idle_timeout: Seconds | None = None
    """Give up when the server sends nothing for this long; None: wait as long as the client does."""
    retry_unsafe: bool = True
    """Send also requests that are not idempotent once more when a kept connection was closed under them at once."""
    max_websocket_message_bytes: Bytes | None = None
    """A longer message ends a WebSocket with code 1009; None: no limit."""
    allowed_hosts: tuple[ProxyHost, ...] = ()
    """Values of Host that are accepted on loopback besides this machine's names and addresses; ``*``: any."""
    balance: Balance = Balance()
    """With ``urls``: which of them a request is forwarded to."""
    upstream_headers: Mapping[str, str] = field(default_factory=dict, repr=False, metadata=SECRET)
    """Sent with each request instead of the client's own headers of these names, such as Authorization; never shown."""
    auth: ProxyAuth = field(default_factory=ProxyAuth)
    """How clients authenticate; without any key everybody is accepted."""

    def __post_init__(self) -> None:
        _check_headers("upstream_headers", self.upstream_headers)
        keys = [name.lower() for name in self.upstream_headers]
        for key in keys:
            if key.encode() in RESERVED:
                raise ValueError(f"upstream_headers: {key!r} frames a request or belongs to one connection: remove it")
            if keys.count(key) > 1:
                raise ValueError(f"upstream_headers: {key!r} is given twice")


@dataclass(frozen=True)
class PollOptions:
    """How a server is polled."""

    interval: Seconds = Seconds(10.0)
    timeout: Seconds = Seconds(5.0)
    metrics: Literal["auto", "on", "off"] = "auto"
    metrics_url: ServerUrl | None = None
    """The page of metrics where it is not below ``url`` (Triton: another port)."""


@dataclass(frozen=True)
class ModelOptions:
    """What differs for one model of a server."""

    slo: Objectives = field(default_factory=Objectives)


@dataclass(frozen=True)
class Server:
    """One entry of ``servers:``."""

    name: str
    url: ServerUrl | None = None
    urls: tuple[ServerUrl, ...] = ()
    """Several replicas instead of one ``url``: each is polled, and one proxy forwards to all of them."""
    kind: str = AUTO
    headers: Mapping[str, str] = field(default_factory=dict, repr=False, metadata=SECRET)
    """Sent with every poll, such as Authorization; never shown."""
    proxy: ProxyOptions | None = None
    poll: PollOptions | Literal[False] = PollOptions()
    probe: Probe | None = None
    max_models: int = 64
    slo: Objectives = field(default_factory=Objectives)
    models: Mapping[str, ModelOptions] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("name must not be empty")
        if len(self.name) > MAX_NAME:
            raise ValueError(f"name must not be longer than {MAX_NAME} characters")
        if (self.url is None) == (not self.urls):
            raise ValueError("url is missing" if self.url is None else "give url or urls, not both")
        self._reject_single_options()
        self._reject_equal_replicas()
        self._reject_probe_without_polls()
        if self.kind not in kind_names():
            raise ValueError(f"kind must be one of {', '.join(kind_names())}, not {self.kind!r}")
        if self.max_models < 1:
            raise ValueError("max_models must be at least 1")
        _check_headers("headers", self.headers)

    def _reject_single_options(self) -> None:
        """Reject what can only be given to a server with one ``url``."""
        if self.urls and self.poll and self.poll.metrics_url is not None:
            raise ValueError(
                "poll.metrics_url is one page, which would be read for every replica:"
                " give each replica an entry of its own instead of urls"
            )

    def _reject_equal_replicas(self) -> None:
        """Reject what cannot be balanced or told apart: one upstream, the same one twice, a label too long."""
        if self.url is not None and self.proxy is not None and self.proxy.balance != Balance():
            raise ValueError("proxy.balance has no effect with one url: give several urls, or remove it")
        origins = [url.origin for url in self.urls]
        for number, url in enumerate(self.urls):
            if origins.index(url.origin) < number:
                raise ValueError(f"urls: {url.text} is given twice")
        for label in upstream_labels(self.upstreams):
            if len(label) > MAX_UPSTREAM:
                raise ValueError(f"urls: {label[:40]}... has more than {MAX_UPSTREAM} characters, too many for a label")

    def _reject_probe_without_polls(self) -> None:
        """Reject a probe that would never run: which models it may use is known from polls."""
        if self.probe is None:
            return
        if self.poll is False:
            raise ValueError("probe never runs with poll: false, since only polls find the models: remove one of them")
        if self.kind in NOT_POLLED:
            raise ValueError(f"probe never runs for kind {self.kind}, which is not polled: remove probe")

    @property
    def upstreams(self) -> tuple[ServerUrl, ...]:
        """The URLs of its replicas; one where it has none."""
        return self.urls if self.url is None else (self.url,)

    @property
    def polled(self) -> tuple[PolledServer, ...]:
        """The settings of the polls of each replica; none where it is not polled."""
        if self.poll is False or self.kind in NOT_POLLED:
            return ()
        labels = upstream_labels(self.upstreams)
        return tuple(
            self._polled_replica(self.poll, url, label) for url, label in zip(self.upstreams, labels, strict=True)
        )

    def _polled_replica(self, poll: PollOptions, url: ServerUrl, upstream: str) -> PolledServer:
        return PolledServer(
            name=self.name,
            url=url,
            upstream=upstream,
            kind=self.kind,
            headers=self.headers,
            interval=poll.interval,
            timeout=poll.timeout,
            metrics=poll.metrics,
            metrics_url=poll.metrics_url,
            max_models=self.max_models,
            probe=self.probe,
        )

    @property
    def proxied(self) -> ProxiedServer | None:
        """The settings of its proxy; None where it has none."""
        if self.proxy is None:
            return None
        return ProxiedServer(
            name=self.name,
            listen=self.proxy.listen,
            upstreams=self.upstreams,
            balance=self.proxy.balance.policy,
            kind=self.kind,
            include_usage=self.proxy.include_usage,
            max_models=self.max_models,
            max_inspected_body_bytes=self.proxy.max_inspected_body_bytes,
            connect_timeout=self.proxy.connect_timeout,
            idle_timeout=self.proxy.idle_timeout,
            retry_unsafe=self.proxy.retry_unsafe,
            max_websocket_message_bytes=self.proxy.max_websocket_message_bytes,
            allowed_hosts=frozenset(host.name for host in self.proxy.allowed_hosts),
            upstream_headers=self.proxy.upstream_headers,
            auth=self.proxy.auth,
            slo=self.slo,
            models={name: model.slo for name, model in self.models.items()},
        )


def parse_servers(
    raw: object, watched: Sequence[str] = (), proxied: Sequence[str] = (), web: Sequence[Address] = ()
) -> tuple[Server, ...]:
    """Return the servers of the file and of the flags ``--server`` and ``--proxy``, each with a name of its own.

    ``web`` are the addresses of the exporter's own page. ConfigError names the entry, or the flag, of a mistake.
    """
    listed = parse(tuple[Server, ...], [] if raw is None else raw, "servers")
    of_flags = _from_flags(watched, proxied)
    places = [f"servers[{number}]" for number in range(len(listed))]
    places += [flag for flag, _ in of_flags]
    servers = [*listed, *(server for _, server in of_flags)]
    _reject_duplicates(places, "name", [server.name for server in servers])
    _reject_duplicates(places, "proxy.listen", [_fixed_address(server) for server in servers])
    reject_loops(places, servers)
    reject_own_web(places, servers, web)
    return tuple(servers)


def _fixed_address(server: Server) -> str | None:
    """Return the address that a server's proxy listens on; None where there is none or any port will do."""
    return str(server.proxy.listen) if server.proxy is not None and server.proxy.listen.port else None


def _reject_duplicates(places: Sequence[str], key: str, values: Sequence[str | None]) -> None:
    for number, value in enumerate(values):
        if value is not None and value in values[:number]:
            raise ConfigError(places[number], f"two servers have the {key} {value}")


def _from_flags(watched: Sequence[str], proxied: Sequence[str]) -> list[tuple[str, Server]]:
    """Return the flag and the server of each value; those of both flags with one name are one server."""
    found: dict[str, Server] = {}
    for text in watched:
        server = _flag("--server", _watched, text)
        if server.name in found:
            raise ConfigError("--server", f"two servers have the name {server.name}")
        found[server.name] = server
    watched_names = set(found)
    for text in proxied:
        server = _flag("--proxy", _proxied, text)
        before = found.get(server.name)
        if before is not None and (before.proxy is not None or before.url != server.url):
            raise ConfigError("--proxy", f"another server has the name {server.name}")
        found[server.name] = replace(before, proxy=server.proxy) if before is not None else server
    return [("--server" if name in watched_names else "--proxy", server) for name, server in found.items()]


def _flag(flag: str, parse_text: Callable[[str], Server], text: str) -> Server:
    try:
        return parse_text(text)
    except ValueError as error:
        raise ConfigError(flag, str(error)) from None


def _watched(text: str) -> Server:
    """Parse ``[NAME=]URL``."""
    if _is_url(text):
        where = ServerUrl.from_text(text)
        return Server(_name_of(where), where)
    name, _, url = text.partition("=")
    return Server(name, ServerUrl.from_text(url or text))


def _proxied(text: str) -> Server:
    """Parse ``[NAME=]LISTEN=URL``."""
    left, _, rest = text.partition("=")
    name, listen, url = ("", left, rest) if _is_url(rest) else (left, *rest.partition("=")[::2])
    if not (listen and url) or (not name and not _is_url(rest)):
        raise ValueError(f"{text!r} is not {_PROXY_FORM}")
    where = ServerUrl.from_text(url)
    return Server(name or _name_of(where), where, proxy=ProxyOptions(Address.from_text(listen)))


def _is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def _name_of(url: ServerUrl) -> str:
    """Return the host and port, which name a server that was given no name."""
    return url.text.partition("://")[2].partition("/")[0]
