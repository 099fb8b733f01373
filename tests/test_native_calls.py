"""docs/architecture.md lists every native call of the package, and none that holds the interpreter may wait."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import psutil
import pytest

import modelhost_exporter
from modelhost_exporter import collectors
from modelhost_exporter.collector import CollectorContext, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(modelhost_exporter.__file__).parent
DOCUMENT = PACKAGE.parent.parent / "docs/architecture.md"
MODULES = (
    *(
        "ctypes",
        "fcntl",
        "gzip",
        "mmap",
        "os",
        "platform",
        "psutil",
        "resource",
        "select",
        "shutil",
        "signal",
        "socket",
    ),
    *("ssl", "subprocess", "time", "zlib"),
)
PURE = {  # neither call the system nor wait
    *("ctypes.Structure", "ctypes.byref", "ctypes.cast", "ctypes.get_errno", "platform.python_version"),
    *("platform.uname_result", "os.environ", "os.fspath", "os.fsencode", "os.name", "os.devnull"),
    *("ssl.SSLCertVerificationError", "ssl.SSLError", "subprocess.SubprocessError", "time.struct_time"),
}
NOT_ON_LINUX = "not on Linux"


class Row(NamedTuple):
    """One row of the table."""

    calls: frozenset[str]
    interpreter: str
    waits: str


def table() -> list[Row]:
    """Return the table of native calls."""
    text = DOCUMENT.read_text().partition("## Native calls")[2]
    rows = [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("| ")][1:]
    return [
        Row(frozenset(re.findall(r"`([\w.]+)`", calls)), interpreter, waits.strip())
        for calls, interpreter, waits in rows
        if "---" not in calls
    ]


def of_psutil() -> set[str]:
    """Return the names of psutil's functions and of its processes' methods."""
    functions = {name for name in psutil.__all__ if name[0].islower() and callable(getattr(psutil, name))}
    return functions | {name for name in dir(psutil.Process) if not name.startswith("_")}


def qualified(name: str) -> str:
    """Return the name of a function of psutil as the table has it."""
    return f"Process.{name}" if hasattr(psutil.Process, name) and not hasattr(psutil, name) else f"psutil.{name}"


def calls_of(source: str) -> Iterator[str]:
    """Yield the native calls in a module's source, those of psutil under any name.

    A function of psutil that is fetched by its name (getattr) is a text of that name.
    """
    tree = ast.parse(source)
    imported = {
        name.asname or name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names
    }
    names = of_psutil() - {"status", "nice"} if "psutil" in imported else set()  # names of other things too
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=module), attr=name) if module in imported and module in MODULES:
                yield f"{module}.{name}"
            case ast.ImportFrom(module=str(module), names=found) if module in MODULES:
                yield from (f"{module}.{name.name}" for name in found)
            case ast.Call(func=ast.Attribute(attr=name)) if name in names:
                yield qualified(name)
            case ast.Constant(value=str(name)) if name in names and (name.startswith(("cpu_", "sensors_", "net_"))):
                yield qualified(name)


def is_constant(name: str) -> bool:
    """Return whether a name is a constant, an exception or a type without calls."""
    last = name.rpartition(".")[2]
    return last.isupper() or last.startswith(("c_", "AI_", "Error", "error", "gaierror", "TimeoutExpired"))


def used() -> dict[str, set[str]]:
    """Return the native calls of the package, with the files that have them; the demo measures nothing."""
    found: dict[str, set[str]] = {}
    for file in PACKAGE.rglob("*.py"):
        if "demo" not in file.relative_to(PACKAGE).parts:
            for name in calls_of(file.read_text(encoding="utf-8")):
                if name not in PURE and not is_constant(name):
                    found.setdefault(name, set()).add(str(file.relative_to(PACKAGE)))
    return found


def test_calls_are_found() -> None:
    """Plain calls, those of a psutil that was passed in, and ``getattr`` with a name are found."""
    source = "import os, psutil\nos.statvfs('/')\nself._source.cpu_count()\ngetattr(x, 'sensors_fans')\np.cmdline()"
    assert set(calls_of(source)) == {"os.statvfs", "psutil.cpu_count", "psutil.sensors_fans", "Process.cmdline"}
    assert {"os.statvfs", "psutil.disk_partitions", "psutil.net_connections", "socket.getaddrinfo"} <= used().keys()


def test_every_native_call_is_listed() -> None:
    """A new native call needs a row: whether it releases the interpreter, and what it may wait for."""
    listed = {call for row in table() for call in row.calls}
    assert {name: files for name, files in used().items() if name not in listed} == {}


def test_what_holds_the_interpreter_does_not_wait() -> None:
    """Each row has 'held' or 'released'; one that is held waits for nothing, or is not called on Linux."""
    rows = table()
    assert len(rows) > 20
    for row in rows:
        assert row.interpreter in ("held", "released"), row
        assert row.interpreter == "released" or row.waits.startswith(("nothing", NOT_ON_LINUX)), row


@pytest.mark.skipif(sys.platform != "linux", reason="about Linux")
def test_what_is_not_called_on_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    """No collector calls a function that the table marks as not called on Linux."""
    called: list[str] = []

    def forbidden(name: str) -> NoReturn:
        called.append(name)
        raise AssertionError(name)

    names = {name for row in table() if row.waits.startswith(NOT_ON_LINUX) for name in row.calls if "psutil" in name}
    assert len(names) > 8
    for name in names:
        monkeypatch.setattr(name, lambda *_, _name=name, **__: forbidden(_name))
    for name in set(collectors.names()) - {"gpu", "engines"}:  # these two measure no part of the machine itself
        try:
            list(collectors.create(name, collectors.options_of(name)(), CollectorContext()).collect())
        except Unavailable:
            continue
    assert called == []


def test_foreign_libraries_release_the_interpreter() -> None:
    """NVML is loaded with CDLL: PyDLL would hold the interpreter in every call."""
    spec = importlib.util.find_spec("pynvml")
    assert spec is not None
    assert spec.origin is not None
    assert not re.search(r"\bPyDLL\b|\bpythonapi\b", Path(spec.origin).read_text(encoding="utf-8"))
    assert not any(
        re.search(r"\bPyDLL\b|\bpythonapi\b", file.read_text(encoding="utf-8")) for file in PACKAGE.rglob("*.py")
    )
