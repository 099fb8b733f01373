from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from modelhost_exporter.config.servers import NOT_POLLED, kind_names
from modelhost_exporter.engines import kinds
from modelhost_exporter.engines.pages import NotServed, PollPolicy
from tests.engines.kinds.captured import snapshot
from tests.engines.kinds.imitations import IMITATIONS, LOCKED
from tests.support.pages import SERVERS, Recording, pages

if TYPE_CHECKING:
    from modelhost_exporter.engines.pages import Fetch

MAX_REQUESTS = 11
"""Pages that detection requests of a server at most."""
HARMFUL = ("/metrics", "/slots", "/health", "/upstream", "/perf_metrics", "/prometheus", "/engines/requests")
HARMLESS = {"/health/liveliness"}


def served(answers: dict[str, bytes], otherwise: int = 404) -> Fetch:
    """Return a fetch of these pages; any other page has this status."""

    def fetch(path: str) -> bytes:
        if path in answers:
            return answers[path]
        if otherwise == 200:
            return b"<!doctype html><title>It works!</title>"
        raise NotServed(f"{path} answers {otherwise}", otherwise)

    return fetch


@pytest.mark.parametrize("folder", SERVERS)
def test_the_kind_of_a_server_is_detected(folder: str) -> None:
    """Every captured server, of every version, is detected as its kind from the whole set of its pages."""
    assert kinds.detect(served(pages(folder))) == SERVERS[folder]


@pytest.mark.parametrize("folder", [folder for folder, kind in SERVERS.items() if not kinds.is_generic(kind)])
def test_a_kind_is_detected_whatever_other_paths_respond(folder: str) -> None:
    """A reverse proxy that serves a page of its own for unknown paths hides nothing."""
    assert kinds.detect(served(pages(folder), 200)) == SERVERS[folder]


@pytest.mark.parametrize("imitation", IMITATIONS)
def test_an_imitation_is_not_taken_for_the_original(imitation: str) -> None:
    """Servers with pages of other engines are detected by what only they have, or as nothing at all."""
    kind, answers = IMITATIONS[imitation]
    encoded = {path: page if isinstance(page, bytes) else json.dumps(page).encode() for path, page in answers.items()}
    assert kinds.detect(served(encoded)) == kind


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("folder", LOCKED)
def test_a_server_that_requires_a_key(folder: str, status: int) -> None:
    """With a key on all but its public pages, a server is detected from those, or not at all: never as another kind."""
    public, kind = LOCKED[folder]
    fetch = served({path: body for path, body in pages(folder).items() if path in public}, status)
    asked: set[str] = set()
    assert kinds.detect(lambda path: asked.add(path) or fetch(path)) == kind  # type: ignore[func-returns-value]
    assert len(asked) <= MAX_REQUESTS


def test_a_server_that_answers_anything_with_a_page_is_none() -> None:
    """A web server that responds 200 and HTML to every path has no kind."""
    assert kinds.detect(served({}, 200)) is None


@pytest.mark.parametrize("page", [b"{}", b"[]", b"null", b'"ok"', b'{"error":"Unexpected endpoint or method."}'])
def test_a_server_that_answers_anything_with_json_is_none(page: bytes) -> None:
    """A server that responds 200 and the same JSON to every path has no kind."""
    assert kinds.detect(lambda _path: page) is None


@pytest.mark.parametrize("folder", SERVERS)
def test_detection_requests_few_and_harmless_pages(folder: str) -> None:
    """Detection requests no page that calls, loads or wakes a model, or that returns each entry once."""
    fetch = Recording(folder)
    kinds.detect(fetch)
    assert not {path for path in fetch.asked if path.startswith(HARMFUL)} - HARMLESS
    assert len(set(fetch.asked)) <= MAX_REQUESTS


def test_an_engine_that_names_itself_is_detected_from_one_page() -> None:
    """Where the list of models names the engine, no other page is requested."""
    for folder in (
        "llama-server-pages",
        "vllm",
        "sglang",
        "lmdeploy",
        "trtllm",
        "mistralrs",
        "koboldcpp",
        "lemonade",
        "docker",
        "llama-swap",
    ):
        fetch = Recording(folder)
        kinds.detect(fetch)
        assert set(fetch.asked) == {"/v1/models"}


def test_every_kind_can_be_configured() -> None:
    """Every kind has a capture, and every kind is a value of ``kind:`` in the configuration."""
    assert set(kinds.names()) == set(SERVERS.values())
    assert set(kind_names()) == {*kinds.names(), "auto", *NOT_POLLED}


def test_no_two_kinds_have_the_same_place() -> None:
    """The order of detection does not depend on the names of files."""
    places: list[Any] = [kinds.engine_kind(name).PRIORITY for name in kinds.names()]
    assert len(places) == len(set(places))


@pytest.mark.parametrize("folder", SERVERS)
def test_metrics_off_asks_for_no_metrics(folder: str) -> None:
    """With metrics: off no kind asks for a page of metrics or slots; the models stay known."""
    fetch = Recording(folder)
    found = kinds.engine_kind(SERVERS[folder]).snapshot(fetch, PollPolicy("off"))
    assert not [path for path in fetch.asked if path.startswith(("/metrics", "/slots", "/prometheus"))]
    if SERVERS[folder] != "triton":
        assert [model.name for model in found.models] == [model.name for model in snapshot(folder).models]
