"""Formats that pages of several simulated engine kinds share."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from modelhost_exporter.demo.engines import Distribution, SimulatedEngine


def json_page(value: object) -> bytes:
    """Return a page of JSON."""
    return json.dumps(value).encode()


def model_list(owner: str) -> Callable[[SimulatedEngine, float], bytes]:
    """Return the function that writes /v1/models."""

    def write(engine: SimulatedEngine, _at: float) -> bytes:
        entries = [
            {"id": model.name, "object": "model", "owned_by": owner, "max_model_len": model.context}
            for model in engine.models
        ]
        return json_page({"object": "list", "data": entries})

    return write


def sample_lines(prefix: str, labels: str, values: Iterable[tuple[str, float]]) -> list[str]:
    """Return a line of a metrics page for each name and value."""
    return [f"{prefix}{name}{{{labels}}} {value}\n" for name, value in values]


def histogram_lines(name: str, labels: str, measured: Distribution) -> list[str]:
    """Return the lines of a histogram."""
    return [
        *(f'{name}_bucket{{{labels},le="{bound}"}} {count}\n' for bound, count in measured.buckets()),
        f"{name}_count{{{labels}}} {measured.count}\n",
        f"{name}_sum{{{labels}}} {measured.sum}\n",
    ]


def version_page(engine: SimulatedEngine, _at: float) -> bytes:
    """Return the page with the version."""
    return json_page({"version": engine.spec.version})
