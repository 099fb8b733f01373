"""Tests of states that are logged once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from modelhost_exporter.logs.state_log import StateLog


def test_a_state_is_due_when_it_begins_and_when_it_ends() -> None:
    """Repeated reports of the same state are not; neither is the initial one."""
    log = StateLog(initial=False)
    assert [log.changed(state) for state in (False, True, True, False, False, True)] == [
        False,
        True,
        False,
        True,
        False,
        True,
    ]


def test_an_unknown_state_is_due_whatever_it_is() -> None:
    """Without a known initial state the first report is logged."""
    log: StateLog[bool | None] = StateLog(initial=None)
    assert [log.changed(state) for state in (False, False, True)] == [True, False, True]


def test_keys_have_states_of_their_own() -> None:
    """A report for one key does not affect the others."""
    log = StateLog("ok")
    assert log.changed("failed", "a")
    assert log.changed("failed", "b")
    assert log.changed("ok", "a")
    assert log.states() == {"b": "failed"}


def test_the_number_of_keys_is_bounded() -> None:
    """Further keys are not logged until another has returned to the initial state."""
    log = StateLog(initial=False, max_keys=2)
    assert [log.changed(state=True, key=key) for key in range(4)] == [True, True, False, False]
    assert not log.changed(state=False, key=3)
    assert log.changed(state=False, key=0)
    assert log.changed(state=True, key=3)
    assert set(log.states()) == {1, 3}


def test_one_of_several_threads_logs_a_change() -> None:
    """Simultaneous reports of one change are logged once."""
    log = StateLog(initial=False)
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda _: log.changed(state=True), range(200))) == 1
