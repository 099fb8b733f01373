"""The protocols of request listeners."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from modelhost_exporter.requests.observation import RequestObservation


class ObservationListener(Protocol):
    """A callable that receives every finished request.

    It is called on the proxy's event loop (with ``--demo`` in the thread of the simulation), from one thread at a time.
    It must neither block nor raise: the next request waits for it.
    """

    def __call__(self, observed: RequestObservation) -> None:
        """Process one finished request."""
        ...


class RemovalListener(Protocol):
    """A callable that receives every model whose series are removed, to remove what it keeps for it.

    It is called like an ``ObservationListener``.
    """

    def __call__(self, server: str, model: str) -> None:
        """Remove what is kept for the label of a model."""
        ...
