"""Everybody at once, through two replicas, on Cassandra; and a replica that is killed while it writes."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from rookery.events.v1.tweet_events_pb2 import TweetCreated, TweetLiked, TweetUnliked

from mesh.errors import Unavailable
from services.tweet.domain import Choice, Mark, StoredPoll, StoredTweet
from services.tweet.store.base import By
from services.tweet.store.open import Stores

from .cassandra_stores import Keyspace, empty, opened
from .engines import ROOT

pytestmark = pytest.mark.timeout(300)
ADA, BOB = 1, 2
WAYS = 50


@pytest.fixture
async def two(tweets_keyspace: str) -> AsyncIterator[tuple[Keyspace, list[Stores]]]:
    """Two replicas with connections of their own, on empty tables."""
    async with AsyncExitStack() as stack:
        made = [await stack.enter_async_context(opened(tweets_keyspace, grace_s=0.0)) for _ in range(2)]
        await empty(made[0][0].db)
        yield made[0][0], [stores for _, stores in made]


async def at_once(replicas: list[Stores], act: Callable[[Stores, int], Awaitable[Any]]) -> list[Any]:
    """The same thing WAYS times, each second one at the other replica."""
    return await asyncio.gather(*(act(replicas[n % 2], n) for n in range(WAYS)))


async def is_right(stores: Stores, *people: int) -> None:
    """Nothing is under way, and all counts are those of the rows."""
    while (await stores.counts.apply(1_000)).changes:
        pass
    assert await stores.check.wrong_tweets([10]) == []
    assert await stores.check.wrong_authors(people) == []


async def test_one_retweet_comes_of_fifty(two: tuple[Keyspace, list[Stores]]) -> None:
    keyspace, replicas = two
    await replicas[0].tweets.create(StoredTweet(10, ADA, "text"), "")
    made = await at_once(
        replicas, lambda stores, n: stores.tweets.create(StoredTweet(100 + n, BOB, "RT", retweeted_id=10), "")
    )
    assert len({tweet.id for tweet in made}) == 1
    page = await replicas[1].tweets.page(By.RETWEETED, 10, before=0, after=0, ascending=False, limit=99)
    assert [entry.tweet_id for entry in page] == [made[0].id]
    told = {event.message.tweet_id for event in await keyspace.events() if isinstance(event.message, TweetCreated)}
    assert told == {10, made[0].id}
    await is_right(replicas[0], ADA, BOB)
    assert (await replicas[0].tweets.by_ids([10]))[0].retweet_count == 1


async def test_one_tweet_comes_of_a_request_that_is_sent_fifty_times(two: tuple[Keyspace, list[Stores]]) -> None:
    _, replicas = two
    made = await at_once(replicas, lambda stores, n: stores.tweets.create(StoredTweet(100 + n, ADA, "text"), "r"))
    assert len({tweet.id for tweet in made}) == 1
    await is_right(replicas[1], ADA)
    page = await replicas[1].tweets.page(By.AUTHOR, ADA, before=0, after=0, ascending=False, limit=99)
    assert len(page) == 1


async def test_likes_and_unlikes_of_one_person_alternate(two: tuple[Keyspace, list[Stores]]) -> None:
    keyspace, replicas = two
    await replicas[0].tweets.create(StoredTweet(10, ADA, "text"), "")

    async def act(stores: Stores, n: int) -> int:
        if n % 3:
            return int(await stores.tweets.mark(Mark.LIKE, BOB, 10, 100 + n))
        return -int(await stores.tweets.unmark(Mark.LIKE, BOB, 10))

    balance = sum(await at_once(replicas, act))
    liked = await replicas[1].tweets.marking_users(Mark.LIKE, 10, before=0, after=0, limit=99)
    assert len(liked) == balance
    assert balance in (0, 1)
    await is_right(replicas[0], ADA, BOB)
    assert (await replicas[0].tweets.by_ids([10]))[0].like_count == balance
    changes = {
        event.message.like_version: isinstance(event.message, TweetLiked)
        for event in await keyspace.events()
        if isinstance(event.message, TweetLiked | TweetUnliked)
    }
    assert sorted(changes) == list(range(1, len(changes) + 1)), "each change has a number, and none is missing"
    assert [changes[number] for number in sorted(changes)] == [number % 2 == 1 for number in sorted(changes)]


async def test_fifty_people_vote_once_each_and_one_person_once_of_fifty_times(
    two: tuple[Keyspace, list[Stores]],
) -> None:
    _, replicas = two
    poll = StoredPoll(300, 10, 5, 1_000, (Choice(1, "yes"), Choice(2, "no")))
    await replicas[0].tweets.create(StoredTweet(10, ADA, "is it?", poll_id=300), "", (), poll)
    await at_once(replicas, lambda stores, n: stores.polls.vote(300, 1_000 + n, 1 + n % 2, 500))
    once = await at_once(replicas, lambda stores, n: stores.polls.vote(300, BOB, 1 + n % 2, 500))
    [position] = set(once)
    await is_right(replicas[0], ADA)
    [counted] = await replicas[1].polls.by_ids([300])
    expected = Counter({1: WAYS // 2, 2: WAYS // 2})
    expected[position] += 1
    assert [choice.votes for choice in counted.choices] == [expected[1], expected[2]]
    assert await replicas[1].check.wrong_polls([300]) == []


async def test_nothing_is_left_on_a_tweet_that_is_deleted_meanwhile(two: tuple[Keyspace, list[Stores]]) -> None:
    """Likes, bookmarks and retweets race with the deletion and with what it brings; whatever they were told."""
    _, replicas = two
    await replicas[0].tweets.create(StoredTweet(10, ADA, "text"), "")

    async def act(stores: Stores, n: int) -> None:
        if n == 7:
            await stores.tweets.delete(10, ADA)
            while await stores.tweets.purge(10, 10) == 10:
                pass
        elif n % 3:
            await stores.tweets.mark(list(Mark)[n % 2], 1_000 + n, 10, 2_000 + n)
        else:
            await stores.tweets.create(StoredTweet(3_000 + n, 1_000 + n, "RT", retweeted_id=10), "")

    await asyncio.gather(*(act(replicas[n % 2], n) for n in range(WAYS)), return_exceptions=True)
    for entry in await replicas[0].tweets.page(By.RETWEETED, 10, before=0, after=0, ascending=False, limit=99):
        await replicas[0].tweets.delete(entry.tweet_id, entry.author_id)  # as the event of the deletion has it done
    while await replicas[0].tweets.purge(10, 10):
        pass
    for mark in Mark:
        assert await replicas[1].tweets.marking_users(mark, 10, before=0, after=0, limit=99) == []
    people = [1_000 + n for n in range(WAYS)]
    assert await replicas[0].check.wrong_authors(people) == []
    for person in people:
        for mark in Mark:
            assert await replicas[0].tweets.marked_tweets(mark, person, before=0, after=0, limit=9) == []


CHILD = """
import asyncio, sys
from mesh.errors import Unavailable
from services.tweet.domain import Mark, StoredTweet
from tests.engines.cassandra_stores import opened

async def main():
    async with opened(sys.argv[1]) as (keyspace, stores):
        async def until_done(act):
            while True:
                try:
                    return await act()
                except Unavailable:
                    continue

        async def person(who):
            for n in range(1_000):
                tweet = StoredTweet(1_000 * who + n, who, "text", in_reply_to_tweet_id=10)
                await until_done(lambda: stores.tweets.create(tweet, f"r{n}"))
                print("tweet", who, tweet.id, flush=True)
                await until_done(lambda: stores.tweets.mark(Mark.LIKE, who, tweet.id, 10**6 + tweet.id))
                print("like", who, tweet.id, flush=True)
        await asyncio.gather(*(person(who) for who in range(100, 116)))

asyncio.run(main())
"""


async def test_what_a_killed_replica_acknowledged_is_there_and_what_it_began_is_whole(
    two: tuple[Keyspace, list[Stores]], tweets_keyspace: str
) -> None:
    keyspace, [stores, _] = two
    await stores.tweets.create(StoredTweet(10, ADA, "text"), "")
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CHILD, tweets_keyspace), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    acknowledged: dict[str, set[tuple[int, int]]] = {"tweet": set(), "like": set()}
    async for line in child.stdout:
        kind, *told = line.decode().split()
        if kind in acknowledged:  # else it is a log
            who, tweet_id = map(int, told)
            acknowledged[kind].add((who, tweet_id))
        if len(acknowledged["like"]) == 100:
            child.send_signal(signal.SIGKILL)
    assert await child.wait() == -signal.SIGKILL
    while True:
        try:
            if not await stores.tweets.journal.complete():  # type: ignore[attr-defined]
                break
        except Unavailable:
            continue
    assert await keyspace.db.rows("SELECT act FROM intents") == []
    written, liked = set(), set()
    for who in range(100, 116):
        page = await stores.tweets.page(By.AUTHOR, who, before=0, after=0, ascending=False, limit=999)
        written |= {(who, entry.tweet_id) for entry in page}
        marks = await stores.tweets.marked_tweets(Mark.LIKE, who, before=0, after=0, limit=999)
        liked |= {(who, mark.other_id) for mark in marks}
    assert acknowledged["tweet"] <= written
    assert acknowledged["like"] <= liked <= written
    assert len(written) - len(acknowledged["tweet"]) <= 16, "one each may be done and not said"
    events = Counter(
        (event.message.author_id, event.message.tweet_id)
        for event in await keyspace.events()
        if isinstance(event.message, TweetCreated) and event.message.tweet_id != 10
    )
    assert events.keys() == written
    await is_right(stores, *range(100, 116))
    [counted] = await stores.tweets.by_ids([10])
    assert counted.reply_count == len(written)
