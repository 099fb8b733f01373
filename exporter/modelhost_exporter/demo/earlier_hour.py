"""The hour before a live demo starts, as the live page shows it.

Every request of that hour reaches the listeners of the live page, and there are readings for its charts. Metrics count
nothing of it: Prometheus adds a counter's first value after a restart to the rate.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from prometheus_client.metrics_core import Metric

from modelhost_exporter.demo.observations import Observations, chunks_of, labels_of
from modelhost_exporter.demo.warm_up import InFlightRequests, warm_up
from modelhost_exporter.live.meter import TimedReading, reading_of
from modelhost_exporter.metrics.families import NAMESPACE

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Sequence

    from modelhost_exporter.demo.gpus import SimulatedCard
    from modelhost_exporter.demo.machine import SimulatedMachine
    from modelhost_exporter.demo.traffic import SimulatedRequest
    from modelhost_exporter.demo.world import SimulatedWorld
    from modelhost_exporter.live.meter import MachineReading
    from modelhost_exporter.live.request_totals import ModelKey
    from modelhost_exporter.service import Service

EARLIER_SECONDS = 3600
_STEP_SECONDS = 2.0
_STEPS_PER_READING = 3  # 6 s: the page draws a line across no longer gap
_DENSE_SECONDS = 70.0  # before the start, in which the rates and means of the first message begin


class _Listener:
    """Passes requests that ended to the listeners of a service, and counts those in flight and their chunks."""

    def __init__(self, world: SimulatedWorld, service: Service, rng: random.Random) -> None:
        self._service = service
        self._observations = Observations(world.routers, rng)
        self.in_flight_requests = InFlightRequests()
        self.in_flight: Counter[ModelKey] = Counter()
        self.chunks: Counter[ModelKey] = Counter()

    def arrived(self, request: SimulatedRequest) -> None:
        """Count a request as in flight."""
        self.in_flight_requests.arrived(request)
        if not request.direct:
            self.in_flight[_key(request)] += 1
            self._service.running_requests.enter(
                request, labels_of(request.model), "waiting" if request.stream else "blocking"
            )

    def streams(self, request: SimulatedRequest) -> None:
        """Mark a request as streaming."""
        self.in_flight_requests.streams(request)

    def progressed(self, request: SimulatedRequest, tokens: int) -> None:
        """Count the chunks of a stream."""
        if not request.direct and request.stream:
            self.chunks[_key(request)] += chunks_of(request.produced) - chunks_of(request.produced - tokens)

    def ended(self, request: SimulatedRequest) -> None:
        """Pass a finished request on."""
        self.in_flight_requests.ended(request)
        if not request.direct:
            self.in_flight[_key(request)] -= 1
            self._service.running_requests.leave(request)
            observed = self._observations.of(request)
            for listener in self._service.live_listeners:
                listener(observed)


class EarlierHour:
    """The requests in flight and the readings that remain of the hour."""

    def __init__(self, in_flight: InFlightRequests, readings: Sequence[TimedReading]) -> None:
        self.in_flight = in_flight
        self.readings = readings


def live_through(world: SimulatedWorld, service: Service, rng: random.Random, offset: float) -> EarlierHour:
    """Advance a world by the warm-up and an hour, and set its counters to zero.

    ``offset`` is what the monotonic clock of the live page is behind the time of day, in seconds.
    """
    listener = _Listener(world, service, rng)
    warm_up(world).hand_over(listener)
    readings: list[TimedReading] = []
    steps = int(EARLIER_SECONDS / _STEP_SECONDS)
    for step in range(steps):
        world.step(world.now + _STEP_SECONDS, listener)
        if step % _STEPS_PER_READING == 0 or (steps - step) * _STEP_SECONDS <= _DENSE_SECONDS:
            readings.append(TimedReading(world.now - offset, world.now, _reading(world, service, listener)))
    chunks = listener.chunks.copy()
    world.reset_counters()
    return EarlierHour(listener.in_flight_requests, [_until_reset(reading, chunks) for reading in readings])


def _until_reset(timed: TimedReading, chunks: Counter[ModelKey]) -> TimedReading:
    """Return a reading whose chunks go on at zero, where the proxy begins to count."""
    tokens = timed.reading.tokens
    missing = {key: tokens.chunks.get(key, 0.0) - count for key, count in chunks.items()}
    return timed._replace(reading=timed.reading._replace(tokens=tokens._replace(chunks=missing)))


def _reading(world: SimulatedWorld, service: Service, listener: _Listener) -> MachineReading:
    return reading_of(service, list(_families(world)), (), dict(listener.in_flight), dict(listener.chunks))


def _families(world: SimulatedWorld) -> Iterator[Metric]:
    """Yield what the charts need; the collectors would take a hundred times as long."""
    yield from _host(world.machine)
    yield from _gpus([card for card in world.cards if card.on_bus])


def _host(machine: SimulatedMachine) -> Iterator[Metric]:
    user, nice, system, idle, iowait, *other = (sum(times) for times in zip(*machine.cpu_seconds, strict=True))
    busy = user + nice + system + sum(other)
    total = machine.spec.memory_bytes
    nics = [nic for name, nic in machine.nics.items() if name != "lo"]
    values = {
        "host_cpu_busy_seconds_total": busy,
        "host_cpu_seconds_total": busy + idle + iowait,
        "host_cpu_cores": len(machine.cpu_seconds),
        "host_memory_total_bytes": total,
        "host_memory_available_bytes": total - machine.used,
        "host_network_receive_bytes_total": sum(nic.received for nic in nics),
        "host_network_transmit_bytes_total": sum(nic.sent for nic in nics),
        **{f"load{minutes}": load for minutes, load in zip((1, 5, 15), machine.loads, strict=True)},
    }
    for name, value in values.items():
        yield _family(name, [({}, float(value))])


def _gpus(cards: Sequence[SimulatedCard]) -> Iterator[Metric]:
    labels = {card.index: {"gpu": str(card.index), "uuid": card.uuid} for card in cards}
    values = {
        "gpu_up": {card.index: 1.0 for card in cards},
        "gpu_utilization_ratio": {card.index: card.busy for card in cards if not card.mig},
        "gpu_memory_used_bytes": {card.index: float(card.used_bytes) for card in cards},
        "gpu_memory_total_bytes": {card.index: float(card.spec.memory_bytes) for card in cards},
        "gpu_power_watts": {card.index: card.power for card in cards},
        "gpu_power_limit_watts": {card.index: card.power_limit for card in cards},
    }
    for name, by_card in values.items():
        yield _family(name, [(labels[index], value) for index, value in by_card.items()])
    yield _family("gpu_temperature_celsius", [({**labels[c.index], "sensor": "gpu"}, c.celsius) for c in cards])


def _family(name: str, samples: Sequence[tuple[dict[str, str], float]]) -> Metric:
    metric = Metric(NAMESPACE + name, name, "gauge")
    for labels, value in samples:
        metric.add_sample(metric.name, labels, value)
    return metric


def _key(request: SimulatedRequest) -> ModelKey:
    return (request.model.server, request.model.name)
