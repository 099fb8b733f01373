"""What changes a machine: files and commands, each of which can be printed before it is done."""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

_SECONDS = 120.0
"""A manager that starts the exporter waits for it to be ready."""


class StepFailed(Exception):
    """A step could not be done."""


@dataclass(frozen=True)
class Write:
    """Write a file, and the folders above it."""

    path: Path
    text: str

    def __str__(self) -> str:
        return f"write {self.path}:\n" + "".join(f"    {line}\n" for line in self.text.splitlines()).rstrip()

    def do(self) -> None:
        """Replace the file as a whole."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_name(f".{self.path.name}.part")
        part.write_text(self.text, encoding="utf-8")
        part.chmod(0o644)
        part.replace(self.path)


@dataclass(frozen=True)
class Remove:
    """Remove a file, if it is there."""

    path: Path

    def __str__(self) -> str:
        return f"remove {self.path}"

    def do(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class RunProgram:
    """Run a program."""

    command: tuple[str, ...]
    may_fail: bool = False
    """Whether the result without it is still right, such as stopping what does not run."""

    def __str__(self) -> str:
        return f"run {shlex.join(self.command)}"

    def do(self) -> None:
        """Run the program, without a shell; what it prints is part of the error."""
        result = subprocess.run(  # noqa: S603 - a command of this package, without a shell
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
        if result.returncode and not self.may_fail:
            lines = result.stdout.strip() or "no output"
            raise StepFailed(f"{shlex.join(self.command)} failed with exit code {result.returncode}: {lines}")


Step = Write | Remove | RunProgram


def perform(steps: Iterable[Step], show: Callable[[str], None], *, dry_run: bool) -> None:
    """Print each step and do it; raises StepFailed at the first that cannot be done."""
    for step in steps:
        show(str(step))
        if not dry_run:
            _do(step)


def _do(step: Step) -> None:
    try:
        step.do()
    except subprocess.TimeoutExpired as error:
        raise StepFailed(f"{step}: no end within {_SECONDS:g} s") from error
    except OSError as error:
        if isinstance(step, RunProgram) and step.may_fail:
            return
        raise StepFailed(f"{_first_line(step)}: {error.strerror or error}{_way_out(error)}") from error


def _first_line(step: Step) -> str:
    return str(step).partition("\n")[0].rstrip(":")


def _way_out(error: OSError) -> str:
    return ": run it as an administrator, or with --user" if isinstance(error, PermissionError) else ""


def status_of(command: Sequence[str]) -> int:
    """Run a program that prints a status for the reader; return its exit code."""
    try:
        result = subprocess.run(command, stdin=subprocess.DEVNULL, timeout=_SECONDS, check=False)  # noqa: S603 - likewise
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StepFailed(f"{shlex.join(command)}: {error}") from error
    return result.returncode
