from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelhost_exporter.gpu.contract import DeviceLost
from modelhost_exporter.gpu.nvidia.counters import Integral, WrappingCounter
from modelhost_exporter.gpu.nvidia.errors import DriverGone
from modelhost_exporter.gpu.nvidia.measures import MeasureBatch
from modelhost_exporter.gpu.nvidia.query import DeviceQuery
from modelhost_exporter.gpu.nvidia.sampler import DriverSampler, Samples
from tests.gpu.conftest import Clock

STEPS = st.lists(st.tuples(st.integers(20_000, 1_000_000), st.floats(0, 1)), min_size=1, max_size=40)


class Buffer:
    """A driver's ring buffer: it keeps the last few samples and forgets the rest."""

    class NVMLError(Exception):
        """nvidia-ml-py's error."""

        def __init__(self, value: int) -> None:
            super().__init__(value)
            self.value = value

    def __init__(self, keeps: int = 100) -> None:
        self._keeps = keeps
        self.samples: list[tuple[int, int]] = []
        self.error = 0
        self.asked = 0

    def nvmlDeviceGetSamples(self, _handle: object, _kind: int, since: int) -> tuple[int, list[Any]]:  # noqa: N802 - nvidia-ml-py's
        """Return the samples after a time, as unsigned integers; NVML's errors."""
        self.asked += 1
        newer = [sample for sample in self.samples[-self._keeps :] if sample[0] > since]
        if self.error or not newer:
            raise self.NVMLError(self.error or 6)
        return 1, [SimpleNamespace(timeStamp=at, sampleValue=value.to_bytes(8, "little")) for at, value in newer]


@pytest.fixture
def buffer() -> Buffer:
    """Return a buffer."""
    return Buffer()


def sampled(buffer: Buffer, clock: Clock | None = None) -> tuple[Samples, DeviceQuery]:
    """Return samples to add up, and a query of the buffer that they are read from."""
    return Samples(1, 0.01, 1.0, clock or Clock()), DeviceQuery(buffer, None)


@given(STEPS, st.data())
def test_however_reads_fall_the_sum_is_the_same(steps: list[tuple[int, float]], data: st.DataObject) -> None:
    """The integral is that of all samples, however they are divided into reads, in any order and with overlaps."""
    when, samples, exact = 5_000_000, [], 0.0
    for step, value in steps:
        when += step
        samples.append((when, value))
        exact += value * step / 1e6
    integral = Integral()
    integral.start_after(5_000_000)
    while integral.newest < when:
        end = data.draw(st.integers(1, len(samples)))
        integral.add(data.draw(st.permutations(samples[:end])))
        if end == len(samples):
            break
    assert integral.total == pytest.approx(exact)


def test_a_gap_counts_for_nothing() -> None:
    """After a gap the first sample counts for the interval before the gap, not for the whole time."""
    integral = Integral()
    integral.start_after(1_000_000)
    integral.add([(1_200_000, 1.0), (1_400_000, 1.0), (301_400_000, 1.0), (301_600_000, 1.0)])
    assert integral.total == pytest.approx(0.8)


def test_what_was_before_the_first_reading_does_not_count(buffer: Buffer) -> None:
    """Samples from before the first reading are not counted."""
    buffer.samples = [(1_000_000, 100), (1_500_000, 100)]
    samples, query = sampled(buffer)
    before = samples.total
    samples.read(query)
    assert (before, samples.total) == (None, 0)
    buffer.samples += [(2_000_000, 60)]
    samples.read(query)
    assert samples.total == pytest.approx(0.3)


def test_an_empty_buffer_is_an_idle_gpu(buffer: Buffer) -> None:
    """'Not found' means no new samples: the counter keeps its value, and increases with the next samples."""
    samples, query = sampled(buffer)
    samples.read(query)
    samples.read(query)
    assert samples.total == 0
    buffer.samples = [(1_000_000, 100), (1_500_000, 100)]
    samples.read(query)
    assert samples.total == pytest.approx(0.5)


def test_samples_that_cannot_be_are_left_out(buffer: Buffer) -> None:
    """A value above 100 % is no measurement."""
    samples, query = sampled(buffer)
    buffer.samples = [(1_000_000, 0)]
    samples.read(query)
    buffer.samples += [(1_500_000, 2**32 - 1), (2_000_000, 100)]
    samples.read(query)
    assert samples.total == pytest.approx(1.0)


def test_a_card_without_samples_is_queried_once(buffer: Buffer) -> None:
    """'Not supported' is cached for a while, or until the driver is reopened; the counter is absent."""
    samples, query = sampled(buffer)
    buffer.error = 3
    samples.read(query)
    samples.read(query)
    assert (samples.total, buffer.asked) == (None, 1)
    samples.expect_restart()
    buffer.error = 0
    samples.read(DeviceQuery(buffer, None))
    assert samples.total == 0


def test_samples_that_are_not_supported_for_a_moment_keep_the_sum(buffer: Buffer) -> None:
    """Queries continue, since they succeeded before; the counter is absent meanwhile and then continues."""
    samples, query = sampled(buffer)
    buffer.samples = [(1_000_000, 0)]
    samples.read(query)
    buffer.error = 3
    samples.read(query)
    assert (samples.total, query.lost) == (None, 1)
    buffer.error = 0
    buffer.samples += [(1_500_000, 100)]
    query.begin_reading()
    samples.read(query)
    assert samples.total == pytest.approx(0.5)
    assert query.lost == 0


def test_a_failure_of_the_moment_keeps_the_sum(buffer: Buffer) -> None:
    """An unknown error leaves the counter where it is, and the next reading goes on."""
    samples, query = sampled(buffer)
    buffer.samples = [(1_000_000, 0)]
    samples.read(query)
    buffer.error = 999
    samples.read(query)
    buffer.error = 0
    buffer.samples += [(1_500_000, 100)]
    samples.read(query)
    assert samples.total == pytest.approx(0.5)


@pytest.mark.parametrize(("code", "expected"), [(15, DeviceLost), (1, DriverGone)])
def test_a_lost_gpu_or_driver_is_raised(code: int, expected: type[Exception], buffer: Buffer) -> None:
    """An error that concerns more than the samples is raised to the caller."""
    samples, query = sampled(buffer)
    buffer.error = code
    with pytest.raises(expected):
        samples.read(query)


def test_a_clock_that_was_set_back_does_not_silence_it(buffer: Buffer) -> None:
    """When the driver's clock steps back, counting continues after half a minute, and no sample counts twice."""
    clock = Clock()
    samples, query = sampled(buffer, clock)
    buffer.samples = [(900_000_000, 100)]
    samples.read(query)
    buffer.samples = [(1_000_000, 100), (1_500_000, 100)]
    samples.read(query)
    clock.seconds += 31
    samples.read(query)
    assert samples.total == 0
    buffer.samples += [(2_000_000, 100)]
    samples.read(query)
    assert samples.total == pytest.approx(0.5)


def test_samples_taken_while_the_driver_is_opened_anew_count(buffer: Buffer) -> None:
    """The driver's buffer outlives a new start of the library: the counter has every sample since the first reading."""
    samples, query = sampled(buffer)
    buffer.samples = [(1_000_000, 0)]
    samples.read(query)
    buffer.samples += [(1_500_000, 100)]
    samples.expect_restart()
    buffer.samples += [(2_000_000, 50)]
    samples.read(query)
    assert samples.total == pytest.approx(0.75)


def test_a_driver_that_is_opened_anew_begins_anew(buffer: Buffer) -> None:
    """After a new start with another clock the sum goes on from where it was; nothing counts twice."""
    samples, query = sampled(buffer)
    buffer.samples = [(1_000_000, 100), (1_500_000, 100)]
    samples.read(query)
    buffer.samples += [(2_000_000, 100)]
    samples.read(query)
    samples.expect_restart()
    buffer.samples = [(500_000, 100), (1_000_000, 100)]
    samples.read(query)
    buffer.samples += [(1_250_000, 100)]
    samples.read(query)
    assert samples.total == pytest.approx(0.75)


@given(st.lists(st.integers(0, 2**32 - 1), max_size=20))
def test_a_counter_that_wraps_is_added_up(steps: list[int]) -> None:
    """A 32-bit counter may wrap between two readings: the whole increase is counted."""
    counter, raw = WrappingCounter(), 12345
    counter.add(raw)
    for step in steps:
        raw = (raw + step) % 2**32
        counter.add(raw)
    assert counter.total == sum(steps)


def test_a_wide_counter_that_starts_again_is_no_wrap() -> None:
    """A counter that was beyond 32 bits and falls has started again: what it shows is what was added."""
    counter = WrappingCounter()
    for raw in (2**40, 2**40 + 5, 7):
        counter.add(raw)
    assert counter.total == 12
    counter.expect_restart()
    counter.add(1000)
    assert counter.total == 12


def test_a_new_driver_does_not_wait_for_a_call_into_the_old_one(
    buffer: Buffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One GPU's call that hangs does not hold up the enumeration, which attaches all of them."""
    sampler, query = DriverSampler(Clock(), lambda: 0.0), DeviceQuery(buffer, None)
    under_way, may_return = threading.Event(), threading.Event()

    def hang(*_: object) -> tuple[int, list[Any]]:
        under_way.set()
        may_return.wait(60)
        return 1, []

    monkeypatch.setattr(buffer, "nvmlDeviceGetSamples", hang, raising=False)
    taking = threading.Thread(target=lambda: sampler.update(query, MeasureBatch(query, ())), daemon=True)
    attaching = threading.Thread(target=sampler.expect_restart, daemon=True)
    taking.start()
    assert under_way.wait(10)
    attaching.start()
    attaching.join(10)
    blocked = attaching.is_alive()
    may_return.set()
    taking.join(10)
    assert not blocked
