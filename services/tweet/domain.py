"""Rules about tweets, with no I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from enum import IntEnum, StrEnum

from rookery.api.v2.poll_pb2 import Poll, PollOption
from rookery.api.v2.tweet_pb2 import ReferencedTweet, Tweet, TweetEntities, TweetPublicMetrics
from rookery.events.v1.tweet_events_pb2 import (
    TWEET_VISIBILITY_LIMITED,
    TWEET_VISIBILITY_OPEN,
    TWEET_VISIBILITY_REMOVED,
    TweetCreated,
    TweetReview,
    TweetVisibility,
    TweetVisibilityChanged,
)

from mesh.cache.records import TOMBSTONE, VERSION_BYTES
from mesh.errors import InvalidArgument, PermissionDenied, Violation
from mesh.ids import id_of_ms, ms_of_id, rfc3339_of_id
from views.entry import Entry
from views.record import POLL, TWEET, poll_facts, tweet_facts
from views.text import problem_of

TWEETS_TOPIC = "tweets"
ENGAGEMENT_TOPIC = "engagement"
VOTES = "votes."
"""What is counted of a poll begins with this (`vote_metric`)."""
_SOURCE = "Rookery"
ERASED = -1
"""Stands for somebody who was erased where a tweet says whom it answers. It is an answer still, for those who follow
that person: nobody, but its author."""


class ReplySettings(StrEnum):
    """Who may answer in a conversation, by the setting of the tweet that began it."""

    EVERYONE = "everyone"
    MENTIONED = "mentionedUsers"
    """Its author, and those mentioned in it."""
    FOLLOWING = "following"
    """Those, and whomever its author follows."""


class Visibility(IntEnum):
    """How far a tweet reaches, as moderators or the check before publishing decided; numbers of TweetVisibility."""

    OPEN = TWEET_VISIBILITY_OPEN
    """As far as its author does."""
    LIMITED = TWEET_VISIBILITY_LIMITED
    """To those who follow its author or ask for it (views/visibility.py)."""
    REMOVED = TWEET_VISIBILITY_REMOVED
    """To nobody, until a later decision."""


@dataclass(frozen=True, slots=True)
class Review:
    """Why a tweet is to be looked at once it is published."""

    reasons: tuple[str, ...]
    """Names of reasons, as `moderation` gives them; UNCHECKED when it could not say."""
    toxicity: float = 0.0
    """0 to 1."""
    spam: float = 0.0
    """0 to 1."""


UNCHECKED = "unchecked"
"""The reason of a review when the check before publishing failed or was late."""


class Mark(StrEnum):
    """What a person may do to a tweet once."""

    LIKE = "like"
    BOOKMARK = "bookmark"


class Metric(StrEnum):
    """What is counted of a tweet; each is the name of the count's column."""

    RETWEETS = "retweet_count"
    REPLIES = "reply_count"
    LIKES = "like_count"
    QUOTES = "quote_count"
    BOOKMARKS = "bookmark_count"
    IMPRESSIONS = "impression_count"


def vote_metric(position: int) -> str:
    """What is counted of a poll: votes for one choice."""
    return f"{VOTES}{position}"


@dataclass(frozen=True, slots=True)
class StoredTweet:
    """One row of `tweets`."""

    id: int
    """Snowflake id."""
    author_id: int
    """Who wrote it."""
    text: str
    """As written; empty when deleted."""
    entities: bytes = b""
    """rookery.api.v2.TweetEntities, serialised."""
    lang: str = "und"
    """BCP 47 tag, "und" when unknown."""
    possibly_sensitive: bool = False
    """Whether its author marked it."""
    reply_settings: str = ReplySettings.EVERYONE
    """Who may answer."""
    conversation_id: int = 0
    """The tweet that began the conversation; its own id when it did itself."""
    in_reply_to_tweet_id: int = 0
    """What it answers; 0 for nothing."""
    in_reply_to_user_id: int = 0
    """Whom it answers; 0 for nobody, ERASED for somebody who was erased."""
    quoted_id: int = 0
    """What it quotes; 0 for nothing."""
    retweeted_id: int = 0
    """What it repeats; 0 for nothing."""
    retweeted_author_id: int = 0
    """Who wrote what it repeats; 0 for nobody."""
    poll_id: int = 0
    """The poll that hangs on it; 0 for none."""
    retweet_count: int = 0
    """Retweets."""
    reply_count: int = 0
    """Replies."""
    like_count: int = 0
    """Likes."""
    quote_count: int = 0
    """Quotes."""
    bookmark_count: int = 0
    """Bookmarks."""
    impression_count: int = 0
    """How often it was shown, about."""
    deleted: bool = False
    """Whether it is gone."""
    version: int = 1
    """Number of the last change."""
    visibility: Visibility = Visibility.OPEN
    """How far it reaches."""

    @property
    def entry(self) -> Entry:
        """As tweet lists have it."""
        return Entry(self.id, self.author_id, self.in_reply_to_user_id, self.retweeted_id, self.retweeted_author_id)

    @property
    def references(self) -> list[tuple[str, int]]:
        """Tweets that it points at: X's name of the relation, and the id."""
        pairs = (
            ("retweeted", self.retweeted_id),
            ("quoted", self.quoted_id),
            ("replied_to", self.in_reply_to_tweet_id),
        )
        return [(relation, tweet_id) for relation, tweet_id in pairs if tweet_id]


@dataclass(frozen=True, slots=True)
class Choice:
    """One row of `poll_options`."""

    position: int
    """1 for the first."""
    label: str
    """What it says."""
    votes: int = 0
    """How many chose it."""


@dataclass(frozen=True, slots=True)
class StoredPoll:
    """One row of `polls`, with its choices."""

    id: int
    """Snowflake id."""
    tweet_id: int
    """The tweet that it hangs on."""
    duration_minutes: int
    """For how long votes are taken."""
    end_ms: int
    """Unix time in milliseconds from which on none is."""
    choices: tuple[Choice, ...]
    """In their order."""
    version: int = 1
    """Number of the last change."""


def poll_of(poll_id: int, tweet_id: int, labels: Iterable[str], duration_minutes: int) -> StoredPoll:
    """The poll of a tweet to be; it begins when the tweet does. Raises InvalidArgument for a choice without a word."""
    choices = tuple(Choice(position, label.strip()) for position, label in enumerate(labels, 1))
    if not all(choice.label for choice in choices):
        problem = "must not be blank"
        raise InvalidArgument(f"A choice {problem}.", violations=[Violation("poll.options", problem)])
    return StoredPoll(poll_id, tweet_id, duration_minutes, ms_of_id(tweet_id) + duration_minutes * 60_000, choices)


def poll_record(poll: StoredPoll) -> bytes:
    """A poll's read-model record."""
    made = Poll(
        id=poll.id,
        options=[PollOption(position=one.position, label=one.label, votes=one.votes) for one in poll.choices],
        duration_minutes=poll.duration_minutes,
        end_datetime=rfc3339_of_id(id_of_ms(poll.end_ms)),
    )
    return POLL.encode(made, version=poll.version, facts=poll_facts(end_ms=poll.end_ms))


def checked_text(text: str, content: str) -> str:
    """The text of a tweet to be. Raises InvalidArgument when it cannot be one."""
    chosen = (text or content).strip()
    problem = problem_of(chosen)
    if problem is not None:
        raise InvalidArgument(f"The text {problem}.", violations=[Violation("text", problem)], reason="INVALID_TEXT")
    return chosen


def mentioned_ids(tweet: StoredTweet) -> set[int]:
    """People mentioned in a tweet."""
    return {mention.id for mention in TweetEntities.FromString(tweet.entities).mentions if mention.id}


def is_for(tweet: StoredTweet, excluded: Collection[int]) -> set[int]:
    """Whom a tweet is for: those mentioned in it and whom it answers, but for its author and those `excluded`."""
    return (mentioned_ids(tweet) | {tweet.in_reply_to_user_id}) - {0, tweet.author_id, *excluded}


def relinked(tweet: StoredTweet, user_id: int) -> StoredTweet:
    """The tweet as it is once a person whom it answers or mentions was erased. The text is its author's, and stays."""
    answered = ERASED if tweet.in_reply_to_user_id == user_id else tweet.in_reply_to_user_id
    return replace(unlinked(tweet, [user_id]), in_reply_to_user_id=answered)


def unlinked(tweet: StoredTweet, user_ids: Collection[int]) -> StoredTweet:
    """The tweet with mentions of these people that do not say who they are."""
    entities = TweetEntities.FromString(tweet.entities)
    for mention in entities.mentions:
        if mention.id in user_ids:
            mention.ClearField("id")
    return replace(tweet, entities=entities.SerializeToString())


def needs_following(root: StoredTweet, viewer_id: int) -> bool:
    """Whether the viewer may answer in the conversation that `root` began only if its author follows them.

    Raises PermissionDenied when the viewer may not answer at all.
    """
    if root.reply_settings == ReplySettings.EVERYONE or viewer_id == root.author_id or viewer_id in mentioned_ids(root):
        return False
    if root.reply_settings == ReplySettings.FOLLOWING:
        return True
    raise may_not_reply()


def may_not_reply() -> PermissionDenied:
    """What somebody is told whom a conversation's reply_settings leave out."""
    return PermissionDenied("You may not reply in this conversation.", reason="REPLIES_LIMITED")


def not_visible(what: str) -> PermissionDenied:
    """What somebody is told who answers or quotes a tweet that is not there, or not for them to see."""
    return PermissionDenied(f"You attempted to {what} a tweet that is deleted or not visible to you.")


def not_to_be_repeated() -> PermissionDenied:
    """What somebody is told who retweets or quotes a protected person's tweet."""
    return PermissionDenied("Tweets of protected accounts cannot be retweeted or quoted.", reason="PROTECTED")


def retweet_of(original: StoredTweet, *, tweet_id: int, author_id: int, username: str) -> StoredTweet:
    """The retweet of an original, which is no retweet itself."""
    return StoredTweet(
        id=tweet_id,
        author_id=author_id,
        text=f"RT @{username}: {original.text}",
        lang=original.lang,
        possibly_sensitive=original.possibly_sensitive,
        conversation_id=tweet_id,
        retweeted_id=original.id,
        retweeted_author_id=original.author_id,
    )


def resource(tweet: StoredTweet) -> Tweet:
    """The public resource, in both vocabularies."""
    references = [ReferencedTweet(type=relation, id=tweet_id) for relation, tweet_id in tweet.references]
    made = Tweet(
        id=tweet.id,
        text=tweet.text,
        edit_history_tweet_ids=[tweet.id],
        edit_history_post_ids=[tweet.id],
        author_id=tweet.author_id,
        created_at=rfc3339_of_id(tweet.id),
        conversation_id=tweet.conversation_id,
        in_reply_to_user_id=tweet.in_reply_to_user_id if tweet.in_reply_to_user_id > 0 else None,
        referenced_tweets=references,
        referenced_posts=references,
        lang=tweet.lang,
        possibly_sensitive=tweet.possibly_sensitive,
        reply_settings=tweet.reply_settings,
        source=_SOURCE,
        public_metrics=TweetPublicMetrics(
            retweet_count=tweet.retweet_count,
            repost_count=tweet.retweet_count,
            reply_count=tweet.reply_count,
            like_count=tweet.like_count,
            quote_count=tweet.quote_count,
            bookmark_count=tweet.bookmark_count,
            impression_count=tweet.impression_count,
        ),
    )
    if tweet.poll_id:
        made.attachments.poll_ids.append(tweet.poll_id)
    if tweet.entities:
        made.entities.CopyFrom(TweetEntities.FromString(tweet.entities))
    return made


def created(tweet: StoredTweet, review: Review | None) -> TweetCreated:
    """The event of a new tweet, without its author's counts."""
    event = TweetCreated(
        tweet_id=tweet.id,
        author_id=tweet.author_id,
        in_reply_to_user_id=tweet.in_reply_to_user_id,
        retweeted_tweet_id=tweet.retweeted_id,
        retweeted_author_id=tweet.retweeted_author_id,
        referenced_tweet_ids=[tweet_id for _, tweet_id in tweet.references],
    )
    if tweet.visibility is not Visibility.OPEN:
        event.visibility = visibility_value(tweet.visibility)
    if review is not None:
        event.review.CopyFrom(
            TweetReview(reasons=review.reasons, toxicity=review.toxicity, spam=review.spam),
        )
    return event


def visibility_value(visibility: Visibility) -> TweetVisibility.ValueType:
    """As events and RPCs have it."""
    return TweetVisibility.ValueType(visibility)


def visibility_changed(tweet: StoredTweet) -> TweetVisibilityChanged:
    """The event that tells how far a tweet reaches now."""
    return TweetVisibilityChanged(
        tweet_id=tweet.id, author_id=tweet.author_id, visibility=visibility_value(tweet.visibility)
    )


def record(tweet: StoredTweet) -> bytes:
    """The read-model record; a tombstone for a deleted tweet, and for a removed one the version alone.

    That says that nothing is there, as a tombstone does, but a later version replaces it: an appeal may bring it back.
    """
    if tweet.deleted:
        return TOMBSTONE
    if tweet.visibility is Visibility.REMOVED:
        return tweet.version.to_bytes(VERSION_BYTES, "big")
    facts = tweet_facts(tweet.entry, limited=tweet.visibility is Visibility.LIMITED)
    return TWEET.encode(resource(tweet), version=tweet.version, facts=facts)
