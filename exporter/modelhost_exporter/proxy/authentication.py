"""Authenticate the requests of one proxied server, before anything of them is forwarded."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from modelhost_exporter.proxy.errors import Refused
from modelhost_exporter.proxy.headers import Field
from modelhost_exporter.security.authentication import AnyOf, ClientIdentity, Credentials, Refusal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from modelhost_exporter.proxy.downstream import DownstreamConnection, Request
    from modelhost_exporter.security.authentication import Authenticator

CREDENTIALS = frozenset({b"authorization", b"x-api-key"})
"""Fields that may hold a client's credentials for the proxy, which no upstream receives."""


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

    def __init__(self, authenticators: Sequence[Authenticator]) -> None:
        self._methods = AnyOf(authenticators)

    def check(
        self, client: DownstreamConnection, request: Request
    ) -> Awaitable[ClientIdentity | Refusal] | ClientIdentity | Refusal:
        """Return who sent a request, or why it is refused; awaitable where a method needs time."""
        return self._methods.check(
            Credentials(
                _credentials(request),
                client.address,
                request.path.partition(b"?")[0].decode("latin-1"),
                request.method.decode("latin-1"),
                client.certificate,
                is_encrypted=client.is_encrypted,
            )
        )


def _credentials(request: Request) -> list[tuple[bytes, bytes]]:
    """Return the headers of a request; a key of Anthropic's clients counts as a bearer token."""
    if b"authorization" not in request.by_key and b"x-api-key" in request.by_key:
        return [
            (b"authorization", b"Bearer " + value) if key == b"x-api-key" else (key, value)
            for key, _, value in request.fields
        ]
    return [(key, value) for key, _, value in request.fields]
