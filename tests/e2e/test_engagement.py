"""Replies, quotes, retweets, likes and bookmarks, by tweepy where it has a method for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import httpx
import pytest
import tweepy

from cli.stores import Stores
from tests.e2e.harness import Account, assert_problem, eventually, register, register_many
from tests.e2e.tweepy_clients import Maker
from tests.e2e.tweet_rows import TweetRows

pytestmark = pytest.mark.asyncio(loop_scope="session")
Settled = Callable[[], Awaitable[None]]


async def metrics(reader: Account, tweet_id: int) -> dict[str, int]:
    """The public counts of a tweet."""
    found = await reader.get(f"/2/tweets/{tweet_id}", tweet__fields="public_metrics")
    counts: dict[str, int] = found["data"]["public_metrics"]
    return counts


async def counted(reader: Account, tweet_id: int, **wanted: int) -> None:
    """Waits until a tweet shows these counts."""

    async def look() -> None:
        assert (await metrics(reader, tweet_id)).items() >= wanted.items()

    await eventually(look)


@pytest.mark.proves("GET /v1/tweets/{id}/conversation")
async def test_a_reply_belongs_to_its_conversation(tweepy_of: Maker, alice: Account, bob: Account) -> None:
    root = await alice.tweet("the beginning")
    made = await tweepy_of(bob)("create_tweet", text="an answer", in_reply_to_tweet_id=root, user_auth=False)
    answer = int(made.data["id"])
    deeper = await alice.tweet("an answer to it", reply={"in_reply_to_tweet_id": str(answer)})
    found = await tweepy_of(alice)(
        "get_tweet",
        answer,
        tweet_fields=["conversation_id", "in_reply_to_user_id", "referenced_tweets"],
        expansions=["in_reply_to_user_id", "referenced_tweets.id", "referenced_tweets.id.author_id"],
    )
    assert found.data.conversation_id == root
    assert found.data.in_reply_to_user_id == alice.id
    assert [(r.type, r.id) for r in found.data.referenced_tweets] == [("replied_to", root)]
    assert [tweet.id for tweet in found.includes["tweets"]] == [root]
    assert [user.id for user in found.includes["users"]] == [alice.id]
    await counted(bob, root, reply_count=1)
    await counted(bob, answer, reply_count=1)
    for member in (root, answer, deeper):
        assert await bob.pages(f"/v1/tweets/{member}/conversation", max_results=2) == [deeper, answer, root]
    await alice.delete(root)
    assert await bob.pages(f"/v1/tweets/{deeper}/conversation") == [deeper, answer]  # replies stay


async def test_a_reply_shows_to_those_who_follow_both(edge: httpx.AsyncClient, alice: Account, bob: Account) -> None:
    one, both = await register_many(edge, 2)
    for reader in (one, both):
        assert await reader.home() == []
        await reader.follow(bob)
    await both.follow(alice)
    root = await alice.tweet("a question")
    answer = await bob.tweet("an answer", reply={"in_reply_to_tweet_id": str(root)})
    alone = await bob.tweet("bob to himself", reply={"in_reply_to_tweet_id": str(answer)})
    await both.home_is([alone, answer, root])
    await one.home_is([alone])
    await one.follow(alice)
    await one.home_is([alone, answer, root])
    assert await both.home(exclude="replies") == [root]
    assert await one.pages(f"/2/users/{bob.id}/tweets", exclude="replies") == []
    mine = await one.tweet(
        "to a stranger", reply={"in_reply_to_tweet_id": str(await (await register(edge)).tweet("hi"))}
    )
    await one.home_is([mine, alone, answer, root])  # one's own are there, whomever they answer


@pytest.mark.parametrize("setting", ["mentionedUsers", "following"])
async def test_reply_settings_say_who_may_answer(
    edge: httpx.AsyncClient, alice: Account, bob: Account, setting: str
) -> None:
    carol = await register(edge)
    root = await alice.tweet(f"only for @{bob.username}", reply_settings=setting)
    inside = await bob.tweet("mentioned", reply={"in_reply_to_tweet_id": str(root)})
    await alice.tweet("my own", reply={"in_reply_to_tweet_id": str(root)})
    for answered in (root, inside):  # the whole conversation obeys its beginning
        body = {"text": "let me in", "reply": {"in_reply_to_tweet_id": str(answered)}}
        assert_problem(await carol.request("POST", "/2/tweets", json=body), 403)
    await alice.follow(carol)
    body = {"text": "followed now", "reply": {"in_reply_to_tweet_id": str(root)}}
    expected = 201 if setting == "following" else 403
    assert (await carol.request("POST", "/2/tweets", json=body)).status_code == expected
    await counted(bob, root, reply_count=(3 if setting == "following" else 2))


async def test_what_is_gone_cannot_be_answered_or_quoted(alice: Account, bob: Account) -> None:
    gone = await alice.tweet("soon gone")
    await alice.delete(gone)
    for missing in (gone, 1):
        for more in ({"reply": {"in_reply_to_tweet_id": str(missing)}}, {"quote_tweet_id": str(missing)}):
            answer = await bob.request("POST", "/2/tweets", json={"text": "too late", **more})
            assert_problem(answer, 403, "not visible")
        for what in ("likes", "retweets", "bookmarks"):
            answer = await bob.request("POST", f"/2/users/{bob.id}/{what}", json={"tweet_id": str(missing)})
            assert_problem(answer, 404)
    assert await bob.pages(f"/2/users/{bob.id}/tweets") == []


@pytest.mark.proves("GET /2/tweets/{id}/quote_tweets")
async def test_a_quote_stays_when_the_quoted_goes(tweepy_of: Maker, alice: Account, bob: Account) -> None:
    quoted = await alice.tweet("quotable")
    made = await tweepy_of(bob)("create_tweet", text="look", quote_tweet_id=quoted, user_auth=False)
    quote = int(made.data["id"])
    client = tweepy_of(alice)
    await counted(bob, quoted, quote_count=1)
    assert [tweet.id for tweet in (await client("get_quote_tweets", quoted)).data] == [quote]
    shown = await client("get_tweet", quote, expansions="referenced_tweets.id")
    assert shown.includes["tweets"][0].text == "quotable"
    await alice.delete(quoted)
    shown = await client("get_tweet", quote, expansions="referenced_tweets.id")
    assert shown.data.text == "look" and "tweets" not in shown.includes
    assert shown.errors[0]["value"] == str(quoted)


@pytest.mark.proves(
    "POST /2/users/{id}/retweets",
    "DELETE /2/users/{id}/retweets/{tweet_id}",
    "GET /2/tweets/{id}/retweeted_by",
    "GET /2/tweets/{id}/retweets",
)
async def test_retweeting(tweepy_of: Maker, edge: httpx.AsyncClient, alice: Account, bob: Account) -> None:
    reader = await register(edge)
    assert await reader.home() == []
    await reader.follow(bob)
    original = await alice.tweet("worth repeating")
    client = tweepy_of(bob)
    first = await client("retweet", original, user_auth=False)
    assert first.data["retweeted"] is True
    retweet = int(first.data["rest_id"])
    assert (await client("retweet", original, user_auth=False)).data == first.data  # twice counts once
    await counted(reader, original, retweet_count=1)
    again = await tweepy_of(reader)("retweet", retweet, user_auth=False)  # of a retweet: of the original
    mine = int(again.data["rest_id"])
    await reader.home_is([mine, retweet])
    shown = await reader.get(
        f"/2/tweets/{retweet}", tweet__fields="referenced_tweets,author_id", expansions="referenced_tweets.id"
    )
    assert shown["data"]["referenced_tweets"] == [{"type": "retweeted", "id": str(original)}]
    assert shown["data"]["text"] == f"RT @{alice.username}: worth repeating"
    assert shown["includes"]["tweets"][0]["text"] == "worth repeating"
    assert [user.id for user in (await client("get_retweeters", original)).data] == [reader.id, bob.id]
    assert await reader.pages(f"/2/tweets/{original}/retweets", max_results=1) == [mine, retweet]
    assert await reader.home(exclude="retweets") == []
    assert (await client("unretweet", original, user_auth=False)).data == {"retweeted": False}
    assert (await client("unretweet", original, user_auth=False)).data == {"retweeted": False}
    await reader.home_is([mine])
    await alice.delete(original)
    assert await reader.home() == []  # at once, whatever the cascade has reached

    async def gone() -> None:
        assert (await reader.get(f"/2/tweets/{mine}")).keys() == {"errors"}

    await eventually(gone)


@pytest.mark.proves(
    "POST /2/users/{id}/likes",
    "DELETE /2/users/{id}/likes/{tweet_id}",
    "GET /2/tweets/{id}/liking_users",
    "GET /2/users/{id}/liked_tweets",
)
async def test_liking(tweepy_of: Maker, alice: Account, bob: Account, settled: Settled) -> None:
    tweets = await alice.tweets(3, at_once=1)
    client = tweepy_of(bob)
    for tweet in (*tweets, tweets[0]):
        assert (await client("like", tweet, user_auth=False)).data == {"liked": True}
    await counted(alice, tweets[0], like_count=1)
    assert [user.id for user in (await client("get_liking_users", tweets[0])).data] == [bob.id]
    pages = await client.all("get_liked_tweets", bob.id, max_results=2)
    assert [[tweet.id for tweet in page.data] for page in pages] == [[tweets[2], tweets[1]], [tweets[0]]]
    await settled()
    me = await bob.get("/2/users/me", user__fields="public_metrics")
    assert me["data"]["public_metrics"]["like_count"] == 3
    for _ in range(2):
        assert (await client("unlike", tweets[0], user_auth=False)).data == {"liked": False}
    await counted(alice, tweets[0], like_count=0)
    assert (await client("get_liking_users", tweets[0])).data is None


@pytest.mark.proves(
    "POST /2/users/{id}/bookmarks", "DELETE /2/users/{id}/bookmarks/{tweet_id}", "GET /2/users/{id}/bookmarks"
)
async def test_bookmarks_are_private(tweepy_of: Maker, alice: Account, bob: Account) -> None:
    tweet = await alice.tweet("for later")
    client = tweepy_of(bob)
    assert (await client("bookmark", tweet)).data == {"bookmarked": True}
    assert [kept.id for kept in (await client("get_bookmarks")).data] == [tweet]
    await counted(alice, tweet, bookmark_count=1)
    assert_problem(await alice.request("GET", f"/2/users/{bob.id}/bookmarks"), 403)
    assert (await client("remove_bookmark", tweet)).data == {"bookmarked": False}
    assert (await client("get_bookmarks")).data is None


async def test_nobody_acts_for_another(alice: Account, bob: Account, settled: Settled) -> None:
    tweet = await alice.tweet("hands off")
    for what in ("likes", "retweets", "bookmarks"):
        answer = await bob.request("POST", f"/2/users/{alice.id}/{what}", json={"tweet_id": str(tweet)})
        assert_problem(answer, 403)
        assert_problem(await bob.request("DELETE", f"/2/users/{alice.id}/{what}/{tweet}"), 403)
    await settled()
    counts = await metrics(bob, tweet)
    assert set(counts.values()) == {0}


async def test_races_on_one_tweet_end_in_a_state_that_some_order_explains(
    alice: Account, bob: Account, settled: Settled
) -> None:
    tweet = await alice.tweet("contested")

    async def act(number: int) -> None:
        what = ("likes", "retweets")[number % 4 // 2]
        if number % 2:
            answer = await bob.request("DELETE", f"/2/users/{bob.id}/{what}/{tweet}")
        else:
            answer = await bob.request("POST", f"/2/users/{bob.id}/{what}", json={"tweet_id": str(tweet)})
        assert answer.status_code == 200, answer.text

    await asyncio.gather(*map(act, range(48)))
    await settled()
    counts = await metrics(alice, tweet)
    likers = (await alice.get(f"/2/tweets/{tweet}/liking_users")).get("data", [])
    retweets = await alice.pages(f"/2/tweets/{tweet}/retweets")
    assert counts["like_count"] == len(likers) <= 1
    assert counts["retweet_count"] == len(retweets) <= 1


async def test_tweepys_errors(tweepy_of: Maker, alice: Account, bob: Account) -> None:
    client = tweepy_of(alice)
    with pytest.raises(tweepy.NotFound):
        await client("like", 1, user_auth=False)
    with pytest.raises(tweepy.Forbidden):
        await client("create_tweet", text="to nobody", in_reply_to_tweet_id=1, user_auth=False)


async def test_counts_follow_promptly(alice: Account, edge: httpx.AsyncClient) -> None:
    """Half of all likes show in the tweet within half a second, sent one by one and read by somebody else."""
    tweet = await alice.tweet("watch the number")
    took = []
    for number, liker in enumerate(await register_many(edge, 9), 1):
        answer = await liker.request("POST", f"/2/users/{liker.id}/likes", json={"tweet_id": str(tweet)})
        assert answer.json() == {"data": {"liked": True}}
        began = time.monotonic()
        await counted(alice, tweet, like_count=number)
        took.append(time.monotonic() - began)
    assert sorted(took)[len(took) // 2] < 0.5, took


async def test_a_burst_of_likes_is_counted_exactly(
    alice: Account, edge: httpx.AsyncClient, settled: Settled, stores: Stores
) -> None:
    """Forty people like and half of them think better of it: one tweet, few updates of its row, the right number."""
    tweet = await alice.tweet("contested by many")
    crowd = await register_many(edge, 40)

    async def like(one: Account) -> None:
        body = {"tweet_id": str(tweet)}
        assert (await one.request("POST", f"/2/users/{one.id}/likes", json=body)).status_code == 200

    await asyncio.gather(*map(like, crowd))
    await asyncio.gather(*(one.request("DELETE", f"/2/users/{one.id}/likes/{tweet}") for one in crowd[::2]))
    await settled()
    assert (await metrics(alice, tweet))["like_count"] == 20
    assert len(await alice.pages(f"/2/tweets/{tweet}/liking_users", max_results=7)) == 20
    assert await TweetRows(stores.tweets).times_counted(tweet) < 40, "a row is not written for each like"


async def test_a_wrong_count_is_mended_and_shown(alice: Account, settled: Settled, stores: Stores) -> None:
    tweet = await alice.tweet("miscounted")
    await settled()
    rows = TweetRows(stores.tweets)
    await rows.miscount(tweet, alice.id)

    async def mended() -> None:
        assert await rows.counts(tweet, alice.id) == (0, 1)

    await eventually(mended, 60.0)
    await settled()
    await counted(alice, tweet, like_count=0)
    me = await alice.get("/2/users/me", user__fields="public_metrics")
    assert me["data"]["public_metrics"]["tweet_count"] == 1


async def test_deleting_a_tweet_takes_its_likers_like_counts_back(
    edge: httpx.AsyncClient, alice: Account, settled: Settled, stores: Stores
) -> None:
    """What hangs on a deleted tweet goes too: likes, bookmarks, mentions, and the counts of those who liked it."""
    crowd = await register_many(edge, 5)
    gone, kept = await alice.tweet(f"soon gone, @{crowd[0].username}"), await alice.tweet("stays")
    for one in crowd:
        for tweet in (gone, kept):
            for what in ("likes", "bookmarks"):
                answer = await one.request("POST", f"/2/users/{one.id}/{what}", json={"tweet_id": str(tweet)})
                assert answer.status_code == 200, answer.text
    await settled()
    assert await like_counts(alice, crowd) == [2] * 5
    await alice.delete(gone)
    for one in crowd:
        assert await one.pages(f"/2/users/{one.id}/bookmarks") == [kept]
        assert await one.pages(f"/2/users/{one.id}/liked_tweets") == [kept]
    await settled()
    assert await like_counts(alice, crowd) == [1] * 5
    assert (await metrics(alice, kept))["like_count"] == 5
    assert await TweetRows(stores.tweets).hanging_on(gone) == 0
    again = await crowd[0].request("POST", f"/2/users/{crowd[0].id}/likes", json={"tweet_id": str(gone)})
    assert_problem(again, 404)
    back = await crowd[0].request("DELETE", f"/2/users/{crowd[0].id}/likes/{gone}")
    assert back.json() == {"data": {"liked": False}}
    await settled()
    assert await like_counts(alice, crowd) == [1] * 5


async def like_counts(reader: Account, people: Sequence[Account]) -> list[int]:
    """How much people like, as their profiles say."""
    found = await reader.get("/2/users", ids=",".join(str(one.id) for one in people), user__fields="public_metrics")
    return [one["public_metrics"]["like_count"] for one in found["data"]]


async def test_who_is_shown_a_tweet_is_counted(alice: Account, bob: Account, edge: httpx.AsyncClient) -> None:
    """By id, in lists and in the home timeline; not by its author, and a retweet shows the original."""
    carol = await register(edge)
    assert await carol.home() == []
    await carol.follow(bob)
    tweet = await alice.tweet("look at me")
    await metrics(bob, tweet)
    await bob.get("/2/tweets", ids=str(tweet))
    await bob.pages(f"/2/users/{alice.id}/tweets")
    answer = await bob.request("POST", f"/2/users/{bob.id}/retweets", json={"tweet_id": str(tweet)})
    await carol.home_is([int(answer.json()["data"]["rest_id"])])
    for _ in range(20):
        await alice.pages(f"/2/users/{alice.id}/tweets")

    async def counted_by_its_author() -> None:
        count = (await metrics(alice, tweet))["impression_count"]
        assert count == 4, "three times by bob, once by carol"

    await eventually(counted_by_its_author, 30.0)
