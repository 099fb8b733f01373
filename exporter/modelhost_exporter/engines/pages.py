"""Reading a model server's answers without trusting them: what is not what it should be is None or empty.

Exceptions:
    LookupError             the server does not serve this path (a dictionary's KeyError will do in tests)
    └── NotServed
    ValueError
    └── NotUnderstood       it serves it, but that is not what was expected
    OSError                 it does not answer at all
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

if TYPE_CHECKING:
    from modelhost_exporter.engines.snapshot import EngineHistogram, Latency

T = TypeVar("T")

MAX_NUMBER = 1e100
"""Larger numbers are left out: sums and products of those that are left do not overflow."""
MAX_JSON_BYTES = 2 << 20
"""Of a page of JSON; the parser holds up every thread for as long as it runs."""
MAX_TEXT = 256
"""Characters of a text, which may become a label."""
MAX_OBJECTS = 1000
"""Objects of a list, such as models."""

_KEY_NEEDED = (401, 403)

Fetch = Callable[[str], bytes]
"""Path → body of a reply with success; LookupError for a path that is not served, OSError for a server that is away."""


class NotServed(LookupError):
    """The server answers, but not with success: unknown path, switched off, key needed."""


class UnexpectedContent(ValueError):
    """The response is not one of the server's kind."""


def never(_models: frozenset[str] | None = None) -> bool:
    """Return False: no traffic is known of."""
    return False


@dataclass(frozen=True)
class PollPolicy:
    """Which pages may be read, so that polling neither loads, wakes nor keeps a model awake."""

    metrics: Literal["auto", "on", "off"] = "auto"
    arguments: tuple[str, ...] = ()
    """The command line of the server's process; empty where it cannot be seen."""
    traffic: Callable[[frozenset[str] | None], bool] = never
    """Returns whether requests for a model of these names (None: any) came since the last True."""


FREE = PollPolicy()


def read_json(fetch: Fetch, path: str) -> Any:
    """Return a page's JSON; NotUnderstood when it is none or too large, and what ``fetch`` raises."""
    body = fetch(path)
    if len(body) > MAX_JSON_BYTES:
        raise UnexpectedContent(f"{path} is larger than {MAX_JSON_BYTES} bytes of JSON")
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UnexpectedContent(f"{path} is not JSON") from error


def read_object(fetch: Fetch, path: str) -> dict[str, Any]:
    """Return a page's JSON object; NotUnderstood when it is none, and what ``fetch`` raises."""
    found = read_json(fetch, path)
    if not isinstance(found, dict):
        raise UnexpectedContent(f"{path} is not a JSON object")
    return found


def attempt(read: Callable[[], T], otherwise: T) -> T:
    """Return what is read; ``otherwise`` when the server does not serve it, or not as expected."""
    try:
        return read()
    except (LookupError, ValueError):
        return otherwise


def page(fetch: Fetch, path: str) -> bytes:
    """Return a page that may be missing: empty then."""
    return attempt(lambda: fetch(path), b"")


def optional_object(fetch: Fetch, path: str) -> dict[str, Any]:
    """Return the JSON object of a page that may be missing: empty then."""
    return attempt(lambda: read_object(fetch, path), {})


def text(value: object) -> str:
    """Return text, cut at ``MAX_TEXT``, and '' for anything else; half a surrogate pair becomes ``?``."""
    if not isinstance(value, str):
        return ""
    value = value[:MAX_TEXT]
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def number(value: object) -> float | None:
    """Return a number from 0 to ``MAX_NUMBER``; None for anything else (true is no number)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_NUMBER:
        return None
    return float(value)


def count(value: object) -> float | None:
    """Return a number greater than zero; servers write 0 for unknown ones."""
    return number(value) or None


def child(value: object, *keys: str) -> Any:
    """Return what is found along the keys of nested objects; None when there is none."""
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def objects(value: object) -> Iterator[dict[str, Any]]:
    """Yield the objects among the first ``MAX_OBJECTS`` items of a list; nothing for anything else."""
    if isinstance(value, list):
        yield from (item for item in value[:MAX_OBJECTS] if isinstance(item, dict))


def texts(value: object) -> tuple[str, ...]:
    """Return the texts among the first ``MAX_OBJECTS`` items of a list that are not empty."""
    return tuple(text(item) for item in value[:MAX_OBJECTS] if text(item)) if isinstance(value, list) else ()


def listed_models(fetch: Fetch) -> list[dict[str, Any]]:
    """Return the entries of /v1/models that have an id; NotUnderstood when it is no list of models."""
    data = read_object(fetch, "/v1/models").get("data")
    if not isinstance(data, list):
        raise UnexpectedContent("/v1/models is no list of models")
    return [{**entry, "id": name} for entry in objects(data) if (name := text(entry.get("id")))]


def wants_key(fetch: Fetch) -> bool:
    """Return whether /v1/models requires a key."""
    try:
        fetch("/v1/models")
    except LookupError as refusal:
        return len(refusal.args) > 1 and refusal.args[1] in _KEY_NEEDED
    return False


def owners(fetch: Fetch) -> set[str]:
    """Return who owns the models of /v1/models: most engines put their own name there."""
    nothing: list[dict[str, Any]] = []
    return {text(entry.get("owned_by")) for entry in attempt(lambda: listed_models(fetch), nothing)}


def known_latencies(**values: EngineHistogram | None) -> dict[Latency, EngineHistogram]:
    """Return the histograms that there are, by what they measure."""
    return cast("dict[Latency, EngineHistogram]", known(**values))


def known(**values: T | None) -> dict[str, T]:
    """Return the values that are not None, by name."""
    return {name: value for name, value in values.items() if value is not None}
