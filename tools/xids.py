"""NVIDIA's XIDs as in prometheus/xids.yml: what each requires, and the severity of its alert."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import yaml

_FILE = Path(__file__).parent.parent / "prometheus/xids.yml"
_SEVERITIES = {
    "restart_bm": "critical",
    "restart_vm": "critical",
    "reset_gpu": "critical",
    "restart_app": "info",
    "ignore": "none",
}
"""By action; any other action needs a person, and is a warning."""


class Xid(NamedTuple):
    """One code of NVIDIA's catalogue."""

    code: int
    name: str
    action: str
    meaning: str
    severity: str
    """critical, warning, info, or none for a code that raises no alert."""
    why: str
    """The reason for a severity that is not that of the action."""


def xids() -> list[Xid]:
    """Return every code, in ascending order."""
    return [
        Xid(
            each["xid"],
            each["name"],
            each["action"],
            each["meaning"],
            each.get("severity", _SEVERITIES.get(each["action"], "warning")),
            each.get("why", ""),
        )
        for each in yaml.safe_load(_FILE.read_text(encoding="utf-8"))["xids"]
    ]
