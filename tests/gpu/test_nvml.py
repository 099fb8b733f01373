from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from modelhost_exporter.gpu.contract import DeviceLost
from modelhost_exporter.gpu.nvidia.errors import DriverFailed, DriverGone, DriverReplaced, LibraryMissing, check
from modelhost_exporter.gpu.nvidia.identity import kernel_address
from modelhost_exporter.gpu.nvidia.nvml import Nvml
from modelhost_exporter.process.daemon_thread import running
from tests.support.programs import wait_until


class NVMLError(Exception):
    """nvidia-ml-py's error."""

    def __init__(self, value: int) -> None:
        super().__init__(f"code {value}")
        self.value = value


def binding(init_code: int = 0) -> Any:
    """Return an nvidia-ml-py whose initialisation ends with this code; it records its calls."""
    calls: list[str] = []

    def init() -> None:
        calls.append("init")
        if init_code:
            raise NVMLError(init_code)

    def shutdown() -> None:
        calls.append("shutdown")
        raise NVMLError(1)  # the driver is gone already

    return SimpleNamespace(
        NVMLError=NVMLError, NVML_ERROR_LIBRARY_NOT_FOUND=12, nvmlInit=init, nvmlShutdown=shutdown, calls=calls
    )


def opened(lib: Any, drain_seconds: float = 10.0) -> Nvml:
    """Return an open library."""
    nvml = Nvml(lambda: lib, drain_seconds)
    nvml.open()
    return nvml


def test_it_is_opened_and_closed_once() -> None:
    """Each opening is a new generation; closing a closed library and a failing shutdown have no effect."""
    lib = binding()
    nvml = opened(lib)
    with nvml.using() as first:
        pass
    assert nvml.close()
    assert nvml.close()
    nvml.open()
    with nvml.using() as second:
        assert second != first
    assert lib.calls == ["init", "shutdown", "init"]


def test_nothing_is_called_while_it_is_closed() -> None:
    """A call into a closed library raises DriverGone."""
    nvml = Nvml(binding)
    with pytest.raises(DriverGone), nvml.using():
        pytest.fail("it was closed")


def test_it_is_not_shut_down_under_a_call() -> None:
    """Closing waits for calls under way."""
    lib = binding()
    nvml = opened(lib)
    closed = threading.Event()

    def close() -> None:
        nvml.close()
        closed.set()

    with nvml.using():
        threading.Thread(target=close, daemon=True).start()
        assert not closed.wait(0.05)
        assert lib.calls == ["init"]
    assert closed.wait(10)
    assert lib.calls == ["init", "shutdown"]


def test_a_call_that_never_returns_keeps_it_open() -> None:
    """When a call does not return, closing gives up, and the others go on with the library as it is."""
    lib = binding()
    nvml = opened(lib, drain_seconds=0.01)
    with nvml.using() as generation:
        assert not nvml.close()
        with nvml.using() as again:
            assert again == generation
    assert lib.calls == ["init"]


def test_it_is_not_opened_while_it_is_being_closed() -> None:
    """Opening waits for the closing; if that gave up, the library is still open and is not opened again."""
    lib = binding()
    nvml = opened(lib, drain_seconds=0.2)
    with nvml.using() as generation:
        closing = threading.Thread(target=nvml.close, daemon=True)
        closing.start()
        wait_until(lambda: nvml.generation == 0, "it is being closed")
        nvml.open()
        closing.join(10)
    assert lib.calls == ["init"]
    assert nvml.generation == generation


def test_a_retired_one_is_shut_down_once_it_is_unused() -> None:
    """A thread closes the library, so that retiring returns at once; if a late scrape opens it, it is closed again."""
    lib = binding()
    nvml = Nvml(lambda: lib, retire_seconds=0.01)
    nvml.open()
    nvml.retire()
    wait_until(lambda: lib.calls == ["init", "shutdown"], "it is shut down")
    nvml.open()
    wait_until(lambda: lib.calls == ["init", "shutdown"] * 2, "it is shut down again")


def test_a_retired_one_in_which_a_call_hangs_stays_open() -> None:
    """The library is not shut down under a call, however long it takes."""
    lib = binding()
    nvml = Nvml(lambda: lib, drain_seconds=0.01, retire_seconds=0.01)
    nvml.open()
    before = set(running())
    with nvml.using():
        nvml.retire()
        (closing,) = set(running()) - before
        closing.join(0.1)
        assert closing.is_alive()
        assert lib.calls == ["init"]
    wait_until(lambda: lib.calls == ["init", "shutdown"], "it is shut down once the call has returned")


def test_what_the_library_allocated_is_freed_before_it_is_shut_down() -> None:
    """Each allocation is freed once, early or with the library; one that cannot be freed does not stop the shutdown."""
    lib = binding()
    nvml = opened(lib)

    def refuse(thing: str) -> None:
        lib.calls.append(f"refuse {thing}")
        raise NVMLError(2)

    nvml.keep(refuse, "a")
    number = nvml.keep(lib.calls.append, "b")
    nvml.keep(lib.calls.append, "c")
    for _ in range(2):
        nvml.free(number)
    assert nvml.close()
    assert lib.calls == ["init", "b", "refuse a", "c", "shutdown"]


def test_a_call_that_hangs_for_long_is_not_waited_for() -> None:
    """No call can begin while closing waits: it never waits for a call that is known to hang."""
    nvml = opened(binding(), drain_seconds=0.2)
    with nvml.using():
        assert not nvml.close()
        began = time.monotonic()
        assert not nvml.close()
        assert time.monotonic() - began < 0.1


@pytest.mark.parametrize(
    ("code", "expected"),
    [(9, DriverGone), (12, LibraryMissing), (18, DriverReplaced), (999, DriverFailed), (17, DriverFailed)],
)
def test_what_a_failed_initialisation_means(code: int, expected: type[Exception]) -> None:
    """A missing driver, a missing library and a mismatch are distinguished; any other error is a failing driver."""
    with pytest.raises(expected):
        opened(binding(code))


@pytest.mark.parametrize(
    ("code", "expected"), [(15, DeviceLost), (28, DeviceLost), (1, DriverGone), (9, DriverGone), (18, DriverReplaced)]
)
def test_errors_that_concern_more_than_a_field(code: int, expected: type[Exception]) -> None:
    """A lost GPU and a lost driver are not a missing field."""
    with pytest.raises(expected):
        check(NVMLError(code))


def test_errors_that_concern_one_field() -> None:
    """Not supported, no permission and unknown errors are the field's own."""
    for code in (2, 3, 4, 6, 10, 13, 21, 999):
        check(NVMLError(code))


def test_a_failure_of_the_driver_is_kept_until_it_is_opened_anew() -> None:
    """Any thread may meet the error, and the next enumeration handles it; a lost GPU is not a driver failure."""
    nvml = opened(binding())
    for error in (DeviceLost(), DriverGone()):
        with pytest.raises(type(error)), nvml.using():
            raise error
        assert (nvml.failure is None) == isinstance(error, DeviceLost)
    nvml.close()
    nvml.open()
    assert nvml.failure is None


def test_addresses_are_the_kernels() -> None:
    """NVML's long, upper-case PCI addresses are written as in /sys."""
    assert kernel_address("00000000:3B:00.0") == "0000:3b:00.0"
    assert kernel_address("00010000:01:00.0") == "0000:01:00.0"
    assert kernel_address("0008:01:00.0") == "0008:01:00.0"
    assert kernel_address("") == ""
