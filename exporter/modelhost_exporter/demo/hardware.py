"""The kernel's files of the simulated host's hardware: InfiniBand."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelhost_exporter.demo.machine import SimulatedMachine

_BYTES_PER_WORD = 4
_PACKET_BYTES = 4096
_CONGESTED = 5_000
"""Packets of which one is marked for congestion."""


def hardware_files(machine: SimulatedMachine) -> dict[str, str]:
    """Return the files by their path."""
    return {**_infiniband("mlx5_0", machine.fabric_bytes), **_infiniband("mlx5_1", 0.6 * machine.fabric_bytes)}


def _infiniband(name: str, transferred: float) -> dict[str, str]:
    packets = int(transferred / _PACKET_BYTES)
    marked = packets // _CONGESTED
    traffic = {
        "port_rcv_data": int(transferred / _BYTES_PER_WORD),
        "port_xmit_data": int(transferred / _BYTES_PER_WORD),
        "port_rcv_packets": packets,
        "port_xmit_packets": packets,
        "port_xmit_wait": packets // 100,
        "link_downed": 1,
        "symbol_error": 0,
    }
    faults = (
        *("port_rcv_errors", "port_rcv_remote_physical_errors", "port_xmit_discards", "link_error_recovery"),
        *("local_link_integrity_errors", "excessive_buffer_overrun_errors"),
    )
    congestion = {
        **dict.fromkeys(("np_cnp_sent", "np_ecn_marked_roce_packets", "rp_cnp_handled"), marked),
        **dict.fromkeys(("out_of_sequence", "packet_seq_err", "roce_adp_retrans"), marked // 100),
        **dict.fromkeys(("out_of_buffer", "local_ack_timeout_err", "rnr_nak_retry_err", "rx_icrc_encapsulated"), 0),
    }
    port = {
        **_numbers("counters", {**dict.fromkeys(faults, 0), **traffic}),
        **_numbers("hw_counters", congestion),
        "state": "4: ACTIVE\n",
        "phys_state": "5: LinkUp\n",
        "rate": "400 Gb/sec (4X NDR)\n",
    }
    adapter = {"board_id": "MT_0000000838\n", "fw_ver": "28.39.1002\n", "hca_type": "MT4129\n"}
    below = {**adapter, **{f"ports/1/{file}": text for file, text in port.items()}}
    return {f"sys/class/infiniband/{name}/{file}": text for file, text in below.items()}


def _numbers(folder: str, counts: Mapping[str, int]) -> dict[str, str]:
    return {f"{folder}/{name}": f"{number}\n" for name, number in counts.items()}
