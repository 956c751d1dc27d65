"""The statements that acts are made of, by name: an intent keeps the names, so one that is in use keeps its meaning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

Value: TypeAlias = int | str | bytes | bool | list[int] | list[str] | frozenset[int] | None
Row: TypeAlias = tuple[str, tuple[Value, ...]]
"""The name of a statement, and its values but the time."""


@dataclass(frozen=True, slots=True)
class Write:
    """A statement that is the same however often it is carried out, as it says when its rows are from."""

    cql: str
    first: bool
    """Whether the time stands before the values, or after them."""

    def values(self, at: int, values: tuple[Value, ...]) -> tuple[Value, ...]:
        """All of its values; `at` is the time in microseconds."""
        return (at, *values) if self.first else (*values, at)


def _insert(table: str, columns: str) -> Write:
    marks = ", ".join("?" for _ in columns.split(","))
    return Write(f"INSERT INTO {table} ({columns}) VALUES ({marks}) USING TIMESTAMP ?", first=False)


def _update(table: str, changes: str, where: str) -> Write:
    return Write(f"UPDATE {table} USING TIMESTAMP ? SET {changes} WHERE {where}", first=True)


def _delete(table: str, where: str) -> Write:
    return Write(f"DELETE FROM {table} USING TIMESTAMP ? WHERE {where}", first=True)


_AUTHOR = "author_id = ? AND month = ? AND tweet_id = ?"
_RELATION = "other_id = ? AND relation = ? AND span = ? AND tweet_id = ?"
_MENTION = "user_id = ? AND week = ? AND tweet_id = ?"
COUNTS = "retweet_count = ?, reply_count = ?, like_count = ?, quote_count = ?, bookmark_count = ?, impression_count = ?"

WRITES = {
    # A tweet's windows are written once by each process that uses them. A person's are written each time, as they are
    # deleted when the person is erased, who may still do something with a token that is good for some minutes.
    "window": _insert("windows", "owner, list, start"),
    "person-window": _insert("windows", "owner, list, start"),
    "windows-gone": _delete("windows", "owner = ? AND list = ?"),
    "tweet": _insert(
        "tweets",
        "id, author_id, text, entities, lang, possibly_sensitive, reply_settings, conversation_id,"
        " in_reply_to_tweet_id, in_reply_to_user_id, quoted_id, retweeted_id, retweeted_author_id, poll_id,"
        " request_id, named, deleted, changes",
    ),
    "tweet-visibility": _update("tweets", "visibility = ?, changes = ?", "id = ?"),
    "tweet-deleted": _update(
        "tweets",
        "deleted = true, text = '', entities = 0x, in_reply_to_user_id = 0, retweeted_author_id = 0, changes = ?",
        "id = ?",
    ),
    "tweet-relinked": _update("tweets", "in_reply_to_user_id = ?, entities = ?, named = ?, changes = ?", "id = ?"),
    "tweet-named": _update("tweets", "named = ?", "id = ?"),
    "tweet-counted": _update("tweets", f"{COUNTS}, counted = ?", "id = ?"),
    "tweet-gone": _delete("tweets", "id = ?"),
    "by-author": _insert(
        "tweets_by_author",
        "author_id, month, tweet_id, in_reply_to_tweet_id, in_reply_to_user_id, retweeted_id, retweeted_author_id",
    ),
    "by-author-relinked": _update("tweets_by_author", "in_reply_to_user_id = ?", _AUTHOR),
    "by-author-gone": _delete("tweets_by_author", _AUTHOR),
    "by-relation": _insert(
        "tweets_by_relation",
        "other_id, relation, span, tweet_id, author_id, in_reply_to_tweet_id, in_reply_to_user_id, retweeted_id,"
        " retweeted_author_id",
    ),
    "by-relation-relinked": _update("tweets_by_relation", "in_reply_to_user_id = ?", _RELATION),
    "by-relation-gone": _delete("tweets_by_relation", _RELATION),
    "mention": _insert(
        "mentions", "user_id, week, tweet_id, author_id, in_reply_to_tweet_id, in_reply_to_user_id, shown"
    ),
    "mention-relinked": _update("mentions", "in_reply_to_user_id = ?", _MENTION),
    "mention-gone": _delete("mentions", _MENTION),
    "request": _insert("requests", "author_id, request_id, tweet_id"),
    "request-gone": _delete("requests", "author_id = ? AND request_id = ?"),
    "retweet": _insert("retweets", "author_id, retweeted_id, tweet_id"),
    "retweet-gone": _delete("retweets", "author_id = ? AND retweeted_id = ?"),
    "deleted": _insert("deleted_tweets", "author_id, tweet_id"),
    "deleted-gone": _delete("deleted_tweets", "author_id = ? AND tweet_id = ?"),
    "mark": _insert("marks", "user_id, tweet_id, mark, mark_id"),
    "mark-gone": _delete("marks", "user_id = ? AND tweet_id = ? AND mark = ?"),
    "mark-by-tweet": _insert("marks_by_tweet", "tweet_id, mark, span, mark_id, user_id"),
    "mark-by-tweet-gone": _delete(
        "marks_by_tweet", "tweet_id = ? AND mark = ? AND span = ? AND mark_id = ? AND user_id = ?"
    ),
    "mark-by-user": _insert("marks_by_user", "user_id, mark, month, mark_id, tweet_id"),
    "mark-by-user-gone": _delete(
        "marks_by_user", "user_id = ? AND mark = ? AND month = ? AND mark_id = ? AND tweet_id = ?"
    ),
    "poll": _insert("polls", "id, tweet_id, duration_minutes, end_ms, labels, deleted"),
    "poll-deleted": _update("polls", "deleted = true", "id = ?"),
    "poll-counted": _update("polls", "votes = ?, counted = ?", "id = ?"),
    "poll-gone": _delete("polls", "id = ?"),
    "vote-by-poll": _insert("votes_by_poll", "poll_id, part, position, user_id"),
    "vote-by-poll-gone": _delete("votes_by_poll", "poll_id = ? AND part = ? AND position = ? AND user_id = ?"),
    "vote-by-user": _insert("votes_by_user", "user_id, poll_id, position"),
    "vote-by-user-gone": _delete("votes_by_user", "user_id = ? AND poll_id = ?"),
}
