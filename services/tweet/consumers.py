"""What `tweet` does about events: it writes records that a crash kept from being written, and deletes retweets with
their originals, and forgets those who were erased.

All handlers may see an event twice or late: records are versioned, and what is deleted stays deleted.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from google.protobuf.message import Message
from rookery.events.v1.tweet_events_pb2 import (
    PollVotesCounted,
    TweetCountsChanged,
    TweetCreated,
    TweetDeleted,
    TweetRelinked,
    TweetVisibilityChanged,
)
from rookery.events.v1.user_events_pb2 import UserErased

from mesh.bus.base import Bus, Subscription
from mesh.bus.dispatch import On, dispatch, dispatch_batch
from mesh.errors import Unavailable
from services.tweet.erasure import Erasure
from services.tweet.polls import Polls
from services.tweet.store.base import By, TweetStore
from services.tweet.tweets import Tweets

_PAGE = 100
_TURN_S = 10.0  # of the 30 s that a handler may take
_CHANGES = (TweetCreated, TweetDeleted, TweetCountsChanged, TweetRelinked, TweetVisibilityChanged)
_RECORDS = (*_CHANGES, PollVotesCounted)


def subscriptions(
    bus: Bus, store: TweetStore, tweets: Tweets, polls: Polls, erasure: Erasure, *, turn_s: float = _TURN_S
) -> list[Subscription]:
    """Everything that `tweet` reads from the bus.

    Args:
        bus: where from.
        store: the tweets.
        tweets: writes their records.
        polls: writes theirs.
        erasure: takes away what erased people left.
        turn_s: seconds after which the cascade of a deletion goes on in another call.
    """

    async def rewrite(events: Sequence[Message]) -> None:
        await tweets.rewrite(sorted({event.tweet_id for event in events if isinstance(event, _CHANGES)}))
        await polls.rewrite(sorted({event.poll_id for event in events if isinstance(event, PollVotesCounted)}))

    async def cascade(event: TweetDeleted) -> None:
        until = time.monotonic() + turn_s

        def go_on() -> None:
            # A million likes take longer than a handler may. What is done stays done, and the bus calls again for as
            # long as somebody says that now is not the time.
            if time.monotonic() >= until:
                raise Unavailable("the rest of what hangs on the tweet goes in the next turn")

        if event.poll_id:
            await polls.bury(event.poll_id)
        while page := await store.page(By.RETWEETED, event.tweet_id, before=0, after=0, ascending=False, limit=_PAGE):
            for entry in page:
                left = await store.delete(entry.tweet_id, entry.author_id)
                if left:
                    await tweets.publish([left])
            go_on()
        while await store.purge(event.tweet_id, _PAGE) == _PAGE:
            go_on()

    async def erase(event: UserErased) -> None:
        await erasure.erase(event.user_id)

    return [
        bus.subscribe_batch("tweet-records", ["tweets", "engagement"], dispatch_batch(_RECORDS, rewrite)),
        bus.subscribe("tweet-cascade", ["tweets"], dispatch(On(TweetDeleted, cascade))),
        bus.subscribe("tweet-erasure", ["users"], dispatch(On(UserErased, erase))),
    ]
