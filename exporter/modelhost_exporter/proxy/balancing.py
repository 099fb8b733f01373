"""Choose one of a server's upstreams for each request, and leave out those that fail. No I/O.

Health is judged by traffic alone. An upstream that fails several times in a row, or too large a share of its recent
requests, is ejected for a time that doubles with each ejection; then one request at a time is its trial, and the first
success ends the ejection. At most half of the upstreams are ejected at once.
"""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

LEAST_REQUESTS, PREFIX_HASH, HEADER = "least_requests", "prefix_hash", "header:"

PREFIX_BYTES = 1024
"""The part of a request body that is hashed: an upstream may hold the cache of the prompt that begins with it."""

_REQUEST_TOKENS = 256
"""The load of a request besides its input: its output, whose length is not known."""

_CONSECUTIVE_FAILURES = 3
_WINDOW_SECONDS = 30.0
_WINDOW_REQUESTS, _MIN_WINDOW_REQUESTS = 200, 10
_MAX_FAILED_SHARE = 0.5
_EJECTION_SECONDS, _MAX_EJECTION_SECONDS = 5.0, 300.0
_MAX_EJECTED_SHARE = 0.5
_MAX_LOAD, _SPARE_LOAD = 1.25, 2.0
"""A sticky request goes elsewhere where its upstream has 1.25 times the mean number of requests, and two more."""

U = TypeVar("U")


@dataclass(eq=False)
class Replica(Generic[U]):
    """One upstream of a server, and what is known of its health."""

    upstream: U
    key: str
    """Its name, unique in the server; sticky requests keep their replica as long as its name stays."""
    requests: int = 0
    """Requests in flight."""
    tokens: int = 0
    """An estimate of their input tokens."""
    turn: int = 0
    """When it was chosen last, as a number that increases with each choice."""
    failures: int = 0
    """Consecutive failures."""
    recent: deque[tuple[float, bool]] = field(default_factory=lambda: deque(maxlen=_WINDOW_REQUESTS))
    """When recent requests ended, and whether each failed."""
    ejected_until: float | None = None
    """When its trial begins; None while it is not ejected."""
    ejections: int = 0
    """Ejections since it last went without a failure for the length of the window."""
    all_ejections: int = 0
    failed_at: float = 0.0
    """When it failed last."""
    trial: Choice[U] | None = None
    """The request in flight that decides whether the ejection ends."""
    salt: bytes = field(init=False, repr=False)
    """What makes hashes differ between replicas."""

    def __post_init__(self) -> None:
        self.salt = hashlib.blake2b(self.key.encode(), digest_size=16).digest()

    @property
    def is_ejected(self) -> bool:
        """Whether it receives no requests but a trial."""
        return self.ejected_until is not None

    @property
    def load(self) -> int:
        """Tokens in flight, as far as they can be estimated."""
        return self.tokens + _REQUEST_TOKENS * self.requests

    def inherit_health(self, before: Replica[U]) -> None:
        """Go on with the health of the same upstream under other settings; a trial there decides nothing here."""
        self.failures, self.failed_at = before.failures, before.failed_at
        self.recent.extend(before.recent)
        self.ejected_until = before.ejected_until
        self.ejections, self.all_ejections = before.ejections, before.all_ejections

    def failed_share(self, now: float) -> float:
        """Return the share of failures among its recent requests; 0 where there were too few to judge."""
        results = [failed for ended, failed in self.recent if now - ended <= _WINDOW_SECONDS]
        return sum(results) / len(results) if len(results) >= _MIN_WINDOW_REQUESTS else 0.0


class Choice(NamedTuple, Generic[U]):
    """The replica for one request, from ``Balancer.begin`` to ``Balancer.end``."""

    replica: Replica[U]
    tokens: int
    ejections: int
    """The replica's ``all_ejections`` when the request began."""


class Balancer(Generic[U]):
    """The upstreams of one server; used on the event loop."""

    def __init__(self, replicas: Sequence[Replica[U]], policy: str, now: Callable[[], float]) -> None:
        """Prepare; ``now`` returns monotonic seconds."""
        self.replicas = replicas
        self.policy = policy
        self._now = now
        self._turn = 0

    @property
    def header(self) -> bytes | None:
        """The header, in lower case, whose value decides; None for another policy."""
        return self.policy.removeprefix(HEADER).lower().encode() if self.policy.startswith(HEADER) else None

    @property
    def hashes_body(self) -> bool:
        """Whether the beginning of the body decides."""
        return self.policy == PREFIX_HASH

    def begin(
        self, sticky: bytes | None = None, tokens: int = 0, tried: Collection[Replica[U]] = ()
    ) -> Choice[U] | None:
        """Return the replica for a request, and count it there; None where all have been tried.

        ``sticky`` is hashed: equal ones go to the same replica while it is healthy and not overloaded. ``tokens`` is
        an estimate of the request's size. A replica whose trial is due comes first.
        """
        left = [replica for replica in self.replicas if replica not in tried]
        if not left:
            return None
        trial = self._due_for_trial(left)
        chosen = trial or self._healthiest(left, sticky)
        self._turn += 1
        chosen.turn = self._turn
        chosen.requests += 1
        chosen.tokens += tokens
        choice = Choice(chosen, tokens, chosen.all_ejections)
        if trial is not None:
            trial.trial = choice
        return choice

    def end(self, choice: Choice[U], *, failed: bool | None) -> None:
        """Count the end of a request; None for ``failed`` where it says nothing about the replica's health."""
        choice.replica.requests -= 1
        choice.replica.tokens -= choice.tokens
        if failed is not None:
            self.judge(choice, failed=failed)
        elif choice.replica.trial is choice:
            choice.replica.trial = None

    def judge(self, choice: Choice[U], *, failed: bool) -> None:
        """Note the success or failure of a request, which may still be in flight."""
        replica, now = choice.replica, self._now()
        if failed:
            replica.failed_at = now
        if replica.trial is choice:
            replica.trial = None
            self._judge_trial(replica, now, failed=failed)
        elif not replica.is_ejected and choice.ejections == replica.all_ejections:  # else it began before the ejection
            self._count(replica, now, failed=failed)

    def _count(self, replica: Replica[U], now: float, *, failed: bool) -> None:
        replica.recent.append((now, failed))
        replica.failures = replica.failures + 1 if failed else 0
        if failed:
            if self._is_failing(replica, now) and self._may_eject():
                self._eject(replica, now)
        elif now - replica.failed_at > _WINDOW_SECONDS:
            replica.ejections = 0

    def _due_for_trial(self, left: Sequence[Replica[U]]) -> Replica[U] | None:
        now = self._now()
        for replica in left:
            if replica.ejected_until is not None and now >= replica.ejected_until and replica.trial is None:
                return replica
        return None

    def _healthiest(self, left: Sequence[Replica[U]], sticky: bytes | None) -> Replica[U]:
        healthy = [replica for replica in left if not replica.is_ejected]
        if not healthy:  # one that may have recovered is better than none
            return self._least_loaded(left)
        return self._sticky(healthy, sticky) if sticky is not None else self._least_loaded(healthy)

    def _judge_trial(self, replica: Replica[U], now: float, *, failed: bool) -> None:
        if failed:
            self._eject(replica, now)
        else:
            replica.ejected_until = None
            replica.failures = 0
            replica.recent.clear()

    def _is_failing(self, replica: Replica[U], now: float) -> bool:
        return replica.failures >= _CONSECUTIVE_FAILURES or replica.failed_share(now) >= _MAX_FAILED_SHARE

    def _may_eject(self) -> bool:
        ejected = sum(replica.is_ejected for replica in self.replicas)
        return ejected + 1 <= len(self.replicas) * _MAX_EJECTED_SHARE

    def _eject(self, replica: Replica[U], now: float) -> None:
        seconds = min(_EJECTION_SECONDS * 2.0 ** min(replica.ejections, 10), _MAX_EJECTION_SECONDS)
        replica.ejected_until = now + seconds
        replica.ejections += 1
        replica.all_ejections += 1

    @staticmethod
    def _least_loaded(replicas: Sequence[Replica[U]]) -> Replica[U]:
        """Return the replica with the fewest tokens in flight; of equal ones that which has waited longest."""
        return min(replicas, key=lambda replica: (replica.load, replica.turn))

    def _sticky(self, healthy: Sequence[Replica[U]], sticky: bytes) -> Replica[U]:
        """Return the first replica by rendezvous hashing that is not overloaded."""
        mean = sum(replica.requests for replica in healthy) / len(healthy)
        limit = mean * _MAX_LOAD + _SPARE_LOAD
        ranked = sorted(healthy, key=lambda replica: _rank(sticky, replica.salt), reverse=True)
        return next(replica for replica in ranked if replica.requests < limit)  # at least those below the mean


def _rank(sticky: bytes, salt: bytes) -> bytes:
    return hashlib.blake2b(sticky, digest_size=8, key=salt).digest()
