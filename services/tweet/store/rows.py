"""Rows of `tweets` and `polls`, as every query of this store reads them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import bindparam, text

from mesh.db.sql import Tx
from services.tweet.domain import Choice, StoredPoll, StoredTweet, Visibility

COLUMNS = (
    "id, author_id, text, entities, lang, possibly_sensitive, reply_settings, conversation_id, in_reply_to_tweet_id,"
    " in_reply_to_user_id, quoted_id, retweeted_id, retweeted_author_id, poll_id, retweet_count, reply_count,"
    " like_count, quote_count, bookmark_count, impression_count, deleted, version, visibility"
)
BY_IDS = text(f"SELECT {COLUMNS} FROM tweets WHERE id IN :ids").bindparams(bindparam("ids", expanding=True))

_POLLS = text(
    "SELECT p.id, p.tweet_id, p.duration_minutes, p.end_ms, p.version FROM polls AS p"
    " JOIN tweets AS t ON t.id = p.tweet_id WHERE p.id IN :ids AND NOT t.deleted"
).bindparams(bindparam("ids", expanding=True))
_CHOICES = text(
    "SELECT poll_id, position, label, votes FROM poll_options WHERE poll_id IN :ids ORDER BY poll_id, position"
).bindparams(bindparam("ids", expanding=True))


def tweet_of(row: Any) -> StoredTweet:
    """The tweet that a row with COLUMNS is."""
    values = row._asdict()
    values["entities"] = bytes(values["entities"] or b"")
    values["possibly_sensitive"] = bool(values["possibly_sensitive"])
    values["deleted"] = bool(values["deleted"])
    values["visibility"] = Visibility(values["visibility"])
    return StoredTweet(**values)


async def polls_of(tx: Tx, ids: Sequence[int]) -> list[StoredPoll]:
    """The polls of `ids` whose tweets are there, in any order."""
    choices: defaultdict[int, list[Choice]] = defaultdict(list)
    for row in (await tx.execute(_CHOICES, {"ids": list(ids)})).all():
        choices[row.poll_id].append(Choice(row.position, row.label, row.votes))
    return [
        StoredPoll(row.id, row.tweet_id, row.duration_minutes, row.end_ms, tuple(choices[row.id]), row.version)
        for row in (await tx.execute(_POLLS, {"ids": list(ids)})).all()
    ]
