"""Capacity of llama.cpp's KV cache in tokens: it depends on start arguments that /props does not report.

Source: llama.cpp tools/server/server.cpp and src/llama-context.cpp (b11434). By default four slots share one cache, and
the context that a slot shows is that of all; with ``--parallel 4`` each slot has a part of its own, and shows that.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_SHARED, _APART = ("-kvu", "--kv-unified"), ("-no-kvu", "--no-kv-unified")
_SLOTS = ("-np", "--parallel")
_LIMITS_SLOTS = "--kv-unified-per-slot"
_SLOTS_BY_DEFAULT = 4


def capacity(
    arguments: Sequence[str], slots: float | None, context: float | None, trained: float | None
) -> float | None:
    """Return the tokens that fit, from the command line, the number of slots, and the context that each shows.

    None where that is not known: several slots of a server whose command line cannot be seen, and a shared cache that
    may be larger than what a slot shows, which is never more than the context the model was ``trained`` for.
    """
    if not slots or not context:
        return None
    if slots == 1 and _LIMITS_SLOTS not in arguments:
        return context
    shared = _is_shared(arguments, slots)
    if shared is None:
        return None
    if not shared:
        return context * slots
    is_cut = _LIMITS_SLOTS in arguments or (trained is not None and context >= trained)
    return None if is_cut else context


def _is_shared(arguments: Sequence[str], slots: float) -> bool | None:
    """Return whether all slots share one cache; None when that is not known."""
    if any(flag in arguments for flag in _SHARED):
        return True
    if any(flag in arguments for flag in _APART):
        return False
    count = next((after for flag, after in pairwise(arguments) if flag in _SLOTS), None)
    if count is not None:
        return count.startswith("-")  # -1: as many as it likes, like none
    return True if arguments and slots == _SLOTS_BY_DEFAULT else None
