"""Where GPUs can come from; what a vendor's GPUs need is imported on a machine that may have one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from exporter.collectors import Unavailable
from exporter.gpu import library

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from exporter.collectors import Paths
    from exporter.families import Family
    from exporter.gpu.reading import Census, Source

_LOOK_AGAIN_SECONDS = 60.0


class Later:
    """A source that is made once there is reason to: ``make`` raises Unavailable before."""

    def __init__(self, make: Callable[[], Source], clock: Callable[[], float] = time.monotonic) -> None:
        self._make = make
        self._clock = clock
        self._source: Source | None = None
        self._reason: Unavailable | None = None
        self._looked = 0.0

    def census(self) -> Census:
        """Return the source's GPUs; whether there is a source is looked up once a minute."""
        if self._source is None:
            if self._reason is not None and self._clock() - self._looked < _LOOK_AGAIN_SECONDS:
                raise Unavailable(str(self._reason))
            self._looked = self._clock()
            self._source = self._made()
        return self._source.census()

    def _made(self) -> Source:
        try:
            return self._make()
        except Unavailable as reason:
            self._reason = reason
            raise

    def facts(self) -> Iterable[tuple[Family, float]]:
        """Return the source's facts; none before there is one."""
        return self._source.facts() if self._source else ()

    def close(self) -> None:
        """Let the source's threads end."""
        if self._source is not None:
            self._source.close()


def all_of(paths: Paths) -> dict[str, Source]:
    """Return every source, by vendor."""
    return {
        "nvidia": Later(lambda: _nvidia(paths)),
        "amd": Later(lambda: _amd(paths)),
        "intel": Later(lambda: _intel(paths)),
    }


def _nvidia(paths: Paths) -> Source:
    if library.find() is None:
        raise Unavailable(library.MISSING)
    from exporter.gpu.nvidia import Nvidia  # noqa: PLC0415 - not for machines without the driver's library
    from exporter.gpu.nvidia_device import Surroundings  # noqa: PLC0415 - likewise
    from exporter.gpu.nvml import Nvml  # noqa: PLC0415 - likewise
    from exporter.gpu.sleep import PciDevices  # noqa: PLC0415 - likewise
    from exporter.gpu.xid import XidWatcher  # noqa: PLC0415 - likewise

    nvml = Nvml()
    return Nvidia(Surroundings(nvml, XidWatcher(nvml), PciDevices(paths.sysfs, "nvidia")))


def _amd(paths: Paths) -> Source:
    _require_cards(paths, "amd")
    from exporter.gpu.cards import Cards  # noqa: PLC0415 - not for machines without a card
    from exporter.gpu.sysfs_amd import AMD  # noqa: PLC0415 - likewise

    return Cards(AMD, paths.sysfs)


def _intel(paths: Paths) -> Source:
    _require_cards(paths, "intel")
    from exporter.gpu.cards import Cards  # noqa: PLC0415 - not for machines without a card
    from exporter.gpu.sysfs_intel import INTEL  # noqa: PLC0415 - likewise

    return Cards(INTEL, paths.sysfs)


def _require_cards(paths: Paths, vendor: str) -> None:
    if not any((paths.sysfs / "class/drm").glob("card[0-9]*")):
        raise Unavailable(f"no {vendor} GPU")
