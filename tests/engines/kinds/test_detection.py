from __future__ import annotations

import pytest

from modelhost_exporter.config.servers import NOT_POLLED, kind_names
from modelhost_exporter.engines import kinds
from modelhost_exporter.json_reading import Care
from tests.engines.kinds.captured import snapshot
from tests.support.pages import SERVERS, Recording, pages


@pytest.mark.parametrize("folder", SERVERS)
def test_a_server_is_recognised(folder: str) -> None:
    """Every captured server is recognised as what it is, by its own pages alone."""
    assert kinds.recognise(pages(folder).__getitem__) == SERVERS[folder]


def test_recognising_asks_nothing_that_does_harm() -> None:
    """To know a server none is asked for /health (LiteLLM asks every model), /metrics or /slots (llama.cpp wakes)."""
    fetch = Recording("openai")
    del fetch.pages["/v1/models"]
    assert kinds.recognise(fetch) is None
    assert not {path for path in fetch.asked if path.startswith(("/health", "/metrics", "/slots"))} - {
        "/health/readiness"
    }


def test_every_kind_can_be_configured() -> None:
    """The files of the folder, the kinds that are recognised and those of the configuration are the same."""
    assert set(kinds.names()) == set(SERVERS.values()) == set(kinds._ORDER)
    assert set(kind_names()) == {*kinds.names(), "auto", *NOT_POLLED}


@pytest.mark.parametrize("folder", SERVERS)
def test_metrics_off_asks_for_no_metrics(folder: str) -> None:
    """With metrics: off no kind asks for a page of metrics or slots; the models stay known."""
    fetch = Recording(folder)
    found = kinds.backend(SERVERS[folder]).snapshot(fetch, Care("off"))
    assert not [path for path in fetch.asked if path.startswith(("/metrics", "/slots"))]
    if folder not in ("triton", "triton-2.40"):
        assert [model.name for model in found.models] == [model.name for model in snapshot(folder).models]
