from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.gpu.nvidia import library, library_headers, library_trial
from modelhost_exporter.gpu.nvidia.library import Library, NotLoadable, search
from tests.gpu import damaged
from tests.gpu.conftest import Clock

if TYPE_CHECKING:
    from pathlib import Path


class Trial:
    """A child process that reports a problem, or none."""

    def __init__(self, problem: str = "") -> None:
        self.problem = problem
        self.paths: list[Path] = []

    def __call__(self, path: Path) -> str:
        """Record the path and return the problem."""
        self.paths.append(path)
        return self.problem


def test_a_whole_library_is_loaded(standin: Path) -> None:
    """Its ELF headers are valid and a child process loads it, before this process does."""
    assert library_headers.check(standin)
    assert library_trial.attempt(standin) == ""
    assert Library(lambda: [standin]).load() == standin


def test_a_truncated_library_is_never_loaded(standin: Path, tmp_path: Path) -> None:
    """Wherever it ends: the headers show it, or the missing part is never mapped and a child process loads it."""
    file, size = tmp_path / "library", standin.stat().st_size
    found = set()
    for end in (*range(0, size, size // 40), 63, 64, 65, 120, size - 1):
        damaged.truncate(standin, file, end)
        try:
            fits = library_headers.check(file)
        except library_headers.DamagedLibrary as error:
            found.add(str(error).partition(":")[0])
        else:
            assert fits
            assert library_trial.attempt(file) == ""
    assert found == {"is empty", "is not a shared library", "is truncated"}


@pytest.mark.parametrize("kind", damaged.KINDS)
def test_a_damaged_library_is_an_error_that_names_it(kind: str, standin: Path, tmp_path: Path) -> None:
    """The error has the path, the reason and the way out."""
    file = tmp_path / "library"
    damaged.write(kind, standin, file)
    reasons = {
        "truncated": r"is truncated: it has \d+ bytes of at least \d+",
        "empty": "is empty",
        "text": "is not a shared library",
        "directory": "Is a directory",
        "hangs": "loading does not finish within 1 s",
        "crashes": "loading crashes with SIGABRT",
        "incomplete": "standin_has_no_such_function",
    }
    found = Library(lambda: [file], lambda path: library_trial.attempt(path, 1.0))
    with pytest.raises(NotLoadable, match=f"{file}.*{reasons[kind]}.*; reinstall the NVIDIA driver"):
        found.load()
    assert found.exists()


def test_a_library_for_another_machine_is_skipped(standin: Path, tmp_path: Path) -> None:
    """The loader skips it too: the next one is used, and without another there is no library."""
    other = tmp_path / "other"
    damaged.move_to_another_machine(standin, other)
    assert Library(lambda: [other, standin], Trial()).load() == standin
    assert Library(lambda: [other], Trial()).load() is None
    assert Library(list, Trial()).load() is None


def test_an_executable_is_not_a_library(tmp_path: Path, standin: Path) -> None:
    """Of the ELF file types only shared objects can be loaded."""
    data = bytearray(standin.read_bytes())
    data[16:18] = b"\x02\x00"
    (tmp_path / "program").write_bytes(data)
    with pytest.raises(library_headers.DamagedLibrary, match="is not a shared library"):
        library_headers.check(tmp_path / "program")


def test_a_library_that_failed_is_tried_again_when_it_has_changed(standin: Path, tmp_path: Path) -> None:
    """One that did not change is tried every 10 minutes: a trial is a process."""
    clock, trial, file = Clock(), Trial("it crashes"), tmp_path / "library"
    file.write_bytes(standin.read_bytes())
    found = Library(lambda: [file], trial, clock)
    for expected in (1, 1):
        with pytest.raises(NotLoadable, match="it crashes"):
            found.load()
        assert len(trial.paths) == expected
    clock.seconds += 600
    with pytest.raises(NotLoadable, match="it crashes"):
        found.load()
    assert len(trial.paths) == 2
    os.utime(file, (1, 1))
    trial.problem = ""
    assert found.load() == file


def test_a_library_that_is_replaced_while_it_is_tried(standin: Path, tmp_path: Path) -> None:
    """The child process loaded another file than the one that is there now."""
    file = tmp_path / "library"
    file.write_bytes(standin.read_bytes())

    def replace(path: Path) -> str:
        path.write_bytes(b"something else")
        return ""

    with pytest.raises(NotLoadable, match="was replaced during the check"):
        Library(lambda: [file], replace).load()


def test_without_a_child_process_valid_headers_are_enough(standin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frozen program, or one that may not start processes, still has GPUs."""
    monkeypatch.setattr(sys, "executable", "")
    assert library_trial.attempt(standin) == ""
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    assert library_trial.attempt(standin) == ""


def test_a_child_process_that_is_killed_is_no_error_of_the_library(tmp_path: Path) -> None:
    """Out of memory, or a forbidden system call, is not an error of the library."""
    file = tmp_path / "library"
    damaged.build(damaged.CRASHES.replace("abort()", "raise(SIGKILL)").replace("stdlib", "signal"), file)
    assert library_trial.attempt(file) == ""


def test_libraries_are_searched_as_the_loader_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LD_LIBRARY_PATH first, then the loader's cache, each file once; what is not there does not count."""
    name = "libno-such-thing.so.1"
    first, second, third = (tmp_path / folder / name for folder in ("a", "b", "c"))
    for file in (first, second, third):
        file.parent.mkdir()
        file.write_text("")
    cache = tmp_path / "cache"
    paths = (third, tmp_path / "gone" / name, first, tmp_path / "c" / f"{name}.2", second)
    cache.write_bytes(b"glibc-ld.so.cache1.1\0\x03\0" + b"".join(os.fsencode(path) + b"\0" for path in paths))
    monkeypatch.setenv("LD_LIBRARY_PATH", f"{second.parent}:{tmp_path / 'none'}")
    assert list(search(name, cache)) == [second, third, first]
    monkeypatch.delenv("LD_LIBRARY_PATH")
    assert list(search(name, cache)) == [third, first, second]
    assert list(search(name, tmp_path / "no cache")) == []


def test_the_search_finds_what_the_loader_finds() -> None:
    """The C library is where the loader has it."""
    if not sys.platform.startswith("linux"):
        pytest.skip("not Linux")
    (found, *_) = search("libc.so.6")
    assert library_headers.check(found)


def test_a_library_that_is_already_loaded_is_there(standin: Path) -> None:
    """After a reload nothing is checked again."""
    Library(lambda: [standin]).load()
    assert library.exists()
    assert library.load()
