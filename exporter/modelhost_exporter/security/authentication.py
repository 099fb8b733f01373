"""Authenticate a request: what it presents, who it comes from, and why it is refused.

An ``Authenticator`` is one method, such as passwords or tokens. Several are combined by ``AnyOf``. Most decisions are
known at once; one that needs a thread, such as a password that is checked for the first time, is awaited. ::

    decision = authenticator.check(credentials)
    if not isinstance(decision, ClientIdentity | Refusal | None):
        decision = await decision
"""

from __future__ import annotations

import base64
import binascii
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping, Sequence

MAX_CREDENTIAL_BYTES = 16_384
"""Longest ``Authorization`` that is examined."""

_UNAUTHORIZED = 401


@dataclass(frozen=True, slots=True)
class ClientIdentity:
    """An authenticated client."""

    name: str
    """A configured name, such as the user of a password; '' where the method has none."""
    method: str
    """The method that accepted the client: ``basic``, ``bearer`` …"""
    proof: bytes = field(default=b"", compare=False, repr=False)
    """A digest of what was accepted, by which the method sees whether it still would be."""
    expires_at: float = field(default=math.inf, compare=False)
    """When it is no longer accepted, in seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is refused."""

    text: str
    """One line for the client, without anything that the client sent."""
    status: int = _UNAUTHORIZED
    """401: not authenticated; 403: not allowed; 429: too many requests."""
    challenges: tuple[str, ...] = ()
    """The values of ``WWW-Authenticate``, one for each method that would be accepted."""
    retry_after: float | None = None
    """Seconds after which another attempt makes sense."""
    name: str = ""
    """The configured name that was claimed and not proved; '' for an unknown one."""
    method: str = ""
    """The method that refused the client; '' where no credentials were presented."""


Decision: TypeAlias = ClientIdentity | Refusal | None
"""None: the request presents nothing that this method examines."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """The parts of a request that identify its client."""

    headers: Sequence[tuple[bytes, bytes]]
    """All headers as they were received."""
    client: str = ""
    """The client for limits per address: an IPv4 address, or an IPv6 network; '' for a socket without one."""
    path: str = "/"
    method: str = "GET"
    certificate: Mapping[str, object] | None = None
    """The verified client certificate, as ``ssl.SSLSocket.getpeercert`` returns it."""
    is_encrypted: bool = False
    """Whether the request came over TLS."""

    def values(self, name: bytes) -> list[bytes]:
        """Return the values of a header; ``name`` is in lower case."""
        size = len(name)
        return [value for key, value in self.headers if len(key) == size and key.lower() == name]

    def authorization(self, scheme: bytes) -> bytes | None:
        """Return what follows the scheme (in lower case) in ``Authorization``; None for another scheme.

        None also for more than one ``Authorization``: two programs could read a different one of them.
        """
        values = self.values(b"authorization")
        if len(values) != 1 or len(values[0]) > MAX_CREDENTIAL_BYTES:
            return None
        found, _, rest = values[0].strip().partition(b" ")
        return rest.strip() if found.lower() == scheme else None

    def password(self) -> tuple[str, bytes] | None:
        """Return user and password of ``Authorization: Basic``; None without a valid one (RFC 7617)."""
        encoded = self.authorization(b"basic")
        if encoded is None:
            return None
        try:
            user, colon, password = base64.b64decode(encoded, validate=True).partition(b":")
            return (user.decode(), password) if colon else None
        except (binascii.Error, UnicodeDecodeError):
            return None

    def cookie(self, name: str) -> str | None:
        """Return the value of a cookie; None if it is absent or present twice."""
        wanted = name.encode()
        found = [
            value.strip()
            for line in self.values(b"cookie")
            for key, equals, value in (pair.partition(b"=") for pair in line.split(b";"))
            if equals and key.strip() == wanted
        ]
        return found[0].decode("latin-1") if len(found) == 1 else None


class Authenticator(Protocol):
    """One method of authentication."""

    @property
    def challenge(self) -> str | None:
        """The value of ``WWW-Authenticate`` that invites to use this method; None if there is none."""
        ...

    @property
    def is_required(self) -> bool:
        """Whether anything is configured for this method, so that requests without credentials are refused."""
        ...

    def check(self, credentials: Credentials) -> Decision | Awaitable[Decision]:
        """Return who sent a request, why it is refused, or None if it presents nothing for this method.

        Never blocks and never raises for anything that a client sends.
        """
        ...

    def is_current(self, identity: ClientIdentity) -> bool:
        """Return whether a client that this method accepted earlier would still be accepted."""
        ...


class AnyOf:
    """Several methods of which any may accept. Without any that is configured, everybody is accepted."""

    def __init__(self, authenticators: Sequence[Authenticator]) -> None:
        self._authenticators = tuple(authenticators)

    @property
    def is_required(self) -> bool:
        """Whether requests without credentials are refused."""
        return any(each.is_required for each in self._authenticators)

    def challenges(self) -> tuple[str, ...]:
        """Return the challenges of all methods that are configured."""
        found = (each.challenge for each in self._authenticators if each.is_required)
        return tuple(dict.fromkeys(filter(None, found)))

    def is_current(self, identity: ClientIdentity) -> bool:
        """Return whether a client that was accepted earlier would still be accepted."""
        wanted = [each for each in self._authenticators if each.is_required]
        return not wanted or any(each.is_current(identity) for each in wanted)

    def check(self, credentials: Credentials) -> ClientIdentity | Refusal | Awaitable[ClientIdentity | Refusal]:
        """Return who sent a request, or why it is refused; awaitable where a method needs time."""
        wanted = [each for each in self._authenticators if each.is_required]
        if not wanted:
            return ANYBODY
        refusals: list[Refusal] = []
        pending: list[Awaitable[Decision]] = []
        for each in wanted:
            decision = each.check(credentials)
            if isinstance(decision, ClientIdentity):
                _abandon(pending)
                return decision
            if isinstance(decision, Refusal):
                refusals.append(decision)
            elif decision is not None:
                pending.append(decision)
        return self._decided_later(pending, refusals) if pending else self._refusal(refusals)

    async def _decided_later(
        self, pending: Sequence[Awaitable[Decision]], refusals: list[Refusal]
    ) -> ClientIdentity | Refusal:
        for index, each in enumerate(pending):
            decision = await each
            if isinstance(decision, ClientIdentity):
                _abandon(pending[index + 1 :])
                return decision
            if decision is not None:
                refusals.append(decision)
        return self._refusal(refusals)

    def _refusal(self, refusals: Sequence[Refusal]) -> Refusal:
        """Return the refusal to send: another status than 401 says more."""
        for refusal in refusals:
            if refusal.status != _UNAUTHORIZED:
                return refusal
        first = refusals[0] if refusals else Refusal("authentication is required")
        return Refusal(first.text, challenges=self.challenges(), name=first.name, method=first.method)


ANYBODY = ClientIdentity("", "none")
"""The identity of every client where no authentication is configured."""


def _abandon(pending: Sequence[Awaitable[Decision]]) -> None:
    """Close coroutines that nobody awaits, and cancel futures."""
    for each in pending:
        end = getattr(each, "close", None) or getattr(each, "cancel", None)
        if end is not None:
            end()
