"""Read the pages of an engine, required or optional ones.

Exceptions:
    LookupError             the server does not serve this path (a dictionary's KeyError will do in tests)
    └── NotServed
    ValueError
    └── UnexpectedContent   it serves the path, but not with the expected content
    OSError                 the server does not respond
"""

from __future__ import annotations

import codecs
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from modelhost_exporter.untrusted_json import objects, parse_json, text

if TYPE_CHECKING:
    from modelhost_exporter.engines.snapshot import EngineHistogram, Latency

T = TypeVar("T")

MAX_JSON_BYTES = 2 << 20
"""Size of a page of JSON; the parser blocks all threads while it runs."""
_KEY_NEEDED = (401, 403)

Fetch = Callable[[str], bytes]
"""Path → body of a successful response; LookupError for a path that is not served, OSError for no response."""


class NotServed(LookupError):
    """The server responds, but not with success: unknown path, switched off, key required."""


class UnexpectedContent(ValueError):
    """The response is not one of the server's kind."""


def never(_models: frozenset[str] | None = None) -> bool:
    """Return False: no traffic is known."""
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
    """Return a page's JSON; raises UnexpectedContent for anything else or too much, and the errors of ``fetch``."""
    body = fetch(path)
    if len(body) > MAX_JSON_BYTES:
        raise UnexpectedContent(f"{path} is larger than {MAX_JSON_BYTES} bytes of JSON")
    try:
        return parse_json(body.removeprefix(codecs.BOM_UTF8))
    except ValueError as error:
        raise UnexpectedContent(f"{path} is not JSON") from error


def read_object(fetch: Fetch, path: str) -> dict[str, Any]:
    """Return a page's JSON object; raises UnexpectedContent for anything else, and the errors of ``fetch``."""
    found = read_json(fetch, path)
    if not isinstance(found, dict):
        raise UnexpectedContent(f"{path} is not a JSON object")
    return found


def attempt(read: Callable[[], T], otherwise: T) -> T:
    """Return the result of ``read``; ``otherwise`` when the server does not serve it, or not as expected."""
    try:
        return read()
    except (LookupError, ValueError):
        return otherwise


def page(fetch: Fetch, path: str) -> bytes:
    """Return a page; empty when it is missing."""
    return attempt(lambda: fetch(path), b"")


def optional_object(fetch: Fetch, path: str) -> dict[str, Any]:
    """Return the JSON object of a page; empty when it is missing."""
    return attempt(lambda: read_object(fetch, path), {})


def listed_models(fetch: Fetch) -> list[dict[str, Any]]:
    """Return the entries of /v1/models that have an id; raises UnexpectedContent when it is no list of models.

    Servers in Go write an empty list as null.
    """
    found = read_object(fetch, "/v1/models")
    data = found.get("data")
    if data is None and found.get("object") == "list":
        return []
    if not isinstance(data, list):
        raise UnexpectedContent("/v1/models is no list of models")
    return [{**entry, "id": name} for entry in objects(data) if (name := text(entry.get("id")))]


def wants_key(fetch: Fetch, path: str = "/v1/models") -> bool:
    """Return whether a page requires a key."""
    try:
        fetch(path)
    except LookupError as refusal:
        return len(refusal.args) > 1 and refusal.args[1] in _KEY_NEEDED
    return False


def owners(fetch: Fetch) -> set[str]:
    """Return the owners of the models in /v1/models, where most engines write their own name."""
    nothing: list[dict[str, Any]] = []
    return {text(entry.get("owned_by")) for entry in attempt(lambda: listed_models(fetch), nothing)}


def owned_by(fetch: Fetch, owner: str) -> bool:
    """Return whether /v1/models has models of this owner and of no other: a gateway lists those of several engines."""
    return owners(fetch) == {owner}


def names_no_owner(fetch: Fetch) -> bool:
    """Return whether /v1/models says nothing of the engine: it is missing or empty, or its entries have no owner.

    One that requires a key says nothing either, but then so do the pages that would be read instead.
    """
    return owners(fetch) <= {""} and not wants_key(fetch)


def known_latencies(**values: EngineHistogram | None) -> dict[Latency, EngineHistogram]:
    """Return the histograms that are not None, by what they measure."""
    return cast("dict[Latency, EngineHistogram]", known(**values))


def known(**values: T | None) -> dict[str, T]:
    """Return the values that are not None, by name."""
    return {name: value for name, value in values.items() if value is not None}


def tokens_by_cache(tokens: float | None, cached: float | None) -> dict[str, float]:
    """Return input tokens by cache: the total less its cached part; unknown where that cannot be its part."""
    if tokens is None or cached is None or cached > tokens:
        return known(unknown=tokens)
    return {"miss": tokens - cached, "hit": cached}
