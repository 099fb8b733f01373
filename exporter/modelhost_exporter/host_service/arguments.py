"""The command line of ``modelhost-exporter service``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelhost_exporter.config import flags

if TYPE_CHECKING:
    from collections.abc import Sequence

SERVICE = "service"
INSTALL, UNINSTALL, STATUS = "install", "uninstall", "status"

_HELP = {
    INSTALL: "Start the exporter now and at every boot, with the flags given; a second time, with other flags.",
    UNINSTALL: "Stop it, and remove everything that install wrote.",
    STATUS: "Show whether it runs; exits with 0 if it does.",
}


@dataclass(frozen=True)
class ServiceArguments:
    """A parsed command line of ``service``."""

    action: str
    user: bool
    """For this user, who needs no administrator, instead of the whole machine."""
    dry_run: bool
    flags: tuple[str, ...]
    """The flags that the service starts the exporter with."""


def parse(arguments: Sequence[str]) -> ServiceArguments:
    """Parse the arguments after ``service``; exits with 2 and one line on an error, also in the exporter's flags."""
    parser = flags.CommandParser(
        prog=f"{flags.PROGRAM} {SERVICE}",
        description="Start the exporter at boot. Every step is printed before it is done.",
        epilog="Further flags of install are those that the service starts the exporter with, such as --proxy=auto.",
        allow_abbrev=False,
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="|".join(_HELP))
    for action, text in _HELP.items():
        parsed = actions.add_parser(action, help=text, description=text, allow_abbrev=False)
        parsed.add_argument("--user", action="store_true", help="For this user only, without an administrator.")
        if action != STATUS:
            parsed.add_argument("--dry-run", action="store_true", help="Print the steps, and do nothing.")
    given, rest = parser.parse_known_args(arguments)
    if rest and given.action != INSTALL:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    flags.parse(rest)
    return ServiceArguments(given.action, given.user, getattr(given, "dry_run", False), tuple(rest))
