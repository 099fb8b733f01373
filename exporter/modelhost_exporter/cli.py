"""The command line program: wire the parts together, run until stopped, return the exit code.

Exit codes: 0 after a clean stop, 1 when the exporter cannot run (an address in use), 2 for invalid flags or an invalid
configuration.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from modelhost_exporter import __version__, threads
from modelhost_exporter.collector import Paths
from modelhost_exporter.config import flags
from modelhost_exporter.config import model as configuration
from modelhost_exporter.config.model import Address, ConfigError
from modelhost_exporter.engines import discovery
from modelhost_exporter.export import arguments as export_arguments
from modelhost_exporter.host_service import arguments as service_arguments
from modelhost_exporter.linux.kernel_files import is_present
from modelhost_exporter.local_discovery import LocalDiscovery
from modelhost_exporter.logs import formatting as logs
from modelhost_exporter.logs.redaction import redact
from modelhost_exporter.metrics import label_values
from modelhost_exporter.process import (
    allocator,
    executor,
    garbage,
    health_socket,
    listening,
    passed_sockets,
    signals,
    systemd,
)
from modelhost_exporter.process.descriptors import Descriptors, open_standard_streams, raise_limit
from modelhost_exporter.process.garbage import Garbage
from modelhost_exporter.process.machine_names import MachineNames
from modelhost_exporter.process.watchdog import LoopTurns, SelfScrape, Watchdog
from modelhost_exporter.proxy.listener_security import ListenerSecurity
from modelhost_exporter.proxy.server import Proxy, ProxyEnvironment, ReloadedProxy
from modelhost_exporter.security import web_config
from modelhost_exporter.security.open_listeners import OpenListeners
from modelhost_exporter.security.reloaded import FilesRead
from modelhost_exporter.security.token_files import TokenFiles
from modelhost_exporter.service import Service
from modelhost_exporter.web.connection_limits import LimitedRunner, WebConnectionLimits
from modelhost_exporter.web.internal_client import InternalClient
from modelhost_exporter.web.listeners import WebListeners
from modelhost_exporter.web.routes import build_app

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from modelhost_exporter.config.model import Config
    from modelhost_exporter.demo.host import DemoHost
    from modelhost_exporter.process.passed_sockets import PassedSockets
    from modelhost_exporter.process.periodic_thread import PeriodicThread
    from modelhost_exporter.process.systemd import Systemd

log = logging.getLogger(__name__)

EXIT_OK, EXIT_RUN_TIME, EXIT_CONFIG = 0, 1, 2

_SWITCH_INTERVAL_SECONDS = 0.0001
_STOP_SECONDS = 0.3


class _CannotStart(Exception):
    """The exporter cannot run on this machine: an address in use, no free thread."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the exporter with these command line arguments (None: ``sys.argv``); return the exit code."""
    open_standard_streams()
    try:
        return _main(list(sys.argv[1:] if arguments is None else arguments))
    finally:
        logs.flush()


def _main(words: Sequence[str]) -> int:
    if words[:1] and (run := _OTHER_COMMANDS.get(words[0])):
        return run(words[1:])
    is_doctor = words[:1] == [flags.DOCTOR]
    prometheus, words = flags.split_prometheus(words[1:]) if is_doctor else (None, words)
    given = flags.parse(words)
    try:
        sockets = passed_sockets.take(os.environ)
        load = partial(_load, given, sockets.addresses)
        first = load()
        if given.config_check:
            _check_security(first)
    except ConfigError as error:
        return _fail(str(error), EXIT_CONFIG, error.hint)
    if given.config_check:
        print(f"{given.config_file or 'configuration'}: valid")  # noqa: T201 - the command's output
        return EXIT_OK
    if is_doctor:
        return _examine(first, prometheus)
    logs.set_up(first.log)
    logs.log_uncaught_errors()
    # The event loop waits up to one switch interval for the interpreter while a thread renders a page (default 5 ms).
    sys.setswitchinterval(_SWITCH_INTERVAL_SECONDS)
    logging.logThreads = False  # else threading keeps the name of each thread that logs, which no format prints
    allocator.return_large_blocks()
    label_values.set_max_bytes(first.scrape.max_label_value_bytes)
    return _run(given, load, first, sockets)


class _Process(NamedTuple):
    """What was passed to this process, and what limits it."""

    manager: Systemd
    sockets: PassedSockets
    descriptors: Descriptors


def _run(given: flags.Arguments, load: Callable[[], Config], first: Config, sockets: PassedSockets) -> int:
    """Serve until stopped; return the exit code."""
    process = _Process(systemd.from_environment(os.environ), sockets, Descriptors(raise_limit()))
    try:
        _start_threads()
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve_demo(given.demo, load, process) if given.demo else _serve(_service(load, first), process))
    except _CannotStart as error:
        return _fail(str(error), EXIT_RUN_TIME)
    except ConfigError as error:  # of the file with TLS and passwords
        return _fail(str(error), EXIT_CONFIG)
    return EXIT_OK


def _check_security(config: Config) -> None:
    """Read the files with certificates, passwords and tokens; raises ConfigError."""
    for server in config.proxied:
        ListenerSecurity(server)
    if config.web.config_file is not None:
        web_config.load(config.web.config_file, FilesRead())
    TokenFiles(config.web.auth)


def _discover(words: Sequence[str]) -> int:
    """Print the engines found at a place; return exit code 0 when there is at least one, else 1."""
    place = flags.parse_discover(words)
    try:
        found = discovery.discover(place.urls)
    except discovery.UnknownHost as error:
        return _fail(str(error), EXIT_RUN_TIME)
    print(discovery.report(place.shown, found, _called()), end="")  # noqa: T201 - the command's output
    return EXIT_OK if found else EXIT_RUN_TIME


def _export(words: Sequence[str]) -> int:
    """Write files for the programs around the exporter."""
    from modelhost_exporter.export import command, writing  # noqa: PLC0415 - only for this

    try:
        print(command.run(export_arguments.parse(words)), end="")  # noqa: T201 - the command's output
    except writing.CannotExport as error:
        return _fail(str(error), EXIT_RUN_TIME)
    return EXIT_OK


def _manage_service(words: Sequence[str]) -> int:
    """Install, remove or show the service that starts the exporter at boot."""
    from modelhost_exporter.host_service import command, steps  # noqa: PLC0415 - only for this

    try:
        return command.run(service_arguments.parse(words))
    except steps.StepFailed as error:
        return _fail(str(error), EXIT_RUN_TIME)


_OTHER_COMMANDS = {
    flags.DISCOVER: _discover,
    export_arguments.EXPORT: _export,
    service_arguments.SERVICE: _manage_service,
}
"""Commands with arguments of their own."""


def _examine(config: Config, prometheus: str | None) -> int:
    """Print what would be measured here, or how a Prometheus does; return exit code 0 without a problem, else 1."""
    from modelhost_exporter.doctor import (  # noqa: PLC0415 - only for this
        collector_checks,
        findings,
        prometheus_checks,
        security_checks,
        server_checks,
    )
    from modelhost_exporter.export import shipped  # noqa: PLC0415 - likewise

    logging.getLogger("modelhost_exporter").propagate = False  # what is logged is part of the findings
    if prometheus is not None:
        found = list(prometheus_checks.check(prometheus, shipped.folder("prometheus/rules", "*.yml")))
    else:
        found = [*collector_checks.check(config), *security_checks.check(config), *server_checks.check(config)]
    print(findings.table(found), end="")  # noqa: T201 - the command's output
    return EXIT_RUN_TIME if any(finding.state == "problem" for finding in found) else EXIT_OK


def _called() -> str:
    """Return how this program was called, for commands to copy."""
    path = sys.argv[0]
    return f"{sys.executable} -m {__package__}" if path.endswith(".py") else path


def _load(given: flags.Arguments, passed: Sequence[Address] = ()) -> Config:
    """Load the configuration; an invalid value that came from a flag is reported under the flag's name.

    The addresses of sockets that were passed take the place of configured ones, if those sockets are to be used. Only a
    check of the file may take place where the folders of the host are missing.
    """
    overrides, defaults = given.overrides, flags.defaults(os.environ)
    try:
        config = configuration.load(given.config_file, overrides, defaults)
        if config.web.systemd_socket:
            overrides = {**overrides, "web.listen_addresses": [str(address) for address in passed]}
            config = configuration.load(given.config_file, overrides, defaults)
        if not (given.config_check or given.demo):
            _check_folders(config.path)
    except ConfigError as error:
        flag = given.flag_of(error.where)
        raise (ConfigError(flag, error.problem, error.hint) if flag else error) from None
    return config


def _check_folders(paths: Paths) -> None:
    """Raise ConfigError where a folder of the host was given and does not exist, such as one that is not mounted."""
    for name, default in vars(Paths()).items():
        path = getattr(paths, name)
        if path != default and not is_present(path):
            raise ConfigError(f"path.{name}", f"{path} does not exist: mount the host's there, or correct the path")


def _fail(problem: str, code: int, hint: str = "") -> int:
    logs.write(f"{flags.PROGRAM}: {redact(problem)}")
    if hint:
        logs.write(f"\nThe new form:\n\n{hint}")
    return code


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's factory; None, for asyncio's own loop, on Windows."""
    try:
        import uvloop  # noqa: PLC0415 - not on Windows
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _start_threads() -> None:
    """Start the threads that log, serve pages and run collectors, so that a later shortage of threads stops none."""
    with _needing_threads():
        logs.prepare()
        threads.PAGES.prepare()
        threads.COLLECTORS.prepare()
        threads.READS.prepare()
        threads.CALLS.prepare()


def _service(load: Callable[[], Config], first: Config) -> Service:
    with _needing_threads():
        return Service(load, first)


@contextlib.contextmanager
def _needing_threads() -> Iterator[None]:
    """Convert the RuntimeError of a machine without a free thread into _CannotStart."""
    try:
        yield
    except RuntimeError as error:
        limits = "a limit such as ulimit -u, ulimit -v or TasksMax"
        raise _CannotStart(f"cannot start a thread: {error} ({limits})") from error


async def _serve_demo(profile: str, load: Callable[[], Config], process: _Process) -> None:
    """Serve the simulated machine of a profile."""
    from modelhost_exporter.demo.host import DemoHost  # noqa: PLC0415 - nothing else needs it
    from modelhost_exporter.demo.profiles import PROFILES  # noqa: PLC0415 - likewise

    log.warning("this is a demo: every number is made up", extra={"fields": {"machine": profile}})
    demo = DemoHost(time.time(), profile=PROFILES[profile], load=load, live=True)
    try:
        await _serve(demo.service, process, demo)
    finally:
        demo.close()


async def _serve(service: Service, process: _Process, demo: DemoHost | None = None) -> None:
    """Serve until SIGTERM or SIGINT."""
    manager, sockets, descriptors = process
    loop = asyncio.get_running_loop()
    executor.use_for_name_look_ups(loop)
    with _needing_threads():
        await executor.start_threads_of_uvloop(loop)
    service.registry.register(descriptors)
    loop.set_exception_handler(descriptors.handle_loop_error)
    proxy = _proxy(service, descriptors)
    limits = WebConnectionLimits(
        lambda: service.config.web, service.registry, descriptors, proxy.connections.spare_descriptor
    )
    runner = LimitedRunner(
        build_app(service, service.web_security), limits, _STOP_SECONDS, service.web_security.protect
    )
    if demo is not None:
        demo.feed(proxy.metrics, proxy.self_metrics)
        demo.run()
    await runner.setup()
    listeners = WebListeners(runner, service.web_security)
    watching, health = asyncio.ensure_future(descriptors.watch()), None
    try:
        stop = signals.Stop()
        service.reloads.during = manager.reloading
        signals.handle(stop, service.reloads.start)
        await _listen(listeners, service, sockets)
        service.registry.register(OpenListeners(lambda: [*listeners.listening(), *proxy.listening()]))
        searching = None
        if demo is None:
            await _start_proxy(proxy, service)
            searching = _start_discovery(service, lambda: {each.port for each in listeners.addresses} | proxy.ports)
        _print_page(service, listeners.addresses)
        health = await health_socket.listen(runner.limited_server.internal_connection, listeners.port)
        log.info(
            "ready",
            extra={"fields": {"version": __version__, "collectors": ",".join(service.config.collectors)}},
        )
        garbage.collect_less()
        background = [
            asyncio.ensure_future(Garbage(proxy.metrics.is_idle).run()),
            asyncio.ensure_future(service.readiness.collect_first(lambda: service.scrape)),
        ]
        watchdog = _start_watchdog(manager, service, runner)
        manager.ready()
        await stop.requested.wait()
        manager.stopping()
        watchdog.stop()
        if searching is not None:
            searching.stop()
        for task in background:
            task.cancel()
        service.readiness.stop()
        log.info("stopping")
        await proxy.drain(service.config.proxy.drain_timeout, stop.forced)
    finally:
        service.pollers.close()
        watching.cancel()
        if health is not None:
            health.close()
        await asyncio.gather(runner.cleanup(), proxy.close())


def _proxy(service: Service, descriptors: Descriptors) -> Proxy:
    """Create the proxy, which does not listen yet."""
    environment = ProxyEnvironment(
        descriptors,
        service.pollers.kind_of,
        MachineNames().__contains__,
        service.config.proxy.reuse_port,
        service.pollers.is_listed,
        service.removal_listeners,
        lambda: service.config.proxy,
        listed_models=service.pollers.listed_models,
        label_of=service.pollers.label_of,
        running=service.running_requests,
    )
    return Proxy(service.registry, service.request_listeners, environment)


def _start_watchdog(manager: Systemd, service: Service, runner: LimitedRunner) -> Watchdog:
    """Create the watchdog; start it when systemd expects pings."""
    loop, server = asyncio.get_running_loop(), runner.limited_server
    path = service.config.web.telemetry_path
    checks = (
        LoopTurns(loop),
        SelfScrape(
            InternalClient(loop, server.internal_connection).connect,
            path,
            collectors=lambda: service.scrape.names,
            pages=lambda: threads.PAGES.finished,
            page_seconds=lambda: service.scrape.timeout_seconds,
        ),
    )
    watchdog = Watchdog(manager.ping, manager.watchdog_seconds or 0.0, checks)
    if manager.watchdog_seconds is not None:
        with _needing_threads():
            watchdog.start()
    return watchdog


def _start_discovery(service: Service, own_ports: Callable[[], set[int]]) -> PeriodicThread:
    with _needing_threads():
        return LocalDiscovery(service, own_ports).start()


async def _listen(listeners: WebListeners, service: Service, sockets: PassedSockets) -> None:
    try:
        await listeners.listen(service.config.web, sockets)
    except listening.CannotListen as error:
        raise _CannotStart(str(error)) from error


def _print_page(service: Service, addresses: Sequence[Address]) -> None:
    """Print where the live page is, for people who started the program themselves."""
    if not addresses:
        return
    host, port = service.config.web.listen_addresses[0].host, addresses[0].port
    shown = listening.url_address(Address(listening.own_host(host), port), port)
    with contextlib.suppress(OSError, ValueError):  # nobody reads it
        print(f"open {service.web_security.scheme}://{shown}/", flush=True)  # noqa: T201 - for people, not for the log


async def _start_proxy(proxy: Proxy, service: Service) -> None:
    """Start a listener for each proxied server; reloads change the listeners from then on."""
    for server in service.config.proxied:
        try:
            await proxy.listen(server)
        except listening.CannotListen as error:
            raise _CannotStart(str(error)) from error
    service.proxy = ReloadedProxy(proxy, asyncio.get_running_loop())
