"""Load the library of NVIDIA's driver, after checking that this cannot crash or freeze this process.

The loader maps a file before it checks it: a truncated one crashes the process (SIGBUS), and a constructor that hangs
freezes it, since ctypes holds the interpreter while it loads. So the file's headers are checked first
(library_headers.py), then a child process loads it (library_trial.py). Nothing helps against a file that is truncated
in place after it was loaded; package managers replace files instead.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from modelhost_exporter.gpu.nvidia import library_headers, library_trial

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

NAME = "libnvidia-ml.so.1"
MISSING = f"no NVIDIA driver library ({NAME})"

_CACHE = Path("/etc/ld.so.cache")
# The loader's folders, and those where the loader does not find the library by name: WSL2, NixOS. Once it is loaded
# from there, nvidia-ml-py, which loads by name, gets the same one.
_FOLDERS = (
    *("/lib", "/usr/lib", "/lib64", "/usr/lib64", "/usr/local/lib"),
    *(f"{folder}/{machine}-linux-gnu" for folder in ("/lib", "/usr/lib") for machine in ("x86_64", "aarch64")),
    *("/usr/lib/wsl/lib", "/run/opengl-driver/lib"),
)
_RETRY_SECONDS = 600.0
_Signature = tuple[int, int, int, int]


class NotLoadable(Exception):
    """The library exists but cannot be loaded."""


class Library:
    """Loads the library from the path that the loader would use.

    A file that could not be loaded is tried again once it has changed, or after 10 minutes: the child process may have
    been too slow.
    """

    def __init__(
        self,
        search: Callable[[], Iterable[Path]],
        trial: Callable[[Path], str] = library_trial.attempt,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._search = search
        self._trial = trial
        self._clock = clock
        self._lock = threading.Lock()
        self._refused: tuple[_Signature, str, float] | None = None

    def exists(self) -> bool:
        """Return whether there is a file to load, without loading it."""
        return next(iter(self._search()), None) is not None

    def load(self) -> Path | None:
        """Load the library and return its path; None where there is none for this machine. Raises NotLoadable."""
        with self._lock:
            path = next(filter(_fits, self._search()), None)
            if path is None:
                return None
            self._try(path)
            try:
                ctypes.CDLL(str(path))
            except OSError as error:
                raise NotLoadable(f"{path}: {error}; reinstall the NVIDIA driver") from error
            return path

    def _try(self, path: Path) -> None:
        signature = _signature(path)
        if self._refused is not None:
            refused, problem, when = self._refused
            if refused == signature and self._clock() - when < _RETRY_SECONDS:
                raise NotLoadable(problem)
        if problem := self._trial(path):
            problem = f"{path}: {problem}; reinstall the NVIDIA driver"
            self._refused = signature, problem, self._clock()
            raise NotLoadable(problem)
        self._refused = None
        if _signature(path) != signature:
            raise NotLoadable(f"{path}: was replaced during the check; it is tried again")


def _fits(path: Path) -> bool:
    """Return whether a file is a library for this machine. Raises NotLoadable for a file that is no library."""
    try:
        return library_headers.check(path)
    except (library_headers.DamagedLibrary, OSError) as error:
        raise NotLoadable(f"{path}: {error}; reinstall the NVIDIA driver") from error


def _signature(path: Path) -> _Signature:
    try:
        stat = path.stat()
    except OSError as error:
        raise NotLoadable(f"{path}: {error}") from error
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


def search(name: str = NAME, cache: Path = _CACHE) -> Iterator[Path]:
    """Yield the files of this name in the loader's order: LD_LIBRARY_PATH, its cache, its folders (ld.so(8))."""
    path = os.environ.get("LD_LIBRARY_PATH", "")
    candidates = (
        *(Path(folder, name) for folder in (re.split("[:;]", path) if path else ())),
        *_cached(name, cache),
        *(Path(folder, name) for folder in _FOLDERS),
    )
    yield from (path for path in dict.fromkeys(candidates) if os.access(path, os.R_OK))


def _cached(name: str, cache: Path) -> list[Path]:
    """Return the paths in the loader's cache: its strings end with a zero byte."""
    try:
        strings = cache.read_bytes()
    except OSError:
        return []
    found = re.findall(rb"(?<=\0)(/[^\0]*/%s)(?=\0)" % re.escape(name.encode()), strings)
    return [Path(os.fsdecode(path)) for path in found]


def _is_loaded(name: str) -> bool:
    """Return whether this process has already loaded the library, without opening a file."""
    no_load = getattr(os, "RTLD_NOLOAD", None)
    if no_load is None:
        return False
    try:
        ctypes.CDLL(name, mode=no_load)
    except OSError:
        return False
    return True


_LIBRARY = Library(search)


def exists() -> bool:
    """Return whether this machine has the library. Always True on Windows, where only nvidia-ml-py finds it."""
    return sys.platform == "win32" or _is_loaded(NAME) or _LIBRARY.exists()


def load() -> bool:
    """Load the library; return False where there is none. Raises NotLoadable where it is damaged or hangs."""
    return sys.platform == "win32" or _is_loaded(NAME) or _LIBRARY.load() is not None
