"""The mentions timeline: what names a person, and what answers them."""

from __future__ import annotations

import httpx
import pytest

from mesh.ids import rfc3339_of_id
from tests.e2e.harness import Account, assert_problem, eventually, register
from tests.e2e.tweepy_clients import Maker

pytestmark = pytest.mark.asyncio(loop_scope="session")


def mentions(person: Account) -> str:
    """Path of a person's mentions."""
    return f"/2/users/{person.id}/mentions"


@pytest.mark.proves("GET /2/users/{id}/mentions")
async def test_what_names_or_answers_a_person_is_there_newest_first(
    tweepy_of: Maker, edge: httpx.AsyncClient, alice: Account, bob: Account
) -> None:
    carol = await register(edge)
    named = await alice.tweet(f"hello @{bob.username.upper()}, and hello @{carol.username}")
    mine = await bob.tweet(f"to myself: @{bob.username}")
    reply = await alice.tweet("an answer without a name", reply={"in_reply_to_tweet_id": str(mine)})
    await bob.tweet("my own answer", reply={"in_reply_to_tweet_id": str(mine)})
    await alice.tweet(f"nobody here: @{'x' * 15}_ bob@{bob.username}.example")
    answer = await carol.request("POST", f"/2/users/{carol.id}/retweets", json={"tweet_id": str(named)})
    assert answer.status_code == 200  # and mentions nobody
    quote = await carol.tweet(f"@{bob.username} look", quote_tweet_id=str(named))
    client = tweepy_of(bob)
    found = await client(
        "get_users_mentions", bob.id, tweet_fields=["author_id", "entities"], expansions=["author_id"], max_results=5
    )
    assert [tweet.id for tweet in found.data] == [quote, reply, named]
    assert [user.id for user in found.includes["users"]] == [carol.id, alice.id]
    assert found.meta["newest_id"] == str(quote) and found.meta["oldest_id"] == str(named)
    assert await bob.pages(mentions(bob), max_results=1) == [quote, reply, named]
    assert await alice.pages(mentions(bob), max_results=2) == [quote, reply, named], "others may look"
    assert await carol.pages(mentions(carol)) == [named]
    assert await alice.pages(mentions(alice)) == []
    await alice.delete(named)
    assert await bob.pages(mentions(bob)) == [quote, reply]


@pytest.mark.proves("GET /2/users/{id}/mentions")
async def test_a_window_of_mentions(alice: Account, bob: Account) -> None:
    sent = [await alice.tweet(f"@{bob.username} number {number}") for number in range(5)]
    root = await bob.tweet("ask me")
    reply = await alice.tweet("a question", reply={"in_reply_to_tweet_id": str(root)})
    assert await bob.pages(mentions(bob), since_id=sent[3]) == [reply, sent[4]]
    assert await bob.pages(mentions(bob), until_id=sent[1]) == [sent[0]]
    assert await bob.pages(mentions(bob), since_id=sent[0], until_id=sent[3], max_results=1) == [sent[2], sent[1]]
    assert await bob.pages(mentions(bob), start_time=rfc3339_of_id(reply)) == [reply]
    assert await bob.pages(mentions(bob), exclude="replies") == sent[::-1]
    first = await bob.get(mentions(bob), max_results=2)
    second = await bob.get(mentions(bob), max_results=2, pagination_token=first["meta"]["next_token"])
    back = await bob.get(mentions(bob), max_results=2, pagination_token=second["meta"]["previous_token"])
    assert back["data"] == first["data"]


async def test_an_answer_does_not_come_to_those_left_out(alice: Account, bob: Account) -> None:
    root = await bob.tweet("everybody answers me")
    reply = {"in_reply_to_tweet_id": str(root), "exclude_reply_user_ids": [str(bob.id)]}
    answer = await alice.tweet("quietly", reply=reply)
    assert await bob.pages(mentions(bob)) == []
    assert (await bob.get(f"/2/tweets/{answer}", tweet__fields="in_reply_to_user_id"))["data"][
        "in_reply_to_user_id"
    ] == str(bob.id)
    assert await bob.pages(f"/v1/tweets/{root}/conversation") == [answer, root]


async def test_what_a_protected_person_says_shows_to_followers_only(
    edge: httpx.AsyncClient, alice: Account, bob: Account
) -> None:
    hidden = await register(edge)
    sent = [await one.tweet(f"hey @{bob.username}") for one in (alice, hidden)]
    assert await bob.pages(mentions(bob)) == sent[::-1]
    await alice.follow(hidden)
    answer = await hidden.request("PATCH", "/v1/users/me", json={"protected": True})
    assert answer.status_code == 200, answer.text

    async def without() -> None:
        assert await bob.pages(mentions(bob), max_results=1) == sent[:1]

    await eventually(without)
    assert await alice.pages(mentions(bob)) == sent[::-1]
    assert await hidden.pages(mentions(bob)) == sent[::-1], "one's own shows to oneself"


async def test_who_is_blocked_or_muted_is_not_heard(edge: httpx.AsyncClient, alice: Account, bob: Account) -> None:
    """A mute quiets one's own mentions, whoever looks at them for oneself; a block hides both ways."""
    loud, enemy = await register(edge), await register(edge)
    sent = [await one.tweet(f"hey @{bob.username}") for one in (alice, loud, enemy)]
    for what, whom in (("muting", loud), ("blocking", enemy)):
        answer = await bob.request("POST", f"/2/users/{bob.id}/{what}", json={"target_user_id": str(whom.id)})
        assert answer.status_code == 200, answer.text
    assert await bob.pages(mentions(bob), max_results=1) == sent[:1]
    assert await alice.pages(mentions(bob)) == sent[::-1], "others see them as before"
    assert (await enemy.get(mentions(bob)))["meta"] == {"result_count": 0}
    assert (await bob.request("DELETE", f"/2/users/{bob.id}/muting/{loud.id}")).status_code == 200
    assert await bob.pages(mentions(bob)) == sent[1::-1], "what a mute hid is back"


@pytest.mark.parametrize(
    "query",
    ["max_results=0", "max_results=101", "since_id=-1", "start_time=today", "exclude=likes", "pagination_token=abc"],
)
async def test_a_senseless_request_is_refused(alice: Account, query: str) -> None:
    assert_problem(await alice.request("GET", f"{mentions(alice)}?{query}"), 400)


async def test_a_cursor_is_good_for_one_persons_mentions_and_one_reader(alice: Account, bob: Account) -> None:
    for number in range(3):
        await alice.tweet(f"@{bob.username} {number}")
    token = (await bob.get(mentions(bob), max_results=1))["meta"]["next_token"]
    for reader, path in ((alice, mentions(bob)), (bob, mentions(alice)), (bob, f"/2/users/{bob.id}/tweets")):
        assert_problem(await reader.request("GET", f"{path}?pagination_token={token}"), 400)


async def test_mentions_of_nobody(alice: Account, edge: httpx.AsyncClient) -> None:
    found = await alice.get("/2/users/999/mentions")
    assert found["meta"] == {"result_count": 0}
    assert found["errors"][0]["resource_id"] == "999"
    assert_problem(await edge.get(mentions(alice)), 401)
