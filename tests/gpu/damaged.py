"""Damaged files in place of the driver's library, which must not end the process that loads them."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from tests.support.programs import installed

if TYPE_CHECKING:
    from pathlib import Path

HANGS = "#include <unistd.h>\n__attribute__((constructor)) static void hang(void) { for (;;) pause(); }\n"
CRASHES = "#include <stdlib.h>\n__attribute__((constructor)) static void crash(void) { abort(); }\n"
NEEDS = "void standin_has_no_such_function(void); void call(void) { standin_has_no_such_function(); }\n"


def truncate(whole: Path, file: Path, size: int) -> None:
    """Write a truncated library."""
    file.write_bytes(whole.read_bytes()[:size])


def move_to_another_machine(whole: Path, file: Path) -> None:
    """Write a library for an unknown machine (ELF's e_machine)."""
    data = bytearray(whole.read_bytes())
    data[18:20] = b"\xfe\xfe"
    file.write_bytes(data)


def build(source: str, file: Path, *flags: str) -> None:
    """Compile a library."""
    command = [installed("gcc", "cc"), "-shared", "-fPIC", "-x", "c", "-", "-o", str(file), *flags]
    subprocess.run(command, input=source.encode(), check=True)


def write(kind: str, whole: Path, file: Path) -> None:
    """Write a damaged library of a kind."""
    if kind == "truncated":
        truncate(whole, file, whole.stat().st_size // 2)
    elif kind == "empty":
        file.write_bytes(b"")
    elif kind == "text":
        file.write_text("/* GNU ld script */\nINPUT(libnvidia-ml.so.550)\n")
    elif kind == "directory":
        file.mkdir()
    elif kind == "hangs":
        build(HANGS, file)
    elif kind == "crashes":
        build(CRASHES, file)
    else:
        build(NEEDS, file, "-Wl,-z,now")


KINDS = ("truncated", "empty", "text", "directory", "hangs", "crashes", "incomplete")
