"""GPUs of NVIDIA, AMD and Intel: memory, activity, power, temperatures, clocks, links and errors."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from modelhost_exporter import sequential_runs, threads
from modelhost_exporter.collector import (
    Collector,
    CollectorContext,
    CollectorOptions,
    SimulatedHost,
    Unavailable,
    Undetermined,
)
from modelhost_exporter.config.duration import Seconds
from modelhost_exporter.gpu import families
from modelhost_exporter.gpu.contract import DeviceLost, Enumeration, Value, device_families
from modelhost_exporter.gpu.usage_cache import GpuReading, GpuUse
from modelhost_exporter.logs.state_log import StateLog
from modelhost_exporter.process.run import SingleRun

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from prometheus_client.metrics_core import Metric

    from modelhost_exporter.gpu.contract import Device, GpuSource
    from modelhost_exporter.process.run import Run
    from modelhost_exporter.threads import Pool

log = logging.getLogger(__name__)

K = TypeVar("K")
T = TypeVar("T")

FAMILIES = families.ALL

_HEAD_START_SECONDS = 0.005
_SHARE_FOR_HEAD_STARTS = 0.3
_FIRST_SECONDS = 2.0  # the first enumeration imports modules, and loads the driver's library in a child process
_PATIENCE_SECONDS = 10.0  # opening a driver that no other program uses takes some seconds


@dataclass(frozen=True)
class GpuOptions(CollectorOptions):
    """The expected number of GPUs, and their time-out."""

    expected_devices: int | None = None
    """None: the highest number since the exporter started, with those that the driver counts and cannot reach."""
    timeout: Seconds = Seconds(0.5)
    """A GPU whose driver takes longer is not up; other GPUs are not affected."""

    def __post_init__(self) -> None:
        if self.expected_devices is not None and self.expected_devices < 0:
            raise ValueError("expected_devices must be at least 0")


OPTIONS = GpuOptions


class _Result(NamedTuple):
    """The result for one GPU: its values, or why there are none."""

    device: Device
    values: Iterable[Value] = ()
    problem: str = ""
    lost: bool = False
    suspended: bool = False
    polling_paused: bool = False


class GpuCollector:
    """The GPUs of several sources, queried one after another in one daemon thread.

    A GPU or source that is slow is left behind in that thread, and the rest go on in another. A call into a driver that
    never returns blocks its thread only: the GPU is not up, and is not queried again before the call returns.
    """

    def __init__(
        self,
        sources: Mapping[str, GpuSource],
        options: GpuOptions,
        patience_seconds: float = _PATIENCE_SECONDS,
        pool: Pool = threads.GPUS,
    ) -> None:
        """Prepare; a source that does not answer has failed only after ``patience_seconds``."""
        self._patience_seconds = patience_seconds
        self._pool = pool
        self._sources = sources
        self._options = options
        self._enumerating = {name: SingleRun(source.enumerate) for name, source in sources.items()}
        self._last_enumerations: dict[str, Enumeration] = {}
        self._answered_once: set[str] = set()
        self._reading: dict[Device, SingleRun[list[Value]]] = {}
        self._failing = StateLog(initial=False)
        self._max_devices = options.expected_devices or 0
        self.last_reading: GpuReading | None = None
        """Energy and memory by process at the last collection; any thread may read it."""

    def collect(self) -> Iterator[Metric]:
        """Yield every GPU's families. Unavailable on a machine without GPUs, unless some are expected."""
        enumerations = self._enumerate()
        began = time.monotonic()
        results = self._query([device for enumeration in enumerations for device in enumeration.present])
        rows = [(result, list(_row(result))) for result in results]
        self.last_reading = GpuReading(began, dict(_uses(rows)))
        yield from self._counts(enumerations, results)
        for family, number in dict(
            fact for source in self._sources.values() for fact in source.driver_values()
        ).items():
            yield from family.of(number)
        gone = [_Result(device, lost=True) for enumeration in enumerations for device in enumeration.missing]
        rows += [(result, list(_row(result))) for result in gone]
        yield from device_families((result.device.identity, row) for result, row in rows)

    def _counts(self, enumerations: Sequence[Enumeration], results: Sequence[_Result]) -> Iterator[Metric]:
        """Yield the numbers of GPUs that are present, expected, suspended and paused."""
        unidentified = sum(enumeration.unidentified for enumeration in enumerations)
        present = unidentified + sum(not result.lost for result in results)
        if self._options.expected_devices is None:
            unreachable = sum(enumeration.unreachable for enumeration in enumerations)
            self._max_devices = max(self._max_devices, present + unreachable)
        yield from families.DEVICES.of(present)
        yield from families.DEVICES_EXPECTED.of(self._max_devices)
        yield from families.DEVICES_SUSPENDED.of(unidentified + sum(result.suspended for result in results))
        yield from families.DEVICES_POLLING_PAUSED.of(sum(result.polling_paused for result in results))

    def close(self) -> None:
        """Close the sources; a call that hangs keeps its thread until it returns."""
        for source in self._sources.values():
            source.close()

    def _enumerate(self) -> list[Enumeration]:
        """Return each source's enumeration, the last one where it does not answer. Raises when no source has one."""
        reasons = {name: source.unavailable_reason() for name, source in self._sources.items()}
        runs = self._start((name, self._enumerating[name]) for name, reason in reasons.items() if not reason)
        failures: dict[str, BaseException] = {name: Unavailable(reason) for name, reason in reasons.items() if reason}
        failures |= {name: failure for name, run in runs.items() if (failure := self._enumerated(name, run))}
        if not self._last_enumerations and not self._options.expected_devices:
            raise _absence(list(failures.values()))
        for name in self._sources:
            failure = failures.get(name)
            self._report(name, "" if isinstance(failure, Unavailable) else _describe(failure))
        return list(self._last_enumerations.values())

    def _enumerated(self, name: str, run: Run[Enumeration]) -> BaseException | None:
        """Wait for a source's enumeration and keep it; return why there is none."""
        seconds = 0.0 if name in self._answered_once else _FIRST_SECONDS
        if not run.wait(max(self._options.timeout, seconds)):
            if run.age() < self._patience_seconds:
                return Undetermined(f"{name} has not answered yet")
            return TimeoutError(f"{name}: no answer within {self._options.timeout:g} s")
        self._answered_once.add(name)
        if run.error is None:
            self._last_enumerations[name] = run.value
        return run.error

    def _query(self, devices: Sequence[Device]) -> list[_Result]:
        """Query the devices, each as soon as the one before is done or had its head start."""
        left_alone = {device: result for device in devices if (result := _left_alone(device)) is not None}
        runs = self._start((device, self._single_run(device)) for device in devices if device not in left_alone)
        return [left_alone.get(device) or self._result(device, runs[device]) for device in devices]

    def _start(self, functions: Iterable[tuple[K, SingleRun[T]]]) -> dict[K, Run[T]]:
        """Start functions in order; once head starts took their share of the time-out, all that are left at once."""
        until = time.monotonic() + self._options.timeout * _SHARE_FOR_HEAD_STARTS
        return sequential_runs.start_in_order(functions, self._pool, _HEAD_START_SECONDS, until)

    def _single_run(self, device: Device) -> SingleRun[list[Value]]:
        if device not in self._reading:
            self._reading[device] = SingleRun(device.read)
        return self._reading[device]

    def _result(self, device: Device, run: Run[list[Value]]) -> _Result:
        if not run.wait(self._options.timeout):
            result = _Result(device, problem=f"no answer within {self._options.timeout:g} s")
        elif run.error is not None:
            result = _Result(device, problem=_describe(run.error), lost=isinstance(run.error, DeviceLost))
        else:
            result = _Result(device, run.value)
        self._report(f"GPU {device.identity.gpu} {device.identity.uuid}", result.problem)
        return result

    def _report(self, what: str, problem: str) -> None:
        """Log a problem once when it begins, and once when it ends."""
        if self._failing.changed(bool(problem), what):
            level = logging.WARNING if problem else logging.INFO
            log.log(
                level, "%s %s", what, "failed" if problem else "answers again", extra={"fields": {"detail": problem}}
            )


def _left_alone(device: Device) -> _Result | None:
    """Return the result for a GPU that is not to be queried, so that it can sleep; None for others."""
    if device.suspended:
        return _Result(device, suspended=True)
    return _Result(device, polling_paused=True) if device.polling_paused else None


def _absence(failures: Sequence[BaseException]) -> BaseException:
    """Return the error for a machine on which no source has a GPU: a failure, else what is not known, else absence."""
    failed = next((failure for failure in failures if not isinstance(failure, Unavailable)), None)
    if failed is not None:
        return failed
    unknown = [str(failure) for failure in failures if isinstance(failure, Undetermined)]
    return Undetermined("; ".join(unknown)) if unknown else Unavailable("; ".join(map(str, failures)))


def _row(result: _Result) -> Iterator[Value]:
    """Yield all values of one GPU."""
    identity = result.device.identity
    up = not result.problem and not result.lost
    if not result.lost:
        yield Value(families.INFO, identity[2:], 1)
    yield Value(families.UP, (), float(up))
    yield from result.values
    yield from result.device.accumulated()


def _uses(rows: Iterable[tuple[_Result, Iterable[Value]]]) -> Iterator[tuple[str, GpuUse]]:
    """Yield energy and memory by process of the GPUs that could be read and report memory by process."""
    for result, row in rows:
        memory = result.device.memory_by_pid
        if result.values and memory is not None:
            numbers = (value.number for value in row if value.family is families.ENERGY)
            energy = next((number for number in numbers if number is not None), None)
            yield result.device.identity.uuid, GpuUse(energy, memory)


def _describe(error: BaseException | None) -> str:
    return f"{type(error).__name__}: {error}" if error else ""


def create(options: GpuOptions, context: CollectorContext) -> Collector:
    """Build the GPU collector; a vendor's modules are imported once such a card, or its driver, is found."""
    from modelhost_exporter.gpu import sources  # noqa: PLC0415 - flags and documents only need the declarations above

    return GpuCollector(sources.all_of(context.paths, context.owner_of), options)


def create_simulated(options: GpuOptions, _context: CollectorContext, host: SimulatedHost) -> Collector:
    """Build the collector for ``--demo``."""
    return GpuCollector(host.gpu_sources(), options)
