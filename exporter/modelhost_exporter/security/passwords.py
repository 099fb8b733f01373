"""Users with bcrypt hashes (``Authorization: Basic``).

bcrypt takes up to seconds of processor time on purpose. So it runs in a thread, one password at a time; results are
kept, equal attempts share one computation, and the number of those that wait is bounded, for each client and in total.
A flood of guesses delays nobody whose password was accepted before. An unknown user costs what a wrong password costs.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections import OrderedDict, deque
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from modelhost_exporter import threads
from modelhost_exporter.security.authentication import ClientIdentity, Credentials, Decision, Refusal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

METHOD = "basic"
CHALLENGE = 'Basic realm="modelhost-exporter", charset="UTF-8"'

MAX_WAITING, MAX_WAITING_PER_CLIENT = 64, 4
_MAX_KEPT = 256
_SIGNIFICANT_BYTES = 72  # bcrypt ignores the rest of a password
_HASH = re.compile(r"\$2[abxy]\$(\d\d)\$[./A-Za-z0-9]{53}")
_MIN_COST, _MAX_COST = 4, 31
_TOO_MANY, _UNAVAILABLE = 429, 503


def is_hash(text: str) -> bool:
    """Return whether text is a bcrypt hash."""
    found = _HASH.fullmatch(text)
    return found is not None and _MIN_COST <= int(found[1]) <= _MAX_COST


def matches(password: bytes, hashed: bytes) -> bool:
    """Return whether a password has this bcrypt hash; takes long, and releases the interpreter meanwhile."""
    import bcrypt  # noqa: PLC0415 - only where passwords are configured

    try:
        return bcrypt.checkpw(password[:_SIGNIFICANT_BYTES], hashed)
    except ValueError:  # a password or hash that this bcrypt does not accept
        return False


class Passwords:
    """Authenticates users by passwords."""

    challenge = CHALLENGE

    def __init__(
        self, users: Callable[[], Mapping[str, str]], matches: Callable[[bytes, bytes], bool] = matches
    ) -> None:
        """Prepare; ``users`` returns the bcrypt hash of each user."""
        self._users = users
        self._matches = matches
        self._key = os.urandom(32)
        self._accepted: OrderedDict[bytes, None] = OrderedDict()
        self._refused: OrderedDict[bytes, None] = OrderedDict()
        self._attempts: dict[bytes, asyncio.Future[bool]] = {}
        self._queue = _FairQueue()
        self._worker: asyncio.Task[None] | None = None

    @property
    def is_required(self) -> bool:
        """Whether there are users."""
        return bool(self._users())

    def check(self, credentials: Credentials) -> Decision | Awaitable[Decision]:
        """Return the user of a password; awaitable if the password has not been checked before."""
        given = credentials.password()
        return None if given is None else self.check_password(*given, credentials.client)

    def check_password(self, user: str, password: bytes, client: str) -> Decision | Awaitable[Decision]:
        """Return the user if the password is right, else the refusal; ``client`` is who waits in the queue."""
        users = self._users()
        hashed = users.get(user)
        is_known = hashed is not None
        compared = (hashed or self._hash_for_unknown(user, users)).encode()
        name = user if is_known else ""
        attempt = self._digest(b"known" if is_known else b"", user.encode(), compared, password)
        if attempt in self._accepted:
            self._accepted.move_to_end(attempt)
            return _decision(name, self._digest(compared), is_right=True)
        if attempt in self._refused:
            return _decision(name, b"", is_right=False)
        result = self._attempts.get(attempt)
        if result is None:
            if not self._queue.has_room(client):
                return Refusal("too many passwords wait to be checked", _TOO_MANY, retry_after=1.0, method=METHOD)
            result = self._begin(attempt, partial(self._matches, password, compared), client, is_known=is_known)
        return self._later(name, self._digest(compared), result, is_known=is_known)

    def is_current(self, identity: ClientIdentity) -> bool:
        """Return whether a user that was accepted still exists, with the same password."""
        hashed = self._users().get(identity.name)
        return identity.method == METHOD and hashed is not None and identity.proof == self._digest(hashed.encode())

    def _hash_for_unknown(self, user: str, users: Mapping[str, str]) -> str:
        """Return the hash to compare an unknown user's password with: always the same one of those configured.

        The costs of hashes differ, so a fixed one would distinguish unknown users.
        """
        hashes = list(users.values())
        return hashes[int.from_bytes(self._digest(user.encode())[:8], "big") % len(hashes)] if hashes else ""

    def _digest(self, *parts: bytes) -> bytes:
        digest = hashlib.blake2b(key=self._key, digest_size=32)
        for part in parts:
            digest.update(b"%d:" % len(part) + part)
        return digest.digest()

    def _begin(
        self, attempt: bytes, compare: Callable[[], bool], client: str, *, is_known: bool
    ) -> asyncio.Future[bool]:
        """Queue a comparison; the future is shared by equal attempts."""
        result: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._attempts[attempt] = result
        result.add_done_callback(partial(self._keep, attempt, is_known))
        self._queue.add(client, _Comparison(compare, result))
        if self._worker is None:
            self._worker = asyncio.get_running_loop().create_task(self._work())
        return result

    async def _work(self) -> None:
        """Compare one password at a time until none waits."""
        try:
            while (next_one := self._queue.next()) is not None:
                try:
                    right = await threads.call(next_one.compare)
                except Exception as error:  # noqa: BLE001 - such as a missing thread; raised where it is awaited
                    next_one.result.set_exception(error)
                else:
                    next_one.result.set_result(right)
        finally:
            self._worker = None

    def _keep(self, attempt: bytes, is_known: bool, result: asyncio.Future[bool]) -> None:
        del self._attempts[attempt]
        if result.cancelled() or result.exception() is not None:
            return
        kept = self._accepted if result.result() and is_known else self._refused
        kept[attempt] = None
        if len(kept) > _MAX_KEPT:
            kept.popitem(last=False)

    async def _later(self, name: str, proof: bytes, result: asyncio.Future[bool], *, is_known: bool) -> Decision:
        try:
            right = await asyncio.shield(result)
        except (RuntimeError, MemoryError):
            return Refusal("no thread is free to check a password", _UNAVAILABLE, retry_after=1.0, method=METHOD)
        return _decision(name, proof, is_right=right and is_known)


class _Comparison(NamedTuple):
    """A password that waits to be compared."""

    compare: Callable[[], bool]
    result: asyncio.Future[bool]


class _FairQueue:
    """Comparisons in turn by client, so that one client's many do not delay another's first."""

    def __init__(self) -> None:
        self._by_client: OrderedDict[str, deque[_Comparison]] = OrderedDict()
        self._waiting = 0

    def has_room(self, client: str) -> bool:
        """Return whether another one of this client may wait."""
        return self._waiting < MAX_WAITING and len(self._by_client.get(client, ())) < MAX_WAITING_PER_CLIENT

    def add(self, client: str, comparison: _Comparison) -> None:
        """Add one at the end of the client's own."""
        self._by_client.setdefault(client, deque()).append(comparison)
        self._waiting += 1

    def next(self) -> _Comparison | None:
        """Remove and return the next one; None if there is none."""
        if not self._by_client:
            return None
        client, waiting = self._by_client.popitem(last=False)
        self._waiting -= 1
        found = waiting.popleft()
        if waiting:
            self._by_client[client] = waiting
        return found


def _decision(name: str, proof: bytes, *, is_right: bool) -> Decision:
    if is_right:
        return ClientIdentity(name, METHOD, proof)
    return Refusal("wrong user or password", name=name, method=METHOD)
