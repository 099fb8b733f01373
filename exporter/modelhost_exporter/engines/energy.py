"""Energy of models: that of the GPUs with their memory, while they were loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection

    from modelhost_exporter.gpu.usage_cache import GpuUse

Attribution = Literal["exclusive", "shared"]


GpuUses = Callable[[], "Mapping[str, GpuUse]"]
"""Returns every GPU by UUID; may block, may be called by several threads, raises OSError when they cannot be read."""


class _Noted(NamedTuple):
    """A GPU's energy counter, and the models that have held its memory since then; None: others, too."""

    joules: float
    holders: frozenset[str] | None


class ModelEnergy:
    """The energy of one server's models, GPU by GPU."""

    def __init__(self) -> None:
        self._noted: dict[str, _Noted] = {}
        self._joules: dict[str, dict[Attribution, float]] = {}
        self._idle_joules: dict[str, dict[Attribution, float]] = {}

    def note(
        self,
        gpus: Mapping[str, GpuUse],
        pids: Collection[int],
        models: Mapping[str, float | None],
        *,
        was_idle: bool | None = None,
    ) -> None:
        """Attribute each GPU's energy since the last reading to models; none for a GPU without a last reading.

        ``models`` are the loaded ones, with their memory on GPUs where it is known. Energy is a model's exclusively
        if nothing else had memory on the GPU, now and at the last reading. ``was_idle``: whether the server had no
        request since then; None where that is not known.
        """
        before, self._noted = self._noted, {}
        for uuid, gpu in gpus.items():
            if gpu.energy_joules is None:
                continue
            mine = sum(memory for pid, memory in gpu.memory_by_pid.items() if pid in pids)
            holders = frozenset(models if mine else ()) if gpu.memory_by_pid.keys() <= set(pids) else None
            last = before.get(uuid, _Noted(gpu.energy_joules, holders))
            since = None if holders is None or last.holders is None else holders | last.holders
            used = gpu.energy_joules - last.joules
            self._noted[uuid] = _Noted(gpu.energy_joules, holders if used else since)
            if used > 0 and mine and models:
                part = used * mine / sum(gpu.memory_by_pid.values())
                attribution: Attribution = "exclusive" if since is not None and len(since) == 1 else "shared"
                self._share_out(part, attribution, models, was_idle=was_idle)

    def pause(self) -> None:
        """Do not attribute the energy used until the next reading, since its user is not known."""
        self._noted = {}

    def of(self, model: str) -> Mapping[str, float]:
        """Return a model's joules by attribution; empty when none was ever measured."""
        return dict(self._joules.get(model, {}).items())

    def idle_of(self, model: str) -> Mapping[str, float]:
        """Return the joules among them while the server had no request; empty where that was never known."""
        return dict(self._idle_joules.get(model, {}).items())

    def _share_out(
        self, joules: float, attribution: Attribution, models: Mapping[str, float | None], *, was_idle: bool | None
    ) -> None:
        known = [memory for memory in models.values() if memory is not None]
        whole = sum(known)
        for model, memory in models.items():
            part = memory / whole if len(known) == len(models) and whole and memory is not None else 1 / len(models)
            _add(self._joules, model, attribution, joules * part)
            if was_idle is not None:
                _add(self._idle_joules, model, attribution, joules * part if was_idle else 0.0)


def _add(sums: dict[str, dict[Attribution, float]], model: str, attribution: Attribution, joules: float) -> None:
    of_model = sums.setdefault(model, {})
    of_model[attribution] = of_model.get(attribution, 0.0) + joules
