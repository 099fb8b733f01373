"""Names of users."""

from __future__ import annotations

from pathlib import Path

from modelhost_exporter.linux.kernel_files import read_if_possible

try:
    import pwd
except ImportError:  # Windows
    pwd = None  # type: ignore[assignment]


def user_name(number: int, rootfs: Path = Path("/")) -> str:
    """Return the name of a user of the system below ``rootfs``, else its number; may query a directory service."""
    if rootfs == Path("/"):
        return _own_name(number)
    for line in (read_if_possible(rootfs / "etc/passwd") or "").split("\n"):
        fields = line.split(":")
        if fields[2:3] == [str(number)]:
            return fields[0]
    return str(number)


def _own_name(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except (AttributeError, KeyError, OSError):
        return str(number)
