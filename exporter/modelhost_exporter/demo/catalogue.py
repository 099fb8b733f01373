"""The servers and models of ``demo/kinds``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from modelhost_exporter.demo import kinds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelhost_exporter.demo.specs import ModelSpec, SimulatedKind, SimulatedServer

KINDS: Mapping[str, SimulatedKind] = {kind.SERVER.kind: kind for kind in kinds.simulated()}
SERVERS = tuple(kind.SERVER for kind in KINDS.values())
"""Those of the rack."""
WORKSTATION: tuple[SimulatedServer, ...] = tuple(
    server for kind in KINDS.values() if (server := getattr(kind, "WORKSTATION", None)) is not None
)
# servers by the traffic of their first model, the busiest first
_MODELS = tuple(
    model for kind in sorted(KINDS.values(), key=lambda kind: -kind.MODELS[0].rate) for model in kind.MODELS
)
USUAL_MODELS = len(_MODELS)
_ADAPTED = tuple(model for model in _MODELS if model.has_adapters)
_ADAPTER_RATE = 0.06


def models(count: int = USUAL_MODELS) -> tuple[ModelSpec, ...]:
    """Return ``count`` models of the rack: the usual ones first, then adapters (LoRA)."""
    adapters = (
        replace(base, name=f"{base.name}-team-{number:02}", rate=_ADAPTER_RATE)
        for number, base in (
            (number, _ADAPTED[number % len(_ADAPTED)]) for number in range(1, count - USUAL_MODELS + 1)
        )
    )
    return (*_MODELS[:count], *adapters)
