"""The minutes before the hour that a live demo starts with: traffic and load reach their usual level."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelhost_exporter.demo.traffic import SimulatedRequest
    from modelhost_exporter.demo.world import RequestListener, SimulatedWorld

WARM_UP_SECONDS = 120
"""Enough for the queues, batches and temperatures of an idle machine to reach their usual level."""


class InFlightRequests:
    """A listener that keeps the requests in flight, for the listener that follows."""

    def __init__(self) -> None:
        self._streaming: dict[SimulatedRequest, bool] = {}

    def arrived(self, request: SimulatedRequest) -> None:
        """Add a request."""
        self._streaming[request] = False

    def streams(self, request: SimulatedRequest) -> None:
        """Mark a request as streaming."""
        self._streaming[request] = True

    def progressed(self, request: SimulatedRequest, tokens: int) -> None:
        """Do nothing."""

    def ended(self, request: SimulatedRequest) -> None:
        """Remove a request."""
        del self._streaming[request]

    def hand_over(self, listener: RequestListener) -> None:
        """Report the requests in flight to another listener."""
        for request, streaming in self._streaming.items():
            listener.arrived(request)
            if streaming:
                listener.streams(request)


def warm_up(world: SimulatedWorld) -> InFlightRequests:
    """Advance a world by two minutes and set its counters to zero; return the requests in flight.

    Prometheus adds a counter's first value after a restart to the rate: it must not contain what was simulated before.
    """
    in_flight = InFlightRequests()
    for _ in range(WARM_UP_SECONDS):
        world.step(world.now + 1.0, in_flight)
    world.reset_counters()
    return in_flight
