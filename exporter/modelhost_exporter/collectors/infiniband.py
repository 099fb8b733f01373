"""Ports of InfiniBand and RoCE adapters: state, speed, traffic, errors and congestion."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from modelhost_exporter.collector import Collector, CollectorContext, CollectorOptions, SimulatedHost, Unavailable
from modelhost_exporter.linux.kernel_files import count_if_possible, read_if_possible
from modelhost_exporter.metrics.families import counter, gauge
from modelhost_exporter.parallel_reads import ParallelReads

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from prometheus_client.metrics_core import Metric

    from modelhost_exporter.metrics.families import Family

_PORT = ("device", "port")

INFO = gauge(
    "infiniband_info",
    "1 for each adapter, with its model and firmware.",
    "device",
    "board_id",
    "firmware_version",
    "hca_type",
)
STATE = gauge(
    "infiniband_state_id",
    "Logical state of the port, where 1 is down, 2 initialising, 3 armed, 4 active and 5 active deferred.",
    *_PORT,
)
PHYSICAL_STATE = gauge(
    "infiniband_physical_state_id",
    "Physical state of the port, where 2 is polling, 3 disabled, 4 training, 5 link up and 6 error recovery.",
    *_PORT,
)
RATE = gauge("infiniband_rate_bytes_per_second", "Current speed of the port's link.", *_PORT)

_LANES = 4
"""The kernel counts data in units of four bytes, whatever the width of the link."""


def _of_port(name: str, help_text: str, note: str = "") -> Family:
    return counter(f"infiniband_{name}", help_text, *_PORT, note=note)


# file below the port (Linux Documentation/ABI/stable/sysfs-class-infiniband; hw_counters: of NVIDIA's mlx5) → family
_BYTES = {
    "counters/port_rcv_data": _of_port("port_data_received_bytes", "Bytes received, on an Ethernet port by RDMA only."),
    "counters/port_xmit_data": _of_port("port_data_transmitted_bytes", "Bytes sent, on an Ethernet port by RDMA only."),
}
_COUNTS = {
    "counters/port_rcv_packets": _of_port("port_packets_received", "Packets received, those with errors included."),
    "counters/port_xmit_packets": _of_port("port_packets_transmitted", "Packets sent, those with errors included."),
    "counters/port_rcv_errors": _of_port("port_errors_received", "Packets received with an error."),
    "counters/port_rcv_remote_physical_errors": _of_port(
        "port_receive_remote_physical_errors", "Packets received that another device had marked as bad."
    ),
    "counters/port_xmit_discards": _of_port(
        "port_discards_transmitted", "Packets not sent because the link was down or congested."
    ),
    "counters/port_xmit_wait": _of_port(
        "port_transmit_wait",
        "Ticks in which the port had data to send and could send none.",
        "Rises when the receiver or the network is the bottleneck. The length of a tick depends on the adapter.",
    ),
    "counters/link_downed": _of_port("link_downed", "Times that the link failed and went down."),
    "counters/link_error_recovery": _of_port("link_error_recovery", "Times that the link recovered from an error."),
    "counters/local_link_integrity_errors": _of_port(
        "local_link_integrity_errors", "Times that physical errors exceeded the port's limit."
    ),
    "counters/symbol_error": _of_port(
        "symbol_error", "Bit errors on the link's lanes.", "A rise points to the cable, its plug or its transceiver."
    ),
    "counters/excessive_buffer_overrun_errors": _of_port(
        "excessive_buffer_overrun_errors", "Times that the receive buffer overran repeatedly."
    ),
    "hw_counters/out_of_buffer": _of_port(
        "out_of_buffer_drops", "Packets dropped because the program had posted no receive buffer."
    ),
    "hw_counters/out_of_sequence": _of_port(
        "out_of_sequence_packets_received",
        "Packets received out of order.",
        "On RoCE packets were lost on the way, or took several ways.",
    ),
    "hw_counters/packet_seq_err": _of_port(
        "packet_sequence_errors", "Reports from the other side that packets arrived out of order."
    ),
    "hw_counters/local_ack_timeout_err": _of_port(
        "local_ack_timeout_errors", "Times that the other side did not acknowledge in time."
    ),
    "hw_counters/rnr_nak_retry_err": _of_port(
        "rnr_nak_retry_packets_received", "Reports from the other side that it was not ready to receive."
    ),
    "hw_counters/np_cnp_sent": _of_port(
        "np_cnp_packets_sent", "Notifications of congestion (CNP) sent because received packets were marked."
    ),
    "hw_counters/np_ecn_marked_roce_packets": _of_port(
        "np_ecn_marked_roce_packets_received", "RoCE packets received that a switch marked for congestion (ECN)."
    ),
    "hw_counters/rp_cnp_handled": _of_port(
        "rp_cnp_packets_handled", "Notifications of congestion (CNP) received, after which the adapter sent slower."
    ),
    "hw_counters/roce_adp_retrans": _of_port("roce_adp_retransmits", "Adaptive retransmissions of RoCE."),
    "hw_counters/rx_icrc_encapsulated": _of_port(
        "rx_icrc_encapsulated_errors", "RoCE packets received with a wrong checksum (ICRC)."
    ),
}
_FACTORS = {**dict.fromkeys(_BYTES, _LANES), **dict.fromkeys(_COUNTS, 1)}
_FAMILIES = {**_BYTES, **_COUNTS}
FAMILIES = (INFO, STATE, PHYSICAL_STATE, RATE, *_FAMILIES.values())

_GIGABIT = re.compile(r"(\d+(?:\.\d+)?) Gb/sec")
_BYTES_PER_GIGABIT = 1e9 / 8
_SLOW_SECONDS = 0.5
_WAIT_SECONDS = 1.0

Values = dict["Family", "float | None"]


class InfinibandCollector:
    """Ports below /sys/class/infiniband.

    The driver queries the adapter's firmware for most counters, which takes a minute where that hangs: each port is
    read in a thread of its own.
    """

    def __init__(self, sysfs: Path, wait_seconds: float = _WAIT_SECONDS) -> None:
        self._devices = sysfs / "class/infiniband"
        self._reads = ParallelReads(_read_port, _SLOW_SECONDS, wait_seconds)

    def collect(self) -> Iterator[Metric]:
        """Yield the adapters and their ports; Unavailable without one."""
        adapters = sorted(self._devices.glob("*"))
        if not adapters:
            raise Unavailable("no InfiniBand or RoCE adapter")
        yield from INFO.by((_info(adapter), 1) for adapter in adapters)
        readings = self._reads.measure(port for adapter in adapters for port in sorted(adapter.glob("ports/*")))
        yield from _families({port: reading.value for port, reading in readings.items() if reading.value is not None})


def _families(ports: Mapping[Path, Values]) -> Iterator[Metric]:
    for family in (STATE, PHYSICAL_STATE, RATE, *_FAMILIES.values()):
        yield from family.by(((path.parts[-3], path.name), values[family]) for path, values in ports.items())


def _info(adapter: Path) -> tuple[str, ...]:
    return adapter.name, *(read_if_possible(adapter / name) or "" for name in ("board_id", "fw_ver", "hca_type"))


def _read_port(folder: Path) -> Values:
    """Read a port. Counters that the adapter does not have are absent, or fail, or are ``N/A (no PMA)``."""
    return {
        STATE: _number_of(folder / "state"),
        PHYSICAL_STATE: _number_of(folder / "phys_state"),
        RATE: parse_rate(read_if_possible(folder / "rate") or ""),
        **{family: _times(_FACTORS[name], count_if_possible(folder / name)) for name, family in _FAMILIES.items()},
    }


def _number_of(state: Path) -> int | None:
    """Return the number of a state such as ``4: ACTIVE``."""
    return count_if_possible(state, end=":")


def _times(factor: int, number: int | None) -> int | None:
    return None if number is None else factor * number


def parse_rate(text: str) -> float | None:
    """Return bytes per second of a rate such as ``100 Gb/sec (4X EDR)``."""
    found = _GIGABIT.match(text)
    return float(found[1]) * _BYTES_PER_GIGABIT if found else None


def create(_options: CollectorOptions, context: CollectorContext) -> Collector:
    """Build the collector of InfiniBand and RoCE ports."""
    return InfinibandCollector(context.paths.sysfs)


def create_simulated(_options: CollectorOptions, context: CollectorContext, _host: SimulatedHost) -> Collector:
    """Build the collector for ``--demo``, which writes the same files and waits for every collector."""
    return InfinibandCollector(context.paths.sysfs)
