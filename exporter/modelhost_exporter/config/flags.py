"""The command line: flags in the Prometheus family's style, each one a key of the configuration."""

from __future__ import annotations

import argparse
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from modelhost_exporter import __version__, collectors
from modelhost_exporter.logs.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PROGRAM = "modelhost-exporter"
DISCOVER = "discover"


@dataclass(frozen=True)
class Arguments:
    """A parsed command line: the file, whether only to check it, and what flags set (dotted key → value)."""

    config_file: Path | None
    config_check: bool
    demo: bool
    """Watch a simulated machine instead of this one."""
    overrides: Mapping[str, object]

    def flag_of(self, where: str) -> str | None:
        """Return the flag that set the key at ``where`` (which may point inside a list); None for the file's."""
        key = where.partition("[")[0]
        return next((flag.name for flag in _flags() if flag.key == key and key in self.overrides), None)


@dataclass(frozen=True)
class Flag:
    """One flag and the configuration key that it sets."""

    name: str
    key: str
    help: str
    value: Mapping[str, Any]
    """argparse's keywords for its value."""


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
            "Address to listen on; repeatable. Default 127.0.0.1:8585; :8585 is every address of the machine.",
            {"action": "append", "metavar": "HOST:PORT"},
        ),
        Flag(
            "--web.telemetry-path",
            "web.telemetry_path",
            "Path of the metrics. Default /metrics.",
            {"metavar": "PATH"},
        ),
        Flag(
            "--web.max-requests",
            "web.max_requests",
            "Scrapes served at the same time; more are answered 503. Default 40.",
            {"type": int, "metavar": "N"},
        ),
        *_web_limits(),
        Flag(
            "--web.enable-lifecycle",
            "web.enable_lifecycle",
            "Allow a reload by POST /-/reload. Default off.",
            _SWITCH,
        ),
        Flag(
            "--web.allowed-host",
            "web.allowed_hosts",
            "Name that URLs of this exporter may have, besides addresses and this machine's names; repeatable.",
            {"action": "append", "metavar": "NAME[:PORT]"},
        ),
        Flag(
            "--web.allowed-origin",
            "web.allowed_origins",
            "Web page elsewhere that may read the live feed, such as https://dashboard.example.com; repeatable.",
            {"action": "append", "metavar": "ORIGIN"},
        ),
        Flag(
            "--web.strict-host",
            "web.strict_host",
            "Check the Host of scrapes and health checks too where the listener is not on loopback. Default off.",
            _SWITCH,
        ),
        Flag(
            "--web.grafana-url",
            "web.grafana_url",
            "Where the live page's link to Grafana leads. Default: no link.",
            {"metavar": "URL"},
        ),
        Flag(
            "--scrape.timeout",
            "scrape.timeout",
            "Deadline of each collector; a scrape's own, shorter time-out wins. Default 5s.",
            {"metavar": "DURATION"},
        ),
        Flag(
            "--server",
            "--server",
            "Poll the engine at URL, such as ollama=http://127.0.0.1:11434; repeatable, added to those of the file."
            " Default name: host and port.",
            {"action": "append", "metavar": "[NAME=]URL"},
        ),
        Flag(
            "--proxy",
            "--proxy",
            "Forward requests from LISTEN to URL and measure them, such as"
            " ollama=127.0.0.1:8434=http://127.0.0.1:11434; repeatable. With the NAME of a --server both are one.",
            {"action": "append", "metavar": "[NAME=]LISTEN=URL"},
        ),
        Flag("--path.procfs", "path.procfs", "Where /proc is. Default /proc.", {"metavar": "PATH"}),
        Flag("--path.sysfs", "path.sysfs", "Where /sys is. Default /sys.", {"metavar": "PATH"}),
        Flag(
            "--path.rootfs",
            "path.rootfs",
            "Where the host's root is mounted, in a container. Default /.",
            {"metavar": "PATH"},
        ),
        Flag(
            "--collector.disable-defaults",
            "collectors.disable_defaults",
            "Run only the collectors that are enabled by name.",
            _SWITCH,
        ),
        *(
            Flag(f"--collector.{name}", f"collectors.{name}.enabled", _collector_help(name), _SWITCH)
            for name in collectors.names()
        ),
        Flag("--log.level", "log.level", "debug, info, warning or error. Default info.", {"metavar": "LEVEL"}),
        Flag("--log.format", "log.format", "text (logfmt) or json. Default text.", {"metavar": "FORMAT"}),
    ]


def _web_limits() -> list[Flag]:
    """Return the flags for time-outs and caps of connections to the web port."""
    duration, number = {"metavar": "DURATION"}, {"type": int, "metavar": "N"}
    limits: list[tuple[str, str, Mapping[str, Any]]] = [
        ("header-timeout", "Time for the headers of a request to arrive. Default 10s.", duration),
        ("idle-timeout", "Time until a connection without a request is closed. Default 75s.", duration),
        ("body-timeout", "Time without a byte of a request's body. Default 60s.", duration),
        ("send-timeout", "Time without progress for a client that does not read. Default 30s.", duration),
        ("max-header-bytes", "Size of all headers of a request; more is answered 431. Default 32768.", number),
        ("max-connections", "Connections to the web port at the same time. Default 512.", number),
        ("max-connections-per-address", "Likewise from one IPv4 address or IPv6 /64. Default 256.", number),
    ]
    return [Flag(f"--web.{name}", f"web.{name.replace('-', '_')}", text, value) for name, text, value in limits]


def _collector_help(name: str) -> str:
    module = collectors.module(name)
    state = "enabled" if collectors.options_of(name).enabled_by_default else "disabled"
    summary = (module.__doc__ or "").partition("\n")[0]  # python -OO has no docstrings
    return f"{summary} Default {state}.".lstrip()


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Print the mistake in one line and exit with 2."""
        hints = [f"{old} was replaced by {new}; " for old, new in _REPLACED.items() if old in message]
        self.exit(2, f"{PROGRAM}: {redact(message)} ({''.join(hints)}see --help)\n")


def parser() -> argparse.ArgumentParser:
    """Build the parser; flags that are not given leave no trace."""
    result = _Parser(
        prog=PROGRAM,
        description="Prometheus exporter for machines that serve models.",
        epilog=f"{PROGRAM} {DISCOVER} [HOST] looks once for model servers on this machine, or another, says what it"
        " finds and prints the configuration for it.",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    result.add_argument("--config.file", type=Path, metavar="FILE", help="YAML configuration; flags win over it.")
    result.add_argument("--config.check", action="store_true", help="Check the configuration and exit.")
    result.add_argument(
        "--demo",
        action="store_true",
        help="Show a machine that does not exist, with eight GPUs, model servers, traffic and incidents: no hardware"
        " and no server is asked, and nothing is proxied.",
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


def parse_discover(arguments: Sequence[str]) -> str:
    """Parse the arguments of ``discover`` and return the host; exits with 2 and one line on a mistake."""
    discover = _Parser(
        prog=f"{PROGRAM} {DISCOVER}",
        description="Look once at the ports where model servers usually listen, and print the configuration for them.",
        allow_abbrev=False,
    )
    discover.add_argument("host", nargs="?", default="127.0.0.1", metavar="HOST", help="Default 127.0.0.1.")
    host: str = discover.parse_args(arguments).host
    return host


def parse(arguments: Sequence[str]) -> Arguments:
    """Parse a command line; exits with 2 and one line on a mistake."""
    given = vars(parser().parse_args(arguments))
    keys = {flag.name.removeprefix("--").replace("-", "_"): flag.key for flag in _flags()}
    return Arguments(
        config_file=given.get("config.file"),
        config_check=given.get("config.check", False),
        demo=given.get("demo", False),
        overrides={keys[name]: value for name, value in given.items() if name in keys},
    )
