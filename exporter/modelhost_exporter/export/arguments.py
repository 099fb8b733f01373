"""The command line of ``modelhost-exporter export``."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from modelhost_exporter.config.flags import PROGRAM, CommandParser
from modelhost_exporter.export.contents import ALL, EXPORTS
from modelhost_exporter.export.links import DEFAULT_JOB, Links, job_name, link_url

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

EXPORT = "export"


@dataclass(frozen=True)
class ExportArguments:
    """A parsed command line of ``export``."""

    kind: str
    folder: Path
    links: Links
    force: bool
    """Replace files that exist with another content."""


def parse(arguments: Sequence[str]) -> ExportArguments:
    """Parse the arguments after ``export``; exits with 2 and one line on an error."""
    given = _parser().parse_args(arguments)
    links = Links(given.runbook_base_url, given.grafana_url, given.job)
    return ExportArguments(given.what, given.folder, links, given.force)


def _parser() -> CommandParser:
    kinds = "\n".join(f"  {name:14}{description}" for name, (_, description) in EXPORTS.items())
    result = CommandParser(
        prog=f"{PROGRAM} {EXPORT}",
        description="Write files for the programs around the exporter, as they were tested with this version.",
        epilog=f"WHAT is one of\n{kinds}\n  {ALL:14}all of these, each in a folder of its own below DIR",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    result.add_argument("what", choices=[*EXPORTS, ALL], metavar="WHAT", help="What to write: see below.")
    result.add_argument("folder", type=Path, metavar="DIR", help="The folder to write to; created if it is missing.")
    result.add_argument(
        "--runbook-base-url",
        type=_checked(link_url),
        metavar="URL",
        help="Where you publish runbook.md; alerts link to URL#NAME. Default: a relative link.",
    )
    result.add_argument(
        "--grafana-url",
        type=_checked(link_url),
        metavar="URL",
        help="Your Grafana; alerts and the live page link to its dashboards. Default: a relative link.",
    )
    result.add_argument(
        "--job",
        type=_checked(job_name),
        default=DEFAULT_JOB,
        metavar="NAME",
        help=f"The scrape job of the exporters, in rules, dashboards and prometheus.yml. Default {DEFAULT_JOB}.",
    )
    result.add_argument("--force", action="store_true", help="Overwrite files that have another content.")
    return result


def _checked(check: Callable[[str], str]) -> Callable[[str], str]:
    """Return a function that reports the ValueError of another one as argparse shows it."""

    def convert(text: str) -> str:
        try:
            return check(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert
