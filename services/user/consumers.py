"""What `user` does about events: counts from their owners, and read-model records that a crash kept from being written.

All handlers may see an event twice or late: counts are absolute and numbered, records are versioned.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from google.protobuf.message import Message
from rookery.events.v1.graph_events_pb2 import ListedCountChanged, UserFollowed, UserUnfollowed
from rookery.events.v1.tweet_events_pb2 import AuthorCountsMended, TweetCreated, TweetDeleted, TweetLiked, TweetUnliked
from rookery.events.v1.user_events_pb2 import UserErased, UserProfileChanged, UserRegistered, UserStateChanged

from mesh.bus.base import Bus, Subscription
from mesh.bus.dispatch import dispatch_batch
from services.user.domain import CountChange
from services.user.people import People
from services.user.store.base import UserStore

_CHANGED = (UserRegistered, UserProfileChanged, UserStateChanged)
_COUNTED = (
    UserFollowed,
    UserUnfollowed,
    ListedCountChanged,
    TweetCreated,
    TweetDeleted,
    TweetLiked,
    TweetUnliked,
    AuthorCountsMended,
)


def count_changes(events: Sequence[Message]) -> list[CountChange]:
    """The newest change of each person's each count in a batch of events."""
    newest: dict[tuple[int, str], CountChange] = {}
    for event in events:
        for change in _changes(event):
            key = (change.user_id, change.count)
            if key not in newest or newest[key].version < change.version:
                newest[key] = change
    return list(newest.values())


def _changes(event: Message) -> Iterator[CountChange]:
    if isinstance(event, UserFollowed | UserUnfollowed):
        counts = event.counts
        yield CountChange(event.follower_id, "following", counts.following_count, counts.follower_version)
        yield CountChange(event.followee_id, "followers", counts.followers_count, counts.followee_version)
    elif isinstance(event, ListedCountChanged):
        yield CountChange(event.user_id, "listed", event.listed_count, event.version)
    elif isinstance(event, TweetCreated | TweetDeleted):
        yield CountChange(event.author_id, "tweets", event.author_tweet_count, event.author_version)
    elif isinstance(event, TweetLiked | TweetUnliked):
        yield CountChange(event.user_id, "likes", event.like_count, event.like_version)
    elif isinstance(event, AuthorCountsMended):
        yield CountChange(event.author_id, "tweets", event.tweet_count, event.version)
        yield CountChange(event.author_id, "likes", event.like_count, event.version)


def subscriptions(bus: Bus, store: UserStore, people: People) -> list[Subscription]:
    """Everything that `user` reads from the bus."""

    async def count(events: Sequence[Message]) -> None:
        await people.publish(await store.apply_counts(count_changes(events)))

    async def unpin(events: Sequence[Message]) -> None:
        deleted = [event for event in events if isinstance(event, TweetDeleted)]
        await people.publish(await store.unpin([(event.author_id, event.tweet_id) for event in deleted]))

    async def rewrite(events: Sequence[Message]) -> None:
        erased = {event.user_id for event in events if isinstance(event, UserErased)}
        ids = {event.user_id for event in events if isinstance(event, _CHANGED)} - erased
        await people.load(sorted(ids))
        for user_id in erased:
            await people.bury(user_id)

    return [
        bus.subscribe_batch(
            "user-counts",
            ["social", "tweets", "engagement"],
            dispatch_batch(_COUNTED, count),
        ),
        bus.subscribe_batch("user-pins", ["tweets"], dispatch_batch([TweetDeleted], unpin)),
        bus.subscribe_batch("user-records", ["users"], dispatch_batch([*_CHANGED, UserErased], rewrite)),
    ]
