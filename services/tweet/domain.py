"""Rules about tweets, with no I/O."""

from __future__ import annotations

from dataclasses import dataclass

from rookery.api.v2.tweet_pb2 import Tweet, TweetEntities, TweetPublicMetrics

from mesh.cache.records import TOMBSTONE
from mesh.errors import InvalidArgument, Violation
from mesh.ids import rfc3339_of_id
from services.tweet.text import problem_of
from views.entry import Entry
from views.record import TWEET

_SOURCE = "Rookery"


@dataclass(frozen=True, slots=True)
class StoredTweet:
    """One row of `tweets`."""

    id: int
    """Snowflake id."""
    author_id: int
    """Who wrote it."""
    text: str
    """As written; empty when deleted."""
    entities: bytes
    """rookery.api.v2.TweetEntities, serialised."""
    lang: str
    """BCP 47 tag, "und" when unknown."""
    possibly_sensitive: bool
    """Whether its author marked it."""
    reply_settings: str
    """Who may answer."""
    in_reply_to_user_id: int = 0
    """Whom it answers; 0 for nobody."""
    deleted: bool = False
    """Whether it is gone."""
    version: int = 1
    """Number of the last change."""

    @property
    def entry(self) -> Entry:
        """As tweet lists have it."""
        return Entry(self.id, self.author_id, self.in_reply_to_user_id)


def checked_text(text: str, content: str) -> str:
    """The text of a tweet to be. Raises InvalidArgument when it cannot be one."""
    chosen = (text or content).strip()
    problem = problem_of(chosen)
    if problem is not None:
        raise InvalidArgument(f"The text {problem}.", violations=[Violation("text", problem)], reason="INVALID_TEXT")
    return chosen


def resource(tweet: StoredTweet) -> Tweet:
    """The public resource, in both vocabularies."""
    made = Tweet(
        id=tweet.id,
        text=tweet.text,
        edit_history_tweet_ids=[tweet.id],
        edit_history_post_ids=[tweet.id],
        author_id=tweet.author_id,
        created_at=rfc3339_of_id(tweet.id),
        conversation_id=tweet.id,
        in_reply_to_user_id=tweet.in_reply_to_user_id or None,
        lang=tweet.lang,
        possibly_sensitive=tweet.possibly_sensitive,
        reply_settings=tweet.reply_settings,
        source=_SOURCE,
        public_metrics=TweetPublicMetrics(
            retweet_count=0,
            repost_count=0,
            reply_count=0,
            like_count=0,
            quote_count=0,
            bookmark_count=0,
            impression_count=0,
        ),
    )
    if tweet.entities:
        made.entities.CopyFrom(TweetEntities.FromString(tweet.entities))
    return made


def record(tweet: StoredTweet) -> bytes:
    """The read-model record; a tombstone for a deleted tweet."""
    if tweet.deleted:
        return TOMBSTONE
    return TWEET.encode(resource(tweet), version=tweet.version, owner=tweet.author_id)
