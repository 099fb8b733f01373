"""Every timeout and limit of the program, for the table in docs/configuration.md; values are read from the code."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, NamedTuple, get_type_hints

from modelhost_exporter import collectors
from modelhost_exporter.config.duration import Seconds
from modelhost_exporter.config.model import Discovery, Scraping, Web
from modelhost_exporter.config.servers import PollOptions, ProxyOptions, Server
from modelhost_exporter.config.size import Bytes
from modelhost_exporter.engines.polling.settings import Probe
from modelhost_exporter.live.settings import LiveOptions
from modelhost_exporter.proxy.settings import ProxySettings

if TYPE_CHECKING:
    from collections.abc import Mapping


class Limit(NamedTuple):
    """One row: the source of the value is a configuration key, or MODULE:CONSTANT for what is fixed."""

    source: str
    what: str


SECTIONS: Mapping[str, type] = {
    "web": Web,
    "scrape": Scraping,
    "discovery": Discovery,
    "live": LiveOptions,
    "proxy": ProxySettings,
    "servers[]": Server,
    "servers[].proxy": ProxyOptions,
    "servers[].poll": PollOptions,
    "servers[].probe": Probe,
    **{f"collectors.{name}": collectors.options_of(name) for name in collectors.names()},
}

PARTS: Mapping[str, tuple[Limit, ...]] = {
    "The web port": (
        Limit(
            "web.header_timeout", "from a connection's start, TLS handshake included, to the end of a request's headers"
        ),
        Limit("web.idle_timeout", "between two requests"),
        Limit("web.body_timeout", "between two reads of a request's body"),
        Limit("web.send_timeout", "of a response of which the client reads nothing"),
        Limit("web.max_header_bytes", "headers of a request; larger ones get a 431"),
        Limit(
            "web.connection:MAX_BODY_BYTES",
            "body of a request, which no route but the login reads; more ends the connection",
        ),
        Limit("web.max_connections", "connections; a new one replaces the one that has been idle for longest"),
        Limit("web.max_connections_per_address", "connections from one IPv4 address or IPv6 /64"),
        Limit(
            "web.connection_limits:_MAX_HELD_BYTES", "unsent bytes of all connections; those stalled longest are closed"
        ),
        Limit("web.max_requests", "parallel scrapes; further ones get a 503"),
        Limit("security.tls_listener:_AT_ONCE", "TLS handshakes that are computed at the same time; others wait"),
        Limit("security.passwords:MAX_WAITING", "passwords that wait to be compared; further ones get a 429"),
        Limit("security.passwords:MAX_WAITING_PER_CLIENT", "passwords of one client that wait"),
        Limit("security.authentication:MAX_CREDENTIAL_BYTES", "an `Authorization`; a longer one is not accepted"),
        Limit("process.connection_limits:_SWEEP_SECONDS", "between two checks of connections for what is overdue"),
    ),
    "The live feed": (
        Limit("live.max_viewers", "clients at the same time; further ones get a 503"),
        Limit("live.meter:INTERVAL_SECONDS", "between two messages"),
        Limit("live.meter:_TIMEOUT_SECONDS", "for the collectors of a message"),
        Limit("live.routes:_MAX_CLIENT_MESSAGE_BYTES", "a message of a client; a longer one ends the connection"),
        Limit("live.routes:_MAX_CLIENT_MESSAGES", "messages of a client in a minute"),
        Limit("live.subscribers:_MAX_MISSES", "messages in a row that a client may be too slow for"),
        Limit("requests.recent:MAX_RECENT", "finished requests that are kept"),
    ),
    "A scrape": (
        Limit("scrape.timeout", "each collector; a shorter timeout of the scraper takes precedence"),
        Limit("scrape.max_label_value_bytes", "a label's value; a longer one is shortened"),
        Limit("collectors.filesystem.timeout", "a file system; after that it counts as stuck"),
        Limit("collectors.gpu.timeout", "a GPU; after that its metrics are missing"),
        Limit("parallel_reads:_WAIT_FOR_SLOW_SECONDS", "what a scrape waits for slow devices"),
        Limit("parallel_reads:_MAX_TIME_LIMIT_SECONDS", "longest time after which a device counts as stuck"),
        Limit("parallel_reads:_MAX_STUCK_THREADS", "threads that wait for stuck devices"),
        Limit("collectors.systemd:_TIMEOUT_SECONDS", "`systemctl show`"),
        Limit("collectors.textfile:_MAX_FILES", "files of other programs"),
        Limit("collectors.textfile:_MAX_FILE_BYTES", "a file of another program"),
        Limit("collectors.textfile:_MAX_SAMPLES", "samples of all those files"),
    ),
    "GPUs": (
        Limit(
            "gpu.nvidia.library_trial:DEADLINE_SECONDS", "the first trial of NVIDIA's library in a process of its own"
        ),
        Limit("gpu.nvidia.open_schedule:_RETRY_SECONDS", "before the driver is opened again after an error"),
        Limit("gpu.sources:_RETRY_SECONDS", "before GPUs are listed again after an error"),
        Limit("gpu.polling_pause:_PAUSE_SECONDS", "without use, after which a GPU may sleep and is polled rarely"),
        Limit("gpu.apple.ioreg:_TIMEOUT_SECONDS", "`ioreg` on a Mac"),
    ),
    "Polling of engines": (
        Limit("servers[].poll.interval", "between two polls"),
        Limit("servers[].poll.timeout", "a page"),
        Limit("servers[].probe.interval", "between two probes of a model"),
        Limit("servers[].probe.timeout", "a probe"),
        Limit("servers[].max_models", "models of a server with series of their own"),
        Limit("engines.polling.pollers:_MAX_BACK_OFF_SECONDS", "between two polls of a server that does not respond"),
        Limit("engines.polling.fetching:MAX_BYTES", "a page"),
        Limit("engines.pages:MAX_JSON_BYTES", "a page of JSON"),
        Limit("engines.metrics_page:MAX_SAMPLES", "samples of a page of metrics"),
        Limit("engines.metrics_page:MAX_LINE_BYTES", "a line of a page of metrics; a longer one is left out"),
        Limit("engines.polling.fetching:_MAX_REDIRECTS", "redirects of a page, on the same server"),
    ),
    "Discovery": (
        Limit("discovery.interval", "between two searches"),
        Limit("engines.local_engines:_TIMEOUT_SECONDS", "a page of what may be an engine"),
        Limit("engines.local_engines:_MAX_ENGINES", "engines that are found"),
        Limit("engines.local_engines:_GONE_SECONDS", "without a response, after which an engine is gone"),
        Limit("engines.discovery:_TIMEOUT_SECONDS", "a page of `discover`"),
    ),
    "The proxy: clients": (
        Limit(
            "proxy.header_timeout",
            "from a connection's start, TLS handshake included, to the end of a request's headers",
        ),
        Limit("proxy.idle_timeout", "between two requests"),
        Limit("proxy.body_timeout", "between two bytes of a request's body; then a 408"),
        Limit("proxy.send_timeout", "in which the client reads no byte of what waits to be sent"),
        Limit("proxy.max_header_bytes", "headers of a request; larger ones get a 431"),
        Limit("proxy.max_headers", "header fields of a request"),
        Limit("proxy.max_connections", "connections to all listeners; an idle one is replaced, else a 503"),
        Limit("proxy.max_connections_per_address", "connections from one IPv4 address or IPv6 /64"),
        Limit("proxy.downstream:_MAX_PIPELINED_BYTES", "requests that are sent ahead; more are dropped"),
        Limit(
            "proxy.exchange:_MAX_WAITING_BYTES",
            "what is read of a body before there is a connection, or an authenticated client",
        ),
        Limit("proxy.downstream:_LINGER_SECONDS", "in which the rest of a refused request is discarded"),
        Limit("proxy.drain_timeout", "for requests in progress when the exporter stops"),
    ),
    "The proxy: servers": (
        Limit(
            "servers[].proxy.connect_timeout", "a connection, with its look-up and TLS; then another replica or a 504"
        ),
        Limit("servers[].proxy.idle_timeout", "without a byte of the response; then a 504"),
        Limit("servers[].proxy.max_inspected_body_bytes", "a request's body that is read for its model"),
        Limit("servers[].proxy.max_websocket_message_bytes", "a message of a WebSocket"),
        Limit("proxy.upstream:_KEEPALIVE_SECONDS", "for which a connection is kept"),
        Limit("proxy.upstream:_MAX_HEAD_BYTES", "headers of a response; larger ones are a 502"),
        Limit("proxy.upstream:_MAX_FIELDS", "header fields of a response"),
        Limit("proxy.upstream:_MAX_INTERIM", "interim responses"),
        Limit("proxy.exchange:_RETRY_SECONDS", "in which a request that is not idempotent is sent again"),
        Limit("proxy.balancing:_EJECTION_SECONDS", "of the first ejection of a replica"),
        Limit("proxy.balancing:_MAX_EJECTION_SECONDS", "of the longest one"),
    ),
    "What the proxy reads of responses": (
        Limit("dialects.sse:EVENT_LIMIT", "an event of a stream; a longer one is not read"),
        Limit("dialects.whole_body:WHOLE_LIMIT", "a body that is read whole; a longer one at its ends"),
        Limit("dialects.decompress:MAX_BYTES_AT_ONCE", "what a chunk may decompress to"),
        Limit("proxy.server:_MAX_LATE", "responses that are parsed after they were forwarded"),
    ),
    "Configuration and secrets": (
        Limit("config.yaml_file:MAX_BYTES", "a configuration file"),
        Limit("config.yaml_file:MAX_VALUES", "its values, those that aliases repeat counted each time"),
        Limit("security.tls:MAX_PEM_BYTES", "a file of certificates or a key"),
        Limit("security.reloaded:_RETRY_SECONDS", "before a file that could not be read is tried again"),
        Limit("proxy.server:_PREPARE_SECONDS", "for new listeners of a reload"),
    ),
    "The log": (
        Limit("logs.queue:MAX_LINES", "lines that wait to be written; more are dropped and counted"),
        Limit("logs.queue:MAX_BYTES", "bytes that wait to be written"),
    ),
}
"""The rows of the table, by part."""

_UNITS = ((1 << 20, "MiB"), (1 << 10, "KiB"))


def rows() -> list[tuple[str, str, str, str]]:
    """Return part, meaning, value and source of each limit."""
    return [
        (part, limit.what, value(limit.source), shown(limit.source)) for part, all_ in PARTS.items() for limit in all_
    ]


def shown(source: str) -> str:
    """Return how a limit is changed."""
    return "fixed" if ":" in source else f"`{source}`"


def value(source: str) -> str:
    """Return the default of a key, or the value of a constant, with its unit."""
    if ":" in source:
        module, _, name = source.partition(":")
        found = getattr(importlib.import_module(f"modelhost_exporter.{module}"), name)
        is_seconds, is_bytes = "SECONDS" in name, "BYTES" in name or name.endswith("_LIMIT")
    else:
        section, _, name = source.rpartition(".")
        settings = SECTIONS[section]
        found = settings.__dataclass_fields__[name].default  # type: ignore[attr-defined] # a dataclass
        kind = str(get_type_hints(settings)[name])
        is_seconds, is_bytes = Seconds.__name__ in kind, Bytes.__name__ in kind or name.endswith("_bytes")
    if found is None:
        return "none"
    if is_seconds:
        return f"{found * 1000:g} ms" if found < 1 else f"{found:g} s"
    return _size(found) if is_bytes else f"{found:,}"


def _size(count: int) -> str:
    for unit, name in _UNITS:
        if count >= unit and count % unit == 0:
            return f"{count // unit} {name}"
    return f"{count:,} bytes"
