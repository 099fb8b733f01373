"""Find the configured server that a process belongs to, by the port that it or an ancestor listens on."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil

from modelhost_exporter.server_processes import lineage, ports_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_MAX_CACHED = 1000
_RETRY_SECONDS = 15.0


class LocalServer(NamedTuple):
    """A configured server that may run on this machine, and the port of its URL."""

    name: str
    port: int


class ProcessOwners:
    """Find the server of a process: the first whose port it, or one of its ancestors, serves.

    Ancestors count because the process that holds the GPU is often a child of the one that listens (vLLM, Ollama). The
    search is slow, so that its result is cached: an owner as long as the process runs, the lack of one for 15 s (a
    server listens once its model is loaded).
    """

    def __init__(
        self, servers: Iterable[LocalServer], source: Any = psutil, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._servers = tuple(servers)
        self._source = source
        self._clock = clock
        self._cache: dict[tuple[int, float], tuple[str | None, float]] = {}

    def replace_servers(self, servers: Iterable[LocalServer]) -> None:
        """Search for these servers from now on, and clear the cache where they changed."""
        if (new := tuple(servers)) != self._servers:
            self._servers = new
            self._cache = {}

    def __call__(self, pid: int) -> str | None:
        """Return the server's name; None for a process that belongs to none, or cannot be read."""
        if not self._servers:
            return None
        try:
            process = pid, float(self._source.Process(pid).create_time())
        except (psutil.Error, OSError):
            return None
        cache = self._cache  # of the current servers: a reload may replace them during the search
        owner, searched_at = cache.get(process, (None, -math.inf))
        if owner is None and self._clock() - searched_at >= _RETRY_SECONDS:
            owner = self._find(pid)
            if len(cache) >= _MAX_CACHED:
                cache.clear()
            cache[process] = owner, self._clock()
        return owner

    def _find(self, pid: int) -> str | None:
        try:
            process = self._source.Process(pid)
        except (psutil.Error, OSError):
            return None
        for ancestor, command in lineage(process):
            ports = ports_of(ancestor, command)
            for server in self._servers:
                if server.port in ports:
                    return server.name
        return None
