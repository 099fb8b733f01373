from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.collector import Unavailable, Undetermined
from modelhost_exporter.gpu.nvidia import library
from modelhost_exporter.gpu.nvidia.errors import DriverFailed, LibraryMissing
from modelhost_exporter.gpu.nvidia.nvml import Nvml
from modelhost_exporter.process.daemon_thread import running
from tests.gpu.driver import H100, plug_in
from tests.gpu.querying import FIRST, NAME, SECOND, collected, of_first
from tests.support.programs import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.gpu.conftest import Clock, MakeGpu
    from tests.gpu.driver import Driver


def test_without_a_library_or_a_driver_there_is_no_gpu(driver: Driver, make_gpu: MakeGpu) -> None:
    """No library, no driver and no GPU are three reasons, each of them normal."""

    def missing() -> None:
        raise LibraryMissing(library.MISSING)

    with pytest.raises(Unavailable, match="no NVIDIA driver library"):
        collected(make_gpu(nvml=Nvml(missing)))
    driver.say("-", Init="!9")
    with pytest.raises(Unavailable, match="Driver Not Loaded"):
        collected(make_gpu())
    driver.forget("-", "Init")
    with pytest.raises(Unavailable, match="has no GPU"):
        collected(make_gpu())


def pci_device(sysfs: Path, vendor: str, kind: str) -> None:
    """Add a device to the PCI bus that no driver is bound to."""
    folder = sysfs / "bus/pci/devices" / f"0000:{vendor[2:]}:00.0"
    folder.mkdir(parents=True)
    (folder / "vendor").write_text(f"{vendor}\n")
    (folder / "class").write_text(f"{kind}\n")


@pytest.mark.parametrize(
    ("device", "error"),
    [
        (("0x10de", "0x030200"), Undetermined),
        (("0x10de", "0x040300"), Unavailable),
        (("0x8086", "0x030000"), Unavailable),
    ],
)
def test_a_card_without_a_driver_is_not_no_card(
    device: tuple[str, str], error: type[Exception], driver: Driver, make_gpu: MakeGpu, tmp_path: Path
) -> None:
    """NVIDIA's GPU on the bus, not its sound card and not another vendor's GPU."""
    pci_device(tmp_path / "sys", *device)
    for says in ("!9", "0"):
        driver.say("-", Init=says)
        with pytest.raises(Unavailable) as caught:
            collected(make_gpu())
        assert type(caught.value) is error
        assert ("an NVIDIA GPU is installed but cannot be read" in str(caught.value)) is (error is Undetermined)


@pytest.mark.parametrize("says", ["!999", "!17", "!4"])
def test_a_driver_that_cannot_be_opened_is_a_failure(
    says: str, driver: Driver, make_gpu: MakeGpu, clock: Clock
) -> None:
    """A container that lost its access to the driver must not look like a machine without one; it is tried again."""
    plug_in(driver, 1, H100, NAME)
    driver.say("-", Init=says)
    collector = make_gpu()
    for _ in range(2):
        with pytest.raises(DriverFailed, match="the NVIDIA driver cannot be opened"):
            collected(collector)
    driver.forget("-", "Init")
    clock.seconds += 10
    assert collected(collector)["gpu_up"] == {FIRST: 1}


def test_what_a_driver_did_not_give_at_the_start_is_queried_again(
    driver: Driver, make_gpu: MakeGpu, clock: Clock
) -> None:
    """The next enumeration has the version; a GPU's name and address follow within a minute."""
    plug_in(driver, 1, H100, NAME)
    driver.say("-", DriverVersion="!3")
    driver.say(0, Name="!3", PciInfo="!3")
    collector = make_gpu()
    assert next(iter(collected(collector)["gpu_info"]))[2:6] == ("nvidia", "", "", "")
    driver.say("-", DriverVersion="580.95.05")
    driver.say(0, Name=NAME, PciInfo="00000000:01:00.0")
    clock.seconds += 60
    assert next(iter(collected(collector)["gpu_info"]))[2:6] == ("nvidia", NAME, "580.95.05", "0000:01:00.0")


def test_a_collector_that_a_reload_replaced_releases_the_library(driver: Driver, make_gpu: MakeGpu) -> None:
    """Otherwise the library would keep a reference, and could not be started again for a GPU that came back."""
    plug_in(driver, 1, H100, NAME)
    old, new = make_gpu(nvml=Nvml(retire_seconds=0.01)), make_gpu()
    collected(old)
    collected(new)
    assert driver.references() == 2
    old.close()
    wait_until(lambda: driver.references() == 1, "the old one has let go")
    assert of_first(collected(new), "up") == {(): 1}


def test_a_driver_that_is_opened_again_and_again_leaks_nothing(driver: Driver, make_gpu: MakeGpu, clock: Clock) -> None:
    """Performance samples and sets of events are freed each time."""
    plug_in(driver, 1, H100, NAME)
    nvml = Nvml()
    collector = make_gpu(nvml=nvml)
    held = set()
    for _ in range(3):
        collected(collector)
        wait_until(lambda: of_first(collected(collector), "xid_monitored") == {(): 1}, "XIDs are watched")
        held.add(driver.allocated())
        driver.say("-", all="!1")
        collected(collector)
        driver.forget("-", "all")
        clock.seconds += 10
    assert held == {2}


def test_a_driver_that_is_not_loaded_is_not_tried_in_every_scrape(
    driver: Driver, make_gpu: MakeGpu, clock: Clock
) -> None:
    """With the library installed and the driver not loaded, each attempt may start modprobe: one a minute is enough."""
    plug_in(driver, 1, H100, NAME)
    driver.say("-", Init="!9")
    collector = make_gpu()
    for _ in range(12):
        with pytest.raises(Unavailable, match="Driver Not Loaded"):
            collected(collector)
        clock.seconds += 15
    assert driver.calls(-1, "Init") == 3
    driver.forget("-", "Init")
    assert collected(collector)["gpu_devices"] == {(): 1}


def test_a_driver_that_is_reloaded(driver: Driver, make_gpu: MakeGpu, clock: Clock) -> None:
    """While the driver is away no GPU is there; once it is back it is initialised again, without a restart."""
    plug_in(driver, 2, H100, NAME)
    collector = make_gpu()
    assert collected(collector)["gpu_devices"] == {(): 2}
    driver.say("-", all="!1")
    for _ in range(2):
        read = collected(collector)
        assert (read["gpu_devices"], read["gpu_devices_expected"]) == ({(): 0}, {(): 2})
        assert read["gpu_up"] == {FIRST: 0, SECOND: 0}
        assert read["gpu_restart_required"] == {(): 0}
    driver.forget("-", "all")
    clock.seconds += 10
    read = collected(collector)
    assert read["gpu_up"] == {FIRST: 1, SECOND: 1}
    assert read["gpu_power_watts"] == {FIRST: 650, SECOND: 650}


def test_a_driver_that_was_away_only_during_queries(driver: Driver, make_gpu: MakeGpu) -> None:
    """When any call reports that the library is not initialised, the next scrape initialises it."""
    plug_in(driver, 2, H100, NAME)
    nvml = Nvml()
    collector = make_gpu(nvml=nvml)
    collected(collector)
    generation = nvml.generation
    driver.say(1, all="!1")
    assert collected(collector)["gpu_up"] == {FIRST: 1, SECOND: 0}
    driver.forget(1, "all")
    assert collected(collector)["gpu_up"] == {FIRST: 1, SECOND: 1}
    assert nvml.generation == generation + 1


@pytest.mark.parametrize("from_the_start", [False, True])
def test_a_replaced_driver_needs_a_restart(
    from_the_start: bool, driver: Driver, make_gpu: MakeGpu, caplog: pytest.LogCaptureFixture
) -> None:
    """A metric and one log line report a library that does not match the driver, and the remedy."""
    plug_in(driver, 1, H100, NAME)
    collector = make_gpu()
    if not from_the_start:
        assert collected(collector)["gpu_restart_required"] == {(): 0}
    driver.say("-", all="!18")
    for _ in range(3):
        read = collected(collector)
        assert (read["gpu_restart_required"], read["gpu_devices"]) == ({(): 1}, {(): 0})
    assert len([record for record in caplog.records if "restart the exporter" in record.getMessage()]) == 1


@pytest.mark.parametrize(
    ("says", "version", "restart"),
    [("590.44.01", "590.44.01", 1), ("!999", "580.95.05", 0)],
    ids=["another version", "no version"],
)
def test_a_driver_that_came_back(  # noqa: PLR0913 - what it says, and what is made of it
    says: str, version: str, driver: Driver, make_gpu: MakeGpu, clock: Clock, *, restart: int
) -> None:
    """Another version is used while it works, and a restart is requested; an unknown version counts as the same."""
    plug_in(driver, 1, H100, NAME)
    collector = make_gpu()
    collected(collector)
    driver.say("-", all="!9")
    collected(collector)
    driver.forget("-", "all")
    driver.say("-", DriverVersion=says)
    clock.seconds += 10
    read = collected(collector)
    assert (read["gpu_restart_required"], read["gpu_devices"]) == ({(): restart}, {(): 1})
    assert next(iter(read["gpu_info"]))[4] == version


def test_a_gpu_that_is_read_while_it_is_closed_leaves_no_thread(driver: Driver, make_gpu: MakeGpu) -> None:
    """A scrape may still run when a reload closes its collector."""
    plug_in(driver, 1, H100, NAME)
    collector = make_gpu(sample_seconds=0.01)
    before = set(running())
    collector.close()  # before the first reading is done
    collected(collector)
    wait_until(
        lambda: all(thread in before or thread.name == "gpu" for thread in running()), "all but the pool's threads end"
    )


def test_a_driver_that_was_closed_elsewhere_is_reopened(driver: Driver, make_gpu: MakeGpu) -> None:
    """Its GPUs are queried at once with new handles: the old ones are invalid."""
    plug_in(driver, 1, H100, NAME)
    nvml = Nvml()
    collector = make_gpu(nvml=nvml)
    collected(collector)
    wait_until(nvml.close, "no call into the driver is under way")
    assert collected(collector)["gpu_up"] == {FIRST: 1}
    assert nvml.generation == 2
