"""The machines that ``--demo`` can show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelhost_exporter.demo import catalogue
from modelhost_exporter.demo.incidents import USUAL, IncidentSchedule
from modelhost_exporter.demo.specs import GIB, MIG_GPU, CardSpec, HostSpec, MountSpec

if TYPE_CHECKING:
    from modelhost_exporter.demo.specs import ModelSpec, ServerSpec
    from modelhost_exporter.requests.observation import Outcome


@dataclass(frozen=True)
class Profile:
    """One machine with its GPUs, model servers, models, incidents and clients."""

    name: str
    host: HostSpec
    card: CardSpec
    gpus: int
    servers: tuple[ServerSpec, ...]
    models: tuple[ModelSpec, ...]
    incidents: IncidentSchedule
    quietest: float
    """Traffic in the quietest hour of the day as a share of the busiest hour's."""
    mishaps: tuple[tuple[Outcome, str, float], ...]
    """Outcome, status code and share of requests without an incident; the rest is ok."""
    mig_gpu: int | None = None
    """Index of the GPU that is split."""


RACK = Profile(
    "rack",
    HostSpec(
        "rack-gpu-07",
        cpus=64,
        cpu_model="Intel(R) Xeon(R) Gold 6526Y",
        model_folders=(("Hugging Face", "/data/huggingface/hub"), ("Ollama", "/data/ollama/models")),
        memory_bytes=1008 * GIB,
        swap_bytes=32 * GIB,
        base_bytes=64 * GIB,
        interface_names=("eth0", "eth1"),
        interface_megabits=25_000,
        base_traffic_bytes=250_000.0,
        mounts=(
            MountSpec("/dev/nvme0n1p2", "/", "ext4", 878 * GIB, 221.0 * GIB),
            MountSpec("/dev/nvme1n1", "/data", "xfs", 6_990 * GIB, 3_900.0 * GIB),
            MountSpec("/dev/md0", "/archive", "ext4", 1_650 * GIB, 610.0 * GIB),
        ),
        uptime_seconds=19 * 86_400.0,
        busy_share=0.03,
        busy_per_token=0.000035,
        busy_per_request=0.004,
    ),
    CardSpec(
        "NVIDIA H100 80GB HBM3",
        memory_bytes=81_559 * 2**20,
        power_limit_watts=700.0,
        capped_watts=300.0,
        idle_watts=72.0,
        busy_watts=160.0,
        active_watts=470.0,
        slowdown_celsius=87.0,
        celsius_per_watt=0.06,
        boost_mhz=1980,
        idle_mhz=345,
        hot_mhz=1170,
        memory_mhz=2619,
        video_mhz=1545,
        prefill_rate=14_000,
        capability=(9, 0),
        vbios="96.00.74.00.01",
        pcie_generation=5,
    ),
    gpus=8,
    servers=catalogue.SERVERS,
    models=catalogue.models(),
    incidents=USUAL,
    quietest=0.4,
    mishaps=(
        ("client_error", "400", 0.006),
        ("client_disconnect", "200", 0.005),
        ("server_error", "500", 0.0008),
        ("stream_error", "200", 0.0005),
        ("timeout", "504", 0.0003),
    ),
    mig_gpu=MIG_GPU,
)
"""A server with eight GPUs, one of them split, several engines, and everything that goes wrong."""

WORKSTATION = Profile(
    "workstation",
    HostSpec(
        "workstation",
        cpus=24,
        cpu_model="AMD Ryzen 9 9900X 12-Core Processor",
        model_folders=(("Ollama", "/models/ollama"), ("llama.cpp", "/models/gguf")),
        memory_bytes=62 * GIB,
        swap_bytes=8 * GIB,
        base_bytes=15 * GIB,
        interface_names=("enp5s0",),
        interface_megabits=2_500,
        base_traffic_bytes=40_000.0,
        mounts=(
            MountSpec("/dev/nvme0n1p2", "/", "ext4", 937 * GIB, 388.0 * GIB),
            MountSpec("/dev/nvme1n1p1", "/models", "ext4", 1_875 * GIB, 1_102.0 * GIB),
        ),
        uptime_seconds=3 * 86_400.0,
        busy_share=0.05,
        busy_per_token=0.0009,
        busy_per_request=0.03,
        is_server=False,
    ),
    CardSpec(
        "NVIDIA GeForce RTX 4090",
        memory_bytes=24_564 * 2**20,
        power_limit_watts=450.0,
        capped_watts=300.0,
        idle_watts=21.0,
        busy_watts=110.0,
        active_watts=330.0,
        slowdown_celsius=90.0,
        celsius_per_watt=0.1,
        boost_mhz=2745,
        idle_mhz=210,
        hot_mhz=1605,
        memory_mhz=10_501,
        video_mhz=1950,
        prefill_rate=5_000,
        capability=(8, 9),
        vbios="95.02.3C.40.01",
        pcie_generation=4,
        desktop_bytes=int(1.3 * GIB),
        is_for_data_centers=False,
    ),
    gpus=1,
    servers=tuple(one.server for one in catalogue.WORKSTATION),
    models=tuple(model for one in catalogue.WORKSTATION for model in one.models),
    incidents=IncidentSchedule(),
    quietest=0.8,
    mishaps=(("client_error", "400", 0.004), ("client_disconnect", "200", 0.03)),
)
"""A desktop with one GPU whose owner chats, writes programs and searches documents."""

PROFILES = {profile.name: profile for profile in (RACK, WORKSTATION)}
