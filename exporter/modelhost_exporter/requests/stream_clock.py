"""When tokens came: first, first of the answer, last, and the longest silence between two."""

from __future__ import annotations


class StreamClock:
    """Times of one response, in seconds of the caller's monotonic clock.

    A chunk here is a piece of the reply that held at least one token; it is not a token.
    """

    __slots__ = ("first", "first_answer", "last", "max_gap")

    def __init__(self) -> None:
        self.first: float | None = None
        self.first_answer: float | None = None
        self.last: float | None = None
        self.max_gap: float | None = None

    def chunk(self, at: float, *, answer: bool) -> None:
        """Note tokens that were read at a time; ``answer`` when some of them are of the answer, not of reasoning."""
        if answer and self.first_answer is None:
            self.first_answer = at
        if self.first is None or self.last is None:
            self.first = self.last = at
            return
        if at == self.last:  # the same piece, read in parts
            return
        gap = at - self.last
        if self.max_gap is None or gap > self.max_gap:
            self.max_gap = gap
        self.last = at

    def time_per_output_token(self, output_tokens: int | None) -> float | None:
        """Return (last - first) / (tokens - 1), the tokens as the server counted them; None with fewer than two."""
        if output_tokens is None or output_tokens < 2 or self.first is None or self.last is None:  # noqa: PLR2004
            return None
        return (self.last - self.first) / (output_tokens - 1)
