"""What a reader sees of retweets, quotes and replies when what they point at goes, hides, or comes back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import httpx
import pytest

from tests.e2e.harness import PASSWORD, Account, assert_problem, eventually, register

pytestmark = pytest.mark.asyncio(loop_scope="session")

Change = Callable[[Account, Account], Awaitable[None]]
"""What a writer, or a reader, does about the other: (writer, reader)."""


async def call(person: Account, method: str, path: str, **members: object) -> None:
    """A request that succeeds."""
    answer = await person.request(method, path, **({"json": members} if members else {}))
    assert answer.status_code in (200, 201), answer.text


async def protect(writer: Account, reader: Account) -> None:
    await call(writer, "PATCH", "/v1/users/me", protected=True)


async def expose(writer: Account, reader: Account) -> None:
    await call(writer, "PATCH", "/v1/users/me", protected=False)


async def block(writer: Account, reader: Account) -> None:
    await call(writer, "POST", f"/2/users/{writer.id}/blocking", target_user_id=str(reader.id))


async def unblock(writer: Account, reader: Account) -> None:
    await call(writer, "DELETE", f"/2/users/{writer.id}/blocking/{reader.id}")


async def be_blocked(writer: Account, reader: Account) -> None:
    await block(reader, writer)


async def be_unblocked(writer: Account, reader: Account) -> None:
    await unblock(reader, writer)


async def leave(writer: Account, reader: Account) -> None:
    await call(writer, "POST", "/v1/users/me/deactivate", password=PASSWORD)


async def come_back(writer: Account, reader: Account) -> None:
    answer = await writer.edge.post("/v1/auth/login", json={"username": writer.username, "password": PASSWORD})
    assert answer.status_code == 200, answer.text


REVERSIBLE = {
    "protected": (protect, expose),
    "blocking": (block, unblock),
    "blocked": (be_blocked, be_unblocked),
    "deactivated": (leave, come_back),
}


@pytest.mark.parametrize("why", REVERSIBLE)
async def test_a_retweet_goes_with_its_original_and_a_quote_says_that_it_is_not_there(
    edge: httpx.AsyncClient, alice: Account, bob: Account, why: str
) -> None:
    reader = await register(edge)
    assert await reader.home() == []
    await reader.follow(bob)
    original = await alice.tweet("for those who may")
    answer = await bob.request("POST", f"/2/users/{bob.id}/retweets", json={"tweet_id": str(original)})
    retweet = int(answer.json()["data"]["rest_id"])
    quote = await bob.tweet("look at this", quote_tweet_id=str(original))
    reply = await bob.tweet("an answer", reply={"in_reply_to_tweet_id": str(original)})
    await call(bob, "POST", f"/2/users/{bob.id}/likes", tweet_id=str(original))
    await call(reader, "POST", f"/2/users/{reader.id}/bookmarks", tweet_id=str(original))
    await reader.home_is([quote, retweet])

    async def shows(there: bool) -> None:
        wanted = [quote, retweet] if there else [quote]
        assert await reader.home() == wanted
        assert await reader.pages(f"/2/users/{bob.id}/tweets") == [reply, *wanted]
        for hidden in (retweet, original):
            assert ("data" in await reader.get(f"/2/tweets/{hidden}")) is there
        found = await reader.get("/2/tweets", ids=f"{original},{quote},{retweet}")
        assert {int(one["id"]) for one in found["data"]} == ({original, quote, retweet} if there else {quote})
        shown = await reader.get(f"/2/tweets/{quote}", expansions="referenced_tweets.id")
        assert shown["data"]["text"] == "look at this"
        assert ("includes" in shown) is there
        assert [error["value"] for error in shown.get("errors", [])] == ([] if there else [str(original)])
        assert await reader.pages(f"/2/users/{bob.id}/liked_tweets") == ([original] if there else [])
        assert await reader.pages(f"/2/users/{reader.id}/bookmarks") == ([original] if there else [])
        assert await reader.pages(f"/2/users/{alice.id}/tweets") == ([original] if there else [])
        conversation = await reader.pages(f"/v1/tweets/{reply}/conversation")
        assert conversation == ([reply, original] if there else [reply])
        for what in ("liking_users", "retweeted_by", "quote_tweets", "retweets"):
            about = await reader.get(f"/2/tweets/{original}/{what}")
            assert bool(about.get("data")) is there, what

    hide, show = REVERSIBLE[why]
    await shows(True)
    await hide(alice, reader)
    await shows(False)
    for what in ("likes", "retweets", "bookmarks"):
        body = {"tweet_id": str(original)}
        assert_problem(await reader.request("POST", f"/2/users/{reader.id}/{what}", json=body), 404)
    for more in ({"reply": {"in_reply_to_tweet_id": str(original)}}, {"quote_tweet_id": str(original)}):
        assert_problem(await reader.request("POST", "/2/tweets", json={"text": "let me", **more}), 403, "not visible")
    await show(alice, reader)
    await shows(True)


async def test_followers_of_a_protected_person_see_all_of_it_and_repeat_none(
    edge: httpx.AsyncClient, alice: Account, bob: Account
) -> None:
    await bob.follow(alice)
    assert await bob.home() == []
    await protect(alice, bob)
    tweet = await alice.tweet("among us")
    await bob.home_is([tweet])
    answer = await bob.request("POST", f"/2/users/{bob.id}/retweets", json={"tweet_id": str(tweet)})
    assert_problem(answer, 403, "protected")
    answer = await bob.request("POST", "/2/tweets", json={"text": "look", "quote_tweet_id": str(tweet)})
    assert_problem(answer, 403, "protected")
    own = await alice.request("POST", f"/2/users/{alice.id}/retweets", json={"tweet_id": str(tweet)})
    mine = int(own.json()["data"]["rest_id"])
    await bob.home_is([mine, tweet])
    # A follower's public answer shows to everybody; what it answers does not.
    reply = await bob.tweet("indeed", reply={"in_reply_to_tweet_id": str(tweet)})
    stranger = await register(edge)
    assert await stranger.pages(f"/v1/tweets/{reply}/conversation") == [reply]
    assert await stranger.pages(f"/2/users/{alice.id}/tweets") == []
    shown = await stranger.get(f"/2/tweets/{reply}", expansions="referenced_tweets.id")
    assert [error["value"] for error in shown["errors"]] == [str(tweet)] and "includes" not in shown


async def test_what_a_mute_hides_is_back_when_it_ends(edge: httpx.AsyncClient, alice: Account, bob: Account) -> None:
    reader = await register(edge)
    assert await reader.home() == []
    await reader.follow(alice)
    await reader.follow(bob)
    tweet = await alice.tweet("noise")
    answer = await bob.request("POST", f"/2/users/{bob.id}/retweets", json={"tweet_id": str(tweet)})
    retweet = int(answer.json()["data"]["rest_id"])
    quote = await bob.tweet("louder", quote_tweet_id=str(tweet))
    await reader.home_is([quote, retweet, tweet])
    await call(reader, "POST", f"/2/users/{reader.id}/muting", target_user_id=str(alice.id))
    assert await reader.home() == [quote]  # neither hers nor what repeats her
    page = await reader.get(f"/2/users/{reader.id}/timelines/reverse_chronological", expansions="referenced_tweets.id")
    assert "includes" not in page and [error["value"] for error in page["errors"]] == [str(tweet)]
    assert await reader.pages(f"/2/users/{alice.id}/tweets") == [tweet]  # who goes there sees it
    assert await reader.pages(f"/2/users/{bob.id}/tweets") == [quote, retweet]
    later = await alice.tweet("still here")
    await call(reader, "DELETE", f"/2/users/{reader.id}/muting/{alice.id}")
    await reader.home_is([later, quote, retweet, tweet])


async def test_pages_are_full_however_much_is_hidden(edge: httpx.AsyncClient, alice: Account, bob: Account) -> None:
    reader = await register(edge)
    root = await alice.tweet("a conversation")
    mine: list[int] = []
    for number in range(12):
        loud = await bob.tweet(f"hidden {number}", reply={"in_reply_to_tweet_id": str(root)})
        await bob.tweet(f"hidden too {number}", reply={"in_reply_to_tweet_id": str(loud)})
        if number % 3 == 0:
            mine.insert(0, await alice.tweet(f"shown {number}", reply={"in_reply_to_tweet_id": str(root)}))
    await block(reader, bob)
    wanted = [*mine, root]

    async def look() -> None:
        page = await reader.get(f"/v1/tweets/{root}/conversation", max_results=2)
        assert [int(one["id"]) for one in page["data"]] == wanted[:2]
        assert await reader.pages(f"/v1/tweets/{root}/conversation", max_results=2) == wanted
        page = await reader.get(f"/v1/tweets/{root}/conversation", max_results=len(wanted))
        assert [int(one["id"]) for one in page["data"]] == wanted and "next_token" not in page["meta"]

    await eventually(look)
