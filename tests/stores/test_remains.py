"""What is left of an erased person in each store: one row for every column of every table that has people's ids, as the
services declare them, is there before and gone after. A table that is added is in this test by its declaration.
"""

from __future__ import annotations

import importlib
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from rookery.api.v2.tweet_pb2 import MentionEntity, TweetEntities
from rookery.events.v1.user_events_pb2 import UserErased

from mesh.cache.open import open_cache
from mesh.cache.records import Records
from mesh.cache.sets import GuardedSets
from mesh.cache.store import CacheStore
from services.graph.domain import SETS, Line
from services.graph.erasure import Erasure as GraphErasure
from services.graph.readmodel import ReadModel
from services.graph.store.erasure import SqlRemains as GraphRemains
from services.graph.store.sql import SqlGraphStore
from services.graph.store.sql_lists import SqlListStore
from services.moderation.store.sql import SqlModerationStore
from services.tweet.domain import ERASED
from services.tweet.erasure import Erasure as TweetErasure
from services.tweet.store.erasure import SqlRemains as TweetRemains
from services.tweet.store.sql import SqlTweetStore
from services.tweet.tweets import Tweets
from services.user.store.exports import SqlExportStore
from views.record import TWEET_PREFIX

from .conftest import Valkey
from .sqlite_stores import Sql, sqlite

GONE = 7_000_000_007
OTHER = 8_000_000_008
KEPT_A_WHILE = {"outbox", "erasures"}
"""Tables that have the id until a time is over, which other tests wait for."""

Erase = Callable[[Sql, CacheStore], Awaitable[None]]


@pytest_asyncio.fixture
async def cache(valkey: Valkey) -> AsyncIterator[CacheStore]:
    store = open_cache(valkey.url)
    yield store
    await store.close()


def fill(path: Path, service: str) -> int:
    """Rows that name GONE in each column with people's ids, each with OTHER in the rest; gives how many."""
    rows = 0
    db = sqlite3.connect(path)
    tables = importlib.import_module(f"services.{service}.personal").TABLES
    for name, table in tables.items():
        if name in KEPT_A_WHILE:
            continue
        for whose in table.people:
            rows += 1
            values: dict[str, Any] = {}
            for place, (_, column, kind, needed, default, key) in enumerate(db.execute(f"PRAGMA table_info({name})")):
                if column == whose:
                    values[column] = GONE
                elif column in table.people:
                    values[column] = OTHER
                elif column in ("deleted", "gone"):
                    values[column] = 0
                elif (needed and default is None) or key:
                    number = 1000 * rows + place
                    values[column] = str(number).encode() if kind in ("BYTEA", "BLOB") else number
                    if kind == "TEXT":
                        values[column] = f"text {number}"
            marks = ", ".join("?" * len(values))
            db.execute(f"INSERT INTO {name} ({', '.join(values)}) VALUES ({marks})", list(values.values()))
    if service == "graph":  # what hangs on lists hangs on one that is there, and is somebody else's
        db.execute("INSERT INTO lists (list_id, owner_id, name) VALUES (555, ?, 'of another')", (OTHER,))
        for name in ("list_members", "list_follows", "list_pins"):
            db.execute(f"UPDATE {name} SET list_id = 555")
    db.commit()
    db.close()
    return rows


def found(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Rows by table in which GONE is anywhere, as a number, as text or as 8 bytes."""
    db = sqlite3.connect(path)
    names = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    forms = (str(GONE).encode(), GONE.to_bytes(8, "big"))

    def has(value: Any) -> bool:
        content = value if isinstance(value, bytes) else str(value).encode()
        return any(form in content for form in forms)

    hits = {name: [row for row in db.execute(f"SELECT * FROM {name}") if any(map(has, row))] for name in names}
    db.close()
    return {name: rows for name, rows in hits.items() if rows and name not in KEPT_A_WHILE}


async def erase_graph(sql: Sql, cache: CacheStore) -> None:
    store = SqlGraphStore(sql.db, sql.outbox, Line(10_000))
    readmodel = ReadModel(store, GuardedSets(cache, SETS))
    erasure = GraphErasure(store, SqlListStore(sql.db, sql.outbox), GraphRemains(sql.db), readmodel)
    for _ in range(2):
        await erasure.erase(GONE)


async def erase_tweets(sql: Sql, cache: CacheStore) -> None:
    store = SqlTweetStore(sql.db, sql.outbox)
    erasure = TweetErasure(
        store, TweetRemains(sql.db, sql.outbox, store.counts), Tweets(store, Records(cache, TWEET_PREFIX))
    )
    for _ in range(2):
        await erasure.erase(GONE)
    # Retweets of what is gone go by the event of its deletion; here nobody hears of it.
    for event in await sql.events():
        if (message := event.message).DESCRIPTOR.name == "TweetDeleted":
            assert message.author_id == GONE  # type: ignore[attr-defined]


async def erase_user(sql: Sql, cache: CacheStore) -> None:
    store = SqlExportStore(sql.db, sql.outbox)
    for _ in range(2):
        await store.erase(GONE, UserErased(user_id=GONE), until_ms=0)


async def erase_moderation(sql: Sql, cache: CacheStore) -> None:
    store = SqlModerationStore(sql.db, sql.outbox)
    while await store.erase(GONE, 2):
        pass


@pytest.mark.parametrize(
    ("service", "erase"),
    [("graph", erase_graph), ("tweet", erase_tweets), ("user", erase_user), ("moderation", erase_moderation)],
    ids=["graph", "tweet", "user", "moderation"],
)
async def test_no_table_has_anything_of_an_erased_person(
    service: str, erase: Erase, tmp_path: Path, cache: CacheStore
) -> None:
    async with sqlite(service, tmp_path) as sql:
        path = tmp_path / f"{service}.db"
        rows = fill(path, service)
        before = found(path)
        assert sum(map(len, before.values())) >= rows
        await erase(sql, cache)
        left = found(path)
        if service == "tweet":  # a retweet of a tweet of theirs, which goes with the tweet and not with its author
            [retweet] = left.pop("tweets")
            assert before["tweets"][-1] == retweet
        assert left == {}


async def test_others_tweets_stay_and_say_no_more_whom_they_answer_or_mention(
    tmp_path: Path, cache: CacheStore
) -> None:
    async with sqlite("tweet", tmp_path) as sql:
        entities = TweetEntities(
            mentions=[
                MentionEntity(start=0, end=5, username="gone", id=GONE),
                MentionEntity(start=6, end=12, username="other", id=OTHER),
            ]
        )
        db = sqlite3.connect(tmp_path / "tweet.db")
        for tweet_id, answered, mentions in ((1, GONE, b""), (2, OTHER, entities.SerializeToString()), (3, OTHER, b"")):
            db.execute(
                "INSERT INTO tweets (id, author_id, text, lang, possibly_sensitive, reply_settings, conversation_id,"
                " in_reply_to_tweet_id, in_reply_to_user_id, entities)"
                " VALUES (?, 5, 'kept', 'en', 0, 'everyone', 1, 9, ?, ?)",
                (tweet_id, answered, mentions or None),
            )
        db.execute("INSERT INTO mentions (user_id, tweet_id) VALUES (?, 2)", (GONE,))
        db.commit()
        db.close()
        await erase_tweets(sql, cache)
        store = SqlTweetStore(sql.db, sql.outbox)
        tweets = {tweet.id: tweet for tweet in await store.by_ids([1, 2, 3])}
        assert [tweets[i].text for i in (1, 2, 3)] == ["kept"] * 3
        assert [tweets[i].in_reply_to_user_id for i in (1, 2, 3)] == [ERASED, OTHER, OTHER]
        mentioned = TweetEntities.FromString(tweets[2].entities).mentions
        assert [(one.username, one.id) for one in mentioned] == [("gone", 0), ("other", OTHER)]
        assert tweets[3].version == 1
        relinked = [event.message for event in await sql.events()]
        assert [(m.tweet_id, m.old_in_reply_to_user_id, m.in_reply_to_user_id) for m in relinked] == [  # type: ignore[attr-defined]
            (1, GONE, ERASED),
            (2, OTHER, OTHER),
        ]
