"""What a check found, and how findings are printed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from modelhost_exporter.logs.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Iterable

State = Literal["ok", "absent", "problem"]

_MAX_CHARACTERS = 400


class Finding(NamedTuple):
    """One thing that was checked: ``absent`` is normal on a machine without it, a ``problem`` is not."""

    state: State
    kind: str
    """What it is: collector, gpu, engine, proxy, port."""
    name: str
    detail: str = ""
    """What was found, or what is missing and what to do."""


def table(findings: Iterable[Finding]) -> str:
    """Return the findings as aligned lines, and a last one that counts the problems."""
    rows = list(findings)
    widths = [max((len(getattr(row, field)) for row in rows), default=0) for field in ("state", "kind", "name")]
    lines = [_line(row, widths) for row in rows]
    problems = sum(row.state == "problem" for row in rows)
    lines.append("no problems" if not problems else f"{problems} problem{'s' if problems > 1 else ''}")
    return "\n".join(lines) + "\n"


def _line(row: Finding, widths: list[int]) -> str:
    cells = [cell.ljust(width) for cell, width in zip(row[:3], widths, strict=True)]
    detail = " ".join(redact(row.detail).split())[:_MAX_CHARACTERS]
    shown = "".join(character if character.isprintable() else "?" for character in detail)
    return "  ".join([*cells, shown]).rstrip()
