"""Reading along: a copy of the reply's bytes goes through the dialect's reader, which cannot hurt the forwarding."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from modelhost_exporter.dialects import Usage
from modelhost_exporter.dialects.contract import NOTHING
from modelhost_exporter.dialects.replies import StreamReply
from modelhost_exporter.proxy.inflate import CannotInflate, inflater

if TYPE_CHECKING:
    from collections.abc import Callable

    from modelhost_exporter.dialects import Progress, Reply
    from modelhost_exporter.proxy.inflate import Inflate

log = logging.getLogger(__name__)

_PART_BYTES = 8192
"""What is parsed of a stream at once: lines of two bytes each take 3 µs a line."""


class Watch:
    """Feeds one reply's reader; at its first failure the reader is dropped and the reason counted."""

    def __init__(self, reply: Reply, content_encoding: str, on_error: Callable[[str], None]) -> None:
        self._reply = reply
        self._on_error = on_error
        self._inflate: Inflate | None = None
        self._usage: Usage | None = None
        self._part_bytes = _PART_BYTES if isinstance(reply, StreamReply) else None
        self._unread = b""
        self._position = 0
        self.blind = False
        """The reply could not be read to its end: what is known of it is not all."""
        if content_encoding:
            try:
                self._inflate = inflater(content_encoding)
            except CannotInflate:
                self._drop("encoding")

    @property
    def model(self) -> str | None:
        """The model that the reply names, as soon as it does."""
        return self._reply.model

    @property
    def failed(self) -> bool:
        """Whether a reply that was passed on to its end held an error, or lacked its end."""
        usage = self.finish()
        return usage.failed or not (usage.complete or self.blind)

    @property
    def is_behind(self) -> bool:
        """Whether there is more to parse of the bytes that came last."""
        return self._position < len(self._unread)

    def feed(self, piece: bytes) -> Progress:
        """Take the next bytes as they came over the wire and parse a first part of them; never raises."""
        if self.blind:
            return NOTHING
        try:
            self._unread, self._position = piece if self._inflate is None else self._inflate(piece), 0
        except CannotInflate:
            self._drop("encoding")
        except Exception:
            log.exception("a reply's reader failed")
            self._drop("internal")
        return self.catch_up()

    def catch_up(self) -> Progress:
        """Parse the next part of the bytes that came last; never raises."""
        data, start = self._unread, self._position
        if self._part_bytes is not None and len(data) - start > self._part_bytes:
            self._position = start + self._part_bytes
            part = data[start : self._position]
        else:
            self._unread, self._position = b"", 0
            part = data[start:]
        try:
            return self._reply.feed(part)
        except Exception:
            log.exception("a reply's reader failed")
            self._drop("internal")
        return NOTHING

    def stop(self) -> None:
        """Leave what is not parsed yet."""
        self._drop("too_long")

    def finish(self, *, cut: bool = False) -> Usage:
        """Return what is known at the end, the same each time; ``cut`` when the reply broke off. Never raises."""
        if self._usage is None:
            self._usage = self._finish(cut=cut)
        return self._usage

    def _finish(self, *, cut: bool) -> Usage:
        try:
            usage = self._reply.finish(cut=cut)
        except Exception:
            log.exception("a reply's reader failed")
            self._drop("internal")
            return Usage()
        for reason in usage.parse_errors:
            self._drop(reason)
        return usage

    def _drop(self, reason: str) -> None:
        self.blind = True
        self._unread, self._position = b"", 0
        self._on_error(reason)
