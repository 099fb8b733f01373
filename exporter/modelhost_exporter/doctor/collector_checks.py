"""Run each collector once, and say which is absent, which fails, and which parts are left out."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from modelhost_exporter import collectors
from modelhost_exporter.collector import CollectorContext
from modelhost_exporter.doctor.findings import Finding
from modelhost_exporter.gpu.process_owners import ProcessOwners
from modelhost_exporter.live.family_lookup import Families
from modelhost_exporter.scraping.scrape import Scrape

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from modelhost_exporter.config.model import Config
    from modelhost_exporter.scraping.outcome import Outcome

_SEPARATE = ("engines",)
"""Collectors with checks of their own."""
_RUNS = 2
"""The first run of a collector may only begin a measurement between two readings."""

_LOST_GPU = "it does not respond: see `dmesg` for an XID, and reset or replace it"

ADVICE = {
    "gpu": "in a container, pass the GPUs in (--gpus all, or docker-compose.gpu.yml)",
    "sensors": "virtual machines have none",
}
"""What to do, or why it is normal, where a collector has nothing to measure."""


def check(config: Config) -> Iterator[Finding]:
    """Yield a finding for each collector that is on, and for each GPU."""
    notes = _Notes()
    logging.getLogger("modelhost_exporter").addHandler(notes)
    try:
        outcomes = _run(config)
    finally:
        logging.getLogger("modelhost_exporter").removeHandler(notes)
    for name, outcome in outcomes.items():
        yield _finding(name, outcome)
    for source, problem in notes.left_out.items():
        yield Finding("problem", "part", source, f"{problem}: it is left out")
    if "gpu" in outcomes:
        yield from _gpus(Families(outcomes["gpu"].families))


def _run(config: Config) -> Mapping[str, Outcome]:
    context = CollectorContext(config.path, ProcessOwners(()), lambda: ())
    names = [name for name in config.collectors if name not in _SEPARATE]
    ready = {name: collectors.create(name, config.collectors[name], context) for name in names}
    scrape = Scrape(ready, config.scrape.timeout)
    try:
        for _ in range(_RUNS):
            outcomes = scrape.outcomes(names, config.scrape.timeout)
        return outcomes
    finally:
        scrape.close()


def _finding(name: str, outcome: Outcome) -> Finding:
    if outcome.state == "ok":
        return Finding("ok", "collector", name)
    if outcome.state == "unavailable":
        return Finding("absent", "collector", name, "; ".join(filter(None, (outcome.detail, ADVICE.get(name)))))
    return Finding("problem", "collector", name, outcome.detail)


def _gpus(families: Families) -> Iterator[Finding]:
    names = {sample.labels["gpu"]: sample.labels["name"] for sample in families.samples("gpu_info")}
    for sample in families.samples("gpu_up"):
        gpu = sample.labels["gpu"]
        yield (
            Finding("ok", "gpu", gpu, names.get(gpu, "")) if sample.value else Finding("problem", "gpu", gpu, _LOST_GPU)
        )


class _Notes(logging.Handler):
    """The parts of collectors that were left out, as they are logged."""

    def __init__(self) -> None:
        super().__init__()
        self.left_out: dict[str, str] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the source and the problem."""
        fields = getattr(record, "fields", {})
        if "source" in fields and "problem" in fields:
            self.left_out[str(fields["source"])] = str(fields["problem"])
