"""What the viewer may act upon: tweets as the store has them now, as far as they show."""

from __future__ import annotations

from mesh.errors import NotFound
from services.tweet.domain import StoredTweet, Visibility, not_to_be_repeated, record
from services.tweet.store.base import TweetStore
from views.standings import Standings
from views.visibility import Surface, may_repeat


class Sight:
    """Looks tweets up for somebody who wants to do something with them."""

    def __init__(self, store: TweetStore, standings: Standings) -> None:
        self._store = store
        self._standings = standings

    async def find(self, viewer_id: int, tweet_id: int, *, to_repeat: bool = False) -> StoredTweet | None:
        """A tweet, or what it repeats when it is a retweet; None for what is not there or does not show.

        Args:
            viewer_id: who acts.
            tweet_id: of either.
            to_repeat: whether it is to be retweeted or quoted.

        Raises:
            PermissionDenied: it shows, and may not be repeated.
        """
        for repeated in (False, True):  # a retweet points at its original, never at another retweet
            found = await self._store.by_ids([tweet_id])
            if not found or found[0].deleted or found[0].visibility is Visibility.REMOVED:
                return None
            [tweet] = found
            facts = await self._standings.of(viewer_id, [tweet.author_id])
            if not facts.sees(tweet.author_id, Surface.TWEET):
                return None
            # What the retweet repeats was not asked for.
            if repeated and not facts.reaches(record(tweet), Surface.TWEET, repeated=True):
                return None
            if not tweet.retweeted_id:
                if to_repeat and not may_repeat(facts.standing(tweet.author_id), facts.state(tweet.author_id)):
                    raise not_to_be_repeated()
                return tweet
            tweet_id = tweet.retweeted_id
        return None

    async def original(self, viewer_id: int, tweet_id: int, *, to_repeat: bool = False) -> StoredTweet:
        """As `find`. Raises NotFound for what is not there or does not show."""
        tweet = await self.find(viewer_id, tweet_id, to_repeat=to_repeat)
        if tweet is None:
            raise NotFound(f"Could not find tweet with tweet_id: [{tweet_id}].")
        return tweet
