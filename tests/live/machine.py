"""A fake machine made of families, with manual clocks, and a meter that measures it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from modelhost_exporter.config.cost import Cost
from modelhost_exporter.live.last_minute import LastMinute
from modelhost_exporter.live.message_builder import MessageConstants
from modelhost_exporter.live.meter import INTERVAL_SECONDS, MachineReading, Meter, TimedMessage
from modelhost_exporter.live.request_totals import RequestTotals
from modelhost_exporter.live.token_progress import TokenProgress
from modelhost_exporter.requests.metrics import RequestMetrics
from modelhost_exporter.requests.observation import RequestLabels, RequestObservation, Tokens
from modelhost_exporter.requests.series_by_model import chunks_by_model, in_flight_by_model
from modelhost_exporter.requests.slo import Objectives
from modelhost_exporter.scraping.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelhost_exporter.live.model_folders import ModelFolder
    from modelhost_exporter.requests.observation import Outcome as RequestOutcome

    Labels = Mapping[str, str]


class Machine:
    """Series that a test can set, and the meter that measures them."""

    def __init__(self) -> None:
        self.monotonic = 1000.0
        self.wall = 1.8e9
        self.silent: list[str] = []
        self.gpu_outcome: Outcome | None = Outcome("ok", 0.0)
        self.folders: list[ModelFolder] = []
        self.cost = Cost()
        self.kept: list[TimedMessage] = []
        self._values: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
        self.registry = CollectorRegistry()
        self.totals = RequestTotals()
        self.minute = LastMinute(lambda: self.monotonic)
        self.progress = TokenProgress(lambda: self.monotonic)
        self.metrics = RequestMetrics(
            self.registry,
            (self.totals.add, self.minute.add, self.progress.add),
            (self.totals.remove_model, self.minute.remove_model, self.progress.remove_model),
        )
        self.meter = Meter(
            self.reading,
            MessageConstants.of_this_exporter(INTERVAL_SECONDS, demo=False),
            clock=lambda: self.monotonic,
            now=lambda: self.wall,
        )

    def set(self, name: str, value: float, /, **labels: str) -> None:
        """Set a series."""
        self._values.setdefault(name, {})[tuple(labels.items())] = value

    def forget(self, *names: str) -> None:
        """Remove families; without names, all of them."""
        for name in names or list(self._values):
            self._values.pop(name, None)

    def cpu(self, busy: float, seconds: float) -> None:
        """Set the CPU seconds with work, and all that there were."""
        self.set("host_cpu_busy_seconds_total", busy)
        self.set("host_cpu_seconds_total", seconds)

    def memory(self, total: float, available: float) -> None:
        """Set the memory that programs can use."""
        self.set("host_memory_total_bytes", total)
        self.set("host_memory_available_bytes", available)

    def traffic(self, received: float, sent: float) -> None:
        """Set the bytes of the physical network interfaces."""
        self.set("host_network_receive_bytes_total", received)
        self.set("host_network_transmit_bytes_total", sent)

    def gpu(self, index: str, **numbers: float) -> None:
        """Add a GPU that responds."""
        card = {"gpu": index, "uuid": f"GPU-{index}"}
        self.set("gpu_up", 1, **card)
        self.set("gpu_info", 1, **card, name=f"card {index}", vendor="nvidia")
        for name, value in numbers.items():
            self.set(f"gpu_{name}", value, **card, **({"sensor": "gpu"} if name == "temperature_celsius" else {}))

    def request(
        self,
        model: str = "m",
        seconds: float = 0.2,
        *,
        server: str = "s",
        outcome: RequestOutcome = "ok",
        operation: str = "chat",
        **observed: Any,
    ) -> None:
        """Record a request."""
        tokens = Tokens(output=observed.pop("output_tokens", None))
        stream = observed.pop("stream", False)
        observation = RequestObservation(
            RequestLabels(server, model, operation),
            stream=stream,
            outcome=outcome,
            code="200",
            duration=seconds,
            tokens=tokens,
            **observed,
        )
        self.metrics.record(observation, Objectives())

    def read(self, *, after: float = INTERVAL_SECONDS) -> dict[str, Any]:
        """Advance the clocks and measure."""
        self.monotonic += after
        self.wall += after
        self.kept.append(self.meter.measure())
        return cast("dict[str, Any]", self.kept[-1].message)

    def reading(self) -> MachineReading:
        """Return the families as collectors return them, with the totals of requests."""
        return MachineReading(
            [self._family(name) for name in self._values],
            self.silent,
            self.totals.by_model(),
            in_flight_by_model(self.registry),
            self.progress.read(chunks_by_model(self.registry)),
            self.minute.all_models(),
            self.minute.by_model(),
            gpu=self.gpu_outcome,
            model_folders=self.folders,
            cost=self.cost,
        )

    def _family(self, name: str) -> Metric:
        metric = Metric(
            f"modelhost_{name}".removesuffix("_total"), "", "counter" if name.endswith("_total") else "gauge"
        )
        for labels, value in self._values[name].items():
            metric.add_sample(f"modelhost_{name}", dict(labels), value)
        return metric
