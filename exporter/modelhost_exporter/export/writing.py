"""Write exported files: all or none, and nothing of the operator's is overwritten by mistake."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class CannotExport(Exception):
    """The files could not be written."""


def write(folder: Path, files: Mapping[str, str], *, force: bool) -> list[Path]:
    """Write files below a folder and return the paths of those that changed.

    Raises CannotExport, with nothing written, if a file exists with another content, unless ``force`` is set; and if
    the system refuses to write one.
    """
    wanted = {folder / name: text.encode() for name, text in files.items()}
    try:
        changed = {path: content for path, content in wanted.items() if _content(path) != content}
        changes = [path for path in changed if path.exists()]
        if changes and not force:
            more = f" and {len(changes) - 1} more" if changes[1:] else ""
            raise CannotExport(f"{changes[0]}{more}: exists with another content; --force overwrites it")
        for path, content in changed.items():
            _replace(path, content)
    except (FileExistsError, NotADirectoryError) as error:
        raise CannotExport(f"{error.filename}: must be a folder") from error
    except OSError as error:
        raise CannotExport(f"{error.filename or folder}: {error.strerror or error}") from error
    return list(changed)


def _content(path: Path) -> bytes | None:
    """Return the content of a file; None if there is none."""
    return path.read_bytes() if path.exists() else None


def _replace(path: Path, content: bytes) -> None:
    """Write a file as a whole: a disk that is full leaves the one that was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    written = path.with_name(f".{path.name}.part")
    try:
        written.write_bytes(content)
        written.replace(path)
    finally:
        written.unlink(missing_ok=True)
