"""Hostile input 19: the last one to act has the last word, whatever the clocks of the processes say."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from mesh.bus.redis_streams import RedisStreamsBus
from mesh.db.cassandra import Cassandra
from mesh.outbox.cassandra import CassandraOutbox
from scripts.engines.control import Control
from services.tweet.domain import Choice, Mark, StoredPoll, StoredTweet
from services.tweet.store.base import By
from services.tweet.store.cassandra.journal import Journal
from services.tweet.store.cassandra.tweets import CassandraTweets

from .cassandra_stores import DEADLINE_S, new_keyspace

ADA, BOB = 1, 2
RANGE = {"before": 0, "after": 0, "limit": 10}


@pytest.fixture
def tweets_keyspace(cassandra: Control) -> Iterator[str]:
    """One of this test's own: what a clock that is ahead deletes stays deleted for an hour."""
    with new_keyspace(cassandra) as url:
        yield url


@asynccontextmanager
async def replica(url: str, ahead_s: float) -> AsyncIterator[CassandraTweets]:
    """A process of `tweet` whose clock is wrong."""

    def clock() -> float:
        return time.time() + ahead_s

    db = await Cassandra.open(url, deadline=DEADLINE_S)
    bus = RedisStreamsBus("unix:///nowhere/s?db=0")
    outbox = CassandraOutbox(db, bus, "tweet", clock=clock)
    journal = Journal(db, outbox, patience_s=3 * DEADLINE_S, clock=clock)
    try:
        yield CassandraTweets(db, journal, outbox)
    finally:
        await journal.close()
        await bus.close()
        await db.close()


@pytest.mark.timeout(400)
async def test_what_was_accepted_last_holds_though_an_hour_lies_between_two_clocks(tweets_keyspace: str) -> None:
    async with replica(tweets_keyspace, 3600.0) as ahead, replica(tweets_keyspace, -60.0) as behind:
        turns = itertools.cycle([(ahead, behind), (behind, ahead)])
        numbers = itertools.count(1_000)
        await ahead.create(StoredTweet(10, ADA, "text"), "")

        for _ in range(4):
            writer, reader = next(turns)
            for mark in Mark:
                number = next(numbers)
                assert await writer.mark(mark, BOB, 10, number), "it was not marked"
                assert [one.mark_id for one in await reader.marking_users(mark, 10, **RANGE)] == [number]
            writer, reader = next(turns)
            for mark in Mark:
                assert await writer.unmark(mark, BOB, 10), "it was marked"
                assert await reader.marking_users(mark, 10, **RANGE) == []
                assert await reader.marked_tweets(mark, BOB, **RANGE) == []
            next(turns)  # now the other one marks, and this one takes it back

        for _ in range(4):
            writer, reader = next(turns)
            number = next(numbers)
            made = await writer.create(StoredTweet(number, BOB, "", retweeted_id=10), "")
            assert made.id == number, "the one before was taken back"
            writer, reader = next(turns)
            assert (await writer.delete(number, BOB)).deleted  # type: ignore[union-attr]  # it is there
            assert await reader.retweet(BOB, 10) is None
            listed = await reader.page(By.RETWEETED, 10, before=0, after=0, ascending=False, limit=10)
            assert listed == []
            next(turns)

        poll = StoredPoll(300, 20, 5, 10**15, (Choice(1, "yes"), Choice(2, "no")))
        await ahead.create(StoredTweet(20, ADA, "is it?", poll_id=300), "", (), poll)
        assert await ahead.polls.vote(300, BOB, 1, 500) == 1
        assert await behind.polls.vote(300, BOB, 2, 500) == 1, "the first vote holds"

        assert (await behind.delete(10, ADA)).deleted  # type: ignore[union-attr]
        for one in (ahead, behind):
            [left] = await one.by_ids([10])
            assert (left.deleted, left.text) == (True, "")
        assert (await behind.delete(20, ADA)).deleted  # type: ignore[union-attr]
        assert await ahead.polls.by_ids([300]) == []
