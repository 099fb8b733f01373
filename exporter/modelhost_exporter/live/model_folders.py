"""The folders in which engines keep their models, found while somebody watches, in a thread of its own."""

from __future__ import annotations

import contextlib
import os
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil

from modelhost_exporter.engines import kinds
from modelhost_exporter.engines.local_processes import is_one_of
from modelhost_exporter.linux.mounts import host_name
from modelhost_exporter.process.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from modelhost_exporter.collector import Paths
    from modelhost_exporter.process.run import Run

_SEARCH_SECONDS = 300.0
_MAX_HOMES = 64
_MAX_FOLDERS = 256
_CACHE, _CACHE_FOLDER, _CACHE_VARIABLES = "Hugging Face", "~/.cache/huggingface/hub", ("HF_HUB_CACHE", "HF_HOME")
"""The cache that many engines share."""


class ModelFolder(NamedTuple):
    """A folder or file with models: whose it is, such as the title of an engine, and its resolved path on the host."""

    title: str
    path: str


class ModelFolders:
    """The folders that were found; each call starts a search where the last one is older than five minutes.

    A home folder on a network that is gone blocks the search's own thread only; the folders found before remain.
    """

    def __init__(self, paths: Callable[[], Paths], clock: Callable[[], float] = time.monotonic) -> None:
        self._worker = Worker(lambda: search(paths().rootfs), "model-folders")
        self._clock = clock
        self._run: Run[Sequence[ModelFolder]] | None = None
        self._due = 0.0
        self._found: Sequence[ModelFolder] = ()

    def __call__(self) -> Sequence[ModelFolder]:
        """Return the folders that the last search found; never blocks."""
        run = self._run
        if run is not None and run.is_finished():
            self._found = run.value if run.error is None else self._found
            self._run = None
        if self._clock() >= self._due:
            self._due = self._clock() + _SEARCH_SECONDS
            self._run = self._worker.start()
        return self._found


def search(rootfs: Path, processes: Any = psutil) -> Sequence[ModelFolder]:
    """Return the folders of models that exist: the usual ones of each user, and those that running engines name."""
    candidates = dict.fromkeys((*_usual(rootfs), *_of_processes(processes)))
    found = {folder for title, path in candidates if (folder := _existing(title, path, rootfs)) is not None}
    return sorted(found)[:_MAX_FOLDERS]


def _existing(title: str, path: str, rootfs: Path) -> ModelFolder | None:
    """Return a folder with links resolved, if it exists below ``rootfs``."""
    here = Path(f"{rootfs.as_posix().rstrip('/')}{path}")
    try:
        name = host_name(here.resolve(strict=True).as_posix(), rootfs.as_posix().rstrip("/"))
    except (OSError, RuntimeError, ValueError):  # a loop of links; a zero byte
        return None
    return ModelFolder(title, name) if name else None


def _usual(rootfs: Path) -> Iterator[tuple[str, str]]:
    """Yield the usual folders of each kind, in each user's home."""
    homes = [*_homes(rootfs)]
    yield from ((_CACHE, path) for path in _in_homes(_CACHE_FOLDER, homes))
    for kind in map(kinds.engine_kind, kinds.names()):
        for folder in kinds.model_places(kind).folders:
            yield from ((kind.TITLE, path) for path in _in_homes(folder, homes))


def _homes(rootfs: Path) -> Iterator[str]:
    yield "/root"
    if rootfs == Path("/"):
        with contextlib.suppress(RuntimeError):  # the user has no home
            yield Path.home().as_posix()
    try:
        with os.scandir(rootfs / "home") as entries:
            yield from sorted(f"/home/{entry.name}" for entry in entries)[:_MAX_HOMES]
    except OSError:
        return


def _in_homes(folder: str, homes: Iterable[str]) -> Iterable[str]:
    return [home + folder[1:] for home in homes] if folder.startswith("~/") else [folder]


def _of_processes(source: Any) -> Iterator[tuple[str, str]]:
    """Yield the folders and files of models that the command lines and variables of running engines name."""
    every = [kinds.engine_kind(name) for name in kinds.names()]
    for process in source.process_iter():
        try:
            words = process.cmdline()
            running = [kind for kind in every if words and is_one_of(words, kind.PROGRAMS)]
            for kind in running:
                yield from _named(kind, words, _environment(process))
        except (psutil.Error, OSError):
            continue


def _named(kind: kinds.EngineKind, words: Sequence[str], variables: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the absolute paths that a process of a kind names."""
    _, options, names = kinds.model_places(kind)
    own = [after for option, after in pairwise(words) if option in options]
    own += [word.partition("=")[2] for word in words if word.partition("=")[0] in options]
    own += [variables[name] for name in names if name in variables]
    yield from ((kind.TITLE, path) for path in own if path.startswith("/"))
    shared = [variables[name] for name in _CACHE_VARIABLES if name in variables]
    yield from ((_CACHE, path) for path in shared if path.startswith("/"))


def _environment(process: Any) -> Mapping[str, str]:
    """Return the variables of a process; none of another user's."""
    try:
        return dict(process.environ())
    except (psutil.Error, OSError):
        return {}
