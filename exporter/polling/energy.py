"""Energy of models: what the GPUs they sit on used while they were loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Collection

Attribution = Literal["exclusive", "shared"]


@dataclass(frozen=True)
class GpuUse:
    """One GPU at one moment: its energy counter, and the memory that processes have on it, in bytes."""

    energy_joules: float
    memory_by_pid: Mapping[int, float]


GpuUses = Callable[[], Mapping[str, GpuUse]]
"""Returns every GPU by its uuid; may block, may be called by several threads, raises OSError when it cannot say."""


class ModelEnergy:
    """The energy of one server's models, GPU by GPU."""

    def __init__(self) -> None:
        self._counters: dict[str, float] = {}
        self._joules: dict[str, dict[Attribution, float]] = {}

    def note(self, gpus: Mapping[str, GpuUse], pids: Collection[int], models: Mapping[str, float | None]) -> None:
        """Share out what each GPU used since the last time.

        ``models`` are those that are loaded, with their memory on GPUs where it is known.
        """
        for uuid, gpu in gpus.items():
            before = self._counters.get(uuid)
            self._counters[uuid] = gpu.energy_joules
            mine = sum(used for pid, used in gpu.memory_by_pid.items() if pid in pids)
            everyone = sum(gpu.memory_by_pid.values())
            if before is None or gpu.energy_joules < before or not mine or not models:
                continue
            alone = len(models) == 1 and gpu.memory_by_pid.keys() <= set(pids)
            self._share_out((gpu.energy_joules - before) * mine / everyone, "exclusive" if alone else "shared", models)

    def of(self, model: str) -> Mapping[str, float]:
        """Return a model's joules by attribution; empty when none was ever measured."""
        return dict(self._joules.get(model, {}).items())

    def _share_out(self, joules: float, attribution: Attribution, models: Mapping[str, float | None]) -> None:
        known = [memory for memory in models.values() if memory is not None]
        whole = sum(known)
        for model, memory in models.items():
            part = memory / whole if len(known) == len(models) and whole and memory is not None else 1 / len(models)
            of_model = self._joules.setdefault(model, {})
            of_model[attribution] = of_model.get(attribution, 0.0) + joules * part
