"""Feed bytes to replies, in chunks of every size."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import settings

from modelhost_exporter.dialects import Progress, Usage, find

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from modelhost_exporter.dialects import Reply

CAPTURES = Path(__file__).parent.parent / "captures"
LLAMA_SERVER = CAPTURES / "llama-server"
unhurried = settings(deadline=None)
"""For generated tests: a busy machine is no failure."""

SSE = "text/event-stream"
NDJSON = "application/x-ndjson"
JSON = "application/json; charset=utf-8"


def reply(path: str, content_type: str) -> Reply:
    """Return a Reply for a request path."""
    found = find(path)
    assert found is not None
    return found[0].reply(content_type)


def feed(watched: Reply, pieces: Iterable[bytes]) -> tuple[Progress, Usage]:
    """Feed all pieces and finish."""
    progress = [watched.feed(piece) for piece in pieces]
    total = Progress(sum(each.chunks for each in progress), any(each.answer for each in progress))
    return total, watched.finish()


def split(data: bytes, size: int) -> Iterator[bytes]:
    """Cut data into pieces of a size."""
    return (data[start : start + size] for start in range(0, len(data), size))


def split_at(data: bytes, places: Sequence[int]) -> Iterator[bytes]:
    """Cut data at these places."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return (data[start:end] for start, end in itertools.pairwise(edges))


def events(*frames: object) -> bytes:
    """Write frames as server-sent events; text goes in as it is."""
    return b"".join(
        b"data: " + (frame if isinstance(frame, str) else json.dumps(frame)).encode() + b"\n\n" for frame in frames
    )


def streamed(path: str, *frames: object) -> tuple[Progress, Usage]:
    """Feed frames to the stream reply of a path."""
    return feed(reply(path, SSE), [events(*frames)])


def lined(path: str, *frames: object) -> tuple[Progress, Usage]:
    """Feed JSON lines to the reply of a path."""
    return feed(reply(path, NDJSON), [json.dumps(frame).encode() + b"\n" for frame in frames])


def whole(path: str, body: object) -> Usage:
    """Feed one JSON document to the reply of a path."""
    return feed(reply(path, JSON), [json.dumps(body).encode()])[1]


def rounded(usage: Usage) -> Usage:
    """Return the usage with durations that can be compared."""
    names = ("prefill_seconds", "decode_seconds", "queue_seconds", "load_seconds")
    known = {name: getattr(usage, name) for name in names if getattr(usage, name) is not None}
    return replace(usage, **{name: round(value, 9) for name, value in known.items()})
