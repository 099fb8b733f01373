from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.collector import CollectorContext, CollectorOptions, Unavailable
from modelhost_exporter.collectors.infiniband import InfinibandCollector, create, parse_rate
from tests.support.machine import FILES, write
from tests.support.readings import readings, readings_or_reason

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.support.readings import Readings

PORT = "class/infiniband/mlx4_0/ports/2"
LATE = 30.0
"""Seconds that a reading may take on a busy machine."""


def measured(tmp_path: Path, files: Mapping[str, str]) -> Readings:
    """Return what is measured of a port with these files."""
    write(tmp_path / PORT, files)
    return readings(InfinibandCollector(tmp_path, LATE).collect())


def test_a_port_with_everything(tmp_path: Path) -> None:
    """Data in bytes rather than words, states as numbers, speed in bytes, and each counter from its own file."""
    read = readings(InfinibandCollector(write(tmp_path, FILES) / "sys", LATE).collect())
    port = {name.removeprefix("infiniband_"): of["mlx5_0", "1"] for name, of in read.items() if "info" not in name}
    assert read["infiniband_info"] == {("mlx5_0", "MT_0000000008", "16.35.2000", "MT4119"): 1}
    assert port == {
        "state_id": 4,
        "physical_state_id": 5,
        "rate_bytes_per_second": 12.5e9,
        "port_data_received_bytes_total": 4,
        "port_data_transmitted_bytes_total": 8,
        "port_packets_received_total": 3,
        "port_packets_transmitted_total": 4,
        "port_errors_received_total": 5,
        "port_receive_remote_physical_errors_total": 6,
        "port_discards_transmitted_total": 7,
        "port_transmit_wait_total": 8,
        "link_downed_total": 9,
        "link_error_recovery_total": 10,
        "local_link_integrity_errors_total": 11,
        "symbol_error_total": 12,
        "excessive_buffer_overrun_errors_total": 13,
        "out_of_buffer_drops_total": 101,
        "out_of_sequence_packets_received_total": 102,
        "packet_sequence_errors_total": 103,
        "local_ack_timeout_errors_total": 104,
        "rnr_nak_retry_packets_received_total": 105,
        "np_cnp_packets_sent_total": 106,
        "np_ecn_marked_roce_packets_received_total": 107,
        "rp_cnp_packets_handled_total": 108,
        "roce_adp_retransmits_total": 109,
        "rx_icrc_encapsulated_errors_total": 110,
    }


def test_an_adapter_that_lacks_counters(tmp_path: Path) -> None:
    """Ports without performance counters say so in text; their state is there all the same."""
    read = measured(
        tmp_path,
        {
            "state": "1: DOWN\n",
            "phys_state": "3: Disabled\n",
            "rate": "odd\n",
            "counters/port_rcv_data": "N/A (no PMA)\n",
            "counters/symbol_error": "\n",
            "counters/link_downed": "3\n",
        },
    )
    assert read == {
        "infiniband_info": {("mlx4_0", "", "", ""): 1},
        "infiniband_state_id": {("mlx4_0", "2"): 1},
        "infiniband_physical_state_id": {("mlx4_0", "2"): 3},
        "infiniband_link_downed_total": {("mlx4_0", "2"): 3},
    }


@pytest.mark.parametrize(
    ("text", "gigabits"),
    [
        ("2.5 Gb/sec (1X SDR)", 2.5),
        ("800 Gb/sec (4X XDR)", 800),
        ("100 Gb/sec", 100),
        ("100", None),
        ("", None),
        ("1. Gb/sec", None),
        ("-1 Gb/sec", None),
    ],
)
def test_rates(text: str, gigabits: float | None) -> None:
    """The speed of the whole link, in bytes per second."""
    assert parse_rate(text) == (None if gigabits is None else gigabits * 125e6)


def test_a_port_that_hangs_costs_only_itself(tmp_path: Path) -> None:
    """Firmware that does not respond holds the read of its port; here a pipe that nobody writes to."""
    write(tmp_path, {f"{PORT}/state": "4: ACTIVE\n"})
    hanging = tmp_path / "class/infiniband/mlx5_9/ports/1/counters"
    hanging.mkdir(parents=True)
    os.mkfifo(hanging / "port_rcv_data")
    collector = InfinibandCollector(tmp_path, LATE)
    try:
        read = readings(collector.collect())
        assert read["infiniband_state_id"] == {("mlx4_0", "2"): 4}
        assert len(read["infiniband_info"]) == 2
    finally:
        os.close(os.open(hanging / "port_rcv_data", os.O_RDWR | os.O_NONBLOCK))


def test_a_machine_without_adapters_is_unavailable(tmp_path: Path) -> None:
    """Most machines have none, which is no failure; neither is a driver that is loaded without hardware."""
    for present in ("class/net", "class/infiniband"):
        (tmp_path / present).mkdir(parents=True)
        with pytest.raises(Unavailable):
            list(InfinibandCollector(tmp_path).collect())


def test_this_machine() -> None:
    """On the real machine each port has a state."""
    read = readings_or_reason(create(CollectorOptions(), CollectorContext()))
    assert isinstance(read, str) or read["infiniband_state_id"]
