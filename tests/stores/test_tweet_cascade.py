"""What `tweet` does about a deletion, and about counts that another process left, on real stores."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from google.protobuf.message import Message as Event
from rookery.events.v1.tweet_events_pb2 import PollVotesCounted, TweetCountsChanged, TweetDeleted

from mesh.bus.base import Bus, Message
from mesh.cache.open import open_cache
from mesh.cache.records import TOMBSTONE, Records
from mesh.errors import Unavailable
from services.tweet.consumers import subscriptions
from services.tweet.counts import Counting
from services.tweet.domain import Choice, Mark, StoredPoll, StoredTweet, record, retweet_of
from services.tweet.erasure import Erasure
from services.tweet.polls import Polls
from services.tweet.store.base import By
from services.tweet.store.sql import SqlTweetStore
from services.tweet.tweets import Tweets
from tests.stores.conftest import Valkey
from tests.stores.sqlite_stores import Sql, sqlite


class Handlers:
    """Stands in for the bus: it keeps the handlers, and the test calls them."""

    def __init__(self) -> None:
        self.one: dict[str, Callable[[Message], Awaitable[None]]] = {}
        self.many: dict[str, Callable[[Sequence[Message]], Awaitable[None]]] = {}

    def subscribe(self, group: str, topics: Sequence[str], handler: Any) -> None:
        """See mesh.bus.base.Bus."""
        self.one[group] = handler

    def subscribe_batch(self, group: str, topics: Sequence[str], handler: Any) -> None:
        """See mesh.bus.base.Bus."""
        self.many[group] = handler


def message(event: Event) -> Message:
    """An event as the bus hands it over."""
    return Message(
        topic="tweets",
        key=b"1",
        type=event.DESCRIPTOR.full_name,
        payload=event.SerializeToString(),
        event_id="e1",
        traceparent=None,
        id="1-1",
        attempt=1,
    )


@dataclass
class World:
    """The service's inside, without its server."""

    sql: Sql
    store: SqlTweetStore
    tweets: Tweets
    polls: Polls
    tweet_records: Records
    poll_records: Records
    handlers: Handlers


@asynccontextmanager
async def opened(folder: Path, valkey: Valkey, turn_s: float = 10.0) -> AsyncIterator[World]:
    """A world on stores of its own."""
    cache = open_cache(valkey.url)
    try:
        async with sqlite("tweet", folder) as sql:
            store = SqlTweetStore(sql.db, sql.outbox)
            tweet_records, poll_records = Records(cache, f"t:{folder.name}:"), Records(cache, f"p:{folder.name}:")
            tweets, polls = Tweets(store, tweet_records), Polls(store.polls, poll_records)
            handlers = Handlers()
            erasure = cast("Erasure", None)  # nobody is erased here
            subscriptions(cast("Bus", handlers), store, tweets, polls, erasure, turn_s=turn_s)
            yield World(sql, store, tweets, polls, tweet_records, poll_records, handlers)
    finally:
        await cache.close()


async def deleted_with_much(world: World, marks: int) -> TweetDeleted:
    """A deleted tweet with likes, bookmarks, retweets, mentions, a poll and votes; gives its event."""
    poll = StoredPoll(300, 10, 5, 1_000, (Choice(1, "yes"), Choice(2, "no")))
    original = await world.store.create(StoredTweet(10, 1, "text", poll_id=300), "", {7, 8}, poll)
    for person in range(100, 100 + marks):
        for mark in Mark:
            await world.store.mark(mark, person, 10, person)
        await world.store.polls.vote(300, person, 1, 500)
    for person in range(100, 105):
        await world.store.create(retweet_of(original, tweet_id=person, author_id=person, username="a"), "")
    await world.store.delete(10, 1)
    [event] = [one.message for one in await world.sql.events() if isinstance(one.message, TweetDeleted)]
    return event


async def left(world: World) -> list[int]:
    """Rows that hang on the tweet."""
    store = world.store
    retweets = await store.page(By.RETWEETED, 10, before=0, after=0, ascending=False, limit=999)
    marks = [await store.marking_users(mark, 10, before=0, after=0, limit=999) for mark in Mark]
    votes = await world.sql.db.read(lambda tx: tx.scalar("SELECT COUNT(*) FROM poll_votes"))
    polls = await world.sql.db.read(lambda tx: tx.scalar("SELECT COUNT(*) FROM polls"))
    return [len(retweets), *map(len, marks), votes, polls]


async def test_everything_goes_with_a_tweet_and_once(tmp_path: Path, valkey: Valkey) -> None:
    async with opened(tmp_path, valkey) as world:
        event = await deleted_with_much(world, 130)
        assert await left(world) == [5, 130, 130, 130, 1]
        for _ in range(2):  # events come twice
            await world.handlers.one["tweet-cascade"](message(event))
            assert await left(world) == [0, 0, 0, 0, 0]
        assert await world.poll_records.get([300]) == [TOMBSTONE]
        assert await world.tweet_records.get([100]) == [TOMBSTONE]
        counts = await world.sql.db.read(lambda tx: tx.scalar("SELECT SUM(like_count) FROM authors"))
        assert counts == 0


async def test_a_cascade_that_takes_long_goes_on_where_it_was(tmp_path: Path, valkey: Valkey) -> None:
    """Each turn says that now is not the time, so that the bus calls again and never gives up; and does something."""
    async with opened(tmp_path, valkey, turn_s=0.0) as world:
        event = await deleted_with_much(world, 130)
        before = sum(await left(world))
        for _ in range(20):
            try:
                await world.handlers.one["tweet-cascade"](message(event))
                break
            except Unavailable:
                now = sum(await left(world))
                assert now < before or now == 0
                before = now
        assert await left(world) == [0, 0, 0, 0, 0]


async def test_records_are_written_anew_after_a_process_died_with_the_batch_committed(
    tmp_path: Path, valkey: Valkey
) -> None:
    async with opened(tmp_path, valkey) as world:
        poll = StoredPoll(300, 10, 5, 1_000, (Choice(1, "yes"), Choice(2, "no")))
        tweet = await world.store.create(StoredTweet(10, 1, "text", poll_id=300), "", (), poll)
        await world.tweets.publish([tweet])
        await world.polls.publish([poll])
        await world.store.mark(Mark.LIKE, 2, 10, 100)
        await world.store.polls.vote(300, 2, 2, 500)
        applied = await world.store.counts.apply(10)  # and here it dies: nobody writes the records
        events = [one.message for one in await world.sql.events()]
        told = [one for one in events if isinstance(one, TweetCountsChanged | PollVotesCounted)]
        assert len(told) == 2
        await world.handlers.many["tweet-records"]([message(one) for one in told])
        assert await world.tweet_records.get([10]) == [record(applied.tweets[0])]
        assert await world.polls.load([300]) == await world.poll_records.get([300])
        assert (await world.poll_records.get([300]))[0] != TOMBSTONE


async def test_what_a_dead_process_left_is_added_up_by_another(tmp_path: Path, valkey: Valkey) -> None:
    """Nobody wakes it: it looks every second."""
    async with opened(tmp_path, valkey) as world:
        await world.store.create(StoredTweet(10, 1, "text"), "")
        await world.store.mark(Mark.LIKE, 2, 10, 100)
        other = SqlTweetStore(world.sql.db, world.sql.outbox)  # another process: its `changed` is never set
        counting = Counting(other.counts, world.tweets, world.polls)
        running = asyncio.create_task(counting.run())
        async with asyncio.timeout(10):
            while not (counted := counting.recent(10)):  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.02)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert counted == [10]
        assert (await world.store.by_ids([10]))[0].like_count == 1
        assert counting.recent(10) == [], "each is given once"
