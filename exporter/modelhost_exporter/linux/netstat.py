"""Counters of network protocols from /proc/net/snmp, netstat and snmp6, and sockets from sockstat."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from modelhost_exporter.linux.kernel_files import count

if TYPE_CHECKING:
    from collections.abc import Collection

Key = tuple[str, str]
"""A protocol and the kernel's name of a number."""
Counters = dict[Key, int]
"""Numbers by protocol and the kernel's name."""


def parse_pairs(text: str, wanted: Collection[Key] | None = None) -> Counters:
    """Parse snmp and netstat: for each protocol a line of names, then one of numbers. Invalid numbers are left out.

    ``wanted``: the protocols and names to parse, of the hundreds that there are (None: all).
    """
    protocols = None if wanted is None else tuple({f"{protocol}:" for protocol, _ in wanted})
    chosen = [line for line in text.split("\n") if protocols is None or line.startswith(protocols)]
    lines = list(filter(None, map(str.split, chosen)))
    return dict(
        pair
        for names, numbers in pairwise(lines)
        if names[:1] == numbers[:1]
        for protocol in [names[0].removesuffix(":")]
        for name, number in zip(names[1:], numbers[1:], strict=False)
        if wanted is None or (protocol, name) in wanted
        for pair in _entry(protocol, name, number)
    )


def parse_snmp6(text: str, wanted: Collection[Key] | None = None) -> Counters:
    """Parse snmp6, whose lines have a name such as ``Udp6InErrors`` and a number."""
    lines = [line.split() for line in text.split("\n")]
    return dict(
        pair
        for words in lines
        if len(words) == 2 and "6" in words[0]  # noqa: PLR2004 - name and number
        for protocol, _, name in [words[0].partition("6")]
        if wanted is None or (f"{protocol}6", name) in wanted
        for pair in _entry(f"{protocol}6", name, words[1])
    )


def parse_sockstat(text: str) -> Counters:
    """Parse sockstat and sockstat6: on each line a protocol, then names and numbers in turn."""
    lines = filter(None, map(str.split, text.split("\n")))
    return dict(
        pair
        for protocol, *words in lines
        for name, number in zip(words[::2], words[1::2], strict=False)
        for pair in _entry(protocol.removesuffix(":"), name, number)
    )


def _entry(protocol: str, name: str, number: str) -> list[tuple[tuple[str, str], int]]:
    try:
        return [((protocol, name), count(number))]
    except ValueError:
        return []


def total(counters: Counters, protocols: tuple[str, ...], name: str) -> int | None:
    """Return the sum over protocols; None where the kernel reports it for none."""
    found = [counters[protocol, name] for protocol in protocols if (protocol, name) in counters]
    return sum(found) if found else None
