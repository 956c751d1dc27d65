"""What `fanout` does about events."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from google.protobuf.message import Message
from rookery.events.v1.fanout_events_pb2 import FanoutBatchPlanned
from rookery.events.v1.graph_events_pb2 import ReachCrossed, UserFollowed, UserUnfollowed
from rookery.events.v1.tweet_events_pb2 import TweetCreated, TweetDeleted, TweetRelinked
from rookery.events.v1.user_events_pb2 import UserErased

from mesh.bus.base import Bus, Subscription
from mesh.bus.dispatch import On, dispatch, dispatch_batch
from services.fanout.delivery import TOPIC, Delivery
from views.entry import Entry

GROUPS = {"tweets": "fanout", "social": "fanout-relations", "users": "fanout-erasure", TOPIC: "fanout-writers"}
"""The consumer group of each topic that `fanout` reads."""
_AGGREGATE_S = 0.1  # a burst of follows is handled together


def _entry(event: TweetCreated | TweetDeleted) -> Entry:
    return Entry(
        event.tweet_id,
        event.author_id,
        event.in_reply_to_user_id,
        event.retweeted_tweet_id,
        event.retweeted_author_id,
    )


def subscriptions(bus: Bus, delivery: Delivery) -> list[Subscription]:
    """Everything that `fanout` reads from the bus."""

    async def created(event: TweetCreated) -> None:
        await delivery.spread(_entry(event), remove=False)

    async def deleted(event: TweetDeleted) -> None:
        await delivery.spread(_entry(event), remove=True)

    async def relinked(event: TweetRelinked) -> None:
        # Only answers change: what answers nobody has the same entry as before.
        if event.old_in_reply_to_user_id != event.in_reply_to_user_id:
            entry = Entry(event.tweet_id, event.author_id, event.in_reply_to_user_id)
            await delivery.spread(entry, remove=False)
            await delivery.spread(entry._replace(in_reply_to_user_id=event.old_in_reply_to_user_id), remove=True)

    async def erased(event: UserErased) -> None:
        await delivery.forget(event.user_id)

    async def related(events: Sequence[Message]) -> None:
        loop = asyncio.get_running_loop()
        ready = loop.time() + _AGGREGATE_S
        await delivery.relate(
            (event.follower_id, event.followee_id)
            for event in events
            if isinstance(event, UserFollowed | UserUnfollowed)
        )
        crossed = {event.user_id: event for event in events if isinstance(event, ReachCrossed)}
        for event in crossed.values():
            await delivery.cross(event.user_id, pulled=event.pulled)
        # The first follow is handled at once; those of the next 100 ms come together in the next batch.
        await asyncio.sleep(max(0.0, ready - loop.time()))

    written = (On(TweetCreated, created), On(TweetDeleted, deleted), On(TweetRelinked, relinked))
    return [
        bus.subscribe(
            GROUPS["tweets"],
            ["tweets"],
            dispatch(*written),
        ),
        bus.subscribe_batch(
            GROUPS["social"], ["social"], dispatch_batch([UserFollowed, UserUnfollowed, ReachCrossed], related)
        ),
        bus.subscribe(GROUPS["users"], ["users"], dispatch(On(UserErased, erased))),
        bus.subscribe(GROUPS[TOPIC], [TOPIC], dispatch(On(FanoutBatchPlanned, delivery.write))),
    ]
