"""The reference client of the X API, tweepy, as it is: only the host of its requests is another.

Everything is done twice, by `tweepy.Client` and by `tweepy.asynchronous.AsyncClient`: the tests are written once, for
a client whose methods may be awaited.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import httpx
import pytest
import tweepy

from mesh.ids import ms_of_id
from tests.e2e.harness import Account, register
from tests.e2e.tweepy_clients import Maker

pytestmark = pytest.mark.asyncio(loop_scope="session")
Settled = Callable[[], Awaitable[None]]


@pytest.mark.proves("POST /2/tweets", "GET /2/tweets/{id}")
async def test_posting_and_reading_a_tweet(tweepy_of: Maker, alice: Account, bob: Account) -> None:
    client = tweepy_of(alice)
    text = f"Hello @{bob.username}, see https://example.com/a?b=1 #python $TWTR 🎉"
    made = await client("create_tweet", text=text, user_auth=False)
    assert made.data["text"] == text
    tweet_id = int(made.data["id"])

    plain = (await client("get_tweet", tweet_id)).data
    assert (plain.id, plain.text, plain.edit_history_tweet_ids) == (tweet_id, text, [tweet_id])
    assert plain.author_id is None and plain.created_at is None  # only what was asked for

    found = await client(
        "get_tweet",
        tweet_id,
        tweet_fields=[
            *("author_id", "created_at", "conversation_id", "entities", "lang", "possibly_sensitive"),
            *("public_metrics", "reply_settings", "source", "in_reply_to_user_id", "referenced_tweets"),
        ],
        expansions=["author_id", "entities.mentions.username"],
        user_fields=["created_at", "public_metrics", "verified", "protected", "description"],
    )
    tweet = found.data
    assert tweet.author_id == alice.id
    assert tweet.conversation_id == tweet_id
    assert tweet.created_at == datetime.fromtimestamp(ms_of_id(tweet_id) / 1000, UTC)
    assert abs(tweet.created_at - datetime.now(UTC)) < timedelta(minutes=1)
    assert tweet.reply_settings == "everyone"
    assert tweet.source == "Rookery"
    assert tweet.possibly_sensitive is False
    assert tweet.in_reply_to_user_id is None
    assert tweet.public_metrics == dict.fromkeys(
        ("retweet_count", "reply_count", "like_count", "quote_count", "bookmark_count", "impression_count"), 0
    )
    for kind, written in (
        ("hashtags", "#python"),
        ("cashtags", "$TWTR"),
        ("mentions", f"@{bob.username}"),
        ("urls", "https://example.com/a?b=1"),
    ):
        (entity,) = tweet.entities[kind]
        assert text[entity["start"] : entity["end"]] == written
    assert tweet.entities["mentions"][0]["id"] == str(bob.id)
    assert [user.id for user in found.includes["users"]] == [alice.id, bob.id]
    author = found.includes["users"][0]
    assert (author.username, author.name) == (alice.username, f"N {alice.username}")
    assert author.verified is False and author.protected is False
    assert author.created_at == datetime.fromtimestamp(ms_of_id(alice.id) / 1000, UTC)
    assert author.public_metrics.keys() >= {"followers_count", "following_count", "tweet_count", "listed_count"}
    assert found.errors == []


@pytest.mark.proves("GET /2/tweets")
async def test_reading_many_tweets(tweepy_of: Maker, alice: Account, bob: Account) -> None:
    ids = [await alice.tweet("one"), await bob.tweet("two"), await alice.tweet("three")]
    gone = await bob.tweet("four")
    await bob.delete(gone)
    wanted = [ids[1], gone, ids[0], ids[2]]
    found = await tweepy_of(alice)("get_tweets", wanted, expansions="author_id", tweet_fields="created_at")
    assert [tweet.id for tweet in found.data] == [ids[1], ids[0], ids[2]]
    assert [tweet.text for tweet in found.data] == ["two", "one", "three"]
    assert {user.id for user in found.includes["users"]} == {alice.id, bob.id}
    (missing,) = found.errors
    assert (missing["resource_type"], missing["value"], missing["title"]) == ("tweet", str(gone), "Not Found Error")
    nothing = await tweepy_of(alice)("get_tweet", gone)
    assert nothing.data is None
    assert nothing.errors[0]["resource_id"] == str(gone)


@pytest.mark.proves(
    "GET /2/users/me", "GET /2/users/{id}", "GET /2/users", "GET /2/users/by/username/{username}", "GET /2/users/by"
)
async def test_reading_people(tweepy_of: Maker, alice: Account, bob: Account) -> None:
    client = tweepy_of(alice)
    me = (await client("get_me", user_auth=False, user_fields=["created_at", "description"])).data
    assert (me.id, me.username, me.description) == (alice.id, alice.username, "")
    by_id = (await client("get_user", id=bob.id, user_fields="public_metrics")).data
    assert (by_id.id, by_id.username, by_id.name) == (bob.id, bob.username, f"N {bob.username}")
    assert by_id.public_metrics["followers_count"] == 0
    by_name = (await client("get_user", username=bob.username.upper())).data
    assert by_name.id == bob.id
    many = await client("get_users", ids=[bob.id, 1, alice.id], user_fields="created_at")
    assert [user.id for user in many.data] == [bob.id, alice.id]
    assert all(isinstance(user.created_at, datetime) for user in many.data)
    assert [error["value"] for error in many.errors] == ["1"]
    named = await client("get_users", usernames=[alice.username, "nobody_at_all", bob.username])
    assert [user.id for user in named.data] == [alice.id, bob.id]
    assert [error["value"] for error in named.errors] == ["nobody_at_all"]
    assert (await client("get_user", id=1)).data is None


@pytest.mark.proves(
    "POST /2/users/{id}/following",
    "DELETE /2/users/{id}/following/{target_user_id}",
    "GET /2/users/{id}/followers",
    "GET /2/users/{id}/following",
)
async def test_following_and_unfollowing(
    tweepy_of: Maker, edge: httpx.AsyncClient, alice: Account, bob: Account
) -> None:
    client = tweepy_of(alice)
    carol = await register(edge)
    for other in (bob, carol):
        answer = await client("follow_user", other.id, user_auth=False)
        assert answer.data == {"following": True, "pending_follow": False}
    pages = await client.all("get_users_following", alice.id, max_results=1, user_fields=["created_at"])
    assert [[user.id for user in page.data] for page in pages] == [[carol.id], [bob.id]]  # the newest first
    assert "next_token" not in pages[-1].meta
    followers = await client("get_users_followers", bob.id, user_fields=["public_metrics", "verified"])
    assert [user.username for user in followers.data] == [alice.username]
    assert followers.data[0].verified is False
    assert followers.meta == {"result_count": 1}

    answer = await client("unfollow_user", bob.id, user_auth=False)
    assert answer.data == {"following": False}
    assert (await client("get_users_followers", bob.id)).data is None
    assert [user.id for user in (await client("get_users_following", alice.id)).data] == [carol.id]


@pytest.mark.proves("GET /2/users/{id}/timelines/reverse_chronological")
async def test_a_home_timeline_of_more_than_300_tweets(
    tweepy_of: Maker, alice: Account, bob: Account, settled: Settled
) -> None:
    client = tweepy_of(alice)
    await client("follow_user", bob.id, user_auth=False)
    assert (await client("get_home_timeline", user_auth=False)).data is None
    theirs = await bob.tweets(310, at_once=16)
    mine = await alice.tweet("the newest")
    await settled()
    pages = await client.all(
        "get_home_timeline",
        max_results=50,
        tweet_fields=["created_at", "author_id", "public_metrics", "entities"],
        expansions=["author_id"],
        user_fields=["verified"],
        user_auth=False,
    )
    tweets = [tweet for page in pages for tweet in page.data]
    assert [tweet.id for tweet in tweets] == [mine, *theirs]
    assert [len(page.data) for page in pages] == [50] * 6 + [11]
    assert all(page.meta["newest_id"] == str(page.data[0].id) for page in pages)
    assert all(page.meta["oldest_id"] == str(page.data[-1].id) for page in pages)
    assert tweets[0].author_id == alice.id and {tweet.author_id for tweet in tweets[1:]} == {bob.id}
    assert [user.id for user in pages[0].includes["users"]] == [alice.id, bob.id]
    assert [user.id for user in pages[-1].includes["users"]] == [bob.id]
    assert all(earlier.created_at >= later.created_at for earlier, later in pairwise(tweets))
    newer = await client("get_home_timeline", since_id=theirs[2], max_results=100, user_auth=False)
    assert [tweet.id for tweet in newer.data] == [mine, *theirs[:2]]


@pytest.mark.proves("GET /2/users/{id}/tweets")
async def test_a_persons_tweets(tweepy_of: Maker, alice: Account, bob: Account) -> None:
    ids = await bob.tweets(7)
    pages = await tweepy_of(alice).all(
        "get_users_tweets", bob.id, max_results=5, tweet_fields="author_id", expansions="author_id"
    )
    assert [[tweet.id for tweet in page.data] for page in pages] == [ids[:5], ids[5:]]
    assert pages[0].includes["users"][0].username == bob.username
    back = await tweepy_of(alice)(
        "get_users_tweets", bob.id, max_results=5, pagination_token=pages[1].meta["previous_token"]
    )
    assert [tweet.id for tweet in back.data] == ids[:5]
    assert (await tweepy_of(alice)("get_users_tweets", alice.id)).data is None


@pytest.mark.proves("DELETE /2/tweets/{id}")
async def test_deleting_a_tweet(tweepy_of: Maker, alice: Account, bob: Account) -> None:
    client = tweepy_of(alice)
    await bob.follow(alice)
    made = await client("create_tweet", text="not for long", user_auth=False)
    tweet_id = int(made.data["id"])
    await bob.home_is([tweet_id])
    assert (await client("delete_tweet", tweet_id, user_auth=False)).data == {"deleted": True}
    assert (await client("get_tweet", tweet_id)).data is None
    assert await bob.home() == []


async def test_errors_are_tweepys_own(tweepy_of: Maker, alice: Account, bob: Account) -> None:
    client = tweepy_of(alice)
    with pytest.raises(tweepy.BadRequest, match="281"):
        await client("create_tweet", text="x" * 281, user_auth=False)
    with pytest.raises(tweepy.Forbidden):
        await client("delete_tweet", await bob.tweet("not yours"), user_auth=False)
    with pytest.raises(tweepy.NotFound):
        await client("follow_user", 1, user_auth=False)
    nobody = Account(alice.edge, 1, "x", "eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.", "")
    with pytest.raises(tweepy.Unauthorized):
        await tweepy_of(nobody)("get_me", user_auth=False)


async def test_posts_may_be_asked_for_under_their_new_name(tweepy_of: Maker, alice: Account, bob: Account) -> None:
    """tweepy knows no `post.fields`; its request method takes any parameter."""
    tweet = await alice.tweet("called a post")

    async def fetch() -> Mapping[str, Any]:
        answer = await tweepy_of(bob)(
            "request", "GET", f"/2/tweets/{tweet}", params={"post.fields": "public_metrics,created_at"}
        )
        body = answer.json()
        found: Mapping[str, Any] = await body if inspect.isawaitable(body) else body
        return found

    data = (await fetch())["data"]
    assert data["edit_history_post_ids"] == [str(tweet)]
    assert "edit_history_tweet_ids" not in data
    assert data["public_metrics"]["repost_count"] == 0 and "retweet_count" not in data["public_metrics"]
    assert datetime.strptime(data["created_at"], "%Y-%m-%dT%H:%M:%S.%fZ")  # as tweepy parses it


async def test_a_new_account_is_usable_at_once(tweepy_of: Maker, edge: httpx.AsyncClient) -> None:
    account = await register(edge)
    assert (await tweepy_of(account)("get_me", user_auth=False)).data.id == account.id
