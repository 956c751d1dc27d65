"""Choices of fields and expansions: X's names are known, others are refused, and both vocabularies end up the same."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from rookery.api.v2.envelope_pb2 import Fields
from rookery.api.v2.poll_pb2 import Poll, PollOption
from rookery.api.v2.tweet_pb2 import ReferencedTweet, Tweet
from rookery.api.v2.user_pb2 import User

from mesh.errors import InvalidArgument
from views.entry import Entry
from views.plan import Plan, tweets_plan, users_plan
from views.record import POLL, TWEET, USER, person_facts, poll_facts, tweet_facts

ID = 2**61 + 3


@dataclass
class Asked:
    """A request, as far as a plan looks at it."""

    tweet: Fields = field(default_factory=Fields)
    post: Fields = field(default_factory=Fields)
    user: Fields = field(default_factory=Fields)
    poll: Fields = field(default_factory=Fields)
    expansions: str = ""


def asked(tweet: str = "", post: str = "", user: str = "", expansions: str = "", poll: str = "") -> Asked:
    return Asked(Fields(fields=tweet), Fields(fields=post), Fields(fields=user), Fields(fields=poll), expansions)


def full_tweet() -> bytes:
    tweet = Tweet(
        id=ID,
        text="text",
        edit_history_tweet_ids=[ID],
        edit_history_post_ids=[ID],
        author_id=7,
        created_at="2026-01-01T00:00:00.000Z",
        conversation_id=ID,
        in_reply_to_user_id=8,
        referenced_tweets=[ReferencedTweet(type="quoted", id=1)],
        referenced_posts=[ReferencedTweet(type="quoted", id=1)],
        lang="en",
        possibly_sensitive=False,
        reply_settings="everyone",
        source="x",
    )
    tweet.attachments.poll_ids.append(3)
    tweet.entities.hashtags.add(tag="a")
    metrics = tweet.public_metrics
    metrics.retweet_count = metrics.repost_count = metrics.like_count = 0
    return TWEET.encode(tweet, version=1, facts=tweet_facts(Entry(ID, 7)))


def full_user() -> bytes:
    user = User(id=7, name="n", username="u", created_at="t", description="", location="l", url="u")
    user.pinned_tweet_id = user.pinned_post_id = 5
    user.protected = user.verified = False
    user.verified_type = "none"
    user.profile_image_url = user.profile_banner_url = "p"
    user.public_metrics.tweet_count = 0
    return USER.encode(user, version=1, facts=person_facts(protected=False))


def tweet_members(plan: Plan) -> set[str]:
    return {member.name for member, _ in Tweet.FromString(plan.cut_tweet(full_tweet())).ListFields()}


def user_members(plan: Plan) -> set[str]:
    return {member.name for member, _ in User.FromString(plan.cut_user(full_user())).ListFields()}


def refusal(request: Asked) -> list[str]:
    with pytest.raises(InvalidArgument) as raised:
        tweets_plan(request)
    return [violation.field for violation in raised.value.violations]


def test_without_a_choice_the_default_members_are_shown() -> None:
    plan = tweets_plan(asked())
    assert tweet_members(plan) == {"id", "text", "edit_history_tweet_ids"}
    assert user_members(plan) == {"id", "name", "username"}
    assert (plan.posts, plan.expansions) == (False, frozenset())


@pytest.mark.parametrize("name", ["author_id", "created_at", "entities", "lang", "public_metrics", "referenced_tweets"])
def test_a_field_asked_for_is_shown_besides_the_defaults(name: str) -> None:
    assert tweet_members(tweets_plan(asked(tweet=name))) == {"id", "text", "edit_history_tweet_ids", name}


def test_every_field_that_can_be_asked_for_is_shown_when_it_is() -> None:
    everything = "id,text,author_id,created_at,conversation_id,in_reply_to_user_id,referenced_tweets,entities,lang," + (
        "possibly_sensitive,reply_settings,source,public_metrics,edit_history_tweet_ids"
    )
    assert tweet_members(tweets_plan(asked(tweet=everything))) == set(everything.split(","))
    people = (
        "id,name,username,created_at,description,location,url,pinned_tweet_id,pinned_post_id,profile_image_url,"
        + ("profile_banner_url,protected,verified,verified_type,public_metrics")
    )
    assert user_members(users_plan(asked(user=people))) == set(people.split(","))


def test_spaces_empty_and_repeated_names_change_nothing() -> None:
    assert tweet_members(tweets_plan(asked(tweet=" lang , ,lang,,"))) == tweet_members(tweets_plan(asked(tweet="lang")))


@pytest.mark.parametrize(
    "choice", [asked(post="lang"), asked(expansions="referenced_posts"), asked(expansions="edit_history_post_ids")]
)
def test_speaking_of_posts_anywhere_is_speaking_of_posts_everywhere(choice: Asked) -> None:
    plan = tweets_plan(choice)
    assert plan.posts
    members = tweet_members(plan)
    assert "edit_history_post_ids" in members
    assert not {"edit_history_tweet_ids", "referenced_tweets"} & members


def test_fields_of_posts_are_those_of_tweets_by_another_name() -> None:
    plan = tweets_plan(asked(post="referenced_posts,public_metrics"))
    cut = Tweet.FromString(plan.cut_tweet(full_tweet()))
    assert cut.referenced_posts
    assert not cut.referenced_tweets
    assert (cut.public_metrics.HasField("repost_count"), cut.public_metrics.HasField("retweet_count")) == (True, False)
    mixed = Tweet.FromString(tweets_plan(asked(tweet="public_metrics", post="lang")).cut_tweet(full_tweet()))
    assert mixed.public_metrics.HasField("repost_count")


@pytest.mark.parametrize(
    ("expansion", "member"),
    [
        ("author_id", "author_id"),
        ("entities.mentions.username", "entities"),
        ("in_reply_to_user_id", "in_reply_to_user_id"),
        ("referenced_tweets.id", "referenced_tweets"),
        ("referenced_tweets.id.author_id", "referenced_tweets"),
        ("referenced_posts", "referenced_posts"),
        ("referenced_posts.author_id", "referenced_posts"),
    ],
)
def test_an_expansion_shows_the_member_that_holds_its_ids(expansion: str, member: str) -> None:
    assert member in tweet_members(tweets_plan(asked(expansions=expansion)))


def test_expansions_have_one_name_inside_whichever_vocabulary_was_used() -> None:
    tweets = tweets_plan(asked(expansions="referenced_tweets.id,referenced_tweets.id.author_id"))
    posts = tweets_plan(asked(expansions="referenced_posts,referenced_posts.author_id"))
    assert tweets.expansions == posts.expansions == {"referenced_tweets.id", "referenced_tweets.id.author_id"}
    assert users_plan(asked(expansions="pinned_tweet_id")).expansions == {"pinned_tweet_id"}
    pinned = users_plan(asked(expansions="pinned_post_id"))
    assert pinned.expansions == {"pinned_tweet_id"}
    assert pinned.posts
    assert "pinned_post_id" in user_members(pinned)


@pytest.mark.parametrize(
    ("choice", "parameter"),
    [
        (asked(tweet="id,nonsense"), "tweet.fields"),
        (asked(tweet="referenced_posts"), "tweet.fields"),
        (asked(post="referenced_tweets"), "post.fields"),
        (asked(user="text"), "user.fields"),
        (asked(user="password_hash"), "user.fields"),
        (asked(expansions="pinned_tweet_id"), "expansions"),
        (asked(expansions="referenced_tweets"), "expansions"),
        (asked(expansions="referenced_posts,referenced_tweets.id"), "expansions"),  # both vocabularies at once
        (asked(tweet="TEXT"), "tweet.fields"),
    ],
)
def test_a_name_that_x_does_not_know_is_refused_with_its_parameter(choice: Asked, parameter: str) -> None:
    assert refusal(choice) == [parameter]


def test_a_people_request_refuses_expansions_of_tweets() -> None:
    with pytest.raises(InvalidArgument):
        users_plan(asked(expansions="author_id"))


@pytest.mark.parametrize(
    "choice",
    [asked(tweet="geo,note_tweet"), asked(user="withheld"), asked(expansions="geo.place_id,attachments.media_keys")],
)
def test_a_name_that_x_knows_and_nothing_here_has_is_no_error_and_shows_nothing(choice: Asked) -> None:
    plan = tweets_plan(choice)
    assert tweet_members(plan) == tweet_members(tweets_plan(asked()))
    assert plan.expansions == frozenset()


def test_a_refusal_is_bounded_whatever_was_asked() -> None:
    with pytest.raises(InvalidArgument) as raised:
        tweets_plan(asked(tweet=",".join(f"n{n}" for n in range(200))))
    assert 0 < len(raised.value.violations) <= 10
    with pytest.raises(InvalidArgument) as raised:
        tweets_plan(asked(tweet="x" * 900))
    assert len(raised.value.violations[0].message) < 700
    with pytest.raises(InvalidArgument):
        tweets_plan(asked(tweet="lang," * 1_000))


def test_the_same_choice_is_the_same_plan() -> None:
    assert tweets_plan(asked(tweet="lang")) is tweets_plan(asked(tweet="lang"))
    assert tweets_plan(asked()) is not users_plan(asked())


def poll_of(choice: Asked, now_ms: int) -> Poll:
    """A poll that ends at 1,000 ms, as a plan cuts it at some time."""
    options = [PollOption(position=n, label=f"choice {n}", votes=0) for n in (1, 2)]
    made = Poll(id=ID, options=options, duration_minutes=5, end_datetime="1970-01-01T00:00:01.000Z")
    record = POLL.encode(made, version=1, facts=poll_facts(end_ms=1_000))
    return Poll.FromString(tweets_plan(choice).cut_poll(record, now_ms))


def test_a_poll_shows_what_was_asked_for_and_whether_it_is_open_at_that_moment() -> None:
    plain = poll_of(asked(), 999)
    assert {one.name for one, _ in plain.ListFields()} == {"id", "options"}
    full = asked(poll="duration_minutes,end_datetime,voting_status,options,id")
    assert poll_of(full, 999).voting_status == "open"
    assert poll_of(full, 1_000).voting_status == "closed"
    assert poll_of(full, 1_000).end_datetime == "1970-01-01T00:00:01.000Z"
    assert poll_of(full, 1_000).duration_minutes == 5
    assert not poll_of(asked(poll="end_datetime"), 5_000).HasField("voting_status")
    with pytest.raises(InvalidArgument):
        poll_of(asked(poll="winner"), 0)


def test_the_expansion_of_polls_shows_attachments_in_both_vocabularies() -> None:
    for choice in (asked(expansions="attachments.poll_ids"), asked(post="id", expansions="attachments.poll_ids")):
        assert tweets_plan(choice).expansions == {"attachments.poll_ids"}
