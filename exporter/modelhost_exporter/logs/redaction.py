"""Remove possible secrets from text: users, passwords and queries of URLs."""

from __future__ import annotations

import re

_HIDDEN = "***"
_AUTHORITY = r":/{1,3}(?:\[[^\]]*\]|[^\s/?#'\":\[]+)"
_PORT = re.compile(rf"({_AUTHORITY}):(?!\d*(?:[/?#]|[.,;)]*(?:['\"\s]|$)))[^\s/?#'\"]+")
_BEFORE_QUERY = re.compile(r"(?<![^\s?#'\"])[^\s?#'\"]*+[?#]")


def redact_url(url: str) -> str:
    """Return a URL, valid or not, without user, password, query and fragment."""
    return redact(re.sub(r"([?#]).+", rf"\1{_HIDDEN}", _without_user(url), count=1, flags=re.DOTALL))


def redact(text: str) -> str:
    """Return a message without the users, passwords, queries and fragments of the URLs in it.

    A password may contain any character, so everything up to the last ``@`` is removed. Text in the place of a port
    that is not a number is removed too: it may be a password, of a URL that lacks its host.
    """
    return _without_query(_PORT.sub(rf"\1:{_HIDDEN}", _without_user(text)))


def _without_user(text: str) -> str:
    """Return text without the part before the last ``@`` that starts at ``://``, the first quote or the last space."""
    head, at, tail = text.rpartition("@")
    if not at:
        return text
    scheme = text.find("://", 0, text.find("@"))
    start = scheme + len("://") if scheme >= 0 else _start_of_word(text[: text.find("@")])
    return f"{head[:start]}{_HIDDEN if head[start:] else ''}@{tail}"


def _without_query(text: str) -> str:
    """Return text without the part after the ``?`` or ``#`` of a URL, up to the last quote, else up to the end."""
    for found in _BEFORE_QUERY.finditer(text):
        if ":/" in found[0]:
            start, quote = found.end(), max(text.rfind("'"), text.rfind('"'))
            end = quote if quote >= start else len(text)
            return f"{text[:start]}{_HIDDEN if start < end else ''}{_without_query(text[end:])}"
    return text


def _start_of_word(head: str) -> int:
    quote = re.search(r"['\"]", head)
    if quote is not None:
        return quote.end()
    start = head.rfind(" ") + 1
    return head.find("=", start) + 1 if head.startswith("--", start) and "=" in head[start:] else start
