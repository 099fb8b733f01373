"""Recent requests in the demo."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.demo.conftest import START

if TYPE_CHECKING:
    from tests.demo.conftest import MakeHost


def test_the_demo_has_recent_requests(make_host: MakeHost) -> None:
    """Those that finished, and exactly those in progress that the gauge counts."""
    host = make_host()
    host.advance(START + 120)
    recent, running = host.service.recent_requests.newest_first(), host.service.running_requests.longest_first()
    assert {request.observed.outcome for request in recent} >= {"ok"}
    assert any(request.observed.tokens.output for request in recent)
    gauges = host.service.registry.collect()
    counted = sum(s.value for f in gauges for s in f.samples if s.name == "modelhost_requests_in_flight")
    assert len(running) == counted > 0
