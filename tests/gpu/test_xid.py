from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.gpu.nvidia.nvml import Nvml
from modelhost_exporter.gpu.nvidia.xid import XidMonitor
from tests.gpu.driver import H100, Lines, plug_in, uuid
from tests.gpu.querying import FIRST, NAME, SECOND, collected, of_first
from tests.support.programs import wait_until

if TYPE_CHECKING:
    from tests.gpu.conftest import Clock, MakeGpu
    from tests.gpu.driver import Driver


def test_xids_are_counted_as_they_arrive(driver: Driver, make_gpu: MakeGpu, caplog: pytest.LogCaptureFixture) -> None:
    """Each XID counts once under its GPU and code, with the time it was last seen; a code never seen is absent."""
    plug_in(driver, 2, H100, NAME)
    collector = make_gpu()
    assert "gpu_xid_errors_total" not in collected(collector)
    for gpu_index, xid in ((0, 94), (1, 79), (0, 94), (0, 31)):
        driver.push_xid(gpu_index, xid)
    expected = {(*FIRST, "31"): 1, (*FIRST, "94"): 2, ("1", uuid(1), "79"): 1}
    wait_until(lambda: collected(collector).get("gpu_xid_errors_total") == expected, "all four have arrived")
    assert collected(collector)["gpu_xid_last_timestamp_seconds"] == dict.fromkeys(expected, 1.8e9)
    assert [record.fields["xid"] for record in caplog.records if record.getMessage() == "XID"] == [94, 79, 94, 31]  # type: ignore[attr-defined]


def test_a_storm_of_xids_does_not_fill_the_log(
    driver: Driver, make_gpu: MakeGpu, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Each is counted; a few a minute are logged of each GPU and code, with their number so far."""
    plug_in(driver, 1, H100, NAME)
    nvml = Nvml()
    collector = make_gpu(nvml=nvml, xids=XidMonitor(nvml, lambda: 1.8e9, 10, clock))

    def pushed(count: int, total: int) -> list[int]:
        caplog.clear()
        for _ in range(count):
            driver.push_xid(0, 31)
        expected = {(*FIRST, "31"): total}
        wait_until(lambda: collected(collector).get("gpu_xid_errors_total") == expected, "all have arrived")
        return [record.fields["count"] for record in caplog.records if record.getMessage() == "XID"]  # type: ignore[attr-defined]

    collected(collector)
    assert pushed(20, 20) == [1, 2, 3]
    clock.seconds += 60
    assert pushed(5, 25) == [21, 22, 23]


def test_the_xid_of_a_lost_gpu_stays(driver: Driver, make_gpu: MakeGpu) -> None:
    """XID 79 means that the GPU fell off the bus: it must be exported although the GPU is gone."""
    plug_in(driver, 1, H100, NAME)
    collector = make_gpu()
    collected(collector)
    driver.push_xid(0, 79)
    wait_until(lambda: "gpu_xid_errors_total" in collected(collector), "the XID has arrived")
    driver.say(0, all="!15")
    read = collected(collector)
    assert (read["gpu_devices"], read["gpu_xid_errors_total"]) == ({(): 0}, {(*FIRST, "79"): 1})


def test_a_lost_gpu_does_not_silence_the_others(driver: Driver, make_gpu: MakeGpu) -> None:
    """While one GPU is lost the driver's wait fails for all of its GPUs: the others are waited for without it."""
    plug_in(driver, 2, H100, NAME)
    collector = make_gpu()
    wait_until(lambda: all(collected(collector)["gpu_xid_monitored"].values()), "XIDs are watched")
    held = driver.allocated()
    driver.say(0, all="!15")
    wait_until(lambda: collected(collector)["gpu_xid_monitored"] == {FIRST: 0, SECOND: 1}, "one is watched")
    driver.push_xid(1, 94)
    expected = {(*SECOND, "94"): 1}
    wait_until(lambda: collected(collector).get("gpu_xid_errors_total") == expected, "the XID has arrived")
    assert driver.allocated() == held


def test_xids_are_waited_for_again_after_a_new_start(driver: Driver, make_gpu: MakeGpu, clock: Clock) -> None:
    """After the driver was away, XIDs count on from where they were."""
    plug_in(driver, 1, H100, NAME)
    collector = make_gpu()
    wait_until(lambda: of_first(collected(collector), "xid_monitored") == {(): 1}, "XIDs are watched")
    driver.say("-", all="!9")
    assert of_first(collected(collector), "xid_monitored") == {(): 0}
    driver.forget("-", "all")
    clock.seconds += 10
    wait_until(lambda: of_first(collected(collector), "xid_monitored") == {(): 1}, "XIDs are watched again")
    driver.push_xid(0, 48)
    wait_until(lambda: of_first(collected(collector), "xid_errors_total") == {("48",): 1}, "the XID has arrived")


@pytest.mark.parametrize("lines", [{"RegisterEvents": "!3"}, {"SupportedEventTypes": 0}, {"SupportedEventTypes": "!3"}])
def test_a_metric_shows_that_xids_cannot_be_monitored(lines: Lines, driver: Driver, make_gpu: MakeGpu) -> None:
    """Without events (WSL2, vGPU) no XID is counted, and xid_monitored is 0 to distinguish that from none."""
    plug_in(driver, 1, H100, NAME)
    driver.say(0, lines)
    assert of_first(collected(make_gpu()), "xid_monitored") == {(): 0}
