"""Values of Ollama's running models that say nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.engines import kinds

if TYPE_CHECKING:
    from modelhost_exporter.engines.snapshot import Model


def running(**fields: object) -> Model:
    """Return what is read of one running model."""
    served = {"/api/ps": {"models": [{"name": "m", **fields}]}, "/api/version": {"version": "0.32.1"}}
    (model,) = kinds.engine_kind("ollama").snapshot(lambda path: json.dumps(served[path]).encode()).models
    return model


@pytest.mark.parametrize(
    ("size", "vram", "known"),
    [
        (600, 600, (600, 0)),
        (600, 200, (200, 400)),
        (600, 0, (0, 600)),  # in RAM alone
        (0, 0, (None, None)),
        (None, 0, (None, None)),
        (600, None, (None, None)),
    ],
)
def test_memory(size: int | None, vram: int | None, known: tuple[float | None, float | None]) -> None:
    """A model of 0 bytes has not been measured, and nor has its share on GPUs."""
    model = running(size=size, size_vram=vram)
    assert (model.vram_bytes, model.ram_bytes) == known


@pytest.mark.parametrize("days", [-1, 0, 1, 365])
def test_expiry(days: int) -> None:
    """A time within a year is when the model will be unloaded; one in the past is a model that is still in use."""
    expires = datetime.now(UTC) + timedelta(days=days)
    assert running(expires_at=expires.isoformat()).expires == pytest.approx(expires.timestamp())


@pytest.mark.parametrize(
    "written",
    [
        (datetime.now(UTC) + timedelta(days=400)).isoformat(),
        "2318-09-08T10:00:00Z",
        "9999-12-31T23:59:59.999999-14:00",
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "",
        "tomorrow",
    ],
    ids=["more than a year", "never", "last", "zero", "first", "empty", "no time"],
)
def test_never(written: str) -> None:
    """A model that is never unloaded has a time that is years away; Go's zero time is none."""
    assert running(expires_at=written).expires is None
