"""The kernel's files of the simulated host's hardware: InfiniBand, memory errors, energy, NVMe drives."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from modelhost_exporter.linux.nvme import LOG_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from modelhost_exporter.demo.machine import SimulatedDisk, SimulatedMachine

_BYTES_PER_WORD = 4
_PACKET_BYTES = 4096
_CONGESTED = 5_000
"""Packets of which one is marked for congestion."""
_NVME_UNIT_BYTES = 512_000
_ENERGY_RANGE = 262_143_328_850
_MEMORY_ERRORS = {
    **{f"mc{controller}/{kind}_count": "0\n" for controller in (0, 1) for kind in ("ce", "ue")},
    **{f"mc{n}/dimm0/dimm_{kind}_count": "0\n" for n in (0, 1) for kind in ("ce", "ue")},
    **{f"mc{n}/dimm0/dimm_label": f"CPU{n}_DIMM_A1\n" for n in (0, 1)},
}


def hardware_files(machine: SimulatedMachine) -> dict[str, str]:
    """Return the files by their path."""
    of_all = {
        **_energy(machine.cpu_joules, processors(machine)),
        **_drive("nvme0", 0, machine.disks["nvme0n1"], used=0.31),
        **_drive("nvme1", 1, machine.disks["nvme1n1"], used=0.04),
    }
    if not machine.spec.is_server:
        return of_all
    return {
        **of_all,
        **_infiniband("mlx5_0", machine.fabric_bytes),
        **_infiniband("mlx5_1", 0.6 * machine.fabric_bytes),
        **{f"sys/devices/system/edac/mc/{name}": text for name, text in _MEMORY_ERRORS.items()},
    }


def processors(machine: SimulatedMachine) -> range:
    """Return the numbers of the processors."""
    return range(2 if machine.spec.is_server else 1)


def _energy(joules: float, cpus: Sequence[int]) -> dict[str, str]:
    """Return the energy of the processors, with parts that servers do not have, and of the platform."""
    shares = {"package-{}": 1.0, "core": 0.7, "uncore": 0.01, "dram": 0.2}
    zones = {
        f"intel-rapl:{cpu}" + (f":{number - 1}" if number else ""): (name.format(cpu), share * joules / len(cpus))
        for cpu in cpus
        for number, (name, share) in enumerate(shares.items())
    }
    zones[f"intel-rapl:{len(cpus)}"] = ("psys", 1.3 * joules)
    return {
        f"sys/class/powercap/{zone}/{file}": f"{text}\n"
        for zone, (name, used) in zones.items()
        for file, text in (
            ("name", name),
            ("energy_uj", int(used * 1e6) % _ENERGY_RANGE),
            ("max_energy_range_uj", _ENERGY_RANGE),
        )
    }


def _infiniband(name: str, transferred: float) -> dict[str, str]:
    packets = int(transferred / _PACKET_BYTES)
    marked = packets // _CONGESTED
    traffic = {
        "port_rcv_data": int(transferred / _BYTES_PER_WORD),
        "port_xmit_data": int(transferred / _BYTES_PER_WORD),
        "port_rcv_packets": packets,
        "port_xmit_packets": packets,
        "port_xmit_wait": packets // 100,
        "link_downed": 0,
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


def _drive(name: str, number: int, disk: SimulatedDisk, *, used: float) -> dict[str, str]:
    """Return the files of a drive, and its health log as text."""
    celsius = 36 + 9 * (number == 0)
    life = 4e15 * used
    counters = (
        (life + disk.read_bytes) / _NVME_UNIT_BYTES,
        (life + disk.written_bytes) / _NVME_UNIT_BYTES,
        *(disk.reads, disk.writes, disk.busy_seconds / 60, 14, 9_200, 3, 0, 14),
    )
    log = struct.pack("<BHBBB", 0, 273 + celsius, 100, 10, round(100 * used)).ljust(32, b"\0")
    log += b"".join(int(value).to_bytes(16, "little") for value in counters)
    files = {
        "model": "Simulated NVMe SSD",
        "serial": f"SIM{number:05}",
        "firmware_rev": "1.0",
        "state": "live",
        f"hwmon{number}/temp1_input": 1000 * celsius,
    }
    return {
        **{f"sys/class/nvme/{name}/{file}": f"{text}\n" for file, text in files.items()},
        f"dev/{name}": log.ljust(LOG_BYTES, b"\0").hex(),
    }


def _numbers(folder: str, counts: Mapping[str, int]) -> dict[str, str]:
    return {f"{folder}/{name}": f"{number}\n" for name, number in counts.items()}
