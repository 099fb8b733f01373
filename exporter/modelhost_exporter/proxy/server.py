"""The proxy: a listener for each proxied server, and replacing listeners on a reload."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from modelhost_exporter.config.address import Address, is_loopback
from modelhost_exporter.engines.kinds import AUTO, full_name
from modelhost_exporter.process import listening
from modelhost_exporter.process.machine_names import is_address
from modelhost_exporter.proxy import headers
from modelhost_exporter.proxy.authentication import CREDENTIALS
from modelhost_exporter.proxy.downstream import DownstreamConnection, DownstreamConnections
from modelhost_exporter.proxy.exchange import Exchange
from modelhost_exporter.proxy.include_usage import UsageRequests
from modelhost_exporter.proxy.listener_security import ListenerSecurity
from modelhost_exporter.proxy.replicas import Replicas
from modelhost_exporter.proxy.request_validation import check_host
from modelhost_exporter.proxy.self_metrics import TLS_HANDSHAKE, SelfMetrics
from modelhost_exporter.proxy.settings import ProxySettings
from modelhost_exporter.proxy.upstream import Upstream
from modelhost_exporter.requests.metrics import RequestMetrics
from modelhost_exporter.requests.model_names import OTHER, UNKNOWN, ModelNames
from modelhost_exporter.security import open_listeners
from modelhost_exporter.security.tls_listener import TlsListener
from modelhost_exporter.threads import call

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence

    from prometheus_client import CollectorRegistry

    from modelhost_exporter.process.descriptors import Descriptors
    from modelhost_exporter.proxy.downstream import Request
    from modelhost_exporter.proxy.settings import ProxiedServer
    from modelhost_exporter.requests.listener import ObservationListener, RemovalListener
    from modelhost_exporter.requests.running import RunningRequests
    from modelhost_exporter.requests.slo import Objectives
    from modelhost_exporter.security.tls_listener import TlsInForce

log = logging.getLogger(__name__)

_PREPARE_SECONDS = 30.0
_MAX_ACCEPTED_HOSTS = 64
_MAX_LATE = 32
_MAX_CLIENT_LENGTH = 64
"""Responses that are parsed after they were forwarded: each holds up to 2 MiB."""


class UseCount:
    """The number of requests in progress; used on the event loop."""

    def __init__(self) -> None:
        self.count = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def enter(self) -> None:
        """Count a request."""
        self.count += 1
        if self.count == 1:
            self._idle.clear()

    def leave(self) -> None:
        """Stop counting a request."""
        self.count -= 1
        if not self.count:
            self._idle.set()

    async def idle(self) -> None:
        """Return once no request is in progress."""
        await self._idle.wait()


class ParsingQueue:
    """Parses what was forwarded faster than it could be parsed: one part of one response in each turn of the loop."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], bool]] = deque()

    def add(self, parse_next: Callable[[], bool]) -> None:
        """Call a function, in turn with others, until it returns False."""
        self._waiting.append(parse_next)
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        parse_next = self._waiting[0]
        goes_on = False
        try:
            goes_on = parse_next()
        finally:
            self._waiting.popleft()
            if goes_on:
                self._waiting.append(parse_next)
            if self._waiting:
                asyncio.get_running_loop().call_soon(self._run)


class ProxyEnvironment(NamedTuple):
    """What the proxy knows of the machine and of other parts of the exporter."""

    descriptors: Descriptors | None = None
    """File descriptors; None where there is no limit."""
    detected_kind: Callable[[str], str | None] = lambda _: None
    """Returns the kind of a server's engine where polling has detected it, the same one for all its replicas."""
    is_own_name: Callable[[str], bool] = "localhost".__eq__
    """Returns whether a host name in lower case is this machine's."""
    reuse_port: bool = False
    """Whether other processes may listen on the same ports."""
    is_listed: Callable[[str, str], bool] = lambda _server, _model: False
    """Returns whether a replica of a server lists a model of this name, as far as polling knows."""
    removal_listeners: Sequence[RemovalListener] = ()
    """Receive every model whose series are removed."""
    settings: Callable[[], ProxySettings] = ProxySettings
    """Returns the settings in force, which a reload replaces."""
    now: Callable[[], float] = time.monotonic
    """Returns seconds, for the time that an upstream is ejected."""
    listed_models: Callable[[str], Iterable[str]] = lambda _server: ()
    """Returns the labels of the models that the replicas of a server list, as far as polling knows."""
    label_of: Callable[[str, str], str | None] = lambda _server, _model: None
    """Returns the label under which polling shows the model of a server with this name or alias; None if none has."""
    running: RunningRequests | None = None
    """Receives the requests in progress; None: the proxy keeps its own."""


_DEFAULTS = ProxyEnvironment()


class ProxyParts(NamedTuple):
    """What all servers of the proxy share."""

    metrics: RequestMetrics
    self_metrics: SelfMetrics
    connections: DownstreamConnections
    parsing: ParsingQueue
    environment: ProxyEnvironment
    model_names: dict[str, ModelNames]
    """By server; kept by a reload, as its series are."""

    def names_of(self, settings: ProxiedServer) -> ModelNames:
        """Return the model names of a server, bounded by these settings from now on."""
        server = settings.name
        names = self.model_names.get(server)
        if names is not None:
            names.configure(settings.max_models, settings.models)
        else:
            names = self.model_names[server] = ModelNames(
                settings.max_models,
                settings.models,
                is_listed=partial(self.environment.is_listed, server),
                remove=partial(self.metrics.remove_model, server),
            )
        names.canonical = partial(self._canonical, settings)
        return names

    def _canonical(self, settings: ProxiedServer, model: str) -> str:
        """Return the one name of a model that has several."""
        label = self.environment.label_of(settings.name, model)
        return label if label is not None else full_name(self.kind_of(settings), model)

    def kind_of(self, settings: ProxiedServer) -> str:
        """Return the kind of a server's engine: as configured, else as detected, else 'auto'."""
        return settings.kind if settings.kind != AUTO else self.environment.detected_kind(settings.name) or AUTO


class ServerContext:
    """What all requests to one server with the same settings share."""

    def __init__(self, settings: ProxiedServer, parts: ProxyParts, security: ListenerSecurity) -> None:
        """Prepare; must be called on the event loop, and closed."""
        self.settings = settings
        self.security = security
        self.name = settings.name
        self.metrics, self.self_metrics, self._environment = parts.metrics, parts.self_metrics, parts.environment
        self.request_overhead = self.self_metrics.overhead(self.name, "request")
        self.response_overhead = self.self_metrics.overhead(self.name, "response")
        self.replicas = Replicas(
            settings,
            lambda url: Upstream(url, parts.connections, settings.connect_timeout, server=self.name),
            parts.self_metrics,
            parts.environment.now,
        )
        self.names = parts.names_of(settings)
        self.upstream_fields = headers.configured(settings.upstream_headers)
        """Fields that each request to the upstream gets."""
        self.authentication = security.authentication
        """Decides about each request; None where everybody is accepted."""
        self.not_forwarded = headers.NOT_FORWARDED.union(
            (field.key for field in self.upstream_fields), CREDENTIALS if self.authentication else ()
        )
        """Fields of clients that no upstream receives."""
        header = settings.client_header
        self._client_header = header.encode() if header else None
        self._kind = partial(parts.kind_of, settings)
        self.usage = UsageRequests(
            settings.include_usage, time.monotonic, partial(self.self_metrics.usage_state, self.name)
        )
        self.is_draining = False
        """Whether clients' connections end with their requests."""
        self.uses = UseCount()
        self.parsing = parts.parsing
        self.checks_host = is_loopback(settings.listen.host) and "*" not in settings.allowed_hosts
        """Whether only known host names are accepted."""
        self._accepted_hosts: set[bytes] = set()
        """Values of Host that have passed the check."""
        self._late = 0
        self._is_closed = False
        self.usage.set_kind(self.kind)

    @property
    def kind(self) -> str:
        """The engine's kind: as configured, else as detected, else 'auto'."""
        return self._kind()

    def objectives_of(self, model: str) -> Objectives:
        """Return the objectives of the model with a label: those given for any of its names, else the server's."""
        models = self.settings.models
        name = model if not models or model in models else self.names.configured(model, models)
        return self.settings.objectives_of(name or model)

    def client_of(self, request: Request) -> str | None:
        """Return the client as the configured header names it; None without one."""
        if self._client_header is None:
            return None
        value = request.by_key.get(self._client_header)
        return headers.shown(value, _MAX_CLIENT_LENGTH) or None if value else None

    def check_host(self, request: Request) -> None:
        """Raise Refused for a request to a host name that is not this machine's nor configured."""
        host = request.by_key.get(b"host")
        if host is not None and host not in self._accepted_hosts:
            check_host(request, self._is_known_host)
            if len(self._accepted_hosts) < _MAX_ACCEPTED_HOSTS:
                self._accepted_hosts.add(host)

    def _is_known_host(self, name: str) -> bool:
        return is_address(name) or self._environment.is_own_name(name) or name in self.settings.allowed_hosts

    def begin_late_parsing(self) -> bool:
        """Count a response that is parsed after it was forwarded; return whether there is room for it."""
        self._late += 1
        return self._late <= _MAX_LATE

    def end_late_parsing(self) -> None:
        """Stop counting such a response."""
        self._late -= 1

    def close(self) -> None:
        """Close the kept connections to the server."""
        if not self._is_closed:
            self._is_closed = True
            self.replicas.close()


class Listener:
    """Accepts connections for one server. Each request uses the context that is set when it begins."""

    def __init__(self, context: ServerContext, connections: DownstreamConnections, *, reuse_port: bool = False) -> None:
        self.context = context
        self.connections = connections
        self._reuse_port = reuse_port
        self._servers: Sequence[asyncio.Server] = ()
        self._bound: Sequence[Address] = ()
        self._handshakes = TlsListener(self._tls_in_force, lambda _reason: self.count_closed(TLS_HANDSHAKE))
        self._open: dict[DownstreamConnection, None] = {}
        self._contexts = {context}
        self._exchanges: dict[DownstreamConnection, Exchange] = {}

    @property
    def server_name(self) -> str:
        """The server whose requests are received."""
        return self.context.name

    @property
    def address(self) -> Address:
        """Where it listens, as configured."""
        return self.context.settings.listen

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self.ports[0]

    @property
    def ports(self) -> Sequence[int]:
        """The ports that it listens on: several where a host has several addresses and any free port will do."""
        return [sock.getsockname()[1] for server in self._servers for sock in server.sockets]

    def listening(self) -> list[open_listeners.ListenerState]:
        """Return where it listens, and whether clients have to authenticate."""
        is_authenticated = self.context.settings.requires_authentication
        return [open_listeners.ListenerState(address, self.server_name, is_authenticated) for address in self._bound]

    async def listen(self) -> None:
        """Listen; CannotListen when that is not possible."""
        try:
            self._servers = await listening.serve(self._new_connection, self.address, reuse_port=self._reuse_port)
        except (OSError, ValueError) as error:
            raise listening.CannotListen(
                f"cannot listen on {self.address} for {self.server_name}: {listening.reason(error)}"
            ) from error
        names = [sock.getsockname() for server in self._servers for sock in server.sockets]
        self._bound = [Address(name[0], name[1]) for name in names]
        self.connections.metrics.add_server(self.server_name)

    def _new_connection(self) -> asyncio.Protocol:
        connection = DownstreamConnection(self)
        return connection if self.context.security.tls is None else self._handshakes.protect(connection)

    def _tls_in_force(self) -> TlsInForce | None:
        tls = self.context.security.tls
        return None if tls is None else tls.in_force()

    def replace_context(self, context: ServerContext) -> ServerContext:
        """Use another context for the requests to come; return the one before."""
        before, self.context = self.context, context
        self.connections.metrics.add_server(context.name)
        before.replicas.retire()
        context.replicas.put_in_force(before.replicas)
        self._contexts.add(context)
        return before

    def count_closed(self, reason: str) -> None:
        """Count a connection that is closed because of a limit."""
        self.connections.metrics.connection_closed(self.server_name, reason)

    def add(self, connection: DownstreamConnection) -> None:
        """Add a connection that was accepted."""
        self._open[connection] = None

    def remove(self, connection: DownstreamConnection) -> None:
        """Remove a connection that is closed."""
        self._open.pop(connection, None)
        self._exchanges.pop(connection, None)

    def handler(self, connection: DownstreamConnection, request: Request) -> Exchange:
        """Return the exchange of a request."""
        exchange = self._exchanges[connection] = Exchange(self.context, connection, request)
        return exchange

    def idle(self) -> Iterator[DownstreamConnection]:
        """Yield the connections without a request, those that are open longest first."""
        for connection in self._open:
            if connection.is_idle:
                yield connection

    def stop_listening(self) -> None:
        """Accept no more connections, and close those without a request; others end with theirs."""
        for server in self._servers:
            server.close()
        for context in self._contexts:
            context.is_draining = True
        for connection in list(self.idle()):
            connection.close()

    async def close_once_idle(self, context: ServerContext) -> None:
        """Close a context that was replaced, once no request uses it, and forget it."""
        try:
            await context.uses.idle()
        finally:
            context.close()
            self._contexts.discard(context)

    @property
    def requests(self) -> int:
        """The number of requests in progress."""
        return sum(context.uses.count for context in self._contexts)

    async def idle_once(self) -> None:
        """Return once no request is in progress."""
        await asyncio.gather(*(context.uses.idle() for context in self._contexts))

    def abort(self) -> None:
        """Close every connection."""
        self.stop_listening()
        for exchange in list(self._exchanges.values()):
            exchange.cancel()
        for connection in list(self._open):
            connection.close()
        for context in self._contexts:
            context.close()


class Proxy:
    """All proxied servers; used on the event loop."""

    def __init__(
        self,
        registry: CollectorRegistry,
        listeners: Sequence[ObservationListener] = (),
        environment: ProxyEnvironment = _DEFAULTS,
    ) -> None:
        """Prepare; ``listeners`` receive every finished request."""
        self.metrics = RequestMetrics(
            registry, listeners, environment.removal_listeners, self._known_models, environment.running
        )
        self.self_metrics = SelfMetrics(registry)
        self.connections = DownstreamConnections(environment.descriptors, self.self_metrics, environment.settings)
        self._parts = ProxyParts(self.metrics, self.self_metrics, self.connections, ParsingQueue(), environment, {})
        self._listeners: list[Listener] = []
        self._removed: set[Listener] = set()
        """Listeners that a reload has stopped, while requests are in progress."""
        self._background: set[asyncio.Task[None]] = set()
        self._lag: asyncio.Task[None] | None = None

    def _known_models(self) -> Iterator[tuple[str, str]]:
        """Yield (server, model) of every model that is configured or listed, and of requests without a known model."""
        for server in {listener.server_name for listener in self._listeners}:
            configured = self._parts.model_names[server].configured_labels()
            listed = self._parts.environment.listed_models(server)
            for model in {*configured, *listed, OTHER, UNKNOWN}:
                yield server, model

    @property
    def ports(self) -> set[int]:
        """The ports that it listens on."""
        return {port for listener in self._listeners for port in listener.ports}

    def listening(self) -> list[open_listeners.ListenerState]:
        """Return where it listens, and whether clients have to authenticate; for any thread."""
        return [each for listener in list(self._listeners) for each in listener.listening()]

    async def drain(self, seconds: float, forced: asyncio.Event) -> None:
        """Stop listening and let requests in progress end, for so many seconds or until ``forced`` is set."""
        listeners = [*self._listeners, *self._removed]
        for listener in listeners:
            listener.stop_listening()
        count = sum(listener.requests for listener in listeners)
        if not count:
            return
        log.info("waiting for requests in progress", extra={"fields": {"requests": count, "limit": f"{seconds:g}s"}})
        waiting = {asyncio.ensure_future(_idle(listeners)), asyncio.ensure_future(forced.wait())}
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    async def close(self) -> None:
        """Close everything at once."""
        if self._lag is not None:
            self._lag.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._lag
        for task in self._background:
            task.cancel()  # each closes what it waited for
        for listener in (*self._listeners, *self._removed):
            listener.abort()
        await asyncio.gather(*self._background, return_exceptions=True)
        self.connections.hangups.close()

    async def listen(self, server: ProxiedServer) -> int:
        """Listen for one more server and return the port; CannotListen when that is not possible."""
        listener = await self._listener(server)
        self._listeners.append(listener)
        return listener.port

    async def prepare(self, servers: Sequence[ProxiedServer]) -> ProxyChange:
        """Listen for the servers that are new; nothing else changes before the change is put in force.

        CannotListen when one of them cannot: then none of them does.
        """
        free = list(self._listeners)
        kept: list[tuple[Listener, ProxiedServer, ListenerSecurity]] = []
        new: list[ProxiedServer] = []
        for server in servers:
            listener = next((one for one in free if _serves(one, server)), None)
            if listener is None:
                new.append(server)
            else:
                free.remove(listener)
                changed = listener.context.settings != server
                security = await call(partial(ListenerSecurity, server)) if changed else listener.context.security
                kept.append((listener, server, security))
        started: list[Listener] = []
        try:
            for server in new:
                listener = await self._listener(server)
                started.append(listener)
        except BaseException:
            for listener in started:
                listener.abort()
            raise
        return ProxyChange(kept, started, free)

    async def _listener(self, server: ProxiedServer) -> Listener:
        if self._lag is None:
            self._lag = asyncio.ensure_future(self.self_metrics.watch_loop())
        reuse_port = self._parts.environment.reuse_port
        context = ServerContext(server, self._parts, await call(partial(ListenerSecurity, server)))
        listener = Listener(context, self.connections, reuse_port=reuse_port)
        try:
            await listener.listen()
        except BaseException:
            listener.context.close()
            raise
        _log_listening(server, listener)
        return listener

    def put_in_force(self, change: ProxyChange) -> None:
        """Use new settings for the requests to come; stop listening for what is gone, and let its requests end."""
        for listener, server, security in change.kept:
            if listener.context.settings != server:
                before = listener.replace_context(ServerContext(server, self._parts, security))
                self._in_background(listener.close_once_idle(before))
        for listener in change.removed:
            fields = {"server": listener.server_name, "address": str(Address(listener.address.host, listener.port))}
            log.info("no longer proxying", extra={"fields": fields})
            self._removed.add(listener)
            listener.context.replicas.retire()
            self._in_background(self._close_once_idle(listener))
        moved = {listener.server_name: listener.context.replicas for listener in change.removed}
        for listener in change.started:
            listener.context.replicas.put_in_force(moved.get(listener.server_name))
        self._listeners = [*(listener for listener, *_ in change.kept), *change.started]

    async def _close_once_idle(self, listener: Listener) -> None:
        try:
            listener.stop_listening()
            await listener.idle_once()
        finally:
            listener.abort()
            self._removed.discard(listener)

    def undo(self, change: ProxyChange) -> None:
        """Stop listening for the servers that are new."""
        for listener in change.started:
            listener.abort()

    def _in_background(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


class ProxyChange(NamedTuple):
    """The listeners after a reload: those that stay, with their settings, the new ones, and those that are gone."""

    kept: Sequence[tuple[Listener, ProxiedServer, ListenerSecurity]]
    started: Sequence[Listener]
    removed: Sequence[Listener]


class ReloadedProxy:
    """Changes the listeners of a proxy from the thread of a reload."""

    def __init__(self, proxy: Proxy, loop: asyncio.AbstractEventLoop) -> None:
        self._proxy = proxy
        self._loop = loop

    def prepare(self, servers: Sequence[ProxiedServer]) -> ThreadsafeChange:
        """Listen for new servers; blocks. CannotListen, or TimeoutError, when that fails; nothing has changed then."""
        preparing = asyncio.run_coroutine_threadsafe(self._proxy.prepare(servers), self._loop)
        try:
            change = preparing.result(_PREPARE_SECONDS)
        except TimeoutError:
            preparing.cancel()
            raise
        return ThreadsafeChange(self._proxy, change, self._loop)


class ThreadsafeChange(NamedTuple):
    """A change of listeners that another thread puts in force or undoes."""

    proxy: Proxy
    change: ProxyChange
    loop: asyncio.AbstractEventLoop

    def put_in_force(self) -> None:
        """Put the change in force soon, on the event loop."""
        self.loop.call_soon_threadsafe(self.proxy.put_in_force, self.change)

    def undo(self) -> None:
        """Undo the change soon, on the event loop."""
        self.loop.call_soon_threadsafe(self.proxy.undo, self.change)


async def _idle(listeners: Sequence[Listener]) -> bool:
    """Return True once no request of these listeners is in progress."""
    for listener in listeners:
        await listener.idle_once()
    return True


def _serves(listener: Listener, server: ProxiedServer) -> bool:
    """Return whether a listener can go on for a server: the same address, and for any free port the same name."""
    return listener.address == server.listen and (server.listen.port != 0 or listener.server_name == server.name)


def _log_listening(server: ProxiedServer, listener: Listener) -> None:
    port = listener.port
    address = str(Address(server.listen.host, port))
    fields = {
        "server": server.name,
        "address": address,
        "url": f"{'http' if server.tls is None else 'https'}://{listening.url_address(server.listen, port)}",
        "upstream": ", ".join(url.text for url in server.upstreams),
    }
    log.info("proxying", extra={"fields": fields})
    limit = f'servers: proxy: listen: "127.0.0.1:{port}", servers: proxy: auth, or a firewall'
    open_listeners.warn(listener.listening(), limit)
