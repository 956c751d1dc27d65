"""Rows of `tweets` and `polls`, as this store reads them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from mesh.db.cassandra import Cassandra, Row
from services.tweet.domain import Choice, StoredPoll, StoredTweet, Visibility
from views.entry import Entry

_CONTENT = (
    "id, author_id, text, entities, lang, possibly_sensitive, reply_settings, conversation_id, in_reply_to_tweet_id,"
    " in_reply_to_user_id, quoted_id, retweeted_id, retweeted_author_id, poll_id"
)
_COUNTS = "retweet_count, reply_count, like_count, quote_count, bookmark_count, impression_count"
_REST = "deleted, changes, counted, named, request_id, visibility"
TWEET = f"SELECT {_CONTENT}, {_COUNTS}, {_REST} FROM tweets WHERE id = ?"
"""One tweet; `found` tells whether it is there."""
LIFE = "SELECT author_id, deleted FROM tweets WHERE id = ?"
POLL = "SELECT id, tweet_id, duration_minutes, end_ms, labels, deleted, votes, counted FROM polls WHERE id = ?"
_CONTENT_COLUMNS = 14
_COUNT_COLUMNS = 6


async def tweet_rows(db: Cassandra, ids: Iterable[int]) -> list[Row]:
    """Rows of those tweets that are there, or were, in the order of the ids. Raises Unavailable."""
    found = await db.many([(TWEET, (tweet_id,)) for tweet_id in dict.fromkeys(ids)])
    # Counts that came late to a row that was removed are no tweet.
    return [rows[0] for rows in found if rows and rows[0].author_id is not None]


def tweet_of(row: Any) -> StoredTweet:
    """The tweet that a row is."""
    counts = [value or 0 for value in row[_CONTENT_COLUMNS : _CONTENT_COLUMNS + _COUNT_COLUMNS]]
    values = [*row[:_CONTENT_COLUMNS], *counts, bool(row.deleted), row.changes + (row.counted or 0)]
    return replace(StoredTweet(*values), visibility=Visibility(row.visibility or Visibility.OPEN))


async def lives(db: Cassandra, tweet_id: int) -> bool:
    """Whether a tweet is there. Raises Unavailable."""
    rows = await db.rows(LIFE, (tweet_id,))
    return bool(rows) and rows[0].author_id is not None and not rows[0].deleted


async def poll_rows(db: Cassandra, ids: Sequence[int]) -> list[Row]:
    """Rows of polls whose tweets are there. Raises Unavailable."""
    found = await db.many([(POLL, (poll_id,)) for poll_id in dict.fromkeys(ids)])
    return [rows[0] for rows in found if rows and rows[0].tweet_id is not None and not rows[0].deleted]


def votes_of(row: Any) -> list[int]:
    """What is counted of a poll, by choice."""
    return list(row.votes or [0] * len(row.labels))


def poll_of(row: Any) -> StoredPoll:
    """The poll that a row is."""
    choices = tuple(
        Choice(position, label, votes)
        for position, (label, votes) in enumerate(zip(row.labels, votes_of(row), strict=True), 1)
    )
    return StoredPoll(row.id, row.tweet_id, row.duration_minutes, row.end_ms, choices, 1 + (row.counted or 0))


def entry_of(row: Any, author_id: int) -> Entry:
    """The entry that a row of a list is."""
    return Entry(row.tweet_id, author_id, row.in_reply_to_user_id, row.retweeted_id, row.retweeted_author_id)
