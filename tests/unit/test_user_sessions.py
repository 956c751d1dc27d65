"""Sessions: each refresh token is good once; one that was spent ends its session, for somebody has a copy."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mesh.db.migrations import migrate
from mesh.db.sql import Database, Tx
from mesh.errors import Unauthenticated
from services.user.domain import RETRY_MS, Person, RefreshToken
from services.user.passwords import Passwords
from services.user.sessions import Sessions
from services.user.store.clients import SqlClientStore
from services.user.store.sql import SqlKeyStore, SqlSessionStore
from services.user.tokens import AccessTokens

SCHEMA = Path(__file__).parents[2] / "services/user/schema/sql"
START = 1_800_000_000_000
TTL_MS = 30 * 86_400_000
ADA, BOB = 7, 8
HASH = "hash of a password"


class Clock:
    """Unix milliseconds that tests move."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    async def people(tx: Tx) -> None:
        for user_id in (ADA, BOB):
            values = {"id": user_id, "name": f"user{user_id}", "hash": HASH}
            await tx.execute(
                "INSERT INTO users (id, username, username_key, email, email_key, password_hash, name)"
                " VALUES (:id, :name, :name, :name, :name, :hash, :name)",
                values,
            )

    url = f"sqlite+aiosqlite:///{tmp_path}/users.db"
    await migrate(url, SCHEMA)
    database = await Database.open(url)
    await database.write(people)
    yield database
    await database.close()


@pytest.fixture
def sessions(db: Database, clock: Clock) -> Sessions:
    tokens = AccessTokens(SqlKeyStore(db), ttl_s=3_600, now_ms=clock)
    return Sessions(SqlSessionStore(db), SqlClientStore(db), tokens, ttl_ms=TTL_MS, now_ms=clock)


async def good(sessions: Sessions, token: RefreshToken) -> bool:
    """Whether it can be spent; it is, by asking."""
    try:
        await sessions.refresh(str(token))
    except Unauthenticated as error:
        assert error.reason == "INVALID_REFRESH_TOKEN"
        return False
    return True


def everything_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


async def rows(db: Database) -> int:
    async def unit(tx: Tx) -> int:
        return int(await tx.scalar("SELECT COUNT(*) FROM sessions"))

    return await db.read(unit)


async def test_a_token_is_traded_for_the_next_one_of_the_same_session(sessions: Sessions) -> None:
    token = await sessions.begin(ADA, HASH)
    for _ in range(3):
        rotated, following = await sessions.refresh(str(token))
        assert rotated.user_id == ADA
        assert following.session_id == token.session_id
        assert following.secret != token.secret
        token = following


async def test_a_token_that_was_spent_ends_the_session_and_no_other(sessions: Sessions, clock: Clock) -> None:
    stolen, other = await sessions.begin(ADA, HASH), await sessions.begin(ADA, HASH)
    _, following = await sessions.refresh(str(stolen))
    clock.now += RETRY_MS
    assert not await good(sessions, stolen)
    assert not await good(sessions, following)  # whoever of the two has it
    assert await good(sessions, other)


async def test_of_two_who_spend_a_token_at_once_the_second_to_go_on_ends_the_session(sessions: Sessions) -> None:
    token = await sessions.begin(ADA, HASH)
    results = await asyncio.gather(*(sessions.refresh(str(token)) for _ in range(2)))
    assert [await good(sessions, following) for _, following in results] in ([False, False], [True, False])


async def test_a_token_is_good_once_more_for_who_lost_the_answer(sessions: Sessions, clock: Clock) -> None:
    token = await sessions.begin(ADA, HASH)
    await sessions.refresh(str(token))
    clock.now += RETRY_MS - 1
    _, got = await sessions.refresh(str(token))
    assert await good(sessions, got)


async def test_a_session_ends_when_it_was_not_refreshed_for_its_time(sessions: Sessions, clock: Clock) -> None:
    token = await sessions.begin(ADA, HASH)
    clock.now += TTL_MS - 1
    _, token = await sessions.refresh(str(token))
    clock.now += TTL_MS - 1  # each refresh begins the time anew
    _, token = await sessions.refresh(str(token))
    clock.now += TTL_MS
    assert not await good(sessions, token)


async def test_signing_out_ends_one_session_or_all_of_ones_own(sessions: Sessions) -> None:
    one, other, third, bobs = [await sessions.begin(user_id, HASH) for user_id in (ADA, ADA, ADA, BOB)]
    await sessions.end(str(one))
    assert not await good(sessions, one)
    _, other = await sessions.refresh(str(other))
    await sessions.end_all(ADA)
    assert not await good(sessions, other)
    assert not await good(sessions, third)
    assert await good(sessions, bobs)


async def test_who_does_not_have_the_token_cannot_sign_another_out(sessions: Sessions) -> None:
    """A session's id is in every access token, and is no secret."""
    token = await sessions.begin(ADA, HASH)
    await sessions.end(str(RefreshToken.fresh(token.session_id)))
    assert await good(sessions, token)


async def test_a_token_that_never_was_is_refused(sessions: Sessions) -> None:
    await sessions.begin(ADA, HASH)
    assert not await good(sessions, RefreshToken.fresh())


@pytest.mark.parametrize("text", ["", "00", "z" * 96, "00" * 47, "00" * 49, "é" * 96, "\x00" * 96, "0x" + "00" * 47])
async def test_what_is_no_token_is_refused_alike(sessions: Sessions, text: str) -> None:
    for attempt in (sessions.refresh(text), sessions.end(text)):
        with pytest.raises(Unauthenticated) as raised:
            await attempt
        assert raised.value.reason == "INVALID_REFRESH_TOKEN"


async def test_no_session_begins_with_a_password_that_was_changed_meanwhile(sessions: Sessions, db: Database) -> None:
    with pytest.raises(Unauthenticated) as raised:
        await sessions.begin(ADA, "hash of the password before")
    assert raised.value.reason == "WRONG_CREDENTIALS"
    assert await rows(db) == 0


async def test_ended_sessions_are_forgotten_and_living_ones_are_not(
    sessions: Sessions, clock: Clock, db: Database
) -> None:
    await sessions.begin(ADA, HASH)
    clock.now += TTL_MS - 1
    living = await sessions.begin(ADA, HASH)
    assert await sessions.forget_expired() == 0
    clock.now += 1
    assert await sessions.forget_expired() == 1
    assert await rows(db) == 1
    assert await good(sessions, living)


async def test_the_store_never_sees_a_secret(sessions: Sessions, db: Database, tmp_path: Path) -> None:
    token = await sessions.begin(ADA, HASH)
    _, following = await sessions.refresh(str(token))
    stored = everything_in(tmp_path)
    assert following.hash in stored  # we look into the right files
    for secret in (token.secret, following.secret):
        assert secret not in stored
        assert secret.hex().encode() not in stored


def test_a_token_survives_printing_and_has_256_random_bits() -> None:
    token = RefreshToken.fresh()
    assert RefreshToken.parse(str(token)) == token
    assert token.hash == hashlib.sha256(token.secret).digest()
    assert len({RefreshToken.fresh().secret for _ in range(100)}) == 100
    assert (len(token.secret), len(token.session_id)) == (32, 16)


async def test_the_answer_has_both_tokens_and_the_person(db: Database, clock: Clock) -> None:
    tokens = AccessTokens(SqlKeyStore(db), ttl_s=3_600, now_ms=clock)
    await tokens.load()
    sessions = Sessions(SqlSessionStore(db), SqlClientStore(db), tokens, ttl_ms=TTL_MS, now_ms=clock)
    person = Person(
        id=ADA,
        username="ada",
        name="Ada",
        description="",
        location="",
        url="",
        protected=False,
        verified=False,
        followers_count=1,
        following_count=2,
        tweet_count=3,
        like_count=4,
        listed_count=0,
        pinned_tweet_id=0,
        language="",
        country="",
        entities=b"",
        deactivated_ms=0,
        suspended=False,
        version=1,
    )
    token = await sessions.begin(ADA, HASH)
    answer = sessions.answer(person, token)
    assert (answer.token_type, answer.expires_in, answer.refresh_token) == ("bearer", 3_600, str(token))
    assert answer.access_token.count(".") == 2
    assert (answer.user.id, answer.user.username) == (ADA, "ada")
    assert (answer.user.public_metrics.like_count, answer.user.public_metrics.post_count) == (4, 3)
    assert not answer.user.HasField("url")


# --- passwords


async def test_a_password_is_checked_and_nobody_has_none() -> None:
    passwords = Passwords(memory_kib=19_456, passes=2)
    stored = await passwords.hash("correct horse")
    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert await passwords.check("correct horse", stored)
    assert not await passwords.check("wrong horse", stored)
    assert not await passwords.check("correct horse", None)
    assert not await passwords.check("", None)
    assert not await passwords.check("correct horse", "no hash at all")
    assert stored != await passwords.hash("correct horse")  # salted
