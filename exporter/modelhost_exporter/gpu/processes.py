"""The processes that hold GPU memory, and the names under which they are exported: never a process ID."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

UNKNOWN = "unknown"
"""The name of a process that is not visible: it has just ended, or is in another PID namespace."""

_INTERPRETERS = re.compile(r"(python|pypy|node|ruby|perl|java|bash|sh)[\d.]*(\.exe)?")
_DRIVE = re.compile(r"[A-Za-z]:\\")
_TITLE_END = re.compile(r"[:\s]")
_MAX_PATH, _MAX_NAME = 4096, 256  # characters; longer paths and names are cut
_OPTIONS_WITH_VALUE = ("-X", "-W", "-cp", "-classpath")
_CODE_LETTERS = {"python": "c", "pypy": "c", "bash": "c", "sh": "c", "perl": "eE", "ruby": "e", "node": "ep"}
"""The options of each interpreter after which a program is given as text, which may contain anything."""


class ProcessMemory(NamedTuple):
    """Memory of one process in bytes; None where the driver does not report it."""

    pid: int
    memory: int | None
    instance: int | None = None
    """The MIG GPU instance; None on a GPU without MIG."""


def no_owner(_pid: int) -> str | None:
    """Return None: no process has an owner."""
    return None


class ProcessNames:
    """The names of processes: the configured server that a process belongs to, else its program."""

    def __init__(self, owner_of: Callable[[int], str | None] = no_owner, source: Any = psutil) -> None:
        self._owner_of = owner_of
        self._source = source

    def of(self, pid: int) -> str:
        """Return a process's name; ``unknown`` for one that is not visible."""
        return self._owner_of(pid) or self._program_of(pid)

    def _program_of(self, pid: int) -> str:
        try:
            process = self._source.Process(pid)
            return (program(process.cmdline()) or process.name() or UNKNOWN)[:_MAX_NAME]
        except (psutil.Error, OSError):
            return UNKNOWN

    def memory(self, processes: Iterable[ProcessMemory]) -> dict[str, int]:
        """Return memory in bytes by name; names with a process of unknown size are left out."""
        sizes: dict[str, list[int | None]] = defaultdict(list)
        for pid, memory, _ in processes:
            sizes[self.of(pid)].append(memory)
        known = {name: [size for size in every if size is not None] for name, every in sizes.items()}
        return {name: sum(known[name]) for name, every in sizes.items() if len(known[name]) == len(every)}


def program(command: Sequence[str]) -> str:
    """Return the program of a command line: the script or module that an interpreter runs, not the interpreter.

    ``python -m vllm.entrypoints.openai.api_server`` is vllm. A process title (``VLLM::Worker_TP0``,
    ``nginx: worker process``) counts up to its first colon or blank, so that numbered workers share a name.
    """
    words = [word for word in command if word]
    if not words:
        return ""
    name = _file_name(words[0])
    interpreter = _INTERPRETERS.fullmatch(name)
    if not interpreter:
        return name
    before = ""
    for word in words[1:]:
        if before == "-m":
            return word.partition(".")[0]
        if _precedes_code(word, interpreter[1]):
            return name
        if not word.startswith("-") and before not in _OPTIONS_WITH_VALUE:
            return _file_name(word)
        before = word
    return name


def _precedes_code(option: str, interpreter: str) -> bool:
    """Return whether the program follows an option as text, as after ``-c``, ``-lc`` or ``--eval``."""
    if option.startswith("--"):
        return option.partition("=")[0] in ("--eval", "--print")
    letters = _CODE_LETTERS.get(interpreter, "")
    return option.startswith("-") and option[:2] not in _OPTIONS_WITH_VALUE and not set(letters).isdisjoint(option)


def _file_name(word: str) -> str:
    word = word[:_MAX_PATH]
    path = PureWindowsPath(word) if _DRIVE.match(word) else PurePosixPath(_TITLE_END.split(word, maxsplit=1)[0])
    return path.name or word


def memory_by_pid(processes: Iterable[ProcessMemory] | None) -> dict[int, float] | None:
    """Return memory in bytes by process ID; None where a part of it is unknown, or the GPU is divided (MIG)."""
    if processes is None:
        return None
    held: dict[int, float] = {}
    for process in processes:
        if process.memory is None or process.instance is not None:
            return None
        held[process.pid] = held.get(process.pid, 0.0) + process.memory
    return held
