"""What a request asks to see: `tweet.fields`, `post.fields`, `user.fields`, `poll.fields` and `expansions`, checked
once and kept.

A plan is made once for each different choice and kept (clients repeat theirs), so a request on the hot path pays for
one dictionary look-up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from rookery.api.v2.envelope_pb2 import Fields
from rookery.api.v2.poll_pb2 import Poll

from mesh.errors import InvalidArgument, Violation
from views.record import POLL, TWEET, USER, end_of

_PLANS = 1024  # different choices kept; a client uses a handful
_MAX_TEXT = 1024  # all names of one kind together have 500

# Members that X names and clients ask for by habit, and that are never there (yet): asking is no error.
_TWEET_ABSENT = frozenset(
    [
        "article",
        "card_uri",
        "community_id",
        "context_annotations",
        "display_text_range",
        "edit_controls",
        "geo",
        "media_metadata",
        "non_public_metrics",
        "note_post",
        "note_tweet",
        "organic_metrics",
        "promoted_metrics",
        "scopes",
        "suggested_source_links",
        "withheld",
    ]
)
_USER_ABSENT = frozenset(
    [
        "affiliation",
        "confirmed_email",
        "connection_status",
        "is_identity_verified",
        "most_recent_post_id",
        "most_recent_tweet_id",
        "parody",
        "receives_your_dm",
        "subscription",
        "subscription_type",
        "verified_followers_count",
        "withheld",
    ]
)
_TWEET_FIELDS = frozenset(
    [
        "id",
        "text",
        "author_id",
        "created_at",
        "conversation_id",
        "in_reply_to_user_id",
        "referenced_tweets",
        "entities",
        "attachments",
        "lang",
        "possibly_sensitive",
        "reply_settings",
        "source",
        "public_metrics",
        "edit_history_tweet_ids",
    ]
)
_POST_FIELDS = _TWEET_FIELDS - {"referenced_tweets", "edit_history_tweet_ids"} | {
    "referenced_posts",
    "edit_history_post_ids",
}
_USER_FIELDS = frozenset(
    [
        "id",
        "name",
        "username",
        "created_at",
        "description",
        "location",
        "url",
        "entities",
        "pinned_tweet_id",
        "pinned_post_id",
        "profile_image_url",
        "profile_banner_url",
        "protected",
        "verified",
        "verified_type",
        "public_metrics",
    ]
)

# Expansion -> the member that holds the ids, which is shown too, as X does.
_TWEET_EXPANSIONS = {
    "attachments.poll_ids": "attachments",
    "author_id": "author_id",
    "entities.mentions.username": "entities",
    "in_reply_to_user_id": "in_reply_to_user_id",
    "referenced_tweets.id": "referenced_tweets",
    "referenced_tweets.id.author_id": "referenced_tweets",
}
_POST_EXPANSIONS = {
    "attachments.poll_ids": "attachments",
    "author_id": "author_id",
    "entities.mentions.username": "entities",
    "in_reply_to_user_id": "in_reply_to_user_id",
    "referenced_posts": "referenced_posts",
    "referenced_posts.author_id": "referenced_posts",
}
_TWEET_EXPANSIONS_ABSENT = frozenset(
    [
        "article.cover_media",
        "article.media_entities",
        "attachments.media_keys",
        "attachments.media_source_tweet",
        "edit_history_tweet_ids",
        "edit_history_post_ids",
        "entities.note.mentions.username",
        "geo.place_id",
        "referenced_tweets.id.attachments.media_keys",
        "referenced_posts.attachments.media_keys",
    ]
)
_POLL_FIELDS = frozenset(["id", "options", "duration_minutes", "end_datetime", "voting_status"])
# Poll.voting_status on the wire (field 5), which no record has: it depends on the time of reading.
_OPEN, _CLOSED = (Poll(voting_status=status).SerializeToString() for status in ("open", "closed"))
_USER_EXPANSIONS = {"pinned_tweet_id": "pinned_tweet_id"}
_USER_POST_EXPANSIONS = {"pinned_post_id": "pinned_post_id"}
_USER_EXPANSIONS_ABSENT = frozenset(["affiliation.user_id", "most_recent_tweet_id", "most_recent_post_id"])

FIELDS: Mapping[str, frozenset[str]] = {
    "tweet.fields": _TWEET_FIELDS | _TWEET_ABSENT,
    "post.fields": _POST_FIELDS | _TWEET_ABSENT,
    "user.fields": _USER_FIELDS | _USER_ABSENT,
    "poll.fields": _POLL_FIELDS,
}
"""Names that each parameter takes."""
TWEET_EXPANSIONS = _TWEET_EXPANSIONS.keys() | _POST_EXPANSIONS.keys() | _TWEET_EXPANSIONS_ABSENT
"""Expansions of tweets, those of both vocabularies; a request uses one of the two."""
USER_EXPANSIONS = _USER_EXPANSIONS.keys() | _USER_POST_EXPANSIONS.keys() | _USER_EXPANSIONS_ABSENT
"""The same of people."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One choice."""

    posts: bool
    """Whether to speak of posts."""
    expansions: frozenset[str]
    """What to include, by the names of tweets whichever vocabulary was used."""
    cut_tweet: Callable[[bytes], bytes]
    """Cuts a tweet's record to the fields asked for."""
    cut_user: Callable[[bytes], bytes]
    """Cuts a person's record to the fields asked for."""
    cut_poll: Callable[[bytes, int], bytes]
    """Cuts a poll's record to the fields asked for; at a time, in Unix milliseconds."""


class Selecting(Protocol):
    """A request that carries a choice."""

    @property
    def tweet(self) -> Fields:
        """`tweet.fields`."""
        ...

    @property
    def post(self) -> Fields:
        """`post.fields`."""
        ...

    @property
    def user(self) -> Fields:
        """`user.fields`."""
        ...

    @property
    def expansions(self) -> str:
        """`expansions`."""
        ...


class SelectingTweets(Selecting, Protocol):
    """A request for tweets that carries a choice."""

    @property
    def poll(self) -> Fields:
        """`poll.fields`."""
        ...


def tweets_plan(request: SelectingTweets) -> Plan:
    """The plan of a request whose `data` is tweets. Raises InvalidArgument for a name that X does not know."""
    fields = request.tweet.fields, request.post.fields, request.user.fields, request.poll.fields
    return _plan(True, *fields, request.expansions)


def users_plan(request: Selecting) -> Plan:
    """The plan of a request whose `data` is people. Raises InvalidArgument for a name that X does not know."""
    return _plan(False, request.tweet.fields, request.post.fields, request.user.fields, "", request.expansions)


@lru_cache(maxsize=_PLANS)
def _plan(
    of_tweets: bool, tweet_fields: str, post_fields: str, user_fields: str, poll_fields: str, expansions: str
) -> Plan:
    wanted = _names(expansions)
    posts = bool(post_fields) or any("post" in name for name in wanted)
    if of_tweets:
        known, absent = _POST_EXPANSIONS if posts else _TWEET_EXPANSIONS, _TWEET_EXPANSIONS_ABSENT
    else:
        known, absent = _USER_POST_EXPANSIONS if posts else _USER_EXPANSIONS, _USER_EXPANSIONS_ABSENT
    _check("expansions", wanted, known.keys() | absent)
    shown = {known[name] for name in wanted if name in known}
    of_tweet, of_post, of_user = _names(tweet_fields), _names(post_fields), _names(user_fields)
    of_poll = _names(poll_fields)
    _check("tweet.fields", of_tweet, FIELDS["tweet.fields"])
    _check("post.fields", of_post, FIELDS["post.fields"])
    _check("user.fields", of_user, FIELDS["user.fields"])
    _check("poll.fields", of_poll, FIELDS["poll.fields"])
    fields = {_as_posts(name) if posts else name for name in of_tweet | of_post | (shown if of_tweets else set())}
    fields |= {"default", "edit_history_post_ids" if posts else "edit_history_tweet_ids"}
    return Plan(
        posts=posts,
        expansions=frozenset(
            name.replace("referenced_posts.", "referenced_tweets.id.")
            .replace("referenced_posts", "referenced_tweets.id")
            .replace("pinned_post_id", "pinned_tweet_id")
            for name in wanted & known.keys()
        ),
        cut_tweet=TWEET.cutter(TWEET.ranges(fields & TWEET.index.keys())),
        cut_user=USER.cutter(
            USER.ranges(({"default"} | of_user | (set() if of_tweets else shown)) & USER.index.keys())
        ),
        cut_poll=_poll_cutter(of_poll),
    )


def _poll_cutter(names: frozenset[str]) -> Callable[[bytes, int], bytes]:
    cut = POLL.cutter(POLL.ranges(({"default"} | names) & POLL.index.keys()))
    if "voting_status" not in names:
        return lambda record, now_ms: cut(record)
    return lambda record, now_ms: cut(record) + (_OPEN if now_ms < end_of(record) else _CLOSED)


def _as_posts(name: str) -> str:
    if name == "public_metrics":
        return "post_public_metrics"
    return name.replace("_tweet", "_post")


def _names(text: str) -> frozenset[str]:
    # Plans are kept by these texts, and a known name may stand in one any number of times.
    if len(text) > _MAX_TEXT:
        raise InvalidArgument(
            "One or more parameters to your request was invalid.",
            violations=[Violation("", f"a list of fields or expansions has {_MAX_TEXT} characters at most")],
        )
    return frozenset(name for part in text.split(",") if (name := part.strip()))


def _check(parameter: str, names: frozenset[str], known: frozenset[str] | set[str]) -> None:
    unknown = sorted(names - known)
    if unknown:
        raise InvalidArgument(
            "One or more parameters to your request was invalid.",
            violations=[
                Violation(
                    parameter,
                    f"The `{parameter}` query parameter value [{name[:64]}] is not one of [{','.join(sorted(known))}]",
                )
                for name in unknown[:10]
            ],
        )
