"""Rows of `tweets`, as every query of this store reads them, and the topics that its changes are told on."""

from __future__ import annotations

from typing import Any

from sqlalchemy import bindparam, text

from services.tweet.domain import StoredTweet

TWEETS_TOPIC = "tweets"
ENGAGEMENT_TOPIC = "engagement"
COLUMNS = (
    "id, author_id, text, entities, lang, possibly_sensitive, reply_settings, conversation_id, in_reply_to_tweet_id,"
    " in_reply_to_user_id, quoted_id, retweeted_id, retweeted_author_id, retweet_count, reply_count, like_count,"
    " quote_count, bookmark_count, impression_count, deleted, version"
)
BY_IDS = text(f"SELECT {COLUMNS} FROM tweets WHERE id IN :ids").bindparams(bindparam("ids", expanding=True))


def tweet_of(row: Any) -> StoredTweet:
    """The tweet that a row with COLUMNS is."""
    values = row._asdict()
    values["entities"] = bytes(values["entities"] or b"")
    values["possibly_sensitive"] = bool(values["possibly_sensitive"])
    values["deleted"] = bool(values["deleted"])
    return StoredTweet(**values)
