"""The port of `tweet`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from services.tweet.domain import StoredTweet
from views.entry import Entry


class TweetStore(Protocol):
    """Tweets. Changes put their events into the outbox in the same transaction. All raise Unavailable."""

    async def create(self, tweet: StoredTweet, request_id: str) -> StoredTweet:
        """Adds a tweet; gives the one that this author's `request_id` (empty for none) made before, if it did."""
        ...

    async def by_request(self, author_id: int, request_id: str) -> StoredTweet | None:
        """The tweet that a request made before."""
        ...

    async def delete(self, tweet_id: int, author_id: int) -> StoredTweet | None:
        """Deletes one of the author's own; gives what is left of it, also when it was deleted before.

        None when there is none of that id; a tweet of another author is given as it is.
        """
        ...

    async def by_ids(self, ids: Sequence[int]) -> list[StoredTweet]:
        """Those that exist or existed, in any order."""
        ...

    async def by_author(self, author_id: int, *, before: int, after: int, ascending: bool, limit: int) -> list[Entry]:
        """An author's tweets with ids between two bounds, exclusive, 0 for none; the newest first or last."""
        ...

    async def recent(self, author_ids: Sequence[int], *, before: int, after: int, limit: int) -> list[Entry]:
        """The newest tweets of many authors with ids between two bounds, exclusive, 0 for none; the newest first."""
        ...
