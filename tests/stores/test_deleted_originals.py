"""What is deleted is not repeated: a retweet that comes too late is refused within the transaction that makes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesh.errors import NotFound
from services.tweet.domain import StoredTweet, retweet_of
from services.tweet.store.base import By
from services.tweet.store.sql import SqlTweetStore
from tests.stores.sqlite_stores import sqlite


async def test_a_retweet_of_what_was_deleted_meanwhile_is_not_made(tmp_path: Path) -> None:
    """The retweet was drafted from the original, which went, with all its retweets, before the draft was stored."""
    async with sqlite("tweet", tmp_path) as made:
        store = SqlTweetStore(made.db, made.outbox)
        original = await store.create(StoredTweet(id=10, author_id=1, text="a secret"), "")
        draft = retweet_of(original, tweet_id=11, author_id=2, username="one")
        await store.delete(10, 1)
        before = await made.events()
        with pytest.raises(NotFound):
            await store.create(draft, "")
        assert await store.by_ids([11]) == []
        assert await store.page(By.RETWEETED, 10, before=0, after=0, ascending=False, limit=10) == []
        [left] = await store.by_ids([10])
        assert (left.retweet_count, left.version) == (0, 2)
        assert await made.events() == before


async def test_a_retweet_of_what_is_there_is_made_and_counted(tmp_path: Path) -> None:
    async with sqlite("tweet", tmp_path) as made:
        store = SqlTweetStore(made.db, made.outbox)
        original = await store.create(StoredTweet(id=10, author_id=1, text="news"), "")
        written = await store.create(retweet_of(original, tweet_id=11, author_id=2, username="one"), "")
        assert written.retweeted_id == 10
        assert [(row.id, row.retweet_count) for row in (await store.counts.apply(9)).tweets] == [(10, 1)]
