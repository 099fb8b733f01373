"""Pass PEM text to Python's ssl, which reads certificates and keys from files only."""

from __future__ import annotations

import contextlib
import os
import tempfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def file_with(content: bytes) -> Iterator[str]:
    """Provide the path of a file with this content that only this process can read, and that no disk keeps."""
    with contextlib.ExitStack() as undo:
        try:
            number = os.memfd_create("pem")
            undo.callback(os.close, number)
            path = f"/proc/self/fd/{number}"
            os.stat(path)  # noqa: PTH116 - raises where /proc is not mounted
        except (AttributeError, OSError):  # not Linux, or a sandbox that forbids it
            undo.close()
            number, path = tempfile.mkstemp(prefix="modelhost-")
            undo.callback(os.unlink, path)
            undo.callback(os.close, number)
        _write_all(number, content)
        yield path


def _write_all(number: int, content: bytes) -> None:
    while content:
        content = content[os.write(number, content) :]
