"""What `moderation` does about events: it queues what is to be reviewed, and forgets those who were erased.

All handlers may see an event twice or late: of each tweet one case waits at most, and what is viral is queued once.
"""

from __future__ import annotations

import time
from collections import OrderedDict

from rookery.events.v1.tweet_events_pb2 import TweetCountsChanged, TweetCreated, TweetDeleted
from rookery.events.v1.user_events_pb2 import UserErased

from mesh.bus.base import Bus, Subscription
from mesh.bus.dispatch import On, dispatch
from mesh.errors import Unavailable
from mesh.ids import LeasedIds
from services.moderation.domain import SCALE, VIRAL_ENGAGEMENT, Finding, Reason
from services.moderation.material import Material
from services.moderation.store.base import ModerationStore

_PAGE = 100
_TURN_S = 10.0  # of the 30 s that a handler may take
_KNOWN = 10_000


def subscriptions(
    bus: Bus, store: ModerationStore, material: Material, ids: LeasedIds, viral: int = VIRAL_ENGAGEMENT
) -> list[Subscription]:
    """Everything that `moderation` reads from the bus.

    Args:
        bus: where from.
        store: the cases.
        material: whose tweets those are that became viral.
        ids: of cases.
        viral: likes, retweets, quotes and replies from which on a tweet is reviewed once.
    """
    known: OrderedDict[int, None] = OrderedDict()  # tweets that crossed the line, as far as this process knows

    async def created(event: TweetCreated) -> None:
        if not event.HasField("review"):
            return
        review = event.review
        # The same event again finds the case that it opened, or one that was closed since: neither is opened anew.
        reasons = tuple(Reason(name) for name in review.reasons if name in Reason.__members__.values())
        finding = Finding(
            event.tweet_id, event.author_id, reasons, round(review.toxicity * SCALE), round(review.spam * SCALE)
        )
        if reasons:
            await store.open(await ids.next(), finding, once=True)

    async def deleted(event: TweetDeleted) -> None:
        await store.drop(event.tweet_id)

    async def counted(event: TweetCountsChanged) -> None:
        engagement = event.like_count + event.retweet_count + event.quote_count + event.reply_count
        if engagement < viral or event.tweet_id in known:
            return
        tweet = (await material.tweets([event.tweet_id])).get(event.tweet_id)
        if tweet is not None and not tweet.deleted:
            finding = Finding(tweet.id, tweet.author_id, (Reason.VIRAL,))
            await store.open(await ids.next(), finding, once=True)
        known[event.tweet_id] = None
        if len(known) > _KNOWN:
            known.popitem(last=False)

    async def erased(event: UserErased) -> None:
        until = time.monotonic() + _TURN_S
        while await store.erase(event.user_id, _PAGE):
            if time.monotonic() > until:
                raise Unavailable("an erasure goes on")

    return [
        bus.subscribe("moderation-queue", ["tweets"], dispatch(On(TweetCreated, created), On(TweetDeleted, deleted))),
        bus.subscribe("moderation-viral", ["engagement"], dispatch(On(TweetCountsChanged, counted))),
        bus.subscribe("moderation-erasure", ["users"], dispatch(On(UserErased, erased))),
    ]
