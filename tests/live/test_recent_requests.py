"""/api/requests: the requests in progress and the last finished ones."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import signal
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from modelhost_exporter.config.model import Config
from modelhost_exporter.live.recent_requests import ERROR, IN_PROGRESS, OUTCOMES, RequestQuery
from modelhost_exporter.requests.observation import RequestLabels, RequestObservation, Tokens
from modelhost_exporter.requests.recent import RecentRequests
from modelhost_exporter.requests.running import RunningRequests
from modelhost_exporter.requests.settings import RequestOptions
from tests.live.client import Connection, get
from tests.support.programs import fetch
from tests.support.stand_in import standing_in, status

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from modelhost_exporter.requests.observation import Outcome
    from tests.conftest import StartExporter
    from tests.live.conftest import Serve, Served

FIELDS = {
    **dict.fromkeys(
        ("time", "server", "model", "operation", "state", "outcome", "code", "finishReason", "client"), str
    ),
    **dict.fromkeys(("timeToFirstToken", "duration", "tokensPerSecond"), float),
    **dict.fromkeys(("inputTokens", "outputTokens"), int),
}
SECRETS = ("sk-marked-key", "marked prompt", "marked answer", "marked-query", "marked-agent", "127.0.0.1")


def finished(model: str = "m", outcome: Outcome = "ok", server: str = "s", **more: Any) -> RequestObservation:
    """Return a finished request."""
    labels = RequestLabels(server, model, "chat")
    return RequestObservation(labels, stream=True, outcome=outcome, code="200", duration=1.5, **more)


def models(served: Any) -> list[str]:
    """Return the models of a response."""
    return [row["model"] for row in served["requests"]]


@pytest.fixture
async def served(serve: Serve) -> Served:
    """Serve one request in progress and three finished ones."""
    served = await serve()
    source = served.source
    source.running_requests.enter("key", RequestLabels("s", "a", "chat"), "waiting")
    for observed in (finished("a"), finished("b", "server_error"), finished("a", "client_error", "t")):
        source.recent_requests.add(observed)
    return served


async def test_the_fields_are_those_of_the_documentation(serve: Serve) -> None:
    """Times in ms, tokens as counted, the reason why the output ended; null while a request is in progress."""
    served = await serve()
    observed = finished(
        time_to_first_token=0.25,
        time_per_output_token=0.02,
        tokens=Tokens(input=30, output=40),
        finish_reasons=("stop", "length", "stop"),
    )
    served.source.recent_requests.add(observed)
    served.source.running_requests.enter("key", RequestLabels("s", "m", "chat"), "streaming")
    code, answer = await get(served.address, "/api/requests")
    assert code == 200
    running, row = answer["requests"]
    for each in (running, row):
        assert each.keys() == FIELDS.keys()
        assert {name for name, value in each.items() if not isinstance(value, (FIELDS[name], int, type(None)))} == set()
    assert row.pop("time").endswith("Z")
    assert row == {
        "server": "s",
        "model": "m",
        "operation": "chat",
        "state": "finished",
        "outcome": "ok",
        "code": "200",
        "timeToFirstToken": 250,
        "duration": 1500,
        "inputTokens": 30,
        "outputTokens": 40,
        "tokensPerSecond": 50,
        "finishReason": "length, stop",
        "client": None,
    }
    assert (running["state"], running["outcome"], running["code"]) == ("streaming", None, None)
    assert running["duration"] >= 0


def test_times_are_when_a_request_was_received() -> None:
    """Counted back from its end, or from now for one that is in progress."""
    running, recent = RunningRequests(clock=iter((5.0, 7.5)).__next__), RecentRequests(now=lambda: 100.0)
    running.enter("key", RequestLabels("s", "m", "chat"), "waiting")
    recent.add(finished())
    rows = json.loads(RequestQuery().encoded(running, recent, now=lambda: 110.0))["requests"]
    assert [(row["time"], row["duration"]) for row in rows] == [
        ("1970-01-01T00:01:47.500Z", 2500),
        ("1970-01-01T00:01:38.500Z", 1500),
    ]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["s/a", "t/a", "s/b", "s/a"]),
        ("?model=&outcome=&limit=&format=", ["s/a", "t/a", "s/b", "s/a"]),
        ("?model=a", ["s/a", "t/a", "s/a"]),
        ("?model=t/a", ["t/a"]),
        ("?model=c", []),
        (f"?outcome={IN_PROGRESS}", ["s/a"]),
        (f"?outcome={ERROR}", ["t/a", "s/b"]),
        ("?outcome=client_error", ["t/a"]),
        ("?outcome=ok", ["s/a"]),
        ("?outcome=ok&model=s/b", []),
        ("?limit=2", ["s/a", "t/a"]),
        ("?limit=0", []),
    ],
)
async def test_requests_are_filtered(served: Served, query: str, expected: Sequence[str]) -> None:
    """By model and outcome; those in progress come first, then the newest."""
    code, answer = await get(served.address, f"/api/requests{query}")
    assert code == 200
    assert [f"{row['server']}/{row['model']}" for row in answer["requests"]] == expected


@pytest.mark.parametrize("outcome", OUTCOMES)
async def test_every_outcome_can_be_wanted(served: Served, outcome: Outcome) -> None:
    """By its name in the metrics."""
    served.source.recent_requests.add(finished("wanted", outcome))
    _, answer = await get(served.address, f"/api/requests?outcome={outcome}&model=wanted")
    assert models(answer) == ["wanted"]


@pytest.mark.parametrize("query", ["outcome=bad", "format=xml", "limit=-1", "limit=1e3", "limit=99999", "limit=%C2%B2"])
async def test_an_invalid_query_is_an_error(served: Served, query: str) -> None:
    """Its text says what is valid."""
    code, answer = await get(served.address, f"/api/requests?{query}")
    assert code == 400
    assert answer["error"].startswith(f"{query.partition('=')[0]} must be ")


async def _table(address: str, query: str = "") -> list[list[str]]:
    async with Connection(address) as connection:
        code, head = await connection.ask(f"/api/requests?format=csv{query}")
        assert code == 200
        assert "Content-Type: text/csv; charset=utf-8" in head
        assert 'Content-Disposition: attachment; filename="requests.csv"' in head
        assert "Cache-Control: no-store" in head
        assert "X-Content-Type-Options: nosniff" in head
        return list(csv.reader(io.StringIO((await connection.body(head)).decode(), newline="")))


async def test_a_table_has_the_same_rows(served: Served) -> None:
    """With the names of the fields in its first line, and empty cells for null."""
    _, answer = await get(served.address, "/api/requests?outcome=error")
    first, *rows = await _table(served.address, "&outcome=error")
    assert first == list(answer["requests"][0])
    assert rows == [["" if value is None else str(value) for value in row.values()] for row in answer["requests"]]


@pytest.mark.parametrize("name", ["=1+2", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\uff1d1", '=HYPERLINK("x")'])
async def test_no_cell_is_a_formula(serve: Serve, name: str) -> None:
    """Names come from clients, and tables are opened in spreadsheet programs."""
    served = await serve()
    served.source.recent_requests.add(finished(name))
    served.source.recent_requests.add(finished('a,"b"\nc'))
    header, other, row = await _table(served.address)
    assert row[header.index("model")] == f"'{name}"
    assert other[header.index("model")] == 'a,"b"\nc'


async def test_switched_off_there_is_nothing(serve: Serve) -> None:
    """404, with the key that switches it on."""
    served = await serve()
    served.source.config = Config(live=served.source.config.live, requests=RequestOptions(recent=False))
    assert await get(served.address, "/api/requests") == (404, {"error": "recent requests are off (requests.recent)"})


async def test_without_a_free_thread_it_is_unavailable(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """503, as for the history."""

    async def no_thread(_call: object) -> bytes:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("modelhost_exporter.threads.call", no_thread)
    assert await get(served.address, "/api/requests") == (503, {"error": "can't start new thread"})


ANSWER = json.dumps(
    {
        "object": "chat.completion",
        "model": "tiny",
        "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "marked answer"}}
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 40, "total_tokens": 43},
    }
).encode()
PATH = "/v1/chat/completions?key=marked-query"


async def test_a_real_exporter_shows_no_secret_and_can_be_switched_off(
    start_exporter: StartExporter, tmp_path: Path
) -> None:
    """Neither keys, prompts, responses, queries nor addresses; a reload switches it off, and forgets."""
    file = tmp_path / "config.yaml"
    file.write_text("")
    with standing_in({PATH: status(200, ANSWER, **{"Content-Type": "application/json"})}) as upstream:
        exporter = start_exporter(f"--config.file={file}", f"--proxy=it=127.0.0.1:0={upstream.url}")
        url = json.loads(next(line for line in exporter.lines if '"msg": "proxying"' in line))["url"] + PATH
        body = json.dumps({"model": "tiny", "messages": [{"role": "user", "content": "marked prompt"}]}).encode()
        headers = {
            "Content-Type": "application/json",
            "Authorization": "Bearer sk-marked-key",
            "X-Api-Key": "sk-marked-key",
            "User-Agent": "marked-agent",
            "X-Forwarded-For": "127.0.0.1",
        }
        for _ in range(3):
            wanted = urllib.request.Request(url, body, headers)  # noqa: S310 - our own
            assert await asyncio.to_thread(fetch, wanted) == ANSWER
    page = f"http://{exporter.address}/api/requests"
    texts = [(await asyncio.to_thread(fetch, f"{page}?format={name}")).decode() for name in ("json", "csv")]
    assert [row["outputTokens"] for row in json.loads(texts[0])["requests"]] == [40, 40, 40]
    assert [(secret, text) for secret in SECRETS for text in texts if secret in text] == []
    for recent, expected in (("false", 404), ("true", 200)):
        file.write_text(f"requests: {{recent: {recent}}}\n")
        exporter.process.send_signal(signal.SIGHUP)
        await asyncio.to_thread(exporter.wait_for_message, "configuration reloaded")
        code, answer = await get(exporter.address, "/api/requests")
        assert code == expected
    assert answer == {"requests": []}
