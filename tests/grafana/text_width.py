"""The width of a panel's title in Grafana, whose font is Inter, and of the panel."""

from __future__ import annotations

# advance widths of Inter Medium in thousandths of the font size, from the space to the tilde
_WIDTHS = (
    *(
        267,
        304,
        494,
        639,
        646,
        993,
        653,
        313,
        369,
        369,
        521,
        667,
        303,
        462,
        303,
        370,
        646,
        415,
        616,
        627,
        656,
        603,
        630,
        571,
    ),
    *(
        629,
        630,
        303,
        315,
        667,
        667,
        667,
        527,
        982,
        709,
        657,
        733,
        722,
        603,
        589,
        748,
        745,
        272,
        575,
        688,
        565,
        913,
        756,
        767,
    ),
    *(
        642,
        769,
        648,
        646,
        653,
        740,
        709,
        1003,
        701,
        696,
        641,
        369,
        370,
        369,
        477,
        463,
        337,
        568,
        618,
        577,
        618,
        587,
        379,
        620,
    ),
    *(
        602,
        252,
        252,
        559,
        252,
        888,
        602,
        604,
        618,
        618,
        387,
        539,
        340,
        602,
        575,
        829,
        557,
        575,
        559,
        440,
        346,
        440,
        667,
    ),
)
_TITLE = 14
"""The size of a title's font in pixels."""
_MARGIN, _GAP, _COLUMNS = 32, 8, 24
_BESIDE = 16 + 28
"""Pixels of the panel that the title does not have: its padding and the information icon."""


def title_width(text: str) -> float:
    """Return the width of a title in pixels; other characters than ASCII's count as wide ones."""
    thousandths = (_WIDTHS[ord(char) - 32] if " " <= char <= "~" else 1000 for char in text)
    return sum(thousandths) * _TITLE / 1000


def room_for_title(columns: int, window: int) -> float:
    """Return the pixels that a panel of so many columns has for its title in a window of this width."""
    return (window - _MARGIN + _GAP) / _COLUMNS * columns - _GAP - _BESIDE
