"""Poll each server once, and try the addresses of its proxy and of the web server."""

from __future__ import annotations

import http.client
import socket
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from modelhost_exporter.config.address import is_loopback
from modelhost_exporter.config.found_servers import FoundServers
from modelhost_exporter.connect_errors import cause_of
from modelhost_exporter.doctor.findings import Finding
from modelhost_exporter.engines import kinds
from modelhost_exporter.engines.kinds import AUTO
from modelhost_exporter.engines.local_engines import LocalEngines
from modelhost_exporter.engines.pages import NotServed, PollPolicy, wants_key
from modelhost_exporter.engines.polling.poll_session import single_poll
from modelhost_exporter.process.listening import can_listen, url_address
from modelhost_exporter.security.tls_connection import HTTPS_ONLY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelhost_exporter.config.address import Address
    from modelhost_exporter.config.http_url import ServerUrl
    from modelhost_exporter.config.model import Config
    from modelhost_exporter.config.servers import Server
    from modelhost_exporter.engines.polling.poll_session import PollSession
    from modelhost_exporter.engines.polling.settings import PolledServer

_MAX_THREADS = 16
_HEALTHY_SECONDS = 2.0
_NAME = b"modelhost-exporter"


def check(config: Config, engines: LocalEngines | None = None) -> Iterator[Finding]:
    """Yield a finding for each engine, configured or found on this machine, each proxy, and the web server's ports."""
    ours = [address for address in config.web.listen_addresses if address.port]
    for address in ours:
        yield _web(address)
    found = _found(config, engines or LocalEngines())
    servers = [*config.servers, *found]
    polled = [replica for server in servers for replica in server.polled]
    with ThreadPoolExecutor(_MAX_THREADS) as pool:
        yield from pool.map(_engine, polled)
    if not servers:
        yield Finding("absent", "engine", "", "none runs here, and none is configured: start one, or add --server=URL")
    for server in config.servers:
        yield from _proxy(server, running=any(_is_ours(address) for address in ours))


def _found(config: Config, engines: LocalEngines) -> tuple[Server, ...]:
    """Return the engines of this machine, without those that are configured or are proxies of this configuration."""
    if not config.discovery.enabled:
        return ()
    own = {server.listen.port for server in config.proxied}
    return FoundServers().servers(engines.search(own), config.servers, proxied=False)


def _web(address: Address) -> Finding:
    if can_listen(address):
        return Finding("ok", "port", str(address), "free for the exporter")
    if _is_ours(address):
        return Finding("ok", "port", str(address), "an exporter runs there")
    return Finding("problem", "port", str(address), "in use by another program: give --web.listen-address=HOST:PORT")


def _is_ours(address: Address) -> bool:
    """Return whether an exporter responds at an address."""
    url = f"http://{url_address(address, address.port)}/-/healthy"
    try:
        with urllib.request.urlopen(url, timeout=_HEALTHY_SECONDS) as response:
            return _NAME in response.read(1000)
    except urllib.error.HTTPError as error:  # one that needs a password, or TLS
        with error:
            return _NAME.decode() in error.headers.get("WWW-Authenticate", "") or HTTPS_ONLY in error.read(1000)
    except (OSError, ValueError, http.client.HTTPException):
        return False


def _engine(server: PolledServer) -> Finding:
    """Poll a server once; what is wrong says what to do."""
    name = f"{server.name} {server.upstream}".strip()
    try:
        with single_poll(server.url.text, server.headers, server.timeout) as session:
            kind = server.kind if server.kind != AUTO else kinds.detect(session)
            if kind is None:
                return Finding("problem", "engine", name, f"{_unknown(session)} ({server.url.text})")
            snapshot = kinds.engine_kind(kind).snapshot(session, PollPolicy("off"))
    except (OSError, LookupError, ValueError) as error:
        return Finding("problem", "engine", name, f"{_reason(error)} ({server.url.text})")
    loaded = [model.name for model in snapshot.models if model.loaded is not False]
    detail = f"{kind} {snapshot.version}".strip()
    return Finding(
        "ok", "engine", name, f"{detail} at {server.url.text}, {len(loaded)} of {len(snapshot.models)} models loaded"
    )


def _unknown(session: PollSession) -> str:
    if wants_key(session):
        return "it requires a key: give one under headers, such as {Authorization: Bearer KEY}"
    return "it responds, and is no engine that is known: check the URL, or give its kind"


def _reason(error: Exception) -> str:
    if isinstance(error, NotServed):
        return "a page is missing: is it this kind of engine?"
    return str(cause_of(error))


def _proxy(server: Server, *, running: bool) -> Iterator[Finding]:
    """Yield findings on a server's proxy: its own address, and whether each upstream accepts connections."""
    if server.proxied is None:
        return
    listen = server.proxied.listen
    if not listen.port or can_listen(listen) or running:
        is_open = not (is_loopback(listen.host) or server.proxied.requires_authentication)
        remark = ", without authentication: everybody who reaches it may use the server (proxy.auth)" if is_open else ""
        yield Finding("ok", "proxy", server.name, f"listens on {listen}{remark}")
    else:
        yield Finding("problem", "proxy", server.name, f"{listen} is in use by another program: give another listen")
    if not server.polled:
        for url in server.upstreams:
            yield from _upstream(server.name, url)


def _upstream(name: str, url: ServerUrl) -> Iterator[Finding]:
    """Yield a problem where an upstream that is not polled accepts no connection."""
    try:
        socket.create_connection((url.url.host or "", url.url.port or 0), _HEALTHY_SECONDS).close()
    except OSError as error:
        yield Finding("problem", "upstream", name, f"{_reason(error)} ({url.text})")
