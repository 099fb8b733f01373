from __future__ import annotations

import asyncio
import base64
from functools import partial
from typing import TYPE_CHECKING

import bcrypt
import pytest

from modelhost_exporter.security import passwords
from modelhost_exporter.security.authentication import AnyOf, ClientIdentity, Credentials, Refusal
from modelhost_exporter.security.passwords import MAX_WAITING, MAX_WAITING_PER_CLIENT, Passwords, is_hash

if TYPE_CHECKING:
    from collections.abc import Callable


def hashed(password: bytes) -> str:
    """Return a cheap bcrypt hash."""
    return bcrypt.hashpw(password, bcrypt.gensalt(4)).decode()


SECRET = "$2b$04$fTbyn9q/VPV69rmQSXiq7Oj1JIXxDs7l7g5JQM8FbY6O22E2heCbu"  # noqa: S105 - the hash of "secret"


def basic(user: str, password: bytes, client: str = "192.0.2.1") -> Credentials:
    """Return the credentials of a request with a password."""
    value = b"Basic " + base64.b64encode(user.encode() + b":" + password)
    return Credentials([(b"Authorization", value)], client)


class Counted:
    """bcrypt, with the hashes that passwords were compared with."""

    def __init__(self, compare: Callable[[bytes, bytes], bool] = passwords.matches) -> None:
        self.calls: list[tuple[bytes, bytes]] = []
        self._compare = compare

    def __call__(self, password: bytes, hashed: bytes) -> bool:
        """Compare and count."""
        self.calls.append((password, hashed))
        return self._compare(password, hashed)


async def decided(checked: Passwords, credentials: Credentials) -> ClientIdentity | Refusal:
    """Return the decision, whether it needs time or not."""
    decision = AnyOf([checked]).check(credentials)
    return decision if isinstance(decision, ClientIdentity | Refusal) else await decision


async def test_the_right_password_is_accepted_and_checked_once() -> None:
    """The result of bcrypt is kept: the second request costs nothing."""
    compared = Counted()
    checked = Passwords(lambda: {"alice": SECRET}, compared)
    for _ in range(3):
        assert await decided(checked, basic("alice", b"secret")) == ClientIdentity("alice", "basic")
    assert isinstance(checked.check(basic("alice", b"secret")), ClientIdentity)
    assert len(compared.calls) == 1


@pytest.mark.parametrize(("user", "name"), [("alice", "alice"), ("mallory", ""), ("", "")])
async def test_an_unknown_user_costs_as_much_as_a_wrong_password(user: str, name: str) -> None:
    """Each attempt is one comparison, also with the hash of someone else; the answer is the same."""
    compared = Counted()
    checked = Passwords(lambda: {"alice": SECRET}, compared)
    for attempt in (b"one", b"two", b"two"):
        refused = await decided(checked, basic(user, attempt))
        assert isinstance(refused, Refusal)
        assert (refused.text, refused.status, refused.name) == ("wrong user or password", 401, name)
        assert refused.challenges == (passwords.CHALLENGE,)
    assert [password for password, _ in compared.calls] == [b"one", b"two"]
    assert {of for _, of in compared.calls} == {SECRET.encode()}


async def test_an_unknown_user_is_refused_with_the_password_of_another() -> None:
    """The hash that an unknown user is compared with is someone's: the right password for it does not help."""
    checked = Passwords(lambda: {"alice": SECRET})
    assert isinstance(await decided(checked, basic("bob", b"secret")), Refusal)
    assert isinstance(await decided(checked, basic("bob", b"secret")), Refusal)


async def test_a_user_who_is_removed_is_refused_at_once() -> None:
    """What was accepted before does not count for a user who is now unknown, also where the hash is still there."""
    users = {"alice": SECRET}
    checked = Passwords(lambda: users)
    assert isinstance(await decided(checked, basic("alice", b"secret")), ClientIdentity)
    users = {"carol": SECRET}
    assert isinstance(await decided(checked, basic("alice", b"secret")), Refusal)
    assert await decided(checked, basic("carol", b"secret")) == ClientIdentity("carol", "basic")


async def test_a_changed_password_replaces_the_old_one() -> None:
    """Results belong to a hash."""
    users = {"alice": SECRET}
    checked = Passwords(lambda: users)
    assert isinstance(await decided(checked, basic("alice", b"secret")), ClientIdentity)
    users = {"alice": hashed(b"new")}
    assert isinstance(await decided(checked, basic("alice", b"secret")), Refusal)
    assert isinstance(await decided(checked, basic("alice", b"new")), ClientIdentity)


async def test_passwords_are_compared_one_at_a_time_and_in_turn() -> None:
    """A client with many attempts does not delay the first one of another; equal attempts share a comparison."""
    running, most, order = 0, 0, []

    def compare(password: bytes, _hashed: bytes) -> bool:
        nonlocal running, most
        running += 1
        most = max(most, running)
        order.append(password)
        running -= 1
        return False

    checked = Passwords(lambda: {"alice": SECRET}, compare)
    guesses = [basic("alice", b"guess %d" % number, "192.0.2.1") for number in range(MAX_WAITING_PER_CLIENT)]
    others = [basic("alice", b"other", "192.0.2.2"), basic("alice", b"other", "192.0.2.3")]
    await asyncio.gather(*(decided(checked, each) for each in (*guesses, *others)))
    assert most == 1
    assert order == [b"guess 0", b"other", b"guess 1", b"guess 2", b"guess 3"]


async def test_attempts_that_wait_are_bounded() -> None:
    """Of each client, and of all together; further ones are refused without a comparison."""
    compared = Counted(lambda _password, _hashed: False)
    checked = Passwords(lambda: {"alice": SECRET}, compared)
    one_client = [decided(checked, basic("alice", b"%d" % number)) for number in range(MAX_WAITING_PER_CLIENT + 3)]
    refused = [each for each in await asyncio.gather(*one_client) if isinstance(each, Refusal)]
    assert [each.status for each in refused].count(429) == 3

    compared.calls.clear()
    many = [
        decided(checked, basic("alice", b"x%d" % number, f"2001:db8:{number:x}::/64"))
        for number in range(MAX_WAITING + 5)
    ]
    refused = [each for each in await asyncio.gather(*many) if isinstance(each, Refusal)]
    assert [each.status for each in refused].count(429) == 5
    assert len(compared.calls) == MAX_WAITING


async def test_refused_attempts_do_not_displace_accepted_ones() -> None:
    """A flood of guesses costs those who are known nothing."""
    compared = Counted(lambda password, _hashed: password == b"secret")
    checked = Passwords(lambda: {"alice": SECRET}, compared)
    await decided(checked, basic("alice", b"secret"))
    for number in range(600):
        await decided(checked, basic("alice", b"%d" % number))
    assert isinstance(checked.check(basic("alice", b"secret")), ClientIdentity)
    assert len(checked._refused) == 256


async def test_without_a_thread_the_client_may_try_again() -> None:
    """A shortage is no wrong password."""

    def compare(_password: bytes, _hashed: bytes) -> bool:
        raise RuntimeError("can't start new thread")

    checked = Passwords(lambda: {"alice": SECRET}, compare)
    refused = await decided(checked, basic("alice", b"secret"))
    assert isinstance(refused, Refusal)
    assert (refused.status, refused.retry_after) == (503, 1.0)
    assert not checked._attempts


async def test_a_client_that_leaves_does_not_stop_the_others() -> None:
    """A comparison goes on when the request that began it is cancelled."""
    checked = Passwords(lambda: {"alice": SECRET})
    first, second = (asyncio.ensure_future(decided(checked, basic("alice", b"secret"))) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert isinstance(await second, ClientIdentity)


@pytest.mark.parametrize("length", [71, 72, 73, 5000])
async def test_the_first_72_bytes_of_a_password_count(length: int) -> None:
    """As in every bcrypt; longer passwords are no error."""
    users = {"alice": hashed((b"x" * length)[:72])}
    assert isinstance(await decided(Passwords(lambda: users), basic("alice", b"x" * length)), ClientIdentity)


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        (SECRET, True),
        (SECRET.replace("$2b$", "$2y$"), True),
        (SECRET.replace("$2b$", "$2a$"), True),
        (SECRET.replace("$04$", "$32$"), False),
        (SECRET.replace("$04$", "$03$"), False),
        (SECRET[:-1], False),
        (SECRET + "x", False),
        (SECRET + "\n", False),
        ("doe", False),
        ("", False),
        ("$1$abc$defghijk", False),
    ],
)
def test_hashes(text: str, valid: bool) -> None:
    """The versions 2a, 2b, 2x and 2y, of a cost that exists."""
    assert is_hash(text) is valid


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"Authorization", b"")],
        [(b"Authorization", b"Basic")],
        [(b"Authorization", b"Basic !!!")],
        [(b"Authorization", b"Basic " + base64.b64encode(b"no colon"))],
        [(b"Authorization", b"Basic " + base64.b64encode(b"\xff:x"))],
        [(b"Authorization", b"Bearer abc")],
        [(b"Authorization", b"Basic " + base64.b64encode(b"alice:secret"))] * 2,
        [(b"Authorization", b"Basic " + base64.b64encode(b"alice:" + b"x" * 20_000))],
    ],
)
async def test_no_password(headers: list[tuple[bytes, bytes]]) -> None:
    """A request without a readable user and password needs no comparison."""
    compared = Counted()
    refused = await decided(Passwords(lambda: {"alice": SECRET}, compared), Credentials(headers))
    assert isinstance(refused, Refusal)
    assert refused.text == "authentication is required"
    assert not compared.calls


async def test_without_users_everybody_passes() -> None:
    """Nothing is required where nothing is configured."""
    assert await decided(Passwords(dict), Credentials([])) == ClientIdentity("", "none")


def test_a_password_may_contain_a_colon() -> None:
    """The user ends at the first one (RFC 7617)."""
    assert basic("alice", b"a:b").password() == ("alice", b"a:b")
    lower = [(b"authorization", b"bAsIc  " + base64.b64encode(b"alice:x"))]
    assert partial(Credentials, lower)().password() == ("alice", b"x")
