"""Counts of people from their owners' events: any order, any repetition, and any crash give the same."""

from __future__ import annotations

import random
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from google.protobuf.message import Message as Event
from hypothesis import given
from hypothesis import strategies as st
from rookery.events.v1.graph_events_pb2 import FollowCounts, ListedCountChanged, UserFollowed, UserUnfollowed
from rookery.events.v1.tweet_events_pb2 import AuthorCountsMended, TweetCreated, TweetDeleted, TweetLiked, TweetUnliked
from rookery.events.v1.user_events_pb2 import UserProfileChanged, UserRegistered, UserStateChanged

from mesh.bus.base import Bus, Message
from mesh.bus.redis_streams import RedisStreamsBus
from mesh.cache.loading import LoadingCache
from mesh.cache.open import open_cache
from mesh.cache.records import Records
from mesh.db.migrations import migrate
from mesh.db.sql import Database
from mesh.outbox.sql import SqlOutbox
from services.user.consumers import count_changes, subscriptions
from services.user.domain import CountChange
from services.user.people import People
from services.user.store.base import NewPerson, Session
from services.user.store.sql import SqlUserStore
from tests.stores.conftest import Valkey
from views.record import USER, USER_PREFIX

SCHEMA = Path(__file__).parents[2] / "services/user/schema/sql"
ADA, BOB = 7, 8
HandleBatch = Callable[[Sequence[Message]], Awaitable[None]]


def follow(version: int, *, following: int, followers: int, gone: bool = False) -> Event:
    counts = FollowCounts(
        following_count=following, follower_version=version, followers_count=followers, followee_version=version
    )
    return (UserUnfollowed if gone else UserFollowed)(follower_id=ADA, followee_id=BOB, counts=counts)


# --- which changes


def test_each_event_says_whose_count_it_is() -> None:
    assert count_changes([follow(3, following=10, followers=20)]) == [
        CountChange(ADA, "following", 10, 3),
        CountChange(BOB, "followers", 20, 3),
    ]
    assert count_changes([follow(4, following=9, followers=19, gone=True)]) == [
        CountChange(ADA, "following", 9, 4),
        CountChange(BOB, "followers", 19, 4),
    ]
    created = TweetCreated(tweet_id=1, author_id=ADA, author_tweet_count=5, author_version=6)
    deleted = TweetDeleted(tweet_id=1, author_id=ADA, author_tweet_count=4, author_version=7)
    assert count_changes([created]) == [CountChange(ADA, "tweets", 5, 6)]
    assert count_changes([deleted]) == [CountChange(ADA, "tweets", 4, 7)]
    liked = TweetLiked(user_id=ADA, tweet_id=1, like_count=2, like_version=3)
    unliked = TweetUnliked(user_id=ADA, tweet_id=1, like_count=1, like_version=4)
    assert count_changes([liked]) == [CountChange(ADA, "likes", 2, 3)]
    assert count_changes([unliked]) == [CountChange(ADA, "likes", 1, 4)]
    listed = ListedCountChanged(user_id=ADA, listed_count=3, version=5)
    assert count_changes([listed]) == [CountChange(ADA, "listed", 3, 5)]
    mended = AuthorCountsMended(author_id=ADA, tweet_count=5, like_count=2, version=8)
    assert count_changes([mended]) == [CountChange(ADA, "tweets", 5, 8), CountChange(ADA, "likes", 2, 8)]


def test_events_without_counts_change_nothing() -> None:
    assert count_changes([UserRegistered(user_id=ADA), UserProfileChanged(user_id=ADA)]) == []
    assert count_changes([]) == []


@given(st.permutations([1, 2, 3, 4, 5]))
def test_of_several_changes_of_one_count_the_newest_stays_whatever_the_order(order: list[int]) -> None:
    events = [TweetCreated(author_id=ADA, author_tweet_count=n * 10, author_version=n) for n in order]
    assert count_changes(events) == [CountChange(ADA, "tweets", 50, 5)]


def test_the_numbers_of_different_counts_are_not_compared() -> None:
    changes = count_changes(
        [
            TweetCreated(author_id=ADA, author_tweet_count=1, author_version=100),
            follow(2, following=10, followers=20),
            TweetCreated(author_id=BOB, author_tweet_count=3, author_version=1),
        ]
    )
    assert {(change.user_id, change.count, change.value) for change in changes} == {
        (ADA, "tweets", 1),
        (ADA, "following", 10),
        (BOB, "followers", 20),
        (BOB, "tweets", 3),
    }


# --- the subscriptions, on real stores


class Recorder:
    """Stands where the bus is and keeps what is subscribed: messages are handed over by the test."""

    def __init__(self) -> None:
        self.groups: dict[str, tuple[list[str], HandleBatch]] = {}

    def subscribe_batch(self, group: str, topics: Sequence[str], handle: HandleBatch, **_: object) -> None:
        self.groups[group] = (list(topics), handle)

    async def deliver(self, group: str, *events: Event) -> None:
        messages = [message_of(event) for event in events]
        await self.groups[group][1](messages)


def message_of(event: Event) -> Message:
    """As the bus hands it over."""
    payload = event.SerializeToString()
    return Message("t", b"key", event.DESCRIPTOR.full_name, payload, "1-0", "event", None, 1)


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    with tempfile.TemporaryDirectory(prefix="vk") as folder:
        server = Valkey(Path(folder), durable=False)
        yield server
        server.kill()


class World:
    """The consumers of `user`, its store with two people, and its read model."""

    def __init__(self, bus: Recorder, store: SqlUserStore, records: Records) -> None:
        self.bus = bus
        self.store = store
        self.records = records

    async def counts(self, user_id: int) -> tuple[int, int, int, int]:
        (person,) = await self.store.by_ids([user_id])
        return person.followers_count, person.following_count, person.tweet_count, person.like_count

    async def shown(self, user_id: int) -> tuple[int, int, int, int] | None:
        (record,) = await self.records.get([user_id])
        if record is None:
            return None
        metrics = USER.parse(record).public_metrics
        return metrics.followers_count, metrics.following_count, metrics.tweet_count, metrics.like_count


@pytest.fixture
async def world(tmp_path: Path, valkey: Valkey) -> AsyncIterator[World]:
    url = f"sqlite+aiosqlite:///{tmp_path}/users.db"
    await migrate(url, SCHEMA)
    db = await Database.open(url)
    real_bus = RedisStreamsBus(valkey.url)  # the outbox is never started: nothing is published
    cache = open_cache(valkey.url)
    await cache.client.flushall()
    store = SqlUserStore(db, SqlOutbox(db, real_bus, "user"))
    for user_id in (ADA, BOB):
        name = f"user{user_id}"
        session = Session(user_id.to_bytes(16, "big"), user_id, b"hash", 0, 1)
        await store.create(NewPerson(user_id, name, name, "", name), session, UserRegistered(user_id=user_id))
    records = Records(cache, USER_PREFIX)
    bus = Recorder()
    subscriptions(cast("Bus", bus), store, People(store, records, LoadingCache(cache, "username:", ttl_s=60)))
    yield World(bus, store, records)
    await cache.close()
    await real_bus.close()
    await db.close()


async def test_counts_reach_the_row_and_the_read_model(world: World) -> None:
    await world.bus.deliver(
        "user-counts",
        follow(1, following=3, followers=4),
        TweetCreated(author_id=ADA, author_tweet_count=5, author_version=1),
        TweetLiked(user_id=ADA, like_count=6, like_version=1),
    )
    assert await world.counts(ADA) == await world.shown(ADA) == (0, 3, 5, 6)
    assert await world.counts(BOB) == await world.shown(BOB) == (4, 0, 0, 0)


async def test_old_and_repeated_events_change_nothing(world: World) -> None:
    newest = TweetCreated(author_id=ADA, author_tweet_count=9, author_version=9)
    await world.bus.deliver("user-counts", newest)
    (before,) = await world.records.get([ADA])
    older = TweetDeleted(author_id=ADA, author_tweet_count=8, author_version=8)
    for events in ([older], [newest], [older, newest]):
        await world.bus.deliver("user-counts", *events)
    assert await world.counts(ADA) == (0, 0, 9, 0)
    assert await world.records.get([ADA]) == [before]  # not even a new version


async def test_any_order_in_any_batches_ends_the_same(world: World) -> None:
    events = [follow(n, following=n * 2, followers=n * 3, gone=n % 2 == 0) for n in range(1, 13)]
    chance = random.Random(7)
    chance.shuffle(events)
    while events:
        batch = [events.pop() for _ in range(min(len(events), chance.randint(1, 4)))]
        await world.bus.deliver("user-counts", *batch)
    assert await world.counts(ADA) == await world.shown(ADA) == (0, 24, 0, 0)
    assert await world.counts(BOB) == await world.shown(BOB) == (36, 0, 0, 0)


async def test_counts_of_nobody_are_passed_over(world: World) -> None:
    await world.bus.deliver(
        "user-counts",
        TweetCreated(author_id=404, author_tweet_count=1, author_version=1),
        TweetCreated(author_id=ADA, author_tweet_count=1, author_version=1),
    )
    assert await world.counts(ADA) == (0, 0, 1, 0)
    assert await world.shown(404) is None


async def test_a_record_that_a_crash_kept_from_being_written_is_written_from_the_event(world: World) -> None:
    assert await world.shown(ADA) is None
    await world.bus.deliver(
        "user-records", UserRegistered(user_id=ADA), UserProfileChanged(user_id=BOB), UserRegistered(user_id=404)
    )
    assert await world.shown(ADA) == (0, 0, 0, 0)
    assert await world.shown(BOB) == (0, 0, 0, 0)
    assert await world.shown(404) is None


async def test_who_is_gone_has_a_record_without_content_until_they_are_back(world: World) -> None:
    await world.bus.deliver("user-records", UserRegistered(user_id=ADA))
    await world.store.suspend(ADA, True)  # and the process died
    await world.bus.deliver("user-records", UserStateChanged(user_id=ADA))
    assert await world.records.get([ADA]) == [(2).to_bytes(8, "big")]
    await world.bus.deliver("user-counts", follow(1, following=3, followers=4))
    assert await world.records.get([ADA]) == [(3).to_bytes(8, "big")], "counts bring nobody back"
    await world.store.suspend(ADA, False)
    await world.bus.deliver("user-records", UserStateChanged(user_id=ADA))
    assert await world.shown(ADA) == (0, 3, 0, 0)


def test_every_topic_with_counts_is_read() -> None:
    bus = Recorder()
    subscriptions(cast("Bus", bus), cast("Any", None), cast("Any", None))
    topics = {group: set(topics) for group, (topics, _) in bus.groups.items()}
    assert topics == {
        "user-counts": {"social", "tweets", "engagement"},
        "user-pins": {"tweets"},
        "user-records": {"users"},
    }


async def test_a_deleted_tweet_is_pinned_no_more(world: World) -> None:
    for user_id in (ADA, BOB):
        await world.store.update(user_id, {"pinned_tweet_id": 5}, UserProfileChanged(user_id=user_id))
    await world.bus.deliver(
        "user-pins",
        TweetDeleted(tweet_id=5, author_id=ADA),
        TweetCreated(tweet_id=5, author_id=BOB),
        TweetDeleted(tweet_id=6, author_id=BOB),
        TweetDeleted(tweet_id=5, author_id=404),
        TweetDeleted(tweet_id=5, author_id=ADA),
    )
    (ada, bob) = sorted(await world.store.by_ids([ADA, BOB]), key=lambda person: person.id)
    assert (ada.pinned_tweet_id, bob.pinned_tweet_id) == (0, 5)
    (record,) = await world.records.get([ADA])
    assert record is not None
    assert not USER.parse(record).HasField("pinned_tweet_id")
