"""The configuration as frozen dataclasses, parsed from YAML and flags; flags override the file."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields, replace
from pathlib import Path  # noqa: TC003 - read at run time, by the parser
from typing import TYPE_CHECKING, Literal, cast

from modelhost_exporter import collectors
from modelhost_exporter.collector import CollectorOptions, Paths
from modelhost_exporter.config.address import Address
from modelhost_exporter.config.cost import Cost
from modelhost_exporter.config.duration import Seconds
from modelhost_exporter.config.http_url import PageUrl  # noqa: TC001 - read at run time, by the parser
from modelhost_exporter.config.old_keys import reject
from modelhost_exporter.config.parsing import ConfigError, mapping, parse, parse_keys
from modelhost_exporter.config.servers import Server, parse_servers
from modelhost_exporter.live.settings import AllowedHost, AllowedOrigin, LiveOptions
from modelhost_exporter.metrics import label_values
from modelhost_exporter.proxy.settings import ProxySettings
from modelhost_exporter.requests.settings import RequestOptions
from modelhost_exporter.security.auth_settings import TokenOptions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from modelhost_exporter.engines.polling.settings import PolledServer
    from modelhost_exporter.proxy.settings import ProxiedServer

__all__ = ["Address", "Config", "ConfigError", "LiveOptions", "Log", "Scraping", "Web", "load", "read"]

SERVER_FLAGS = ("--server", "--proxy")
"""Keys of overrides that add servers to those of the file."""
AUTO_PROXY = "auto"
"""The value of ``--proxy`` that puts a proxy in front of each engine that is found."""

_TAKEN_PATHS = ("/-/", "/api/", "/static/")
_MIN_HEADER_BYTES, _MAX_HEADER_BYTES = 1024, 1 << 20


@dataclass(frozen=True)
class Web:
    """The HTTP server."""

    listen_addresses: tuple[Address, ...] = (Address("127.0.0.1", 8585),)
    telemetry_path: str = "/metrics"
    max_requests: int = 40
    created_lines: bool = False
    """Whether OpenMetrics pages have the creation times of counters and histograms of requests."""
    enable_lifecycle: bool = False
    config_file: Path | None = None
    """The file with TLS, passwords and headers, in the format that Prometheus' exporters share."""
    grafana_url: PageUrl | None = None
    allowed_hosts: tuple[AllowedHost, ...] = ()
    """Accepted values of ``Host``, besides IP addresses and this machine's own names."""
    allowed_origins: tuple[AllowedOrigin, ...] = ()
    """Origins of pages that may read the live feed and the API, besides the exporter's own and those on loopback."""
    strict_host: bool = False
    """Whether ``Host`` is checked for metrics and health checks too where the listener is not on loopback."""
    header_timeout: Seconds = Seconds(10.0)
    """From the first byte of a request, or the connection's start, to the end of its headers."""
    idle_timeout: Seconds = Seconds(75.0)
    """Longest time without a byte between two requests."""
    body_timeout: Seconds = Seconds(60.0)
    """Longest time between two bytes of a request's body."""
    send_timeout: Seconds = Seconds(30.0)
    """Longest time in which the client reads no byte of a response."""
    max_header_bytes: int = 32_768
    max_connections: int = 512
    max_connections_per_address: int = 256
    auth: TokenOptions = field(default_factory=TokenOptions)
    """Tokens that are accepted besides the passwords of ``config_file``."""
    systemd_socket: bool = False
    """Whether the sockets that systemd passes are used instead of ``listen_addresses``, which then are theirs."""

    def __post_init__(self) -> None:
        if not (self.listen_addresses or self.systemd_socket):
            raise ValueError("listen_addresses must not be empty")
        for key in ("max_requests", "max_connections", "max_connections_per_address"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key} must be at least 1")
        if not _MIN_HEADER_BYTES <= self.max_header_bytes <= _MAX_HEADER_BYTES:
            raise ValueError(f"max_header_bytes must be between {_MIN_HEADER_BYTES} and {_MAX_HEADER_BYTES}")
        path = self.telemetry_path
        if not re.fullmatch(r"/[\w.~/-]+", path, re.ASCII) or path.startswith(_TAKEN_PATHS):
            taken = ", ".join(_TAKEN_PATHS)
            raise ValueError(f"telemetry_path {path!r} must be a path such as /metrics, not / and not below {taken}")


@dataclass(frozen=True)
class Scraping:
    """How collectors are run, and what they return."""

    timeout: Seconds = Seconds(5.0)
    max_label_value_bytes: int = label_values.DEFAULT_MAX_BYTES
    """Longer values of labels are shortened: Prometheus with a lower ``label_value_length_limit`` refuses the page."""

    def __post_init__(self) -> None:
        least, most = label_values.MIN_BYTES, label_values.MAX_BYTES
        if not least <= self.max_label_value_bytes <= most:
            raise ValueError(f"max_label_value_bytes must be between {least} and {most}")


@dataclass(frozen=True)
class Log:
    """Level and format of the log."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"


@dataclass(frozen=True)
class Discovery:
    """The search for engines on this machine, which are then polled without being configured."""

    enabled: bool = True
    interval: Seconds = Seconds(60.0)
    proxy: bool = False
    """Whether each engine that is found gets a proxy on loopback, on its port plus 10,000."""

    def __post_init__(self) -> None:
        if self.proxy and not self.enabled:
            raise ValueError("proxy needs enabled: without a search there is no engine to put a proxy in front of")


@dataclass(frozen=True)
class Config:
    """The whole configuration."""

    web: Web = field(default_factory=Web)
    live: LiveOptions = field(default_factory=LiveOptions)
    scrape: Scraping = field(default_factory=Scraping)
    log: Log = field(default_factory=Log)
    path: Paths = field(default_factory=Paths)
    proxy: ProxySettings = field(default_factory=ProxySettings)
    requests: RequestOptions = field(default_factory=RequestOptions)
    discovery: Discovery = field(default_factory=Discovery)
    cost: Cost = field(default_factory=Cost)
    servers: tuple[Server, ...] = ()
    collectors: Mapping[str, CollectorOptions] = field(default_factory=dict)
    """The options of each enabled collector."""

    @property
    def polled(self) -> tuple[PolledServer, ...]:
        """The replicas of all servers that are polled."""
        return tuple(polled for server in self.servers for polled in server.polled)

    @property
    def proxied(self) -> tuple[ProxiedServer, ...]:
        """The servers that have a proxy."""
        client = self.requests.client.lower() if self.requests.recent and self.requests.client else None
        servers = (server.proxied for server in self.servers)
        return tuple(replace(proxied, client_header=client) for proxied in servers if proxied is not None)


_DISABLE_DEFAULTS = "disable_defaults"


def load(file: Path | None, overrides: Mapping[str, object], defaults: Mapping[str, object] | None = None) -> Config:
    """Read the file (None: all defaults) and apply the overrides (dotted path → value).

    ``defaults`` are used where neither the file nor an override has the path. Raises ConfigError, whose text is one
    line, for an invalid file, override or default.
    """
    raw = _with_switches(_read_file(file)) if file else None
    for path, value in (defaults or {}).items():
        if not _has(raw, path.split(".")):
            raw = _overlaid(raw, path.split("."), value)
    for path, value in overrides.items():
        if path not in SERVER_FLAGS:
            raw = _overlaid(raw, path.split("."), value)
    watched, proxied = (cast("Sequence[str]", overrides.get(path, ())) for path in SERVER_FLAGS)
    if AUTO_PROXY in proxied:
        raw = _overlaid(raw, ["discovery", "proxy"], value=True)
    return read(raw, watched, [value for value in proxied if value != AUTO_PROXY])


def read(raw: object, watched: Sequence[str] = (), proxied: Sequence[str] = ()) -> Config:
    """Build the configuration from parsed YAML and the values of the flags ``--server`` and ``--proxy``."""
    reject(raw)
    raw = _with_switches(raw)
    sections = mapping([field.name for field in fields(Config)], raw, "")
    web = parse(Web, sections.get("web"), "web")
    return Config(
        web=web,
        live=parse(LiveOptions, sections.get("live"), "live"),
        scrape=parse(Scraping, sections.get("scrape"), "scrape"),
        log=parse(Log, sections.get("log"), "log"),
        path=parse(Paths, sections.get("path"), "path"),
        proxy=parse(ProxySettings, sections.get("proxy"), "proxy"),
        requests=parse(RequestOptions, sections.get("requests"), "requests"),
        discovery=parse(Discovery, sections.get("discovery"), "discovery"),
        cost=parse(Cost, sections.get("cost"), "cost"),
        servers=parse_servers(sections.get("servers"), watched, proxied, web.listen_addresses),
        collectors=_enabled(sections.get("collectors")),
    )


def _with_switches(raw: object) -> object:
    """Return ``raw`` with ``discovery: false`` written as a section."""
    if isinstance(raw, dict) and isinstance(raw.get("discovery"), bool):
        return {**raw, "discovery": {"enabled": raw["discovery"]}}
    return raw


def _read_file(file: Path) -> object:
    from modelhost_exporter.config import yaml_file  # noqa: PLC0415 - PyYAML's 2 MB, not needed without a file

    return yaml_file.read(file)


def _has(raw: object, path: list[str]) -> bool:
    """Return whether ``raw`` has a value at ``path``."""
    for key in path:
        if not isinstance(raw, dict) or raw.get(key) is None:
            return False
        raw = raw[key]
    return True


def _overlaid(raw: object, path: list[str], value: object) -> object:
    """Return ``raw`` with ``value`` at ``path``; unchanged where ``raw`` is not a mapping, which the parser rejects."""
    if not path:
        return value
    if raw is not None and not isinstance(raw, dict):
        return raw
    before = raw or {}
    return {**before, path[0]: _overlaid(before.get(path[0]), path[1:], value)}


def _enabled(raw: object) -> dict[str, CollectorOptions]:
    """Return the options of each enabled collector, by name."""
    kinds = {name: collectors.options_of(name) for name in collectors.names()}
    chosen = parse_keys({**kinds, _DISABLE_DEFAULTS: bool}, raw, "collectors")
    by_default = not chosen.pop(_DISABLE_DEFAULTS, False)
    options = {name: chosen.get(name, kind()) for name, kind in kinds.items()}
    return {
        name: option
        for name, option in options.items()
        if (option.enabled if option.enabled is not None else by_default and option.enabled_by_default)
    }
