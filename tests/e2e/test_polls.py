"""Polls: asking, voting, and what is shown of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from cli.stores import Stores
from mesh.cache.store import CacheStore
from mesh.ids import EPOCH_MS, ms_of_id
from tests.e2e.harness import Account, assert_problem, eventually, register, register_many
from tests.e2e.tweepy_clients import Maker
from tests.e2e.tweet_rows import TweetRows
from views.record import POLL_PREFIX

pytestmark = pytest.mark.asyncio(loop_scope="session")
Settled = Callable[[], Awaitable[None]]
ALL = "duration_minutes,end_datetime,id,options,voting_status"


async def ask(person: Account, *options: str, minutes: int = 60, text: str = "what do you say?") -> tuple[int, int]:
    """Tweets a poll; gives ids of tweet and poll."""
    tweet = await person.tweet(text, poll={"options": list(options or ("yes", "no")), "duration_minutes": minutes})
    found = await person.get(f"/2/tweets/{tweet}", tweet__fields="attachments")
    [poll] = found["data"]["attachments"]["poll_ids"]
    return tweet, int(poll)


async def shown(reader: Account, tweet: int, fields: str = ALL) -> dict[str, Any]:
    """A tweet's poll as somebody sees it."""
    found = await reader.get(f"/2/tweets/{tweet}", expansions="attachments.poll_ids", poll__fields=fields)
    [poll] = found["includes"]["polls"]
    assert found["data"]["attachments"] == {"poll_ids": [poll["id"]]}
    return dict(poll)


async def vote(person: Account, poll: int, position: int) -> httpx.Response:
    """Votes."""
    answer: httpx.Response = await person.request("POST", f"/v1/polls/{poll}/votes", json={"position": position})
    return answer


async def end(poll: int, stores: Stores, cache: CacheStore) -> None:
    """Ends a poll now, as only time does otherwise; the shortest takes five minutes."""
    await TweetRows(stores.tweets).end_poll(poll, EPOCH_MS + 1)
    await cache.client.delete(f"{POLL_PREFIX}{poll}")


@pytest.mark.proves("POST /2/tweets", "GET /2/tweets/{id}", "GET /2/tweets")
async def test_a_poll_by_tweepy(tweepy_of: Maker, alice: Account, bob: Account) -> None:
    question = {"poll_options": ["tabs", "spaces"], "poll_duration_minutes": 1440}
    made = await tweepy_of(alice)("create_tweet", text="tabs or spaces?", **question, user_auth=False)
    tweet = int(made.data["id"])
    wanted = {"expansions": ["attachments.poll_ids"], "poll_fields": ALL.split(",")}
    found = await tweepy_of(bob)("get_tweet", tweet, tweet_fields=["attachments"], **wanted)
    [poll] = found.includes["polls"]
    assert found.data.attachments == {"poll_ids": [str(poll.id)]}
    assert poll.options == [
        {"position": 1, "label": "tabs", "votes": 0},
        {"position": 2, "label": "spaces", "votes": 0},
    ]
    assert poll.duration_minutes == 1440 and poll.voting_status == "open"
    assert abs(poll.end_datetime.timestamp() * 1000 - ms_of_id(tweet) - 1440 * 60_000) < 1000
    several = await tweepy_of(bob)("get_tweets", [tweet], expansions=["attachments.poll_ids"])
    assert [one.id for one in several.includes["polls"]] == [poll.id]
    assert several.includes["polls"][0].voting_status is None


@pytest.mark.proves("POST /v1/polls/{id}/votes")
async def test_voting(edge: httpx.AsyncClient, alice: Account, bob: Account, settled: Settled) -> None:
    tweet, poll = await ask(alice, "one", "two", "three", "four")
    crowd = await register_many(edge, 6)
    answers = await asyncio.gather(*(vote(one, poll, 1 + n % 3) for n, one in enumerate(crowd)))
    assert [answer.status_code for answer in answers] == [200] * 6
    assert (await vote(bob, poll, 4)).json() == {"data": {"voted": True, "position": 4}}
    assert (await vote(bob, poll, 4)).json() == {"data": {"voted": True, "position": 4}}, "again changes nothing"
    assert_problem(await vote(bob, poll, 1), 403, "already voted")

    async def counted() -> None:
        assert [one["votes"] for one in (await shown(alice, tweet))["options"]] == [2, 2, 2, 1]

    await eventually(counted)
    await settled()
    await counted()
    plain = await shown(bob, tweet, "")
    assert plain.keys() == {"id", "options"}
    assert [one["label"] for one in plain["options"]] == ["one", "two", "three", "four"]


async def test_polls_show_in_lists_and_timelines(alice: Account, bob: Account) -> None:
    assert await bob.home() == []
    await bob.follow(alice)
    tweet, poll = await ask(alice)
    await bob.home_is([tweet])
    for path in (f"/2/users/{alice.id}/tweets", f"/2/users/{bob.id}/timelines/reverse_chronological", "/feed"):
        found = await bob.get(path, expansions="attachments.poll_ids,author_id", poll__fields="voting_status")
        assert [one["id"] for one in found["includes"]["polls"]] == [str(poll)]
        assert found["includes"]["polls"][0]["voting_status"] == "open"
        assert [one["id"] for one in found["includes"]["users"]] == [str(alice.id)]
    assert "includes" not in await bob.get(f"/2/users/{alice.id}/tweets", poll__fields="options")
    posts = await bob.get(f"/2/tweets/{tweet}", post__fields="id", expansions="attachments.poll_ids")
    assert posts["includes"]["polls"][0]["id"] == str(poll)


async def test_after_its_end_a_poll_is_closed(
    alice: Account, bob: Account, edge: httpx.AsyncClient, stores: Stores, cache: CacheStore
) -> None:
    carol = await register(edge)
    tweet, poll = await ask(alice)
    assert (await vote(bob, poll, 1)).status_code == 200
    await end(poll, stores, cache)
    assert_problem(await vote(carol, poll, 1), 403, "closed")
    assert (await vote(bob, poll, 1)).status_code == 200, "what was voted is voted"
    assert_problem(await vote(bob, poll, 2), 403, "already voted")
    assert (await shown(carol, tweet))["voting_status"] == "closed"


async def test_an_author_does_not_vote_and_nobody_votes_for_what_is_not_there(alice: Account, bob: Account) -> None:
    _, poll = await ask(alice)
    assert_problem(await vote(alice, poll, 1), 403, "own poll")
    for position in (0, 3, 4, 5, -1):
        assert_problem(await vote(bob, poll, position), 400)
    assert_problem(await vote(bob, 1, 1), 404)
    assert_problem(await vote(bob, poll, 3), 400)
    assert_problem(await bob.request("POST", f"/v1/polls/{poll}/votes", json={}), 400)
    assert_problem(await bob.request("POST", f"/v1/polls/{poll}/votes", json={"position": 1, "id": "5"}), 400)
    assert_problem(await bob.edge.post(f"/v1/polls/{poll}/votes", json={"position": 1}), 401)


async def test_a_poll_that_one_may_not_see_answers_as_a_missing_one(
    edge: httpx.AsyncClient, alice: Account, bob: Account
) -> None:
    answer = await alice.request("PATCH", "/v1/users/me", json={"protected": True})
    assert answer.status_code == 200, answer.text
    tweet, poll = await ask(alice)
    hidden = await vote(bob, poll, 1)
    missing = await vote(bob, poll + 1, 1)
    assert_problem(hidden, 404)
    assert hidden.text.replace(str(poll), "ID") == missing.text.replace(str(poll + 1), "ID")
    found = await bob.get(f"/2/tweets/{tweet}", expansions="attachments.poll_ids")
    assert found.keys() == {"errors"}


async def test_a_deleted_tweet_takes_its_poll_along(
    alice: Account, bob: Account, settled: Settled, stores: Stores
) -> None:
    tweet, poll = await ask(alice)
    assert (await vote(bob, poll, 1)).status_code == 200
    await alice.delete(tweet)
    assert_problem(await vote(bob, poll, 1), 404)
    await settled()
    assert await TweetRows(stores.tweets).of_poll(poll) == 0


@pytest.mark.parametrize(
    "poll",
    [
        {},
        {"options": ["yes", "no"]},
        {"options": ["yes", "no"], "duration_minutes": 4},
        {"options": ["yes", "no"], "duration_minutes": 10_081},
        {"options": ["yes"], "duration_minutes": 5},
        {"options": list("abcde"), "duration_minutes": 5},
        {"options": ["yes", ""], "duration_minutes": 5},
        {"options": ["yes", "  "], "duration_minutes": 5},
        {"options": ["yes", "n" * 26], "duration_minutes": 5},
        {"options": "yes", "duration_minutes": 5},
        {"options": ["yes", "no"], "duration_minutes": "soon"},
    ],
)
async def test_a_senseless_poll_is_refused(alice: Account, poll: dict[str, object]) -> None:
    assert_problem(await alice.request("POST", "/2/tweets", json={"text": "hm", "poll": poll}), 400)
    assert await alice.pages(f"/2/users/{alice.id}/tweets") == []


async def test_a_poll_quotes_nothing(alice: Account) -> None:
    quoted = await alice.tweet("quotable")
    body = {"text": "hm", "quote_tweet_id": str(quoted), "poll": {"options": ["a", "b"], "duration_minutes": 5}}
    assert_problem(await alice.request("POST", "/2/tweets", json=body), 400, "quote_tweet_id")
    assert_problem(await alice.request("GET", f"/2/tweets/{quoted}?poll.fields=winner"), 400, "poll.fields")


async def test_a_repeated_request_makes_no_second_poll(alice: Account) -> None:
    poll = {"options": ["a", "b"], "duration_minutes": 5}
    tweets = [await alice.tweet("once", request_id="r", poll=poll) for _ in range(2)]
    assert tweets[0] == tweets[1]
    assert len((await shown(alice, tweets[0]))["options"]) == 2
