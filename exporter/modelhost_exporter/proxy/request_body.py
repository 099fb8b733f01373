"""A request's body on its way to the upstream, with a copy kept for looking at if it is small enough."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from aiohttp.web import BaseRequest


class RequestBody:
    """Streams a body through in bounded memory."""

    def __init__(self, request: BaseRequest, inspect_bytes: int, on_seen: Callable[[bytes], None]) -> None:
        """Prepare; ``on_seen`` is called once with the whole body, after it was passed on, if it was not too large."""
        self._content = request.content
        self._exists = request.body_exists
        self._inspect_bytes = inspect_bytes
        self._on_seen = on_seen
        self.client_failed = False
        """The client broke off while it sent the body, or broke its framing."""

    def arrived(self) -> bytes | None:
        """Return the body if all of it is here already; None when it has to be waited for."""
        if not self._exists:
            return b""
        if not self._content.is_eof() or self._content.exception() is not None:
            return None
        return self._content.read_nowait(-1)

    async def read(self) -> bytes:
        """Wait for the whole body."""
        try:
            return await self._content.read(-1)
        except Exception:
            self.client_failed = True
            raise

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes."""
        kept: list[bytes] = []
        size = 0
        try:
            while piece := await self._content.readany():
                yield piece
                size += len(piece)
                if size <= self._inspect_bytes:
                    kept.append(piece)
                else:
                    kept.clear()
        except Exception:
            self.client_failed = True
            raise
        if size <= self._inspect_bytes:
            self._on_seen(b"".join(kept))
