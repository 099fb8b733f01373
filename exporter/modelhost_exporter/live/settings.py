"""Options of the live feed."""

from __future__ import annotations

import re
from dataclasses import dataclass

from yarl import URL

from modelhost_exporter.config.duration import Seconds

_MIN_HISTORY, _MAX_HISTORY = 60.0, 86400.0
_HOST = re.compile(r"(?P<name>[\w.-]+|\[[0-9a-f:.]+(?:%[\w.%-]+)?\])(:(?P<port>\d{1,5}))?", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class LiveOptions:
    """The live feed and its history."""

    history: bool = True
    """False: there is no history, and nothing is measured without subscribers."""
    history_length: Seconds = Seconds(3600.0)
    max_viewers: int = 200
    processes: bool = True
    """False: processes are neither measured nor shown."""

    def __post_init__(self) -> None:
        if not _MIN_HISTORY <= self.history_length <= _MAX_HISTORY:
            raise ValueError("history_length must be between 1m and 1d")
        if self.max_viewers < 1:
            raise ValueError("max_viewers must be at least 1")


@dataclass(frozen=True)
class AllowedHost:
    """A value that the ``Host`` header may have: a name, and a port or None for any."""

    name: str
    port: int | None = None

    @classmethod
    def from_text(cls, text: str) -> AllowedHost:
        """Parse ``NAME`` or ``NAME:PORT``, an IPv6 address in brackets; ValueError for anything else."""
        found = _HOST.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is not a host such as metrics.example.com or metrics.example.com:8585")
        return cls(found["name"].lower().removesuffix("."), int(found["port"]) if found["port"] else None)


@dataclass(frozen=True)
class AllowedOrigin:
    """An origin as browsers send it: scheme, host, and the port where it is not the default."""

    text: str

    @classmethod
    def from_text(cls, text: str) -> AllowedOrigin:
        """Parse ``https://HOST`` or ``https://HOST:PORT``; ValueError for anything else."""
        try:
            url = URL(text)
            origin = str(url.origin())
        except ValueError as error:
            raise ValueError(_no_origin(text)) from error
        if url.scheme not in ("http", "https") or text.rstrip("/").lower() != origin.lower():
            raise ValueError(_no_origin(text))
        return cls(origin.lower())


def _no_origin(text: str) -> str:
    return f"{text!r} is not an origin such as https://dashboard.example.com"
