"""The systemd unit of an installation: ``deploy/systemd/modelhost-exporter.service`` with its own command and user."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_NOT_FOR_USERS = (  # a user's manager has no such targets, or needs a user namespace, which hides what is measured
    "After",
    "Wants",
    "User",
    "Group",
    "CapabilityBoundingSet",
    "AmbientCapabilities",
    "ProtectHostname",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "ProtectControlGroups",
    "KeyringMode",
)
_SPECIAL = {"%": "%%", "$": "$$", "\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t"}


def for_system(shipped: str, command: Sequence[str], *, dynamic_user: bool) -> str:
    """Return the unit for the whole machine; with ``dynamic_user`` systemd creates the user while it runs."""
    text = _with_command(shipped, command)
    return text.replace("\nUser=", "\nDynamicUser=yes\nUser=") if dynamic_user else text


def for_user(shipped: str, command: Sequence[str]) -> str:
    """Return the unit for a user's own manager."""
    lines = [
        line for line in _with_command(shipped, command).splitlines() if line.partition("=")[0] not in _NOT_FOR_USERS
    ]
    return "\n".join(lines).replace("WantedBy=multi-user.target", "WantedBy=default.target") + "\n"


def _with_command(shipped: str, command: Sequence[str]) -> str:
    return "\n".join(_lines(shipped, " ".join(map(_quoted, command)))) + "\n"


def _lines(shipped: str, command: str) -> Iterator[str]:
    """Yield the unit's lines; the comments before the first section are about installing by hand."""
    yield "# Written by `modelhost-exporter service install`, which overwrites it. Change it with `systemctl edit`."
    for line in shipped[shipped.index("[Unit]") :].splitlines():
        yield f"ExecStart={command}" if line.startswith("ExecStart=") else line


def _quoted(word: str) -> str:
    """Return a word as systemd reads it back (systemd.service, "Command lines")."""
    escaped = "".join(_SPECIAL.get(character, character) for character in word)
    plain = escaped == word and word and not set(word) & set(" ';")
    return word if plain else f'"{escaped}"'
