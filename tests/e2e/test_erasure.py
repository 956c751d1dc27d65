"""People who are erased leave nothing: not in any table, not in any key, not in any object; others keep what is theirs.

A mesh of its own, in which access tokens and published events live for seconds, so that the end of both can be awaited.
"""

from __future__ import annotations

import secrets
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
import redis.asyncio as redis

from cli.settle import settle
from cli.state import running_state
from cli.stores import open_stores, store_url
from cli.supervisor import Mesh, running_mesh
from mesh.db.cassandra import Cassandra
from mesh.db.sql import Tx
from scripts.engines.catalogue import ENGINES
from scripts.engines.control import Control
from tests.called import watched
from tests.conftest import UNLIMITED
from tests.e2e import graph_rows
from tests.e2e.harness import PASSWORD, Account, assert_problem, eventually, register
from tests.e2e.test_exports import archive_of
from tests.e2e.tweet_rows import TweetRows

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
OWN_STORES = {"ROOKERY_TWEETS_URL": "cassandra", "ROOKERY_GRAPH_URL": "neo4j"}
"""Engines on which the mesh has stores of its own, if they are asked for."""
OPERATOR: dict[str, str] = {}
"""Their URLs: passwords are written down nowhere else."""
TOKEN_S = 40
"""How long an access token is good: longer than the slowest test needs before it erases somebody."""
GONE_S = TOKEN_S + 75.0
"""Until nothing is left: the last token's end, then keys that outlive slow loaders, then streams that are trimmed."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def quick(engines: dict[str, str]) -> AsyncIterator[Mesh]:
    """A mesh that forgets quickly. Of the engines asked for it uses Cassandra, where it has a keyspace of its own, and
    Neo4j, on a server of its own."""
    settings = {"ROOKERY_OUTBOX_KEEP_SECONDS": "1", "ROOKERY_ACCESS_TOKEN_SECONDS": str(TOKEN_S)}
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="mesh-", dir="/tmp"))
        for variable, engine in OWN_STORES.items():
            if engines.get(variable, "").startswith(engine):
                control, name = Control(ENGINES[engine], ROOT / ".engines"), f"quick_{secrets.token_hex(8)}"
                OPERATOR.update(control.engine.apart(control.place(), name))
                stack.callback(control.engine.drop, control.place(), name)
        async with running_mesh(Path(folder), env={**settings, **UNLIMITED, **OPERATOR}) as running:
            yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def people(quick: Mesh) -> AsyncIterator[httpx.AsyncClient]:
    """A client of its edge."""
    async with watched(quick.url) as client:
        yield client


async def again(account: Account) -> Account:
    """The same person with a new access token."""
    answer = await account.edge.post("/v1/auth/login", json={"username": account.username, "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    return replace(account, token=answer.json()["data"]["access_token"])


async def did(account: Account, method: str, path: str, **body: Any) -> Any:
    """The `data` of a good answer."""
    answer = await account.request(method, path, **({"json": body} if method in ("POST", "PATCH") else {}))
    assert answer.status_code in (200, 201, 202), f"{path}: {answer.text}"
    return answer.json()["data"]


async def erase(account: Account) -> None:
    """Erases somebody, by themself."""
    assert (await did(account, "POST", "/v1/users/me/erase", password=PASSWORD)) == {"erased": True}


# --- looking everywhere


def forms(user_id: int) -> list[bytes]:
    """An id as digits, as in keys and entries of lists, and as in protobuf."""
    varint, left = bytearray(), user_id
    while left:
        varint.append((left & 0x7F) | (0x80 if left > 0x7F else 0))
        left >>= 7
    return [str(user_id).encode(), user_id.to_bytes(8, "big"), bytes(varint)]


def rows(mesh: Mesh) -> Iterator[tuple[str, bytes]]:
    """Every row of every table of every SQLite store, with where it is."""
    for path in mesh.data.glob("*.db"):
        db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                for row in db.execute(f"SELECT * FROM {table}"):
                    whole = b"\x00".join(cell if isinstance(cell, bytes) else str(cell).encode() for cell in row)
                    yield f"{path.name}:{table}", whole
        finally:
            db.close()


async def rows_on_cassandra(mesh: Mesh) -> AsyncIterator[tuple[str, bytes]]:
    """Every row of every table of the tweets store, if it is on Cassandra."""
    async with open_stores(running_state(mesh.data), OPERATOR) as stores:
        db = stores.tweets
        if isinstance(db, Cassandra):
            query = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ?"
            for (table,) in await db.rows(query, (db.keyspace,)):
                async for page in db.pages(f"SELECT * FROM {table}"):
                    for row in page:
                        cells = (cell if isinstance(cell, bytes) else str(cell).encode() for cell in row)
                        yield f"cassandra:{table}", b"\x00".join(cells)


async def nodes_in_neo4j(mesh: Mesh) -> AsyncIterator[tuple[str, bytes]]:
    """Every node and relationship of the graph store, if it is in Neo4j."""
    async with open_stores(running_state(mesh.data), OPERATOR) as stores:
        for kind, row in await graph_rows.in_neo4j(stores):
            yield f"neo4j:{kind}", row


async def keys(mesh: Mesh) -> AsyncIterator[tuple[str, bytes]]:
    """Every key of the bus and the cache with its value."""
    url = store_url(running_state(mesh.data), "fanout", "ROOKERY_CACHE_URL", {})
    async with redis.Redis.from_url(url, protocol=2) as client:
        async for key in client.scan_iter(count=1_000):
            kind = (await client.type(key)).decode()
            value: Any
            if kind == "string":
                value = await client.get(key)
            elif kind == "set":
                value = await client.smembers(key)
            elif kind == "zset":
                value = await client.zrange(key, 0, -1)
            elif kind == "stream":
                value = [(i, *fields.keys(), *fields.values()) for i, fields in await client.xrange(key)]
            elif kind == "hash":
                value = list((await client.hgetall(key)).items())
            elif kind == "list":
                value = await client.lrange(key, 0, -1)
            else:
                assert kind == "none", kind  # it ended since it was listed
                continue
            yield key.decode(errors="replace"), key + b"\x00" + flat(value)


def flat(value: Any) -> bytes:
    """All bytes in a value."""
    if isinstance(value, bytes):
        return value
    return b"\x00".join(map(flat, value)) if value is not None else b""


async def traces(mesh: Mesh, needles: Sequence[bytes]) -> list[str]:
    """Where any of the needles is."""
    found = [f"{where}: {needle!r}" for where, row in rows(mesh) for needle in needles if needle in row]
    async for where, content in nodes_in_neo4j(mesh):
        found += [f"{where}: {needle!r}" for needle in needles if needle in content]
    async for where, content in rows_on_cassandra(mesh):
        found += [f"{where}: {needle!r}" for needle in needles if needle in content]
    async for where, content in keys(mesh):
        found += [f"{where}: {needle!r}" for needle in needles if needle in content]
    for path in (mesh.data / "objects").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            content += path.name.encode()
            found += [f"{path.name}: {needle!r}" for needle in needles if needle in content]
    return found


async def nothing_is_left(mesh: Mesh, needles: Sequence[bytes]) -> None:
    """Waits until there is no trace."""

    async def look() -> None:
        found = await traces(mesh, needles)
        assert found == [], found[:20]

    await eventually(look, GONE_S)


# --- tests


@dataclass
class Life:
    """What somebody did, and what others did with it."""

    ada: Account
    bob: Account
    eve: Account
    mark: str
    answered: int
    """Bob's answer to Ada."""
    quoted: int
    """Bob's quote of Ada."""
    kept: int
    """Bob's own tweet."""
    bobs_list: str
    bobs_poll: int
    """Bob's tweet with a poll."""


async def live(edge: httpx.AsyncClient) -> Life:
    """Ada lives, with everything that there is; what she wrote has `mark` in it."""
    ada, bob, eve, mal, pat = [await register(edge) for _ in range(5)]
    mark = f"mark{secrets.token_hex(8)}"
    await did(ada, "PATCH", "/v1/users/me", name=f"N {mark}", description=f"about {mark}", location=mark[:30])
    await did(pat, "PATCH", "/v1/users/me", protected=True)
    kept = await bob.tweet("a tweet of Bob's")
    for follower, followee in ((ada, bob), (bob, ada), (eve, ada), (bob, eve), (ada, pat)):
        await did(follower, "POST", f"/2/users/{follower.id}/following", target_user_id=str(followee.id))
    for account in (ada, bob, eve):
        await account.home()  # so that there are lists, and sets
    first = await ada.tweet(f"first {mark} #tag{mark[:9]}")
    await ada.tweet(f"answer {mark}", reply={"in_reply_to_tweet_id": str(kept)})
    await ada.tweet(f"quote {mark}", quote_tweet_id=str(kept))
    await ada.delete(await ada.tweet(f"deleted {mark}"))
    answered = await bob.tweet("an answer of Bob's", reply={"in_reply_to_tweet_id": str(first)})
    quoted = await bob.tweet("a quote of Bob's", quote_tweet_id=str(first))
    for person, tweet in ((bob, first), (ada, kept)):
        for kind in ("likes", "bookmarks", "retweets"):
            await did(person, "POST", f"/2/users/{person.id}/{kind}", tweet_id=str(tweet))
    asked = await ada.tweet(f"poll {mark}", poll={"options": [mark[:20], "other"], "duration_minutes": 60})
    bobs_poll = await bob.tweet("a poll of Bob's", poll={"options": ["one", "two"], "duration_minutes": 60})
    for person, tweet in ((bob, asked), (ada, bobs_poll)):
        shown = await person.get(f"/2/tweets/{tweet}", expansions="attachments.poll_ids")
        poll_id = shown["includes"]["polls"][0]["id"]
        await did(person, "POST", f"/v1/polls/{poll_id}/votes", position=1)
    await did(ada, "POST", f"/2/users/{ada.id}/blocking", target_user_id=str(mal.id))
    await did(pat, "POST", f"/2/users/{pat.id}/blocking", target_user_id=str(eve.id))
    await did(mal, "POST", f"/2/users/{mal.id}/muting", target_user_id=str(ada.id))
    await did(ada, "POST", f"/2/users/{ada.id}/muting", target_user_id=str(eve.id))
    adas = (await did(ada, "POST", "/2/lists", name=mark[:25], description=f"list {mark}"))["id"]
    bobs = (await did(bob, "POST", "/2/lists", name="of Bob"))["id"]
    await did(ada, "POST", f"/2/lists/{adas}/members", user_id=str(bob.id))
    await did(bob, "POST", f"/2/lists/{bobs}/members", user_id=str(ada.id))
    await did(bob, "POST", f"/2/lists/{bobs}/members", user_id=str(eve.id))
    for kind in ("followed_lists", "pinned_lists"):
        await did(ada, "POST", f"/2/users/{ada.id}/{kind}", list_id=bobs)
        await did(bob, "POST", f"/2/users/{bob.id}/{kind}", list_id=adas)
    return Life(ada, bob, eve, mark, answered, quoted, kept, bobs, bobs_poll)


@dataclass
class Mention:
    """Bob mentioned Zoe, who is gone."""

    zoe: Account
    bob: Account
    tweet: int
    text: str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mention(quick: Mesh, people: httpx.AsyncClient) -> Mention:
    """Erased at the beginning, so that the time until nothing is left passes during another test."""
    zoe, bob = await register(people), await register(people)
    text = f"good morning @{zoe.username}"
    tweet = await bob.tweet(text)
    retweeted = await zoe.tweet("a tweet of Zoe's")
    await did(bob, "POST", f"/2/users/{bob.id}/retweets", tweet_id=str(retweeted))
    shown = (await bob.get(f"/2/tweets/{tweet}", tweet__fields="entities"))["data"]
    assert shown["entities"]["mentions"][0]["id"] == str(zoe.id)
    await mesh_settled(quick)
    await erase(zoe)
    return Mention(zoe, bob, tweet, text)


async def mesh_settled(mesh: Mesh) -> None:
    """Waits until lists, counts and read models have everything."""
    async with open_stores(running_state(mesh.data), OPERATOR) as stores:
        await settle(stores, 30.0)


@pytest.mark.proves("POST /v1/users/me/erase")
async def test_an_erased_person_leaves_nothing_and_others_keep_what_is_theirs(
    quick: Mesh, people: httpx.AsyncClient, mention: Mention
) -> None:
    life = await live(people)
    ada, mark = life.ada, life.mark
    files = await archive_of(ada)
    counted = {
        "tweets": 5, "likes": 1, "bookmarks": 1, "poll_votes": 1,
        "following": 1, "followers": 2, "blocks": 1, "mutes": 1,
        "follow_requests_sent": 1, "lists": 1, "list_memberships": 1, "followed_lists": 1, "pinned_lists": 1,
    }  # fmt: skip
    assert {name: files["manifest"]["items"][name] for name in counted} == counted
    assert files["lists"][0]["member_ids"] == [str(life.bob.id)]
    needles = [*forms(ada.id), ada.username.encode(), ada.email.encode(), mark.encode()]
    assert len(await traces(quick, needles)) > 30, "there would be nothing to erase"

    wrong = await ada.request("POST", "/v1/users/me/erase", json={"password": "wrong horse"})
    assert_problem(wrong, 401)
    assert (await ada.get("/2/users/me"))["data"]["id"] == str(ada.id)
    await erase(ada)

    assert_problem(await ada.request("GET", "/2/users/me"), 401)
    login = await people.post("/v1/auth/login", json={"username": ada.username, "password": PASSWORD})
    assert_problem(login, 401)
    refresh = await people.post("/v1/auth/refresh", json={"refresh_token": ada.refresh_token})
    assert_problem(refresh, 401)
    assert "data" not in await life.bob.get(f"/2/users/{ada.id}")
    assert "data" not in await life.bob.get(f"/2/users/by/username/{ada.username}")
    # A token cannot be taken back: what is written with it goes later.
    await ada.request("POST", "/2/tweets", json={"text": f"too late {mark}"})
    await ada.request("POST", f"/2/users/{ada.id}/likes", json={"tweet_id": str(life.kept)})

    await nothing_is_left(quick, needles)

    bob, eve = await again(life.bob), await again(life.eve)
    kept = (await bob.get(f"/2/tweets/{life.kept}", tweet__fields="public_metrics"))["data"]
    metrics = kept["public_metrics"]
    assert kept["text"] == "a tweet of Bob's"
    assert [metrics[name] for name in ("reply_count", "quote_count", "retweet_count", "like_count")] == [0] * 4
    answer = await bob.get(f"/2/tweets/{life.answered}", tweet__fields="in_reply_to_user_id,referenced_tweets")
    assert answer["data"]["text"] == "an answer of Bob's"
    assert "in_reply_to_user_id" not in answer["data"]
    assert answer["data"]["referenced_tweets"][0]["type"] == "replied_to"
    quote = await bob.get(f"/2/tweets/{life.quoted}", expansions="referenced_tweets.id")
    assert quote["data"]["text"] == "a quote of Bob's"
    assert quote["errors"]
    shown = (await bob.get("/2/users/me", user__fields="public_metrics"))["data"]["public_metrics"]
    assert (shown["followers_count"], shown["following_count"], shown["tweet_count"]) == (0, 1, 4)
    assert shown["listed_count"] == 0
    assert await bob.home() == [life.bobs_poll, life.quoted, life.answered, life.kept]
    assert await eve.home() == []  # Bob's tweets are not hers to see, and those of Ada are gone
    poll = await bob.get(f"/2/tweets/{life.bobs_poll}", expansions="attachments.poll_ids")
    assert [option["votes"] for option in poll["includes"]["polls"][0]["options"]] == [0, 0]
    members = (await bob.get(f"/2/lists/{life.bobs_list}/members"))["data"]
    assert [int(one["id"]) for one in members] == [eve.id]
    late = await eve.tweet("an answer that comes late", reply={"in_reply_to_tweet_id": str(life.answered)})
    assert int((await eve.get(f"/2/tweets/{late}"))["data"]["id"]) == late

    logs = b"".join(path.read_bytes() for path in (quick.data / "logs").glob("*.log"))
    assert logs
    assert [one for one in (mark.encode(), ada.email.encode()) if one in logs] == []


async def test_whom_others_mention_is_said_no_more_and_the_name_is_free_again(quick: Mesh, mention: Mention) -> None:
    zoe = mention.zoe
    await nothing_is_left(quick, forms(zoe.id))
    bob = await again(mention.bob)
    tweet = (await bob.get(f"/2/tweets/{mention.tweet}", tweet__fields="entities"))["data"]
    assert tweet["text"] == mention.text
    assert "id" not in tweet["entities"]["mentions"][0]
    assert tweet["entities"]["mentions"][0]["username"] == zoe.username
    assert await bob.pages(f"/2/users/{bob.id}/tweets") == [mention.tweet]
    other = await register(bob.edge, zoe.username)
    assert other.id != zoe.id
    found = await eventually(lambda: by_name(bob, zoe.username))
    assert found == other.id


async def test_who_stays_away_for_30_days_is_erased(quick: Mesh, people: httpx.AsyncClient) -> None:
    ada, bob = await register(people), await register(people)
    await did(ada, "POST", f"/2/users/{ada.id}/following", target_user_id=str(bob.id))
    written = await ada.tweet("before I go")
    for one in (ada, bob):
        await did(one, "POST", "/v1/users/me/deactivate", password=PASSWORD)

    async def long_ago(tx: Tx) -> None:
        await tx.execute(
            "UPDATE users SET deactivated_ms = deactivated_ms - 30 * 86400000 WHERE id = :id", {"id": ada.id}
        )

    async with open_stores(running_state(quick.data), OPERATOR) as stores:
        await stores.users.write(long_ago)

        async def gone() -> None:
            query = "SELECT count(*) FROM users WHERE id = :id"
            assert await stores.users.read(lambda tx: tx.scalar(query, {"id": ada.id})) == 0
            assert await graph_rows.following(stores, ada.id) == 0
            assert await TweetRows(stores.tweets).is_gone(written)

        await eventually(gone, 30.0)
    login = await people.post("/v1/auth/login", json={"username": ada.username, "password": PASSWORD})
    assert_problem(login, 401)
    bob = await again(bob)
    assert "data" not in await bob.get(f"/2/tweets/{written}")
    assert int((await bob.get("/2/users/me"))["data"]["id"]) == bob.id


async def by_name(account: Account, username: str) -> int:
    """The id behind a name."""
    body = await account.get(f"/2/users/by/username/{username}")
    assert "data" in body
    return int(body["data"]["id"])


async def test_nobody_erases_anybody_else(people: httpx.AsyncClient) -> None:
    ada, bob = await register(people), await register(people)
    assert (await people.post("/v1/users/me/erase", json={"password": PASSWORD})).status_code == 401
    for body in ({}, {"password": ""}, {"password": "x" * 129}, {"password": 5, "id": str(ada.id)}):
        assert_problem(await bob.request("POST", "/v1/users/me/erase", json=body), 400)
    assert (await ada.get("/2/users/me"))["data"]["id"] == str(ada.id)
    assert (await bob.get("/2/users/me"))["data"]["id"] == str(bob.id)
