from __future__ import annotations

import pytest

from modelhost_exporter.config.servers import NOT_POLLED, kind_names
from modelhost_exporter.engines import kinds
from modelhost_exporter.engines.pages import PollPolicy
from tests.engines.kinds.captured import snapshot
from tests.support.pages import SERVERS, Recording, pages


@pytest.mark.parametrize("folder", [folder for folder in SERVERS if folder != "litellm-1.95"])
def test_the_kind_of_a_server_is_detected(folder: str) -> None:
    """Every captured server is detected as its kind from its own pages."""
    assert kinds.detect(pages(folder).__getitem__) == SERVERS[folder]


def test_detection_requests_no_harmful_page() -> None:
    """Detection requests neither /health (LiteLLM queries every model) nor /metrics or /slots (llama.cpp wakes)."""
    fetch = Recording("openai")
    del fetch.pages["/v1/models"]
    assert kinds.detect(fetch) is None
    assert not {path for path in fetch.asked if path.startswith(("/health", "/metrics", "/slots"))} - {
        "/health/readiness"
    }


def test_every_kind_can_be_configured() -> None:
    """Every kind has a capture, and every kind is a value of ``kind:`` in the configuration."""
    assert set(kinds.names()) == set(SERVERS.values())
    assert set(kind_names()) == {*kinds.names(), "auto", *NOT_POLLED}


@pytest.mark.parametrize("folder", SERVERS)
def test_metrics_off_asks_for_no_metrics(folder: str) -> None:
    """With metrics: off no kind asks for a page of metrics or slots; the models stay known."""
    fetch = Recording(folder)
    found = kinds.engine_kind(SERVERS[folder]).snapshot(fetch, PollPolicy("off"))
    assert not [path for path in fetch.asked if path.startswith(("/metrics", "/slots"))]
    if folder not in ("triton", "triton-2.40"):
        assert [model.name for model in found.models] == [model.name for model in snapshot(folder).models]
