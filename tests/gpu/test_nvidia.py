from __future__ import annotations

from typing import TYPE_CHECKING

from tests.gpu.driver import GIB, H100, OLDER, plug_in, uuid
from tests.readings import readings

if TYPE_CHECKING:
    from tests.gpu.conftest import Clock, MakeGpu
    from tests.gpu.driver import Driver


def test_smoke(driver: Driver, make_gpu: MakeGpu, clock: Clock) -> None:
    """It works."""
    plug_in(driver, 8, H100 | OLDER, "NVIDIA H100 80GB HBM3")
    collector = make_gpu()
    list(collector.collect())
    clock.seconds += 10
    read = readings(collector.collect())
    for k, v in read.items():
        print(k, {l: x for l, x in v.items() if not l or l[0] == "0"})
