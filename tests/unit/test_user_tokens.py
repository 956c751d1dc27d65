"""Access tokens: what is in them, and that whoever reads the published keys can verify each token in its time."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.errors import BadSignatureError
from joserfc.jwk import KeySet

from mesh.db.migrations import migrate
from mesh.db.sql import Database
from services.user.store.sql import SqlKeyStore
from services.user.tokens import AUDIENCE, ISSUER, AccessTokens

SCHEMA = Path(__file__).parents[2] / "services/user/schema/sql"
START = 1_800_000_000_000
MINUTE = 60_000
DAY = 86_400_000
TTL_S = 3_600
SCOPE = "tweet.read"


class Clock:
    """Unix milliseconds that tests move."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now


@pytest.fixture
async def keys(tmp_path: Path) -> AsyncIterator[SqlKeyStore]:
    url = f"sqlite+aiosqlite:///{tmp_path}/users.db"
    await migrate(url, SCHEMA)
    db = await Database.open(url)
    yield SqlKeyStore(db)
    await db.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def verified(token: str, published: AccessTokens) -> jwt.Token:
    """As an edge reads it: by the published keys alone. Raises ValueError when none of them has the token's kid."""
    members: list[Any] = [
        {"kty": key.kty, "crv": key.crv, "x": key.x, "kid": key.kid, "alg": key.alg, "use": key.use}
        for key in published.published().keys
    ]
    return jwt.decode(token, KeySet.import_key_set({"keys": members}), algorithms=["EdDSA"])


def kid_of(token: jwt.Token) -> str:
    return str(token.header["kid"])


def kids(tokens: AccessTokens) -> set[str]:
    return {key.kid for key in tokens.published().keys}


async def loaded(keys: SqlKeyStore, clock: Clock) -> AccessTokens:
    tokens = AccessTokens(keys, ttl_s=TTL_S, now_ms=clock)
    await tokens.load()
    return tokens


async def test_a_token_says_who_for_whom_until_when_and_by_which_key(keys: SqlKeyStore, clock: Clock) -> None:
    tokens = await loaded(keys, clock)
    token = verified(tokens.sign(str(2**60 + 1), b"\x01" * 16, scope=SCOPE), tokens)
    assert token.header == {"alg": "EdDSA", "typ": "JWT", "kid": kid_of(token)}
    assert kids(tokens) == {kid_of(token)}
    assert token.claims == {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": str(2**60 + 1),  # a string: JSON numbers are exact to 2**53 only
        "sid": "01" * 16,
        "scope": SCOPE,
        "iat": START // 1000,
        "exp": START // 1000 + TTL_S,
    }


async def test_a_token_that_was_changed_or_signed_by_another_key_is_not_verified(
    keys: SqlKeyStore, clock: Clock, tmp_path: Path
) -> None:
    tokens = await loaded(keys, clock)
    header, claims, signature = tokens.sign("1", b"\x01" * 16, scope=SCOPE).split(".")
    _, others, _ = tokens.sign("2", b"\x01" * 16, scope=SCOPE).split(".")
    verified(f"{header}.{claims}.{signature}", tokens)
    with pytest.raises(BadSignatureError):
        verified(f"{header}.{others}.{signature}", tokens)


async def test_what_is_published_has_no_private_part(keys: SqlKeyStore, clock: Clock) -> None:
    tokens = await loaded(keys, clock)
    (row,) = await keys.signing_keys()
    private = json.loads(row.jwk)["d"]
    assert private
    assert private not in str(tokens.published())
    (key,) = tokens.published().keys
    assert (key.kty, key.crv, key.alg, key.use) == ("OKP", "Ed25519", "EdDSA", "sig")


async def test_nothing_is_signed_before_keys_are_loaded(keys: SqlKeyStore, clock: Clock) -> None:
    tokens = AccessTokens(keys, ttl_s=TTL_S, now_ms=clock)
    with pytest.raises(RuntimeError, match="load"):
        tokens.sign("1", b"", scope=SCOPE)
    with pytest.raises(RuntimeError, match="load"):
        tokens.published()


async def test_replicas_share_one_key_even_when_they_begin_together(keys: SqlKeyStore, clock: Clock) -> None:
    one, other = AccessTokens(keys, ttl_s=TTL_S, now_ms=clock), AccessTokens(keys, ttl_s=TTL_S, now_ms=clock)
    await one.load()
    clock.now += 5
    await other.load()
    assert kids(one) == kids(other)
    assert len(kids(one)) == 1
    verified(one.sign("1", b"s", scope=SCOPE), other)
    # Both find the key old at the same time; the second one's row is not added.
    clock.now += 31 * DAY
    await one.load()
    await other.load()
    assert len(await keys.signing_keys()) == 2


async def test_a_new_key_is_published_15_minutes_before_it_signs(keys: SqlKeyStore, clock: Clock) -> None:
    tokens = await loaded(keys, clock)
    before = kid_of(verified(tokens.sign("1", b"s", scope=SCOPE), tokens))
    clock.now += 30 * DAY
    await tokens.load()
    assert kids(tokens) == {before}  # 30 days old is not older than 30 days
    clock.now += 1
    await tokens.load()
    (following,) = kids(tokens) - {before}
    assert kid_of(verified(tokens.sign("1", b"s", scope=SCOPE), tokens)) == before
    clock.now += 15 * MINUTE - 1
    await tokens.load()
    assert kid_of(verified(tokens.sign("1", b"s", scope=SCOPE), tokens)) == before
    clock.now += 1
    await tokens.load()
    assert kid_of(verified(tokens.sign("1", b"s", scope=SCOPE), tokens)) == following


async def test_an_old_key_is_published_until_its_last_token_has_ended_and_then_not_for_ever(
    keys: SqlKeyStore, clock: Clock
) -> None:
    tokens = await loaded(keys, clock)
    (before,) = kids(tokens)
    clock.now += 30 * DAY + 1
    await tokens.load()
    clock.now += 15 * MINUTE - 1
    await tokens.load()
    last = tokens.sign("1", b"s", scope=SCOPE)
    clock.now += TTL_S * 1000
    await tokens.load()
    assert kid_of(verified(last, tokens)) == before
    clock.now += DAY
    await tokens.load()
    assert before not in kids(tokens)


@pytest.mark.parametrize("days", [29, 31, 45, 365])
async def test_after_any_pause_of_the_whole_service_what_it_signs_is_published(
    keys: SqlKeyStore, clock: Clock, days: int
) -> None:
    """A mesh that stood still for weeks begins with an old key and a new one that may not sign yet."""
    await loaded(keys, clock)
    clock.now += days * DAY
    tokens = await loaded(keys, clock)
    at_once = tokens.sign("1", b"s", scope=SCOPE)
    verified(at_once, tokens)
    clock.now += 14 * MINUTE
    await tokens.load()
    late = tokens.sign("1", b"s", scope=SCOPE)
    verified(at_once, tokens)
    clock.now += MINUTE
    await tokens.load()
    verified(tokens.sign("1", b"s", scope=SCOPE), tokens)
    clock.now += TTL_S * 1000 - MINUTE  # the moment at which `late` ends
    await tokens.load()
    verified(late, tokens)


async def test_keys_do_not_pile_up(keys: SqlKeyStore, clock: Clock) -> None:
    tokens = await loaded(keys, clock)
    for _ in range(40):
        clock.now += 31 * DAY
        await tokens.load()
        verified(tokens.sign("1", b"s", scope=SCOPE), tokens)
    assert len(kids(tokens)) <= 3
