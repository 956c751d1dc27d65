"""A tweet that very many people like costs its readers what any other costs: one range of one index."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from mesh.db.sql import Tx
from services.tweet.domain import Mark, StoredTweet
from services.tweet.store.base import By
from services.tweet.store.sql import SqlTweetStore
from tests.stores.sqlite_stores import Sql, sqlite

VIRAL = 1_000
LIKERS = 200_000


async def filled(sql: Sql) -> SqlTweetStore:
    """A store with one tweet that 200,000 people like, and 200 others."""
    store = SqlTweetStore(sql.db, sql.outbox)
    for tweet_id in range(VIRAL, VIRAL + 201):
        await store.create(StoredTweet(tweet_id, 1, "text"), "")
    numbers = (
        "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :last)"
        " INSERT INTO likes (user_id, tweet_id, mark_id) SELECT n, :tweet, n * 10 FROM numbers"
    )

    async def unit(tx: Tx) -> None:
        await tx.execute(numbers, {"last": LIKERS, "tweet": VIRAL})

    await sql.db.write(unit, deadline=60.0)
    return store


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (
            "SELECT mark_id, user_id AS other_id FROM likes WHERE tweet_id = 1 AND mark_id < 9 ORDER BY mark_id DESC",
            "likes_by_tweet (tweet_id=? AND mark_id<?)",
        ),
        (
            "SELECT mark_id, user_id AS other_id FROM likes WHERE tweet_id = 1 AND mark_id > 9 ORDER BY mark_id",
            "likes_by_tweet (tweet_id=? AND mark_id>?)",
        ),
        (
            "SELECT mark_id, tweet_id AS other_id FROM likes WHERE user_id = 1 AND mark_id < 9 ORDER BY mark_id DESC",
            "likes_by_user (user_id=? AND mark_id<?)",
        ),
        (
            "SELECT id FROM tweets WHERE retweeted_id = 1 AND retweeted_id <> 0 AND id < 9 AND id > 0 AND NOT deleted"
            " ORDER BY id DESC",
            "tweets_by_retweeted (retweeted_id=? AND id>? AND id<?)",
        ),
        (
            "SELECT COUNT(*) FROM tweets WHERE in_reply_to_tweet_id = 1 AND in_reply_to_tweet_id <> 0 AND NOT deleted",
            "tweets_by_answered (in_reply_to_tweet_id=?)",
        ),
        ("SELECT COUNT(*) FROM bookmarks WHERE tweet_id = 1", "bookmarks_by_tweet (tweet_id=?)"),
    ],
)
async def test_lists_are_read_from_their_index_in_order(tmp_path: Path, query: str, index: str) -> None:
    async with sqlite("tweet", tmp_path) as sql:

        async def unit(tx: Tx) -> list[str]:
            return [row.detail for row in (await tx.execute(f"EXPLAIN QUERY PLAN {query} LIMIT 100")).all()]

        plan = await sql.db.read(unit)
        assert len(plan) == 1, "no sorting, no second table"
        assert index in plan[0]


async def test_pages_of_likers_cost_the_same_wherever_they_are(tmp_path: Path) -> None:
    """The first page, one in the middle, and the page of a tweet that nobody likes: all within a few milliseconds.

    Counting 200,000 rows takes longer than any of them is allowed; the tweet itself is read without looking at one.
    """
    async with sqlite("tweet", tmp_path) as sql:
        store = await filled(sql)

        async def took(before: int, wanted: int) -> float:
            best = 1.0
            for _ in range(5):
                began = time.perf_counter()
                page = await store.marking_users(Mark.LIKE, VIRAL, before=before, after=0, limit=100)
                best = min(best, time.perf_counter() - began)
                assert len(page) == wanted
            return best

        first, middle, none = await took(0, 100), await took(LIKERS * 5, 100), await took(1, 0)
        assert max(first, middle, none) < 0.02, (first, middle, none)
        began = time.perf_counter()
        [tweet] = await store.by_ids([VIRAL])
        assert time.perf_counter() - began < 0.02
        assert tweet.like_count == 0, "put there behind the store's back: reading counts nothing"
        assert await store.page(By.RETWEETED, VIRAL, before=0, after=0, ascending=False, limit=100) == []


async def test_a_like_of_a_viral_tweet_writes_what_any_like_writes(tmp_path: Path) -> None:
    """The tweet's own row, which all likers would wait for, is not written."""
    async with sqlite("tweet", tmp_path) as sql:
        store = await filled(sql)
        [before] = await store.by_ids([VIRAL])
        for person in range(LIKERS + 1, LIKERS + 51):
            assert await store.mark(Mark.LIKE, person, VIRAL, person * 10)
        assert await store.by_ids([VIRAL]) == [before]
        applied = await store.counts.apply(1_000)
        assert [(one.id, one.like_count, one.version) for one in applied.tweets] == [(VIRAL, 50, before.version + 1)]
