"""The port of `tweet`."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from services.tweet.domain import Mark, Review, StoredPoll, StoredTweet, Visibility
from views.entry import Entry


class By(Enum):
    """What a list of tweets has in common."""

    AUTHOR = "author_id"
    CONVERSATION = "conversation_id"
    QUOTED = "quoted_id"
    RETWEETED = "retweeted_id"


@dataclass(frozen=True, slots=True)
class Marked:
    """One like or bookmark, seen from one end."""

    mark_id: int
    """Orders it among others."""
    other_id: int
    """The person, or the tweet, at the other end."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What one batch of changes came to."""

    changes: int
    """How many were added up."""
    tweets: list[StoredTweet]
    """Tweets with new counts, as they are now."""
    polls: list[StoredPoll] = field(default_factory=list)
    """Polls with new votes, as they are now."""


@dataclass(frozen=True, slots=True)
class Wrong:
    """A count that was not that of its rows."""

    id: int
    """The tweet, the poll, or the author."""
    count: str
    """Which: a column's name; of a poll, `votes.1` and so on."""
    counted: int
    """What it said, with the changes that wait."""
    rows: int
    """What it should say."""


class TweetStore(Protocol):
    """Tweets. Changes put their events into the outbox, and what they count into CountStore, in the same transaction.
    All raise Unavailable."""

    async def create(
        self,
        tweet: StoredTweet,
        request_id: str,
        mentioned: Collection[int] = (),
        poll: StoredPoll | None = None,
        review: Review | None = None,
    ) -> StoredTweet:
        """Adds a tweet, which those that it points at will count, and which is for those `mentioned`; and its poll.
        Its event says whether it is to be reviewed.

        Gives the one that this author's `request_id` (empty for none) made before, if it did; and for a retweet the
        one that the author made of the same original before. Raises NotFound when what is to be repeated is deleted.
        """
        ...

    async def by_request(self, author_id: int, request_id: str) -> StoredTweet | None:
        """The tweet that a request made before."""
        ...

    async def retweet(self, author_id: int, original_id: int) -> StoredTweet | None:
        """An author's retweet of an original, unless it is deleted."""
        ...

    async def delete(self, tweet_id: int, author_id: int) -> StoredTweet | None:
        """Deletes one of the author's own; gives what is left of it, also when it was deleted before.

        None when there is none of that id; a tweet of another author is given as it is.
        """
        ...

    async def set_visibility(self, tweet_id: int, visibility: Visibility) -> StoredTweet | None:
        """Makes a tweet reach so far; gives it, also when it did before. None for one that is not there."""
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

    async def mentions(
        self, user_id: int, *, before: int, after: int, ascending: bool, limit: int, exclude: Collection[str] = ()
    ) -> list[Entry]:
        """Tweets that mention or answer a person, as `page`."""
        ...

    async def purge(self, tweet_id: int, limit: int) -> int:
        """Removes up to `limit` rows that hang on a deleted tweet, and counts likes back at those who gave them.

        How many there were: fewer than `limit` when nothing is left. Nothing of a tweet that is there.
        """
        ...

    async def recent(
        self, author_ids: Sequence[int], *, before: int, after: int, limit: int, oldest_first: bool = False
    ) -> list[Entry]:
        """The newest tweets of many authors with ids between two bounds, exclusive, 0 for none; the newest first.

        With `oldest_first` the oldest, the oldest first.
        """
        ...

    async def mark(self, mark: Mark, user_id: int, tweet_id: int, mark_id: int) -> bool:
        """Marks a tweet; whether it was not marked before. Raises NotFound for one that is not there."""
        ...

    async def unmark(self, mark: Mark, user_id: int, tweet_id: int) -> bool:
        """Takes a mark back; whether there was one."""
        ...

    async def marked_tweets(self, mark: Mark, user_id: int, *, before: int, after: int, limit: int) -> list[Marked]:
        """What a person marked, between two mark ids (0 for no bound): newest first, with `after` oldest first."""
        ...

    async def marking_users(self, mark: Mark, tweet_id: int, *, before: int, after: int, limit: int) -> list[Marked]:
        """People who marked a tweet, as `marked_tweets`."""
        ...


class PollStore(Protocol):
    """Polls. They are made with their tweets, and go with them. All raise Unavailable."""

    async def by_ids(self, ids: Sequence[int]) -> list[StoredPoll]:
        """Those whose tweets are there, in any order."""
        ...

    async def vote(self, poll_id: int, user_id: int, position: int, now_ms: int) -> int:
        """Votes, unless the person has voted before or the poll has ended; what the person has voted for then.

        0 for nothing: it had ended. Raises NotFound when the poll's tweet is not there.
        """
        ...


class CountStore(Protocol):
    """Counts of tweets, behind the changes that wait to be added up. All raise Unavailable."""

    changed: asyncio.Event
    """Set when this process committed a change; whoever adds up clears it."""

    async def waiting(self) -> bool:
        """Whether changes wait, whoever made them."""
        ...

    async def add_impressions(self, counts: Mapping[int, int]) -> None:
        """Adds to how often tweets were shown, by tweet."""
        ...

    async def apply(self, limit: int) -> Applied:
        """Adds up to `limit` changes to the counts and forgets them, in one transaction: each counts exactly once."""
        ...


class CountCheck(Protocol):
    """Compares counts with the rows that they count. All raise Unavailable."""

    async def tweet_ids(self, after: int, limit: int) -> list[int]:
        """Ids of tweets that are there, each once, in an order of the store's own: those that follow `after`.

        0 for the first. `after` may be any id, of a tweet or of none.
        """
        ...

    async def wrong_tweets(self, ids: Sequence[int]) -> list[Wrong]:
        """Counts of these tweets that differ from their rows on one snapshot, changes that wait included."""
        ...

    async def mend_tweet(self, tweet_id: int) -> list[Wrong]:
        """Compares once more, and has what differs added up like any change; gives it."""
        ...

    async def poll_ids(self, after: int, limit: int) -> list[int]:
        """Ids of polls, as `tweet_ids`."""
        ...

    async def wrong_polls(self, ids: Sequence[int]) -> list[Wrong]:
        """Counts of votes of these polls that differ, as `wrong_tweets`."""
        ...

    async def mend_poll(self, poll_id: int) -> list[Wrong]:
        """As `mend_tweet`."""
        ...

    async def author_ids(self, after: int, limit: int) -> list[int]:
        """Ids of people with counts, as `tweet_ids`."""
        ...

    async def wrong_authors(self, ids: Sequence[int]) -> list[Wrong]:
        """Counts of these people that differ from their rows on one snapshot."""
        ...

    async def mend_author(self, author_id: int) -> list[Wrong]:
        """Compares once more, sets what differs, and leaves an event of it; gives what differed."""
        ...
