"""With the cache store gone everything is loaded from a database: so many loads at once, and the rest hear so soon."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from mesh.cache.loading import LoadLimit
from mesh.cache.open import open_cache
from mesh.cache.records import Records
from mesh.errors import Unavailable
from services.tweet.domain import StoredTweet
from services.tweet.store.sql import SqlTweetStore
from services.tweet.tweets import Tweets
from views.hydrate import Hydrator

from .sqlite_stores import Sql, sqlite

LIMIT, QUEUE, CALLERS = 8, 24, 400


class Watched(SqlTweetStore):
    """A store that is as slow as it is told to be, and counts who reads at once."""

    def __init__(self, sql: Sql) -> None:
        super().__init__(sql.db, sql.outbox)
        self.open = asyncio.Event()
        self.inside = self.most = self.reads = 0

    async def by_ids(self, ids: Sequence[int]) -> list[StoredTweet]:
        """Reads once it is let."""
        self.inside += 1
        self.reads += 1
        self.most = max(self.most, self.inside)
        try:
            await self.open.wait()
            return await super().by_ids(ids)
        finally:
            self.inside -= 1


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Watched]:
    async with sqlite("tweet", tmp_path) as sql:
        made = Watched(sql)
        await asyncio.gather(*(made.create(StoredTweet(n, 1, "text"), "") for n in range(1, CALLERS + 1)))
        yield made


@pytest.mark.parametrize("wait_s", [60.0, 0.2], ids=["as long as it takes", "for a moment"])
async def test_so_many_loads_run_some_wait_and_the_rest_are_refused_at_once(
    tmp_path: Path, store: Watched, wait_s: float
) -> None:
    gone = open_cache(f"unix://{tmp_path}/nobody")
    tweets = Tweets(store, Records(gone, "t:"), LoadLimit(limit=LIMIT, queue=QUEUE, wait_s=wait_s))
    hydrator = Hydrator(Records(gone, "t:"), tweets.load)
    refused: list[float] = []
    all_refused = asyncio.Event()
    wanted = CALLERS - LIMIT - (QUEUE if wait_s > 1 else 0)

    async def read(tweet_id: int) -> bytes | None:
        began = time.perf_counter()
        try:
            [found] = await hydrator.get([tweet_id])
        except Unavailable as error:
            assert error.reason == "BULKHEAD_FULL"
            refused.append(time.perf_counter() - began)
            if len(refused) == wanted:
                all_refused.set()
            return None
        return found

    readers = [asyncio.create_task(read(tweet_id)) for tweet_id in range(1, CALLERS + 1)]
    async with asyncio.timeout(30):
        await all_refused.wait()
    assert (store.most, store.reads) == (LIMIT, LIMIT)
    store.open.set()
    answered = [one for one in await asyncio.gather(*readers) if one is not None]
    assert len(answered) == CALLERS - wanted
    assert store.most == LIMIT
    refused.sort()
    print(
        f"{CALLERS} readers at once, {LIMIT} loads: {len(answered)} answered, {len(refused)} refused after"
        f" {refused[len(refused) // 2] * 1000:.0f} ms (median), {refused[-1] * 1000:.0f} ms (longest)"
    )
    assert [await read(tweet_id) is not None for tweet_id in range(1, 30)] == [True] * 29, "then it goes on"
    await gone.close()


async def test_what_many_want_is_one_load(tmp_path: Path, store: Watched) -> None:
    gone = open_cache(f"unix://{tmp_path}/nobody")
    tweets = Tweets(store, Records(gone, "t:"), LoadLimit(limit=1, queue=0))
    hydrator = Hydrator(Records(gone, "t:"), tweets.load)
    store.open.set()
    found = await asyncio.gather(*(hydrator.get([7]) for _ in range(500)))
    assert all(one == found[0] and one[0] for one in found)
    assert store.reads == 1
    await gone.close()
