"""The port of `tweet`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from services.tweet.domain import Mark, StoredTweet
from views.entry import Entry


class By(Enum):
    """What a list of tweets has in common."""

    AUTHOR = "author_id"
    CONVERSATION = "conversation_id"
    QUOTED = "quoted_id"
    RETWEETED = "retweeted_id"


@dataclass(frozen=True, slots=True)
class Written:
    """What a change left behind: rows whose read-model records are to be written."""

    tweet: StoredTweet
    """The tweet in question."""
    referenced: list[StoredTweet]
    """Tweets whose counts changed with it."""


@dataclass(frozen=True, slots=True)
class Marked:
    """One like or bookmark, seen from one end."""

    mark_id: int
    """Orders it among others."""
    other_id: int
    """The person, or the tweet, at the other end."""


class TweetStore(Protocol):
    """Tweets. Changes put their events into the outbox in the same transaction. All raise Unavailable."""

    async def create(self, tweet: StoredTweet, request_id: str) -> Written:
        """Adds a tweet and counts it at those it points at.

        Gives the one that this author's `request_id` (empty for none) made before, if it did; and for a retweet the
        one that the author made of the same original before.
        """
        ...

    async def by_request(self, author_id: int, request_id: str) -> StoredTweet | None:
        """The tweet that a request made before."""
        ...

    async def retweet(self, author_id: int, original_id: int) -> StoredTweet | None:
        """An author's retweet of an original, unless it is deleted."""
        ...

    async def delete(self, tweet_id: int, author_id: int) -> Written | None:
        """Deletes one of the author's own; gives what is left of it, also when it was deleted before.

        None when there is none of that id; a tweet of another author is given as it is.
        """
        ...

    async def by_ids(self, ids: Sequence[int]) -> list[StoredTweet]:
        """Those that exist or existed, in any order."""
        ...

    async def page(
        self, by: By, value: int, *, before: int, after: int, ascending: bool, limit: int, exclude: Collection[str] = ()
    ) -> list[Entry]:
        """Tweets with something in common and ids between two bounds, exclusive, 0 for none; the newest first or last.

        `exclude` may name "replies" and "retweets".
        """
        ...

    async def recent(self, author_ids: Sequence[int], *, before: int, after: int, limit: int) -> list[Entry]:
        """The newest tweets of many authors with ids between two bounds, exclusive, 0 for none; the newest first."""
        ...

    async def mark(self, mark: Mark, user_id: int, tweet_id: int, mark_id: int) -> StoredTweet | None:
        """Marks a tweet and counts it; None when it was marked before."""
        ...

    async def unmark(self, mark: Mark, user_id: int, tweet_id: int) -> StoredTweet | None:
        """Takes a mark back; None when there was none."""
        ...

    async def marked_tweets(self, mark: Mark, user_id: int, *, before: int, after: int, limit: int) -> list[Marked]:
        """What a person marked, between two mark ids (0 for no bound): newest first, with `after` oldest first."""
        ...

    async def marking_users(self, mark: Mark, tweet_id: int, *, before: int, after: int, limit: int) -> list[Marked]:
        """People who marked a tweet, as `marked_tweets`."""
        ...
