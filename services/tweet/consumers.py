"""What `tweet` does about events: it writes the records of changes whose process died before it could."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import Message
from rookery.events.v1.tweet_events_pb2 import TweetCreated, TweetDeleted

from mesh.bus.base import Bus, Subscription
from mesh.bus.dispatch import dispatch_batch
from services.tweet.tweets import Tweets


def subscriptions(bus: Bus, tweets: Tweets) -> list[Subscription]:
    """Everything that `tweet` reads from the bus."""

    async def rewrite(events: Sequence[Message]) -> None:
        ids = {event.tweet_id for event in events if isinstance(event, TweetCreated | TweetDeleted)}
        await tweets.rewrite(sorted(ids))

    return [bus.subscribe_batch("tweet-records", ["tweets"], dispatch_batch([TweetCreated, TweetDeleted], rewrite))]
