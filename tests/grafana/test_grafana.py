"""Where a Grafana is reachable: the dashboards are there as committed, and its datasource answers every query.

``GRAFANA_URL`` is its address, such as ``http://admin:secret@127.0.0.1:3000``, with the dashboards provisioned.
"""

from __future__ import annotations

import base64
import json
import os
import time
import urllib.parse
import urllib.request
from typing import Any

import pytest

from tests.grafana.boards import BOARDS
from tools import dashboard_queries as asking
from tools.dashboard_queries import View

GRAFANA_URL = os.environ.get("GRAFANA_URL", "")

pytestmark = pytest.mark.skipif(not GRAFANA_URL, reason="GRAFANA_URL names no Grafana")

boards = pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS.keys())


def call(path: str, body: Any = None) -> Any:
    """Return the JSON response of Grafana's API; HTTPError for an error status."""
    address = urllib.parse.urlsplit(GRAFANA_URL)
    url = f"{address.scheme}://{address.hostname}:{address.port or 80}{address.path.rstrip('/')}/api/{path}"
    request = urllib.request.Request(url, json.dumps(body).encode() if body else None)  # noqa: S310 - the address is the user's
    if address.username:
        user = f"{urllib.parse.unquote(address.username)}:{urllib.parse.unquote(address.password or '')}"
        request.add_header("Authorization", f"Basic {base64.b64encode(user.encode()).decode()}")
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=30) as reply:  # noqa: S310 - likewise
        return json.load(reply)


@boards
def test_it_is_provisioned(board: dict[str, Any]) -> None:
    """Grafana has the dashboard under its uid, from a file, with every panel."""
    found = call(f"dashboards/uid/{board['uid']}")
    assert found["meta"]["provisioned"] is True
    assert [panel["title"] for panel in found["dashboard"]["panels"]] == [panel["title"] for panel in board["panels"]]


def test_the_home_page_is_the_overview() -> None:
    """The home dashboard of Grafana is the Overview."""
    home = call("dashboards/home")
    assert home["dashboard"]["title"] == BOARDS["overview"]["title"]


@boards
def test_its_datasource_answers_every_panel(board: dict[str, Any]) -> None:
    """Through Grafana's own query API no panel's query fails."""
    end = time.time()
    view = View(end - 900, end)
    source = {"type": "prometheus", "uid": "modelhost-prometheus"}
    for question in asking.questions(board):
        if question.kind != "panel":
            continue
        query = {"refId": "A", "datasource": source, "expr": asking.filled(question, view), "instant": question.instant}
        query |= {"range": not question.instant, "intervalMs": 15000, "maxDataPoints": question.points}
        period = {"from": str(int(view.start * 1000)), "to": str(int(view.end * 1000))}
        answer = call("ds/query", {"queries": [query], **period})["results"]["A"]
        assert answer["status"] == 200, (question, answer)
