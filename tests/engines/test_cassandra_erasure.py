"""What is left of an erased person in the tweets store on Cassandra: nothing. Others keep what is theirs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, cast

import pytest
from rookery.api.v2.tweet_pb2 import MentionEntity, TweetEntities
from rookery.events.v1.tweet_events_pb2 import TweetDeleted, TweetRelinked

from mesh.cache.open import open_cache
from mesh.cache.records import Records
from mesh.cache.store import CacheStore
from services.tweet.domain import ERASED, Choice, Mark, StoredPoll, StoredTweet
from services.tweet.erasure import Erasure
from services.tweet.store.base import By
from services.tweet.store.erasure import Remains
from services.tweet.store.open import Stores
from services.tweet.tweets import Tweets
from tests.stores.conftest import Valkey
from views.record import TWEET_PREFIX

from .cassandra_stores import Keyspace, content, empty, opened

GONE, OTHER, THIRD = 7_000_000_007, 8_000_000_008, 9_000_000_009
KEPT_A_WHILE = {"outbox_waiting", "outbox_published"}


@pytest.fixture
async def one(tweets_keyspace: str) -> AsyncIterator[tuple[Keyspace, Stores]]:
    """A replica on empty tables."""
    async with opened(tweets_keyspace, grace_s=0.0) as (keyspace, stores):
        await empty(keyspace.db)
        yield keyspace, stores


async def live(stores: Stores) -> None:
    """GONE does everything, and others do everything with what they wrote."""
    tweets = stores.tweets
    entities = TweetEntities(mentions=[MentionEntity(start=0, end=5, username="gone", id=GONE)]).SerializeToString()
    await tweets.create(StoredTweet(10, GONE, "of the one who goes"), "request", [OTHER])
    await tweets.create(StoredTweet(11, OTHER, "of another"), "")
    await tweets.create(replace(StoredTweet(12, OTHER, "@gone"), entities=entities), "", [GONE])
    reply = StoredTweet(20, OTHER, "an answer", conversation_id=10, in_reply_to_tweet_id=10, in_reply_to_user_id=GONE)
    await tweets.create(replace(reply, quoted_id=10), "", [GONE, THIRD])
    await tweets.create(replace(reply, id=21, conversation_id=11, in_reply_to_tweet_id=11), "", [])
    mine = StoredTweet(30, GONE, "an answer", conversation_id=11, in_reply_to_tweet_id=11, in_reply_to_user_id=OTHER)
    await tweets.create(replace(mine, quoted_id=11), "", [OTHER])
    await tweets.create(StoredTweet(31, GONE, "RT", retweeted_id=11, retweeted_author_id=OTHER), "")
    await tweets.create(StoredTweet(32, GONE, "soon deleted"), "another request")
    await tweets.delete(32, GONE)
    for poll_id, tweet_id, author in ((300, 40, GONE), (301, 41, OTHER)):
        poll = StoredPoll(poll_id, tweet_id, 5, 10**15, (Choice(1, "yes"), Choice(2, "no")))
        await tweets.create(StoredTweet(tweet_id, author, "is it?", poll_id=poll_id), "", (), poll)
        for voter in (GONE, OTHER, THIRD):
            await stores.polls.vote(poll_id, voter, 1, 500)
    for number, mark in enumerate(Mark):
        for place, (who, what) in enumerate(
            [(GONE, 11), (GONE, 10), (OTHER, 10), (THIRD, 11), (OTHER, 32), (GONE, 12)]
        ):
            if what != 32:
                await tweets.mark(mark, who, what, 1_000 + 100 * number + place)


async def named(keyspace: Keyspace) -> dict[str, list[str]]:
    """Rows by table in which GONE is anywhere."""
    found = await content(keyspace.db)
    hits = {name: [row for row in rows if str(GONE) in row] for name, rows in found.items()}
    return {name: rows for name, rows in hits.items() if rows and name not in KEPT_A_WHILE}


async def late(stores: Stores, number: int) -> None:
    """A token is good for a while: GONE does some more."""
    await stores.tweets.create(StoredTweet(50 + number, GONE, "too late"), "", [THIRD])
    await stores.tweets.mark(Mark.LIKE, GONE, 11, 5_000 + number)
    await stores.tweets.mark(Mark.BOOKMARK, GONE, 11, 6_000 + number)
    await stores.polls.vote(301, GONE, 2, 500)


class LastWord:
    """Remains, but that GONE does something just before the last step."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stores.remains, name)

    async def forget(self, user_id: int) -> None:
        """See Remains."""
        await late(self._stores, 0)
        await self._stores.remains.forget(user_id)


async def erased(stores: Stores, cache: CacheStore) -> None:
    """While something is done, after which something is done, and once more."""
    tweets = Tweets(stores.tweets, Records(cache, TWEET_PREFIX))
    await Erasure(stores.tweets, cast(Remains, LastWord(stores)), tweets).erase(GONE)
    await Erasure(stores.tweets, stores.remains, tweets).erase(GONE)
    await late(stores, 1)
    await Erasure(stores.tweets, stores.remains, tweets).erase(GONE)


async def test_no_table_has_anything_of_an_erased_person(one: tuple[Keyspace, Stores], valkey: Valkey) -> None:
    keyspace, stores = one
    await live(stores)
    assert len(await named(keyspace)) > 10, "there would be nothing to erase"
    before = {tweet.id: tweet for tweet in await stores.tweets.by_ids([11, 12, 20, 21, 41])}
    cache = open_cache(valkey.url)
    try:
        await erased(stores, cache)
    finally:
        await cache.close()
    assert await named(keyspace) == {}
    left = {tweet.id: tweet for tweet in await stores.tweets.by_ids([10, 11, 12, 20, 21, 30, 31, 32, 40, 41])}
    assert left.keys() == before.keys()
    assert {i: left[i].text for i in left} == {i: before[i].text for i in before}
    assert [left[i].in_reply_to_user_id for i in (20, 21)] == [ERASED, ERASED]
    assert TweetEntities.FromString(left[12].entities).mentions[0].id == 0
    told = [event.message for event in await keyspace.events()]
    assert sorted(one.tweet_id for one in told if isinstance(one, TweetRelinked)) == [12, 20, 21]
    assert {one.tweet_id for one in told if isinstance(one, TweetDeleted)} == {10, 30, 31, 32, 40, 50, 51}
    page = await stores.tweets.page(By.CONVERSATION, 11, before=0, after=0, ascending=False, limit=9)
    assert [(entry.tweet_id, entry.in_reply_to_user_id) for entry in page] == [(21, ERASED), (11, 0)]
    assert [
        one.in_reply_to_user_id
        for one in await stores.tweets.mentions(THIRD, before=0, after=0, ascending=False, limit=9)
    ] == [ERASED]
    while (await stores.counts.apply(1_000)).changes:
        pass
    assert await stores.check.wrong_tweets([11, 12, 20, 21, 41]) == []
    assert await stores.check.wrong_polls([301]) == []
    assert await stores.check.wrong_authors([OTHER, THIRD]) == []
    [poll] = await stores.polls.by_ids([300, 301])
    assert [choice.votes for choice in poll.choices] == [2, 0]
