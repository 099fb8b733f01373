"""GPUs: memory, activity, power, temperatures, clocks, links and errors of NVIDIA's, AMD's and Intel's cards."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from modelhost_exporter.collector import Collector, CollectorContext, CollectorOptions, SimulatedHost, Unavailable
from modelhost_exporter.config.duration import Seconds
from modelhost_exporter.gpu import families
from modelhost_exporter.gpu.contract import DeviceLost, Enumeration, Value, device_families
from modelhost_exporter.gpu.usage_cache import GpuReading, GpuUse
from modelhost_exporter.logs.state_log import StateLog
from modelhost_exporter.threads import Worker

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from prometheus_client.metrics_core import Metric

    from modelhost_exporter.gpu.contract import Device, GpuSource
    from modelhost_exporter.threads import Run

log = logging.getLogger(__name__)

FAMILIES = families.ALL

_HEAD_START_SECONDS = 0.005
_FIRST_SECONDS = 2.0  # the first census imports, and loads the driver's library in a child process
_PATIENCE_SECONDS = 10.0  # opening a driver that nobody else uses takes some seconds


@dataclass(frozen=True)
class GpuOptions(CollectorOptions):
    """How many GPUs there should be, and how long one may take to answer."""

    expected_devices: int | None = None
    """None: the most at once since the exporter started, those that the driver counts and cannot reach included."""
    timeout: Seconds = Seconds(0.5)
    """A GPU whose driver takes longer costs its own metrics, and no other GPU's."""

    def __post_init__(self) -> None:
        if self.expected_devices is not None and self.expected_devices < 0:
            raise ValueError("expected_devices must be at least 0")


OPTIONS = GpuOptions


class _Answer(NamedTuple):
    """What one GPU answered: its values, or the problem that it has."""

    device: Device
    values: Iterable[Value] = ()
    problem: str = ""
    lost: bool = False
    suspended: bool = False
    polling_paused: bool = False


class GpuCollector:
    """The GPUs of several sources; each GPU and each source is queried in a daemon thread of its own.

    A call into a driver that never returns keeps its own thread: the GPU is reported as not up, and is queried again
    once the call has returned.
    """

    def __init__(
        self, sources: Mapping[str, GpuSource], options: GpuOptions, patience_seconds: float = _PATIENCE_SECONDS
    ) -> None:
        """Prepare; a source that does not answer is slow at first, and fails after ``patience_seconds`` only."""
        self._patience_seconds = patience_seconds
        self._sources = sources
        self._options = options
        self._censuses = {name: Worker(source.enumerate, f"gpu-{name}") for name, source in sources.items()}
        self._last: dict[str, Enumeration] = {}
        self._counted_once: set[str] = set()
        self._workers: dict[Device, Worker[list[Value]]] = {}
        self._failing = StateLog(initial=False)
        self._most = options.expected_devices or 0
        self._closed = False
        self.last_reading: GpuReading | None = None
        """Values of the last collection that show whose work a GPU does; any thread may read them."""

    def collect(self) -> Iterator[Metric]:
        """Yield every GPU's families; Unavailable on a machine that has none and should have none."""
        censuses = self._take_censuses()
        began = time.monotonic()
        answers = self._ask([device for enumeration in censuses for device in enumeration.present])
        rows = [(answer, list(_row(answer))) for answer in answers]
        self.last_reading = GpuReading(began, dict(_uses(rows)))
        there = sum(enumeration.unidentified for enumeration in censuses) + sum(not answer.lost for answer in answers)
        if self._options.expected_devices is None:
            self._most = max(self._most, there + sum(enumeration.unreachable for enumeration in censuses))
        suspended = sum(enumeration.unidentified for enumeration in censuses) + sum(
            answer.suspended for answer in answers
        )
        polling_paused = sum(answer.polling_paused for answer in answers)
        yield from families.DEVICES.of(there)
        yield from families.DEVICES_EXPECTED.of(self._most)
        yield from families.DEVICES_SUSPENDED.of(suspended)
        yield from families.DEVICES_POLLING_PAUSED.of(polling_paused)
        for family, number in dict(
            fact for source in self._sources.values() for fact in source.driver_values()
        ).items():
            yield from family.of(number)
        gone = [_Answer(device, lost=True) for enumeration in censuses for device in enumeration.missing]
        rows += [(answer, list(_row(answer))) for answer in gone]
        yield from device_families((answer.device.identity, row) for answer, row in rows)

    def close(self) -> None:
        """Let the threads end, as far as their calls return."""
        self._closed = True
        for source in self._sources.values():
            source.close()
        for enumeration in self._censuses.values():
            enumeration.close()
        for worker in list(self._workers.values()):  # a scrape may add some meanwhile
            worker.close()

    def _take_censuses(self) -> list[Enumeration]:
        """Return what each source has, or had last where it does not answer. Raises when no source has anything."""
        absences = {name: source.unavailable_reason() for name, source in self._sources.items()}
        runs = {name: self._censuses[name].start() for name, absence in absences.items() if not absence}
        failures: dict[str, BaseException] = {
            name: Unavailable(absence) for name, absence in absences.items() if absence
        }
        failures |= {name: failure for name, run in runs.items() if (failure := self._counted(name, run))}
        if not self._last and not self._options.expected_devices:
            errors = [error for error in failures.values() if not isinstance(error, Unavailable)]
            raise errors[0] if errors else Unavailable("; ".join(map(str, failures.values())))
        for name in self._sources:
            failure = failures.get(name)
            self._report(name, "" if isinstance(failure, Unavailable) else _describe(failure))
        return list(self._last.values())

    def _counted(self, name: str, run: Run[Enumeration]) -> BaseException | None:
        """Keep a source's enumeration; return why there is none."""
        seconds = 0.0 if name in self._counted_once else _FIRST_SECONDS
        if not run.wait(max(self._options.timeout, seconds)):
            if run.age() < self._patience_seconds:
                return Unavailable(f"{name} has not answered yet")
            return TimeoutError(f"{name}: no answer within {self._options.timeout:g} s")
        self._counted_once.add(name)
        if run.error is None:
            self._last[name] = run.value
        return run.error

    def _ask(self, devices: Iterable[Device]) -> list[_Answer]:
        """Query side by side, each as soon as the previous one is done or has had its head start (see Scrape)."""
        asked: list[_Answer | tuple[Device, Run[list[Value]]]] = []
        for device in devices:
            if device.suspended:
                asked.append(_Answer(device, suspended=True))
            elif device.polling_paused:
                asked.append(_Answer(device, polling_paused=True))
            else:
                run = self._worker(device).start()
                run.wait(_HEAD_START_SECONDS)
                asked.append((device, run))
        return [one if isinstance(one, _Answer) else self._answer(*one) for one in asked]

    def _worker(self, device: Device) -> Worker[list[Value]]:
        if device not in self._workers:
            self._workers[device] = Worker(device.read, f"gpu-{device.identity.gpu}")
            if self._closed:  # a scrape that a reload overtook
                self._workers[device].close()
        return self._workers[device]

    def _answer(self, device: Device, run: Run[list[Value]]) -> _Answer:
        if not run.wait(self._options.timeout):
            answer = _Answer(device, problem=f"no answer within {self._options.timeout:g} s")
        elif run.error is not None:
            answer = _Answer(device, problem=_describe(run.error), lost=isinstance(run.error, DeviceLost))
        else:
            answer = _Answer(device, run.value)
        self._report(f"GPU {device.identity.gpu} {device.identity.uuid}", answer.problem)
        return answer

    def _report(self, what: str, problem: str) -> None:
        """Log a problem that is new, and its end, once."""
        if self._failing.changed(bool(problem), what):
            level = logging.WARNING if problem else logging.INFO
            log.log(
                level, "%s %s", what, "failed" if problem else "answers again", extra={"fields": {"detail": problem}}
            )


def _row(answer: _Answer) -> Iterator[Value]:
    """Yield everything that is known of one GPU."""
    identity = answer.device.identity
    up = not answer.problem and not answer.lost
    if not answer.lost:
        yield Value(families.INFO, identity[2:], 1)
    yield Value(families.UP, (), float(up))
    yield from answer.values
    yield from answer.device.accumulated()


def _uses(rows: Iterable[tuple[_Answer, Iterable[Value]]]) -> Iterator[tuple[str, GpuUse]]:
    """Yield what is known of the GPUs that answered: who holds their memory, and the energy they have used."""
    for answer, row in rows:
        memory = answer.device.memory_by_pid
        if answer.values and memory is not None:
            numbers = (value.number for value in row if value.family is families.ENERGY)
            energy = next((number for number in numbers if number is not None), None)
            yield answer.device.identity.uuid, GpuUse(energy, memory)


def _describe(error: BaseException | None) -> str:
    return f"{type(error).__name__}: {error}" if error else ""


def create(options: GpuOptions, context: CollectorContext) -> Collector:
    """Build the GPU collector; a vendor's modules are imported once such a card, or its driver, is found."""
    from modelhost_exporter.gpu import sources  # noqa: PLC0415 - the declarations above are all that flags and documents need

    return GpuCollector(sources.all_of(context.paths, context.owner_of), options)


def create_simulated(options: GpuOptions, _context: CollectorContext, host: SimulatedHost) -> Collector:
    """Build the collector for ``--demo``."""
    return GpuCollector(host.gpu_sources(), options)
