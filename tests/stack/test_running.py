"""Programs of the stack: start, wait, watch and stop, with every failure."""

from __future__ import annotations

import socket
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from stack.running import Program, Running, StackError
from tests.support.programs import free_port, wait_until

if TYPE_CHECKING:
    from pathlib import Path

SERVE = "import sys, http.server as h; h.HTTPServer(('127.0.0.1', {port}), h.SimpleHTTPRequestHandler).serve_forever()"


def program(code: str, port: int, name: str = "prometheus") -> Program:
    """Return a program of one line of Python that listens on a port."""
    command = [sys.executable, "-c", code.format(port=port)]
    return Program(name, command, ("127.0.0.1", port), f"http://127.0.0.1:{port}/")


def answers(port: int) -> bool:
    """Return whether something listens on a port."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def test_programs_answer_after_the_wait_and_are_gone_after_the_context(tmp_path: Path) -> None:
    """Programs respond after the wait and have ended after the context."""
    ports = [free_port(), free_port()]
    with Running(tmp_path, lambda: False) as running:
        for number, port in enumerate(ports):
            one = program(SERVE, port, f"program{number}")
            running.start(one)
            running.wait_until_ready(one)
        assert [answers(port) for port in ports] == [True, True]
    assert [answers(port) for port in ports] == [False, False]


def test_a_port_that_is_taken_is_named_with_the_flag_that_takes_another(tmp_path: Path) -> None:
    """The error for a port in use contains the flag to choose another."""
    with socket.create_server(("127.0.0.1", 0)) as taken, Running(tmp_path, lambda: False) as running:
        port = taken.getsockname()[1]
        with pytest.raises(StackError, match=f"prometheus: 127.0.0.1:{port} is in use; .* --prometheus-port"):
            running.start(program(SERVE, port))


def test_a_program_that_ends_before_it_answers_is_reported_with_its_last_words(tmp_path: Path) -> None:
    """A program that ends before it responds is reported with the end of its log."""
    with Running(tmp_path, lambda: False) as running:
        one = program("import sys; print('no such setting', file=sys.stderr); sys.exit(3)", free_port())
        running.start(one)
        with pytest.raises(StackError, match=r"(?s)prometheus ended with exit code 3.*no such setting"):
            running.wait_until_ready(one)


def test_a_program_that_stays_silent_is_reported(tmp_path: Path) -> None:
    """A program that does not respond is reported."""
    with Running(tmp_path, lambda: False) as running:
        one = program("import threading; threading.Event().wait()", free_port())
        running.start(one)
        with pytest.raises(StackError, match=r"prometheus does not answer at http://127.0.0.1"):
            running.wait_until_ready(one, seconds=0.3)


def test_a_program_that_cannot_be_executed_is_reported(tmp_path: Path) -> None:
    """A program that cannot be executed is reported."""
    missing = Program("grafana", [tmp_path / "grafana"], ("127.0.0.1", free_port()), "http://127.0.0.1/")
    with Running(tmp_path, lambda: False) as running, pytest.raises(StackError, match=r"grafana: .*No such file"):
        running.start(missing)


def test_a_program_that_ends_later_ends_the_watch_and_the_others(tmp_path: Path) -> None:
    """A program that ends later ends the watch and the others."""
    stays, goes = program(SERVE, free_port(), "stays"), program("input()", free_port(), "goes")
    with Running(tmp_path, lambda: False) as running:
        running.start(stays)
        running.wait_until_ready(stays)
        running.start(goes)
        with pytest.raises(StackError, match="goes ended"):
            running.watch()
    assert not answers(stays.address[1])


def test_a_program_that_ignores_the_stop_is_killed(tmp_path: Path) -> None:
    """A program that ignores the stop is killed."""
    port = free_port()
    stubborn = program(f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SERVE}", port)
    with Running(tmp_path, lambda: False, stop_seconds=0.2) as running:
        running.start(stubborn)
        running.wait_until_ready(stubborn)
    assert not answers(port)


def test_a_stop_while_a_program_is_waited_for_ends_the_wait_without_an_error(tmp_path: Path) -> None:
    """A stop while a program is waited for ends the wait without an error."""
    stopped = threading.Event()
    one = program("import threading; threading.Event().wait()", free_port())
    with Running(tmp_path, stopped.is_set) as running:
        running.start(one)
        waiting = threading.Thread(target=running.wait_until_ready, args=(one,))
        waiting.start()
        stopped.set()
        wait_until(lambda: not waiting.is_alive(), "the wait to end")
        running.watch()  # returns at once
