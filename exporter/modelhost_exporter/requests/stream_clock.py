"""Times of the tokens of a stream: the first, the first of the answer, the last, and the longest gap."""

from __future__ import annotations


class StreamClock:
    """Times of one response, in seconds of the caller's monotonic clock.

    A chunk is a part of the response with at least one token.
    """

    __slots__ = ("chunks", "first", "first_answer", "last", "max_gap")

    def __init__(self) -> None:
        self.chunks = 0
        self.first: float | None = None
        self.first_answer: float | None = None
        self.last: float | None = None
        self.max_gap: float | None = None

    def chunk(self, at: float, *, answer: bool, count: int = 1) -> None:
        """Record chunks that were read at a time; ``answer`` if they have tokens that are not reasoning."""
        self.chunks += count
        if answer and self.first_answer is None:
            self.first_answer = at
        if self.first is None or self.last is None:
            self.first = self.last = at
            return
        if at == self.last:  # the same chunk, parsed in parts
            return
        gap = at - self.last
        if self.max_gap is None or gap > self.max_gap:
            self.max_gap = gap
        self.last = at

    @property
    def decode_seconds(self) -> float | None:
        """From the first chunk to the last; None without two that were read at different times."""
        if self.first is None or self.last is None or self.last == self.first:
            return None
        return self.last - self.first

    def time_per_output_token(self, output_tokens: int | None) -> float | None:
        """Return (last - first) / (output tokens - 1) in seconds; None with fewer than two tokens.

        None as well where all tokens arrived in one chunk, which has no duration.
        """
        seconds = self.decode_seconds
        if output_tokens is None or output_tokens < 2 or seconds is None:  # noqa: PLR2004
            return None
        return seconds / (output_tokens - 1)
