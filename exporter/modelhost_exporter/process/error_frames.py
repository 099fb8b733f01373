"""Store and format errors without traceback frames, which would create reference cycles."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_CHAIN = 20


def without_frames(error: BaseException) -> BaseException:
    """Remove the tracebacks of an error and of its causes and contexts; return the error."""
    for one in _chain(error):
        one.__traceback__ = None
    return error


def described(error: BaseException) -> str:
    """Return an error's type and text; only the type if formatting fails (NVML's text is a query of the driver)."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - any text is better than none
        return type(error).__name__


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its causes and contexts."""
    left: list[BaseException | None] = [error]
    for _ in range(_MAX_CHAIN):
        one = left.pop() if left else None
        if one is not None:
            yield one
            left += [one.__cause__, one.__context__]
