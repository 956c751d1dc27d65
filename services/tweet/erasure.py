"""Erases a person from the tweets store.

What they wrote is deleted as if they had done so, with the same events, so that lists, counts and retweets follow; then
the rows go too. What they liked, kept or voted for is taken back. What others wrote stays, and does not say any more
whom it answers or mentions. It may be begun again at any time: it works on what is left.
"""

from __future__ import annotations

import asyncio
import time

from mesh.errors import Unavailable
from services.tweet.domain import Mark
from services.tweet.store.base import By, TweetStore
from services.tweet.store.erasure import Remains
from services.tweet.tweets import Tweets

_PAGE = 100
_TURN_S = 15.0  # of the 30 s that a handler of events has


class Erasure:
    """Erases people."""

    def __init__(self, store: TweetStore, remains: Remains, tweets: Tweets) -> None:
        self._store = store
        self._remains = remains
        self._tweets = tweets

    async def erase(self, user_id: int) -> None:
        """Deletes everything about a person. Raises Unavailable when a turn is over before: call again."""
        turn = _Turn()
        while page := await self._store.page(By.AUTHOR, user_id, before=0, after=0, ascending=False, limit=_PAGE):
            left = await asyncio.gather(*(self._store.delete(entry.tweet_id, user_id) for entry in page))
            await self._tweets.publish([tweet for tweet in left if tweet is not None])
            turn.check()
        for mark in Mark:
            while marks := await self._store.marked_tweets(mark, user_id, before=0, after=0, limit=_PAGE):
                await asyncio.gather(*(self._store.unmark(mark, user_id, one.other_id) for one in marks))
                turn.check()
        while votes := await self._remains.votes(user_id, after=0, limit=_PAGE):
            await asyncio.gather(*(self._remains.unvote(vote.poll_id, user_id) for vote in votes))
            turn.check()
        while pointing := await self._remains.pointing(user_id, _PAGE):
            changed = await asyncio.gather(*(self._remains.relink(tweet_id, user_id) for tweet_id in pointing))
            await self._tweets.publish([tweet for tweet in changed if tweet is not None])
            turn.check()
        while ids := await self._remains.deleted(user_id, _PAGE):
            # Once the rows are gone, nothing could tell that a record must go, nor what hangs on them.
            await self._tweets.rewrite(ids)
            await asyncio.gather(*(self._purge(tweet_id) for tweet_id in ids))
            await self._remains.remove(ids)
            turn.check()
        await self._remains.forget(user_id)

    async def _purge(self, tweet_id: int) -> None:
        while await self._store.purge(tweet_id, _PAGE) == _PAGE:
            pass


class _Turn:
    def __init__(self) -> None:
        self._until = time.monotonic() + _TURN_S

    def check(self) -> None:
        if time.monotonic() > self._until:
            raise Unavailable("an erasure goes on")
