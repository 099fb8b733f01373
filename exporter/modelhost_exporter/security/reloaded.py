"""A value that is read from files, and read again when one of them changes; an error keeps the last value.

Whoever uses the value calls ``refresh`` first (it blocks), or awaits ``refreshed``. Files are compared by modification
time, size and inode, so that a changed certificate is in use from the next connection on, and an unchanged one costs a
``stat``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import stat
import threading
import time
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from modelhost_exporter import threads
from modelhost_exporter.config import file_content
from modelhost_exporter.config.parsing import ConfigError
from modelhost_exporter.logs.state_log import StateLog

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

log = logging.getLogger(__name__)

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_RETRY_SECONDS = 5.0
_WAIT_SECONDS = 2.0
_Stamp = tuple[int, int, int, int] | None


class FilesRead:
    """The files that a value was read from, each with its state before it was read."""

    def __init__(self) -> None:
        self._stamps: dict[Path, _Stamp] = {}

    def note(self, file: Path) -> None:
        """Record a file that is read by other means; call it before."""
        self._stamps.setdefault(file, _stamp(file))

    def content(self, file: Path, max_bytes: int) -> bytes:
        """Return a file's content; raises ConfigError if it cannot be read or is longer."""
        self.note(file)
        try:
            content = file_content.read(file, max_bytes)
        except OSError as error:
            raise ConfigError(str(file), error.strerror or str(error)) from error
        if len(content) > max_bytes:
            raise ConfigError(str(file), f"larger than {max_bytes} bytes")
        return content

    def have_changed(self) -> bool:
        """Return whether a file differs from what was read."""
        return any(_stamp(file) != stamp for file, stamp in self._stamps.items())


class Load(Protocol[T_co]):
    """Reads a value from files."""

    def __call__(self, files: FilesRead) -> T_co:
        """Return the value; raises ConfigError. Every file that is read is noted in ``files``."""
        ...


class Reloaded(Generic[T]):
    """The last valid value. Thread-safe."""

    def __init__(self, load: Load[T], called: str, now: Callable[[], float] = time.time) -> None:
        """Read the value for the first time; raises ConfigError. ``called`` names it in the log."""
        self._load = load
        self._called = called
        self._now = now
        self._lock = threading.Lock()
        self._failing: StateLog[str] = StateLog("")
        self._checking: asyncio.Future[None] | None = None
        self._tried = 0.0
        self._files = FilesRead()
        self.value = load(self._files)
        """The value in force."""
        self.is_current = True
        """Whether the last attempt to read it succeeded."""
        self.loaded_at = now()
        """When it was read, in seconds since 1970."""

    def refresh(self) -> T:
        """Return the value, read again if a file has changed; blocks. An error keeps the last one, and is logged once.

        While another thread reads, the last one is returned. A value that could not be read is tried again after 5 s.
        """
        if self._lock.acquire(blocking=False):
            try:
                if self._is_due():
                    self._read()
            finally:
                self._lock.release()
        return self.value

    async def refreshed(self) -> T:
        """Return the value, read again in a thread if a file has changed; the last one if that takes long."""
        if self._checking is None:
            with contextlib.suppress(RuntimeError, MemoryError):  # no thread: the last value stays in force
                self._checking = asyncio.ensure_future(threads.call(self._refresh_quietly))
                self._checking.add_done_callback(self._checked)
        if self._checking is not None:
            await asyncio.wait([self._checking], timeout=_WAIT_SECONDS)
        return self.value

    def _refresh_quietly(self) -> None:
        self.refresh()

    def _checked(self, checking: asyncio.Future[None]) -> None:
        self._checking = None
        if not checking.cancelled() and (error := checking.exception()) is not None:
            log.error("%s not read again", self._called, extra={"fields": {"error": repr(error)}})

    def _is_due(self) -> bool:
        if self._files.have_changed():
            return True
        return not self.is_current and time.monotonic() - self._tried >= _RETRY_SECONDS

    def _read(self) -> None:
        self._tried = time.monotonic()
        files = FilesRead()
        try:
            value = self._load(files)
        except ConfigError as error:
            self.is_current = False
            if self._failing.changed(str(error)):
                message = f"{self._called} not read again: the previous one stays in force"
                log.error(message, extra={"fields": {"error": str(error)}})  # noqa: TRY400 - its text says it all
        else:
            self.value, self.is_current, self.loaded_at = value, True, self._now()
            self._failing.changed("")
            log.info("%s read again", self._called)
        self._files = files


def _stamp(file: Path) -> _Stamp:
    """Return what distinguishes versions of a file; None for one that cannot be read twice, or does not exist."""
    try:
        found = file.stat()
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino
