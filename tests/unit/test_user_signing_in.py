"""Signing in costs the same for nobody as for somebody: the same hashes and the same steps, whoever is asked for.

Work is counted, not timed: times differ by what else a machine does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from rookery.events.v1.user_events_pb2 import UserRegistered
from rookery.user.v1.recovery_service_pb2 import ForgotPasswordRequest

from mesh.context import CallContext, enter
from mesh.errors import MeshError, ResourceExhausted, Unauthenticated, Unavailable
from services.user.attempts import NAMES, Backoff, Guard, network_of
from services.user.passwords import Passwords
from services.user.rpc.recovery import ForgotPassword
from services.user.second_factor import SecondFactors
from services.user.signing_in import SignIn
from services.user.store.attempts import SqlAttemptStore
from services.user.store.base import NewPerson, Session
from services.user.store.mails import SqlMailStore
from services.user.store.second_factors import SqlSecondFactorStore
from services.user.store.sql import SqlUserStore
from services.user.vault import Vault
from tests.stores.sqlite_stores import Sql, sqlite

NOW = 1_800_000_000_000
RIGHT = "the right password"
HOME, AWAY = "192.0.2.1", "203.0.113.9"
PER_ADDRESS = 15


class Counted:
    """Stands before something and takes down which of its methods were called."""

    def __init__(self, inner: Any, calls: list[str]) -> None:
        self._inner = inner
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        if not asyncio.iscoroutinefunction(method):
            return method

        async def counted(*args: Any, **kwargs: Any) -> Any:
            self._calls.append(f"{type(self._inner).__name__}.{name}")
            return await method(*args, **kwargs)

        return counted


@dataclass
class Desk:
    """Where people sign in, on a real database, with the cheapest hashes."""

    sql: Sql
    now: int = NOW
    calls: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.passwords = Passwords(memory_kib=8, passes=1)
        self.vault = Vault(b"0123456789abcdef")
        self.users = SqlUserStore(self.sql.db, self.sql.outbox)
        self.mails = SqlMailStore(self.sql.db)
        attempts: Any = Counted(SqlAttemptStore(self.sql.db), self.calls)
        self.guard = Guard(attempts, self.vault, self.clock, per_address=PER_ADDRESS)
        self.sign_in = self.with_passwords(self.passwords)

    def clock(self) -> int:
        return self.now

    def with_passwords(self, passwords: Passwords) -> SignIn:
        users: Any = Counted(self.users, self.calls)
        hashes: Any = Counted(passwords, self.calls)
        factors = SecondFactors(SqlSecondFactorStore(self.sql.db), self.vault, self.clock)
        return SignIn(users, hashes, self.guard, factors, self.clock)

    async def register(self, user_id: int, name: str, email: str = "") -> str:
        stored = await self.passwords.hash(RIGHT)
        person = NewPerson(user_id, name, email or f"{name}@example.org", stored, name, self.guard.address())
        session = Session(user_id.to_bytes(16, "big"), user_id, b"h" * 32, NOW, NOW * 2)
        await self.users.create(person, session, UserRegistered(user_id=user_id, username=name))
        return stored

    async def tries(self, name: str, password: str = "wrong one") -> str:
        """What comes of a log-in: the reason why not, or nothing."""
        try:
            await self.sign_in.by_name(name, password, by_email="@" in name)
        except MeshError as error:
            return error.reason
        return ""

    async def work(self, ask: Callable[[], Awaitable[object]]) -> list[str]:
        """What something calls."""
        self.calls.clear()
        try:
            await ask()
        except MeshError as error:
            self.calls.append(f"{type(error).__name__} {error.reason} {error.detail}")
        return self.calls[:]


def calling_from(address: str) -> None:
    """Makes the test a call from an address."""
    enter(CallContext(address=address))


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with sqlite("user", tmp_path) as sql:
        calling_from(HOME)
        desk = Desk(sql)
        await desk.register(7, "ada")
        calling_from(AWAY)
        yield desk


@pytest.mark.parametrize(("somebody", "nobody"), [("ada", "nobody"), ("ada@example.org", "nobody@example.org")])
async def test_a_wrong_password_is_as_much_work_as_an_unknown_name(desk: Desk, somebody: str, nobody: str) -> None:
    known, unknown = [await desk.work(lambda name=name: desk.tries(name)) for name in (somebody, nobody)]  # type: ignore[misc]
    assert known == unknown
    assert known.count("Passwords.check") == (2 if "@" in somebody else 1)
    assert known.count("SqlAttemptStore.begin") == 1


@pytest.mark.parametrize("name", ["ada", "nobody"])
async def test_what_is_refused_for_its_number_is_no_work_at_all(desk: Desk, name: str) -> None:
    for _ in range(NAMES.free):
        assert await desk.tries(name) == "WRONG_CREDENTIALS"
    work = await desk.work(lambda: desk.sign_in.by_name(name, RIGHT))
    assert "Passwords.check" not in work
    assert work[-1] == "ResourceExhausted TOO_MANY_ATTEMPTS There were too many attempts; try again in 30 s."


async def test_asking_for_another_password_is_the_same_work_for_nobody(desk: Desk) -> None:
    class Waking:
        def wake(self) -> None:
            desk.calls.append("wake")

    mails: Any = Counted(desk.mails, desk.calls)
    waking: Any = Waking()
    forgot = ForgotPassword(mails, desk.guard, waking, desk.clock)
    work = [
        await desk.work(lambda request=request: forgot(request))  # type: ignore[misc]
        for request in (
            ForgotPasswordRequest(username="ada"),
            ForgotPasswordRequest(username="nobody"),
            ForgotPasswordRequest(email="ada@example.org"),
            ForgotPasswordRequest(email="nobody@example.org"),
        )
    ]
    assert work == [["SqlAttemptStore.begin", "SqlMailStore.request_reset", "wake"]] * 4


async def test_one_address_may_try_so_many_names_and_people_who_are_known_there_are_not_held_up(desk: Desk) -> None:
    calling_from(HOME)
    outcomes = await asyncio.gather(*(desk.tries(f"name_{number}") for number in range(PER_ADDRESS + 5)))
    assert sorted(outcomes) == ["TOO_MANY_ATTEMPTS"] * 5 + ["WRONG_CREDENTIALS"] * PER_ADDRESS
    assert await desk.tries("ada", RIGHT) == ""
    calling_from(AWAY)
    assert await desk.tries("name_99") == "WRONG_CREDENTIALS"
    desk.now += 3_600_001
    calling_from(HOME)
    assert await desk.tries("name_99") == "WRONG_CREDENTIALS"


async def test_waits_are_bounded_and_what_is_refused_makes_them_no_longer(desk: Desk) -> None:
    """Somebody who never stops guessing gets a guess each quarter of an hour, and the person gets in between."""
    guesses, started = 0, desk.now
    while desk.now < started + 6 * 3_600_000:
        if await desk.tries("ada") == "WRONG_CREDENTIALS":
            guesses += 1
        desk.now += 60_000
    assert 10 + 5 + 20 < guesses < 10 + 6 + 25
    calling_from("198.51.100.7")
    desk.now += 15 * 60_000
    assert await desk.tries("ada", RIGHT) == ""


async def test_the_right_password_forgets_wrong_ones(desk: Desk) -> None:
    for _ in range(3):
        for _ in range(NAMES.free - 1):
            assert await desk.tries("ada") == "WRONG_CREDENTIALS"
        assert await desk.tries("ada", RIGHT) == ""


async def test_an_attempt_that_nobody_looked_at_does_not_count(desk: Desk) -> None:
    class Busy(Passwords):
        async def check(self, password: str, stored: str | None) -> bool:
            raise Unavailable("too many wait")

    busy = desk.with_passwords(Busy(memory_kib=8, passes=1))
    for _ in range(2 * NAMES.free):
        with pytest.raises(Unavailable):
            await busy.by_name("ada", RIGHT)
    assert await desk.tries("ada", RIGHT) == ""


async def test_a_hash_with_other_parameters_is_made_anew_by_the_next_log_in(desk: Desk) -> None:
    stronger = Passwords(memory_kib=16, passes=2)
    sign_in = desk.with_passwords(stronger)
    with pytest.raises(Unauthenticated):
        await sign_in.by_name("ada", "wrong one")
    _, before = await desk.users.credentials(7) or (None, "")
    assert stronger.is_outdated(before)
    # By the way that takes either of two passwords: what is hashed is the one that was right.
    _, after = await sign_in.by_id(7, "wrong one", RIGHT)
    assert not stronger.is_outdated(after)
    assert (await desk.users.credentials(7) or (None, ""))[1] == after
    assert "m=16,t=2,p=1" in after
    assert await stronger.check(RIGHT, after)


async def test_one_who_claims_an_address_signs_in_to_their_own_account_alone(desk: Desk) -> None:
    await desk.register(8, "mallory", "ADA@example.org")
    for letter in await desk.mails.claim([b"1", b"2"], now_ms=NOW, until_ms=NOW, lifetimes_ms={"verify": 1_000}):
        if letter.user_id == 7:
            await desk.mails.verify(letter.token or b"", NOW)
    person, _ = await desk.sign_in.by_name("ada@example.org", RIGHT, by_email=True)
    assert person.id == 7
    other = await desk.passwords.hash("mallory's own")
    _, old = await desk.users.credentials(8) or (None, "")
    assert await desk.users.rehash(8, old, other)
    person, _ = await desk.sign_in.by_name("ada@example.org", "mallory's own", by_email=True)
    assert person.id == 8


def test_waits_double_up_to_a_quarter_of_an_hour() -> None:
    rule = Backoff(2, 10**9)
    waits = [rule.wait_ms(count, 1_000, 1_000) // 1_000 for count in range(40)]
    assert waits[:9] == [0, 0, 30, 60, 120, 240, 480, 900, 900]
    assert set(waits[9:]) == {900}
    assert rule.wait_ms(2, 1_000, 1_000 + 29_999) == 1
    assert rule.wait_ms(2, 1_000, 1_000 + 30_000) == 0


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("", ""),
        ("not an address", ""),
    ],
)
def test_a_subscriber_is_one_address(address: str, network: str) -> None:
    assert network_of(address) == network


async def test_too_many_attempts_say_when_to_come_back(desk: Desk) -> None:
    for _ in range(NAMES.free):
        await desk.tries("ada")
    desk.now += 500
    with pytest.raises(ResourceExhausted) as refused:
        await desk.sign_in.by_name("ada", RIGHT)
    assert ("retry-after", "30") in refused.value.metadata()
