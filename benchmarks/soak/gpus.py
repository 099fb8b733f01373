"""GPUs with faults, of the tests' stand-in for NVIDIA's driver: they hang, fail, are lost, and support nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.gpu.driver import H100, identity

if TYPE_CHECKING:
    from pathlib import Path

COUNT = 4
_FAULTS = (("0 all hang",), ("- all !999",), ("1 all !15", "2 all !3"))
"""A GPU that hangs; NVML_ERROR_UNKNOWN for every call, as in a container after ``systemctl daemon-reload``; a GPU that
fell off the bus, and one that supports nothing for a while."""


class FlappingGpus:
    """Writes the script of the stand-in's responses."""

    def __init__(self, script: Path) -> None:
        self._script = script
        lines = [f"- Count {COUNT}", "- DriverVersion 580.95.05"]
        lines += [f"* {key} {value}" for key, value in H100.items()]
        for index in range(COUNT):
            lines += [f"{index} {key} {value}" for key, value in identity(index, "NVIDIA H100 80GB HBM3").items()]
        self._lines = lines
        self.show(None)

    def show(self, fault: int | None) -> None:
        """Switch to a fault (numbered from 0), or to none."""
        lines = self._lines if fault is None else [*self._lines, *_FAULTS[fault]]
        new = self._script.with_suffix(".new")
        new.write_text("\n".join(lines) + "\n")
        new.replace(self._script)
