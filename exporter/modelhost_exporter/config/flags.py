"""Command line flags in the style of Prometheus; each sets a key of the configuration."""

from __future__ import annotations

import argparse
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from modelhost_exporter import __version__, collectors
from modelhost_exporter.config.http_url import ServerUrl
from modelhost_exporter.engines.discovery import Place, place
from modelhost_exporter.logs.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PROGRAM = "modelhost-exporter"
DISCOVER = "discover"
DOCTOR = "doctor"
LISTEN_ADDRESS = "MODELHOST_LISTEN_ADDRESS"
"""The environment variable with addresses to listen on, separated by commas."""

DEMO_PROFILES = ("rack", "workstation")
"""The simulated machines of ``--demo``, the default first."""


@dataclass(frozen=True)
class Arguments:
    """A parsed command line."""

    config_file: Path | None
    config_check: bool
    """Only check the configuration, then exit."""
    demo: str | None
    """The simulated machine to measure instead of this one, one of DEMO_PROFILES; None: none."""
    overrides: Mapping[str, object]
    """Values set by flags, by dotted configuration key."""

    def flag_of(self, where: str) -> str | None:
        """Return the flag that set the key at ``where``, which may be an item of a list; None if no flag did."""
        key = where.partition("[")[0]
        return next((flag.name for flag in _flags() if flag.key == key and key in self.overrides), None)


@dataclass(frozen=True)
class Flag:
    """A flag and the configuration key that it sets."""

    name: str
    key: str
    help: str
    value: Mapping[str, Any]
    """Keyword arguments of ``argparse.ArgumentParser.add_argument`` for the flag's value."""


_REPLACED = {
    "--proxy.server": "--proxy=[NAME=]LISTEN=URL",
    "--collector.model_servers": "--collector.engines",
    "--no-collector.model_servers": "--no-collector.engines",
}
_SWITCH = {"action": argparse.BooleanOptionalAction}


def _flags() -> list[Flag]:
    """Return every flag that sets a key, in the order of --help."""
    return [
        Flag(
            "--web.listen-address",
            "web.listen_addresses",
            "Address to listen on; :8585 listens on every address of the machine. Repeatable. Default 127.0.0.1:8585.",
            {"action": "append", "metavar": "HOST:PORT"},
        ),
        Flag(
            "--web.systemd-socket",
            "web.systemd_socket",
            "Use the sockets that systemd passes (socket activation) instead of addresses. Default off.",
            _SWITCH,
        ),
        Flag(
            "--web.config.file",
            "web.config_file",
            "File with TLS, passwords and headers of the web port, in the format of Prometheus' exporters. Default:"
            " plain HTTP for everybody.",
            {"metavar": "FILE"},
        ),
        Flag(
            "--web.telemetry-path",
            "web.telemetry_path",
            "Path under which to expose metrics. Default /metrics.",
            {"metavar": "PATH"},
        ),
        Flag(
            "--web.max-requests",
            "web.max_requests",
            "Maximum number of parallel scrapes; further ones get a 503. Default 40.",
            {"type": int, "metavar": "N"},
        ),
        Flag(
            "--web.created-lines",
            "web.created_lines",
            "Expose when the series of requests began (_created), to scrapers that ask for OpenMetrics. Default off.",
            _SWITCH,
        ),
        *_web_limits(),
        Flag(
            "--web.enable-lifecycle",
            "web.enable_lifecycle",
            "Allow reloads by POST /-/reload. Default off.",
            _SWITCH,
        ),
        Flag(
            "--web.allowed-host",
            "web.allowed_hosts",
            "Host name to accept in requests, besides IP addresses and this machine's names. Repeatable.",
            {"action": "append", "metavar": "NAME[:PORT]"},
        ),
        Flag(
            "--web.allowed-origin",
            "web.allowed_origins",
            "Origin of web pages that may read the live feed, such as https://dashboard.example.com. Repeatable.",
            {"action": "append", "metavar": "ORIGIN"},
        ),
        Flag(
            "--web.strict-host",
            "web.strict_host",
            "Check the Host header of scrapes and health checks also on listeners that are not on loopback."
            " Default off.",
            _SWITCH,
        ),
        Flag(
            "--web.grafana-url",
            "web.grafana_url",
            "URL of Grafana, linked from the live page. Default: no link.",
            {"metavar": "URL"},
        ),
        Flag(
            "--scrape.timeout",
            "scrape.timeout",
            "Deadline of each collector; a shorter timeout sent by Prometheus takes precedence. Default 5s.",
            {"metavar": "DURATION"},
        ),
        Flag(
            "--server",
            "--server",
            "Poll the engine at URL, such as ollama=http://127.0.0.1:11434. Default name: host and port."
            " Repeatable; added to the servers of the file.",
            {"action": "append", "metavar": "[NAME=]URL"},
        ),
        Flag(
            "--proxy",
            "--proxy",
            "Forward requests from LISTEN to URL and measure them, such as"
            " ollama=127.0.0.1:8434=http://127.0.0.1:11434; an engine there is detected and polled."
            " auto: for each engine found on this machine, from its port plus 10000 on loopback. Repeatable.",
            {"action": "append", "metavar": "[NAME=]LISTEN=URL|auto"},
        ),
        Flag(
            "--discovery",
            "discovery.enabled",
            "Find the engines on this machine, and poll them. Default on.",
            _SWITCH,
        ),
        Flag("--path.procfs", "path.procfs", "Mount point of procfs. Default /proc.", {"metavar": "PATH"}),
        Flag("--path.sysfs", "path.sysfs", "Mount point of sysfs. Default /sys.", {"metavar": "PATH"}),
        Flag(
            "--path.rootfs",
            "path.rootfs",
            "Mount point of the host's root file system, for use in a container. Default /.",
            {"metavar": "PATH"},
        ),
        Flag(
            "--collector.textfile.directory",
            "collectors.textfile.directory",
            "Folder with files *.prom of metrics that other programs write, as for node_exporter. Default none.",
            {"metavar": "DIR"},
        ),
        Flag(
            "--collector.disable-defaults",
            "collectors.disable_defaults",
            "Run only the collectors that are enabled by name. Default off.",
            _SWITCH,
        ),
        *(
            Flag(f"--collector.{name}", f"collectors.{name}.enabled", _collector_help(name), _SWITCH)
            for name in collectors.names()
        ),
        Flag(
            "--log.level",
            "log.level",
            "Lowest level to log: debug, info, warning or error. Default info.",
            {"metavar": "LEVEL"},
        ),
        Flag(
            "--log.format",
            "log.format",
            "Format of log lines: text (logfmt) or json. Default text.",
            {"metavar": "FORMAT"},
        ),
    ]


def _web_limits() -> list[Flag]:
    """Return the flags for timeouts and limits of connections to the web port."""
    duration, number = {"metavar": "DURATION"}, {"type": int, "metavar": "N"}
    limits: list[tuple[str, str, Mapping[str, Any]]] = [
        ("header-timeout", "Timeout for receiving all headers of a request. Default 10s.", duration),
        ("idle-timeout", "Timeout of a connection between two requests. Default 75s.", duration),
        ("body-timeout", "Timeout between two reads of a request's body. Default 60s.", duration),
        ("send-timeout", "Timeout of a response of which the client reads nothing. Default 30s.", duration),
        ("max-header-bytes", "Maximum size of a request's headers; larger ones get a 431. Default 32768.", number),
        ("max-connections", "Maximum number of connections to the web port. Default 512.", number),
        (
            "max-connections-per-address",
            "Maximum number of connections from one IPv4 address or IPv6 /64 network. Default 256.",
            number,
        ),
    ]
    return [Flag(f"--web.{name}", f"web.{name.replace('-', '_')}", text, value) for name, text, value in limits]


def _collector_help(name: str) -> str:
    module = collectors.module(name)
    state = "enabled" if collectors.options_of(name).enabled_by_default else "disabled"
    summary = (module.__doc__ or "").partition("\n")[0]  # python -OO removes docstrings
    return f"{summary} Default {state}.".lstrip()


class CommandParser(argparse.ArgumentParser):
    """A parser that reports a mistake in one line."""

    def error(self, message: str) -> NoReturn:
        """Print the error in one line and exit with 2."""
        hints = [f"{old} was replaced by {new}; " for old, new in _REPLACED.items() if old in message]
        self.exit(2, f"{PROGRAM}: {redact(message)} ({''.join(hints)}see --help)\n")


def parser() -> argparse.ArgumentParser:
    """Build the parser; flags that are not given are absent from the result."""
    result = CommandParser(
        prog=PROGRAM,
        description="Prometheus exporter for machines that serve models.",
        epilog=f"{PROGRAM} {DISCOVER} [HOST|HOST:PORT|URL] finds the engines on this machine, or another, and prints"
        f" the configuration for them. {PROGRAM} {DOCTOR} takes the same flags as {PROGRAM}, checks what would be"
        f" measured here, and says what is missing; with --prometheus=URL it examines a Prometheus instead: its jobs,"
        f" targets and rules. {PROGRAM} healthcheck exits with 0 if the exporter that runs here"
        f" is ready. {PROGRAM} service install starts the exporter at boot.",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    result.add_argument(
        "--config.file", type=Path, metavar="FILE", help="YAML configuration file; flags take precedence over it."
    )
    result.add_argument("--config.check", action="store_true", help="Check the configuration and exit.")
    result.add_argument(
        "--demo",
        nargs="?",
        const=DEMO_PROFILES[0],
        choices=DEMO_PROFILES,
        help="Show a simulated machine: rack (the default) has eight GPUs, one of them split (MIG), several engines,"
        " a day's traffic and incidents; workstation has one RTX GPU, Ollama and llama.cpp, used by one person. No"
        " hardware is read, no server is polled, and nothing is proxied.",
    )
    result.add_argument(
        "--version",
        action="version",
        version=f"{PROGRAM} {__version__} (Python {platform.python_version()})",
        help="Print the version and exit.",
    )
    for flag in _flags():
        result.add_argument(flag.name, help=flag.help, **flag.value)
    return result


def defaults(environment: Mapping[str, str]) -> dict[str, object]:
    """Return the values, by dotted configuration key, that hold where neither file nor flags have the key.

    A container's image sets the address to listen on so: as an argument, any other argument would replace it.
    """
    addresses = environment.get(LISTEN_ADDRESS, "")
    return {"web.listen_addresses": addresses.split(",")} if addresses else {}


def split_prometheus(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """Return the URL of ``doctor --prometheus``, None without it, and the other arguments; exits with 2 on an error."""
    doctor = CommandParser(prog=f"{PROGRAM} {DOCTOR}", allow_abbrev=False, add_help=False)
    doctor.add_argument("--prometheus", metavar="URL")
    given, others = doctor.parse_known_args(arguments)
    if given.prometheus is None:
        return None, others
    try:
        return ServerUrl.from_text(given.prometheus).text, others
    except ValueError as error:
        doctor.error(f"--prometheus: {error}")


def parse_discover(arguments: Sequence[str]) -> Place:
    """Parse the arguments of ``discover`` and return where to look; exits with 2 and one line on an error."""
    discover = CommandParser(
        prog=f"{PROGRAM} {DISCOVER}",
        description="Find the engines of a machine, and print the configuration for them.",
        allow_abbrev=False,
    )
    discover.add_argument(
        "place",
        nargs="?",
        default="127.0.0.1",
        metavar="HOST|HOST:PORT|URL",
        help="Where to look; of a host, the usual ports of all engines. Default 127.0.0.1.",
    )
    given: str = discover.parse_args(arguments).place
    try:
        return place(given)
    except ValueError as error:
        discover.error(str(error))


def parse(arguments: Sequence[str]) -> Arguments:
    """Parse a command line; exits with 2 and one line on an error."""
    given = vars(parser().parse_args(arguments))
    keys = {flag.name.removeprefix("--").replace("-", "_"): flag.key for flag in _flags()}
    return Arguments(
        config_file=given.get("config.file"),
        config_check=given.get("config.check", False),
        demo=given.get("demo"),
        overrides={keys[name]: value for name, value in given.items() if name in keys},
    )
