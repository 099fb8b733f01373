"""The program: wires the parts together, runs until it is told to stop, and turns outcomes into exit codes.

0 after a clean stop, 1 when it cannot run (an address in use), 2 for a mistake in flags or configuration.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

from exporter import __version__, allocator, config, flags, listening, logs, threads
from exporter.config import ConfigError
from exporter.descriptors import Descriptors, raise_limit
from exporter.polling import discovery
from exporter.proxy.server import Proxy
from exporter.service import Service
from exporter.web.connection_limits import ConnectionLimits, LimitedRunner
from exporter.web.routes import build_app

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from aiohttp import web

    from exporter.config import Address, Config
    from exporter.demo.host import DemoHost

log = logging.getLogger(__name__)

EXIT_OK, EXIT_RUN_TIME, EXIT_CONFIG = 0, 1, 2

_SWITCH_INTERVAL_SECONDS = 0.0001
_STOP_SECONDS = 0.3
_LIVED_SECONDS = 120.0  # a demo begins in the middle of the traffic
_GARBAGE_THRESHOLD = 10_000  # Python's own, 700, costs a tenth of the time per request


class _CannotListen(Exception):
    """An address that cannot be listened on."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the exporter with these command line arguments (None: the process's own); return the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == [flags.DISCOVER]:
        return _discover(flags.parse_discover(words[1:]))
    given = flags.parse(words)
    load = partial(_load, given)
    try:
        first = load()
    except ConfigError as error:
        return _fail(str(error), EXIT_CONFIG)
    if given.config_check:
        print(f"{given.config_file or 'configuration'}: valid")  # noqa: T201 - the answer to a question
        return EXIT_OK
    logs.set_up(first.log)
    # While a page is rendered in a thread the event loop waits for the interpreter this long at a time (default 5 ms).
    sys.setswitchinterval(_SWITCH_INTERVAL_SECONDS)
    allocator.return_large_blocks()
    descriptors = Descriptors(raise_limit())
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            serving = _serve_demo(load, descriptors) if given.demo else _serve(Service(load, first), descriptors)
            runner.run(serving)
    except _CannotListen as error:
        return _fail(str(error), EXIT_RUN_TIME)
    return EXIT_OK


def _discover(host: str) -> int:
    """Say what model servers there are; 0 when there is one."""
    ports = discovery.usual_ports()
    found = discovery.discover(host, ports)
    print(discovery.report(host, ports, found), end="")  # noqa: T201 - the answer to a question
    return EXIT_OK if found else EXIT_RUN_TIME


def _load(given: flags.Arguments) -> Config:
    """Read the configuration; a mistake that a flag made is reported under the flag's name."""
    try:
        return config.load(given.config_file, given.overrides)
    except ConfigError as error:
        flag = given.flag_of(error.where)
        raise (ConfigError(flag, error.problem) if flag else error) from None


def _fail(problem: str, code: int) -> int:
    print(f"{flags.PROGRAM}: {problem}", file=sys.stderr)  # noqa: T201 - one line for a person
    return code


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's factory where the extra is installed."""
    try:
        import uvloop  # noqa: PLC0415 - an extra
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def _serve_demo(load: Callable[[], Config], descriptors: Descriptors) -> None:
    """Serve a machine that does not exist."""
    from exporter.demo.host import DemoHost  # noqa: PLC0415 - nothing else needs it

    log.warning("this is a demo: every number is made up")
    demo = DemoHost(time.time() - _LIVED_SECONDS, load=load, live=True)
    try:
        await _serve(demo.service, descriptors, demo)
    finally:
        demo.close()


async def _serve(service: Service, descriptors: Descriptors, demo: DemoHost | None = None) -> None:
    """Serve until SIGTERM or SIGINT."""
    service.registry.register(descriptors)
    asyncio.get_running_loop().set_exception_handler(descriptors.handle_loop_error)
    proxy = Proxy(service.config.proxy, service.registry, _STOP_SECONDS, service.fleet.recorded, descriptors)
    limits = ConnectionLimits(lambda: service.config.web, service.registry, descriptors, proxy.connections.close_idle)
    runner = LimitedRunner(build_app(service), limits, _STOP_SECONDS)
    if demo is not None:
        demo.feed(proxy.metrics, proxy.health)
        demo.run()
    await runner.setup()
    watching = asyncio.ensure_future(descriptors.watch())
    try:
        stop = asyncio.Event()
        reloads: set[asyncio.Task[None]] = set()
        _on_signals(stop, lambda: _start(reloads, _reload(service)))
        for address in service.config.web.listen_addresses:
            await _listen(runner, address, service.config.web.telemetry_path)
        if demo is None:
            await _start_proxy(proxy)
        log.info(
            "ready",
            extra={"fields": {"version": __version__, "collectors": ",".join(service.config.collectors)}},
        )
        collect_garbage_less()
        await stop.wait()
        log.info("stopping")
    finally:
        service.fleet.close()
        watching.cancel()
        await asyncio.gather(runner.cleanup(), proxy.close())


def collect_garbage_less() -> None:
    """Look for garbage in cycles less often, and not in what lives since the start: that stops streams for 30 ms."""
    gc.freeze()
    gc.set_threshold(_GARBAGE_THRESHOLD)


async def _listen(runner: web.AppRunner, address: Address, path: str) -> None:
    try:
        await listening.listen(runner, address)
    except (OSError, ValueError) as error:  # ValueError: a host that cannot be a name (a label of 70 letters)
        raise _CannotListen(f"cannot listen on {address}: {_problem(error)}") from error
    shown = _reachable(address, runner.addresses[-1][1])
    log.info("listening", extra={"fields": {"address": str(address), "url": f"http://{shown}{path}"}})


async def _start_proxy(proxy: Proxy) -> None:
    for server in proxy.servers:
        try:
            port = await proxy.listen(server)
        except (OSError, ValueError) as error:
            raise _CannotListen(f"cannot listen on {server.listen} for {server.name}: {_problem(error)}") from error
        fields = {
            "server": server.name,
            "url": f"http://{_reachable(server.listen, port)}",
            "upstream": server.upstream.text,
        }
        log.info("proxying", extra={"fields": fields})


def _problem(error: OSError | ValueError) -> str:
    """Return the system's words; asyncio's own text repeats the address."""
    if isinstance(error, ValueError):
        return str(error)
    if error.errno and not isinstance(error, socket.gaierror):
        return os.strerror(error.errno)
    return error.strerror or str(error)


def _reachable(address: Address, port: int) -> Address:
    """Return an address that a browser on this machine can open."""
    return type(address)("localhost" if address.host in ("", "0.0.0.0", "::") else address.host, port)  # noqa: S104 - compared


def _on_signals(stop: asyncio.Event, reload: Callable[[], None]) -> None:
    """Stop on SIGTERM and SIGINT, reload on SIGHUP (where the platform has it)."""
    loop = asyncio.get_running_loop()
    actions: dict[str, Callable[[], None]] = {"SIGTERM": stop.set, "SIGINT": stop.set, "SIGHUP": reload}
    for name, action in actions.items():
        number = getattr(signal, name, None)
        if number is None:
            continue
        try:
            loop.add_signal_handler(number, action)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda *_, action=action: loop.call_soon_threadsafe(action))


def _start(tasks: set[asyncio.Task[None]], work: Coroutine[None, None, None]) -> None:
    """Start a task and hold on to it until it is done."""
    task = asyncio.ensure_future(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)


async def _reload(service: Service) -> None:
    try:
        await threads.call(service.reload)
    except ConfigError:
        return  # logged, and the old configuration rules
