"""What the tables of `tweet` keep of people (mesh/db/personal.py)."""

from __future__ import annotations

from collections.abc import Mapping

from mesh.db.personal import Table

_TAKEN_BACK = "as if taken back, page by page, with its events"

TABLES: Mapping[str, Table] = {
    "tweets": Table(
        ("author_id", "in_reply_to_user_id", "retweeted_author_id"),
        ("id", "conversation_id", "in_reply_to_tweet_id", "quoted_id", "retweeted_id", "poll_id", "request_id"),
        ("tweets",),
        left_out="deleted tweets, which have no content, and what others wrote",
        erased="deleted as by their author, with events, then the rows; others' tweets that point at the person do not"
        " any more",
    ),
    "likes": Table(("user_id",), ("tweet_id", "mark_id"), ("likes",), erased=_TAKEN_BACK),
    "bookmarks": Table(("user_id",), ("tweet_id", "mark_id"), ("bookmarks",), erased=_TAKEN_BACK),
    "mentions": Table(
        ("user_id",),
        ("tweet_id",),
        left_out="what others wrote",
        erased="the rows, and the ids in the tweets that mention the person",
    ),
    "count_changes": Table(others=("id", "target_id"), erased="numbers about tweets, added up within seconds"),
    "polls": Table(others=("id", "tweet_id"), sections=("tweets",), erased="with the tweets that they hang on"),
    "poll_options": Table(others=("poll_id",), sections=("tweets",), erased="with the tweets that they hang on"),
    "poll_votes": Table(("user_id",), ("poll_id",), ("poll_votes",), erased="the rows, and what they count"),
    "authors": Table(("author_id",), left_out="counts that the profile has", erased="the row, last of all"),
    "worker_leases": Table(erased="numbers of processes"),
    "outbox": Table(("key",), ("id", "event_id"), left_out="events of the last minutes", erased="pruned by age"),
    "outbox_lease": Table(erased="a process"),
}
"""By name."""
