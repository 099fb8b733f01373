"""Reading along: a copy of the reply's bytes goes through the dialect's reader, which cannot hurt the forwarding."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from exporter.proxy.inflate import CannotInflate, inflater
from exporter.wire import Usage
from exporter.wire.contract import NOTHING

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.proxy.inflate import Inflate
    from exporter.wire import Progress, Reply

log = logging.getLogger(__name__)


class Watch:
    """Feeds one reply's reader; at its first failure the reader is dropped and the reason counted."""

    def __init__(self, reply: Reply, content_encoding: str, on_error: Callable[[str], None]) -> None:
        self._reply = reply
        self._on_error = on_error
        self._inflate: Inflate | None = None
        self._usage: Usage | None = None
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

    def feed(self, piece: bytes) -> Progress:
        """Take the next bytes as they came over the wire; never raises."""
        if self.blind:
            return NOTHING
        try:
            return self._reply.feed(piece if self._inflate is None else self._inflate(piece))
        except CannotInflate:
            self._drop("encoding")
        except Exception:
            log.exception("a reply's reader failed")
            self._drop("internal")
        return NOTHING

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
        self._on_error(reason)
