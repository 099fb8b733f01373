"""URLs in the configuration."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from yarl import URL

from modelhost_exporter.logs.redaction import redact_url

if TYPE_CHECKING:
    from collections.abc import Sequence

_PRINTABLE = re.compile(r"[!-~]+")


@dataclass(frozen=True)
class ServerUrl:
    """The base URL of a server: scheme, host, port, and a path that prefixes the path of each request."""

    text: str
    """The URL without a trailing slash."""

    @classmethod
    def from_text(cls, text: str) -> ServerUrl:
        """Parse an http or https URL without query, fragment, user or password; raises ValueError for anything else.

        The error's text contains none of these, since they may be secrets.
        """
        try:
            url = URL(text, encoded=True)
            usable = url.scheme in ("http", "https") and url.host and url.port  # yarl validates host and port lazily
        except ValueError:  # whose text may contain a password
            usable = None
        if not usable or not _PRINTABLE.fullmatch(text):
            raise ValueError(f"{redact_url(text)!r} is not a URL such as http://127.0.0.1:11434")
        if set(text) & set("?#@"):
            raise ValueError(f"{redact_url(text)!r} must have no query, fragment, user or password")
        return cls(text.rstrip("/"))

    @property
    def url(self) -> URL:
        """The URL in parts."""
        return URL(self.text, encoded=True)

    @property
    def host_port(self) -> str:
        """Host and port, the scheme's default port included."""
        host = self.url.raw_host or ""
        return f"{f'[{host}]' if ':' in host else host}:{self.url.port}"

    @property
    def origin(self) -> tuple[str, str, str]:
        """What two URLs of the same place have in common: scheme, host with port, and path."""
        return self.url.scheme, self.host_port, self.prefix

    @property
    def prefix(self) -> str:
        """The path as written, without a trailing slash; empty if there is none."""
        return self.url.raw_path.rstrip("/")


def upstream_labels(urls: Sequence[ServerUrl]) -> list[str]:
    """Return the value of the label ``upstream`` for each URL of one server, the same for polls and for the proxy.

    Host and port; with the path, or as a whole, where they would not differ. Empty for a single URL.
    """
    if len(urls) == 1:
        return [""]
    labels = [url.host_port for url in urls]
    if len(set(labels)) < len(urls):
        labels = [f"{url.host_port}{url.prefix}" for url in urls]
    return labels if len(set(labels)) == len(urls) else [url.text for url in urls]


@dataclass(frozen=True)
class PageUrl:
    """The URL of a link on the live page: http or https only, so never a script."""

    text: str

    @classmethod
    def from_text(cls, text: str) -> PageUrl:
        """Parse a URL without user and password, query and fragment allowed; raises ValueError for anything else."""
        try:
            ServerUrl.from_text(re.split(r"[?#]", text, maxsplit=1)[0])
            usable = _PRINTABLE.fullmatch(text)
        except ValueError:
            usable = None
        if not usable:
            shown = redact_url(text)
            raise ValueError(f"{shown!r} is not a URL such as http://127.0.0.1:3000, without user and password")
        return cls(text)
