"""What the tables of `tweet` keep of people (mesh/db/personal.py)."""

from __future__ import annotations

from collections.abc import Mapping

from mesh.db.personal import Table

_TAKEN_BACK = "as if taken back, page by page, with its events"
_WITH_THE_TWEET = "with the tweet; in others' tweets the id"

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
"""By name, in SQL."""

CASSANDRA_TABLES: Mapping[str, Table] = {
    "tweets": Table(
        ("author_id", "in_reply_to_user_id", "retweeted_author_id", "named"),
        ("id", "conversation_id", "in_reply_to_tweet_id", "quoted_id", "retweeted_id", "poll_id", "request_id"),
        ("tweets",),
        left_out=TABLES["tweets"].left_out,
        erased=TABLES["tweets"].erased,
    ),
    "tweets_by_author": Table(
        ("author_id", "in_reply_to_user_id", "retweeted_author_id"),
        ("tweet_id", "in_reply_to_tweet_id", "retweeted_id"),
        ("tweets",),
        left_out="what others wrote",
        erased=_WITH_THE_TWEET,
    ),
    "tweets_by_relation": Table(
        ("author_id", "in_reply_to_user_id", "retweeted_author_id"),
        ("other_id", "tweet_id", "in_reply_to_tweet_id", "retweeted_id"),
        left_out="in section tweets by their author",
        erased=_WITH_THE_TWEET,
    ),
    "mentions": Table(
        ("user_id", "author_id", "in_reply_to_user_id"),
        ("tweet_id", "in_reply_to_tweet_id"),
        left_out="what others wrote",
        erased=_WITH_THE_TWEET,
    ),
    "requests": Table(
        ("author_id",), ("request_id", "tweet_id"), left_out="clients' own names of requests", erased="with the tweets"
    ),
    "retweets": Table(
        ("author_id",), ("retweeted_id", "tweet_id"), left_out="in section tweets", erased="with the tweets"
    ),
    "deleted_tweets": Table(
        ("author_id",), ("tweet_id",), left_out="they have no content any more", erased="with the tweets' rows"
    ),
    "marks": Table(("user_id",), ("tweet_id", "mark_id"), ("likes", "bookmarks"), erased=_TAKEN_BACK),
    "marks_by_tweet": Table(("user_id",), ("tweet_id", "mark_id"), left_out="as `marks`", erased=_TAKEN_BACK),
    "marks_by_user": Table(("user_id",), ("tweet_id", "mark_id"), ("likes", "bookmarks"), erased=_TAKEN_BACK),
    "polls": Table(others=("id", "tweet_id"), sections=("tweets",), erased="with the tweets that they hang on"),
    "votes_by_poll": Table(("user_id",), ("poll_id",), left_out="as `votes_by_user`", erased="with `votes_by_user`"),
    "votes_by_user": Table(("user_id",), ("poll_id",), ("poll_votes",), erased="the rows, and what they count"),
    "journals": Table(("id",), left_out="counts that the profile has", erased="the row, last of all"),
    "windows": Table(
        ("owner",), left_out="months and weeks in which a list has something", erased="the rows, with the lists"
    ),
    "intents": Table(
        ("journal",), left_out="what is being done just now", erased="done within seconds, and then deleted"
    ),
    "count_changes": Table(others=("target_id",), erased=TABLES["count_changes"].erased),
    "buckets": Table(erased="times"),
    "watermarks": Table(erased="times"),
    "worker_leases": TABLES["worker_leases"],
    "outbox_waiting": Table(("key",), ("event_id",), left_out="events of the last minutes", erased="once published"),
    "outbox_published": Table(("key",), ("event_id",), left_out="events of the last minutes", erased="by their age"),
    "outbox_lease": TABLES["outbox_lease"],
}
"""By name, on Cassandra."""
