"""The same streams, transfers, WebSockets and clients that leave, with TLS between the client and the proxy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.proxy.test_authentication import (
    held,
    test_a_body_waits_for_a_password,
    test_a_client_that_leaves_meanwhile_is_forgotten,
    test_an_accepted_client_gets_its_100,
)
from tests.proxy.test_flow import (
    test_a_cut_reply_to_an_old_client_is_a_reset,
    test_a_hundred_megabytes_stream_through,
    test_a_reply_that_streams_while_the_body_comes,
    test_a_slow_client_slows_the_server,
    test_a_slow_server_slows_the_client,
    test_an_early_answer_is_passed_on,
    test_connections_are_kept_on_both_sides,
    test_each_piece_arrives_before_the_next_is_sent,
    test_many_streams_run_at_once,
    test_stopping_ends_what_runs,
)
from tests.proxy.test_leaving_clients import test_a_client_that_leaves_during_the_stream
from tests.proxy.test_repeated_heads import parsed, test_a_repeated_head_is_forwarded_with_its_own_length
from tests.proxy.test_websocket import (
    test_a_message_beyond_the_limit_ends_the_websocket,
    test_messages_go_both_ways,
    test_messages_within_the_limit_pass,
)

if TYPE_CHECKING:
    from modelhost_exporter.security.tls_settings import TlsServer
    from tests.proxy.conftest import Proxied, StartProxied
    from tests.proxy.upstream import Script
    from tests.support.certificates import Authority

__all__ = [
    "held",
    "parsed",
    "test_a_body_waits_for_a_password",
    "test_a_client_that_leaves_during_the_stream",
    "test_a_client_that_leaves_meanwhile_is_forgotten",
    "test_a_cut_reply_to_an_old_client_is_a_reset",
    "test_a_hundred_megabytes_stream_through",
    "test_a_message_beyond_the_limit_ends_the_websocket",
    "test_a_repeated_head_is_forwarded_with_its_own_length",
    "test_a_reply_that_streams_while_the_body_comes",
    "test_a_slow_client_slows_the_server",
    "test_a_slow_server_slows_the_client",
    "test_an_accepted_client_gets_its_100",
    "test_an_early_answer_is_passed_on",
    "test_connections_are_kept_on_both_sides",
    "test_each_piece_arrives_before_the_next_is_sent",
    "test_many_streams_run_at_once",
    "test_messages_go_both_ways",
    "test_messages_within_the_limit_pass",
    "test_stopping_ends_what_runs",
]


@pytest.fixture
def start_proxied(start_proxied: StartProxied, authority: Authority, listener_tls: TlsServer) -> StartProxied:
    """Give a function that starts proxies to which clients connect with TLS."""

    async def start(script: Script, **settings: Any) -> Proxied:
        proxied = await start_proxied(script, **{"listener_tls": listener_tls, **settings})
        proxied.client_tls = authority.client()
        return proxied

    return start
