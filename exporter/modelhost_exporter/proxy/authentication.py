"""Authenticate the requests of one proxied server, before anything of them is forwarded."""

from __future__ import annotations

import asyncio
import math
from time import monotonic
from typing import TYPE_CHECKING, Any

from modelhost_exporter.proxy.errors import Refused
from modelhost_exporter.proxy.headers import Field
from modelhost_exporter.security.authentication import AnyOf, ClientIdentity, Credentials, Refusal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from modelhost_exporter.proxy.downstream import DownstreamConnection, Request
    from modelhost_exporter.security.authentication import Authenticator
    from modelhost_exporter.security.reloaded import Reloaded

CREDENTIALS = frozenset({b"authorization", b"x-api-key"})
"""Fields that may hold a client's credentials for the proxy, which no upstream receives."""

_FRESH_SECONDS = 2.0
"""Longest time after which a token that was removed from its file is refused."""


class Unauthorized(Refused):
    """A request that is not forwarded because of its client, with the fields of the response that say what is missing.

    Its body is neither waited for nor parsed.
    """

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.status, refusal.text)
        self.fields = [
            Field(b"www-authenticate", b"WWW-Authenticate", challenge.encode()) for challenge in refusal.challenges
        ]
        if refusal.retry_after is not None:
            seconds = b"%d" % math.ceil(refusal.retry_after)
            self.fields.append(Field(b"retry-after", b"Retry-After", seconds))


class Authentication:
    """Decides about requests by their credentials: any of several methods may accept one."""

    def __init__(self, authenticators: Sequence[Authenticator], sources: Sequence[Reloaded[Any]] = ()) -> None:
        """Prepare; ``sources`` are the files that the methods use, which are read again when they change."""
        self._methods = AnyOf(authenticators)
        self._sources = sources
        self._fresh_until = 0.0

    def check(
        self, client: DownstreamConnection, request: Request
    ) -> Awaitable[ClientIdentity | Refusal] | ClientIdentity | Refusal:
        """Return who sent a request, or why it is refused; awaitable where a method needs time."""
        credentials = Credentials(
            _credentials(request),
            client.address,
            request.path.partition(b"?")[0].decode("latin-1"),
            request.method.decode("latin-1"),
            client.certificate,
            is_encrypted=client.is_encrypted,
        )
        if self._sources and monotonic() >= self._fresh_until:
            return self._check_refreshed(credentials)
        return self._methods.check(credentials)

    async def _check_refreshed(self, credentials: Credentials) -> ClientIdentity | Refusal:
        """Decide after the files were examined; requests of the next two seconds rely on that."""
        now = monotonic()
        await asyncio.gather(*(source.refreshed() for source in self._sources))
        self._fresh_until = now + _FRESH_SECONDS
        decision = self._methods.check(credentials)
        return decision if isinstance(decision, ClientIdentity | Refusal) else await decision


def _credentials(request: Request) -> list[tuple[bytes, bytes]]:
    """Return the headers of a request; a key of Anthropic's clients counts as a bearer token."""
    if b"authorization" not in request.by_key and b"x-api-key" in request.by_key:
        return [
            (b"authorization", b"Bearer " + value) if key == b"x-api-key" else (key, value)
            for key, _, value in request.fields
        ]
    return [(key, value) for key, _, value in request.fields]
