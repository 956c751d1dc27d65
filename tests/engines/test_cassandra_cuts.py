"""Killed between any two statements, on Cassandra: what was decided is done by others, what was not leaves nothing.

Each change is made once undisturbed. Then it is made again and again, cut off at its first statement, its second one,
and so on, in each of three ways. Another replica completes what is left, and the rows are compared: they are those from
before or those from after, all of them, events and counts included; and after a retry they are those from after.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from mesh.bus.redis_streams import RedisStreamsBus
from mesh.db.cassandra import Cassandra
from mesh.errors import Unavailable
from mesh.outbox.cassandra import CassandraOutbox
from services.tweet.domain import Choice, Mark, StoredPoll, StoredTweet
from services.tweet.store.cassandra.stores import on_cassandra
from services.tweet.store.open import Stores

from .cassandra_stores import DEADLINE_S, content, empty
from .cuts import CUTS, DIES, Cut, DiedError

pytestmark = pytest.mark.timeout(600)
ADA, BOB, EVE = 1, 2, 3
ROOT = StoredTweet(10, ADA, "text")
REPLY = StoredTweet(20, BOB, "yes", conversation_id=10, in_reply_to_tweet_id=10, in_reply_to_user_id=ADA, quoted_id=10)
RETWEET = StoredTweet(30, EVE, "RT", retweeted_id=10, retweeted_author_id=ADA)
POLL = StoredPoll(300, 40, 5, 1_000, (Choice(1, "yes"), Choice(2, "no")))
POLLED = StoredTweet(40, ADA, "is it?", poll_id=300)


@dataclass(frozen=True)
class Change:
    """Something that is done to a store."""

    name: str
    make: Callable[[Stores], Awaitable[Any]]
    before: Sequence[Callable[[Stores], Awaitable[Any]]] = ()

    def __str__(self) -> str:
        return self.name


def create(
    tweet: StoredTweet, request_id: str = "", mentioned: Sequence[int] = (), poll: StoredPoll | None = None
) -> Any:
    return lambda stores: stores.tweets.create(tweet, request_id, mentioned, poll)


def like(stores: Stores) -> Awaitable[Any]:
    return stores.tweets.mark(Mark.LIKE, BOB, 10, 500)


def bookmark(stores: Stores) -> Awaitable[Any]:
    return stores.tweets.mark(Mark.BOOKMARK, BOB, 10, 501)


def vote(stores: Stores) -> Awaitable[Any]:
    return stores.polls.vote(300, BOB, 2, 500)


def delete(tweet: StoredTweet) -> Any:
    return lambda stores: stores.tweets.delete(tweet.id, tweet.author_id)


def apply(stores: Stores) -> Awaitable[Any]:
    return stores.counts.apply(100)


CHANGES = [
    Change("a reply that quotes and mentions", create(REPLY, "r1", [ADA, EVE]), [create(ROOT)]),
    Change("a retweet", create(RETWEET), [create(ROOT)]),
    Change("a poll", create(POLLED, "r2", (), POLL)),
    Change("a deletion", delete(REPLY), [create(ROOT), create(REPLY, "r1", [ADA, EVE])]),
    Change("a retweet taken back", delete(RETWEET), [create(ROOT), create(RETWEET)]),
    Change("a like", like, [create(ROOT)]),
    Change("a like taken back", lambda stores: stores.tweets.unmark(Mark.LIKE, BOB, 10), [create(ROOT), like]),
    Change("a bookmark", bookmark, [create(ROOT)]),
    Change("a vote", vote, [create(POLLED, "", (), POLL)]),
    Change("a vote erased", lambda stores: stores.remains.unvote(300, BOB), [create(POLLED, "", (), POLL), vote]),
    Change(
        "counts added up",
        apply,
        [create(ROOT), create(POLLED, "", (), POLL), create(REPLY), create(RETWEET), like, bookmark, vote],
    ),
    Change(
        "an erased person's id taken out",
        lambda stores: stores.remains.relink(20, ADA),
        [create(ROOT), create(REPLY, "", [ADA])],
    ),
    Change(
        "a deleted tweet removed",
        lambda stores: stores.remains.remove([20]),
        [create(ROOT), create(REPLY, "r1"), delete(REPLY)],
    ),
    Change(
        "what hangs on a deleted tweet",
        lambda stores: stores.tweets.purge(10, 10),
        [create(ROOT, "", [EVE]), like, bookmark, delete(ROOT)],
    ),
]


class Replicas:
    """Replicas of the store that share connections."""

    def __init__(self, db: Cassandra) -> None:
        self.db = db
        self._bus = RedisStreamsBus("unix:///nowhere/s?db=0")

    def one(self, how: str = CUTS[0], at: int = 0) -> tuple[Stores, Cut]:
        """A replica that is cut off."""
        cut = Cut(self.db, how, at)
        return on_cassandra(
            cut.as_cassandra, CassandraOutbox(self.db, self._bus, "tweet"), grace_s=0.0, patience_s=60.0
        ), cut

    async def after(self, change: Change) -> Stores:
        """Empty tables, and what comes before a change; every change of counts is of the change itself."""
        await empty(self.db)
        stores, _ = self.one()
        for step in change.before:
            await step(stores)
        if change.make is not apply:
            await stores.counts.apply(1_000)
        return stores

    async def completed(self) -> Mapping[str, Sequence[str]]:
        """What another replica makes of it."""
        stores, _ = self.one()
        while await stores.tweets.journal.complete():  # type: ignore[attr-defined]
            pass
        found = await content(self.db)
        assert found.pop("intents") == []
        # What was begun again tells it again, in the same words.
        found["outbox_waiting"] = sorted(set(found["outbox_waiting"]))
        # Numbers of nobody who has done anything yet: an attempt was fenced off.
        found["journals"] = [row for row in found["journals"] if "'version': 0" not in row]
        return found


@pytest.fixture
async def replicas(tweets_keyspace: str) -> AsyncIterator[Replicas]:
    """Some, on empty tables."""
    db = await Cassandra.open(tweets_keyspace, deadline=DEADLINE_S)
    yield Replicas(db)
    await db.close()


@pytest.mark.parametrize("how", CUTS)
@pytest.mark.parametrize("change", CHANGES, ids=str)
async def test_a_change_that_is_cut_off_is_done_or_not_done(replicas: Replicas, change: Change, how: str) -> None:
    await replicas.after(change)
    before = await replicas.completed()
    await replicas.after(change)
    stores, cut = replicas.one()
    await change.make(stores)
    statements, writes = cut.statements, cut.writes
    wanted = await replicas.completed()
    assert wanted != before
    assert statements > 3
    parts = change.name in ("what hangs on a deleted tweet", "counts added up")  # several, each done or not done
    seen = {True: 0, False: 0}
    for at in range(1, statements + 1):
        if how != DIES and at not in writes:
            continue  # a read that fails leaves what a death before it leaves
        await replicas.after(change)
        stores, cut = replicas.one(how, at)
        told = False
        try:
            await change.make(stores)
            told = True
        except (DiedError, Unavailable):
            pass
        assert cut.statements >= at
        left = await replicas.completed()
        done = left == wanted
        seen[done] += 1
        assert done or parts or left == before, (at, "neither done nor not done")
        assert done or not told, (at, "the caller was told that it is done")
        other, _ = replicas.one()
        await change.make(other)
        assert await replicas.completed() == wanted, (at, "after a retry")
    assert seen[True] > 0
