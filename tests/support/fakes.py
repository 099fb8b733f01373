"""Collectors that misbehave on purpose."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def family(name: str = "modelhost_thing", value: object = 1.0, kind: str = "gauge") -> Metric:
    """Return a family with one sample."""
    metric = Metric(name, "A thing.", kind)
    metric.add_sample(name + ("_total" if kind == "counter" else ""), {}, value)  # type: ignore[arg-type]
    return metric


class Fixed:
    """A collector that returns fixed families."""

    def __init__(self, *families: Metric) -> None:
        self._families = families
        self.runs = 0

    def collect(self) -> Iterable[Metric]:
        """Return the families."""
        self.runs += 1
        return self._families


class Raising:
    """A collector that raises a given error after a first family."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def collect(self) -> Iterable[Metric]:
        """Yield one family and raise."""
        yield family("modelhost_half")
        raise self._error


class Hanging:
    """A collector that hangs until it is released; it counts its runs."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.entered = threading.Semaphore(0)
        self.runs = 0

    def collect(self) -> Iterable[Metric]:
        """Wait for the release."""
        self.runs += 1
        self.entered.release()
        self.release.wait(30)
        return [family("modelhost_late")]


def samples(page: bytes) -> Mapping[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return a text page's values by (name, sorted labels); an empty label ``upstream`` is left out."""
    return {
        (sample.name, tuple(sorted(item for item in sample.labels.items() if item != ("upstream", "")))): sample.value
        for metric in text_string_to_metric_families(page.decode())
        for sample in metric.samples
    }


def of_collector(page: bytes, what: str, name: str) -> float:
    """Return modelhost_scrape_collector_WHAT of one collector."""
    return samples(page)[f"modelhost_scrape_collector_{what}", (("collector", name),)]
