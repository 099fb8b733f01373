"""Times of the tokens of a stream: the first, the first of the answer, the last, and the longest gap."""

from __future__ import annotations


class StreamClock:
    """Times of one response, in seconds of the caller's monotonic clock.

    A chunk is a part of the response with at least one token.
    """

    __slots__ = ("first", "first_answer", "last", "max_gap")

    def __init__(self) -> None:
        self.first: float | None = None
        self.first_answer: float | None = None
        self.last: float | None = None
        self.max_gap: float | None = None

    def chunk(self, at: float, *, answer: bool) -> None:
        """Record a chunk that was read at a time; ``answer`` if it has tokens that are not reasoning."""
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

    def time_per_output_token(self, output_tokens: int | None) -> float | None:
        """Return (last - first) / (output tokens - 1) in seconds; None with fewer than two tokens.

        None as well where all tokens arrived in one chunk, which has no duration.
        """
        if output_tokens is None or output_tokens < 2 or self.first is None or self.last is None:  # noqa: PLR2004
            return None
        if self.last == self.first:
            return None
        return (self.last - self.first) / (output_tokens - 1)
