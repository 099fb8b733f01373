"""Detect the frames of a stream that differ from an earlier one in the text of one token alone.

Nearly every frame of an OpenAI stream is the one before with another ``content``. Once such a frame has been parsed,
one with the same bytes before and after that text means the same: a JSON parser is in the same state at each of them,
as long as the text ends no string and is not empty. What a reader takes from a frame it may take twice without harm,
so the second frame need not be parsed at all.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelhost_exporter.dialects.contract import Progress

_TOKEN = re.compile(rb'"(?:content|text|reasoning_content|reasoning)": ?"([^\x00-\x1f"\\\x80-\xff]+)"')
_plain = re.compile(rb'[^\x00-\x1f"\\\x80-\xff]+').fullmatch
_MAX_BYTES = 8192
"""Larger frames are parsed each: a template stays for as long as its stream."""
_MAX_MISSES = 16


class FrameTemplates:
    """The template of the latest parsed frame; disabled after many frames that do not match."""

    def __init__(self) -> None:
        self._before = self._event_before = b""
        self._after = self._event_after = b""
        self._progress: Progress | None = None
        self._misses = 0

    def progress(self, data: bytes) -> Progress | None:
        """Return the progress of a frame that matches the template; None for one that must be parsed."""
        before, after = self._before, self._after
        if (
            self._progress is not None
            and data.startswith(before)
            and data.endswith(after)
            and _plain(data, len(before), len(data) - len(after))
        ):
            self._misses = 0
            return self._progress
        return None

    def event_progress(self, event: bytes) -> Progress | None:
        """Return the same for a whole event of one data line, so that it need not be split into lines either."""
        before, after = self._event_before, self._event_after
        if (
            self._progress is not None
            and event.startswith(before)
            and event.endswith(after)
            and _plain(event, len(before), len(event) - len(after))
        ):
            self._misses = 0
            return self._progress
        return None

    def learn(self, data: bytes, progress: Progress) -> None:
        """Make a parsed frame the template if it contained one token."""
        if progress.chunks != 1 or self._misses > _MAX_MISSES or len(data) > _MAX_BYTES:
            return
        self._misses += 1
        found = _TOKEN.search(data)
        if found is None:
            self._progress = None
            return
        self._before, self._after, self._progress = data[: found.start(1)], data[found.end(1) :], progress
        before, after = (part.replace(b"\n", b"\ndata: ") for part in (self._before, self._after))
        self._event_before, self._event_after = b"data: " + before, after + b"\n\n"
