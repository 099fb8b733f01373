"""The price of energy."""

from __future__ import annotations

import math
from dataclasses import dataclass

_MAX_CURRENCY_CHARACTERS = 8


@dataclass(frozen=True)
class Cost:
    """What a kilowatt-hour costs; recording rules, dashboards and the live page compute costs from it."""

    currency: str = ""
    """Its code or sign, such as EUR or €."""
    per_kwh: float | None = None
    """None: no costs are shown."""

    def __post_init__(self) -> None:
        if (self.per_kwh is None) == bool(self.currency):
            missing = "per_kwh" if self.currency else "currency"
            raise ValueError(f"{missing} is missing: give both, such as {{currency: EUR, per_kwh: 0.32}}")
        if self.per_kwh is not None and not (math.isfinite(self.per_kwh) and self.per_kwh >= 0):
            raise ValueError(f"per_kwh must be 0 or more, not {self.per_kwh:g}")
        if len(self.currency) > _MAX_CURRENCY_CHARACTERS or not self.currency.isprintable() or " " in self.currency:
            raise ValueError(f"currency must be a code or sign such as EUR, not {self.currency[:100]!r}")
