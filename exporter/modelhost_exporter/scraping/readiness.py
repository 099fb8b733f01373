"""Whether the first collection is over: from then on a scrape finds what this machine has."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from modelhost_exporter import threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from modelhost_exporter.scraping.scrape import Scrape

log = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0


class Readiness:
    """Ready after each collector has run once or missed its deadline, and until the exporter stops."""

    def __init__(self) -> None:
        self.missing = "the first collection is not over"
        """Why the exporter is not ready; '' while it is."""

    async def collect_first(self, scrape: Callable[[], Scrape]) -> None:
        """Run all collectors once; a scrape meanwhile shares their runs. Tried again while there is no thread."""
        while True:
            try:
                await threads.call(lambda: _collect(scrape()))
            except (RuntimeError, MemoryError) as error:
                self.missing = f"the first collection could not begin: {error or 'out of memory'}"
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                self.missing = ""
                return

    def stop(self) -> None:
        """Be no longer ready."""
        self.missing = "the exporter is stopping"


def _collect(scrape: Scrape) -> None:
    scrape.outcomes(scrape.names, scrape.timeout_seconds)
