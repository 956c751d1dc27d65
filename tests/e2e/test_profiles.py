"""What people say of themselves, and who may change it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import httpx
import pytest

from tests.e2e.harness import PASSWORD, Account, assert_problem, eventually, fresh_name, register
from tests.e2e.tweepy_clients import Maker

pytestmark = pytest.mark.asyncio(loop_scope="session")
Settled = Callable[[], Awaitable[None]]


async def _change(person: Account, **members: object) -> dict[str, object]:
    answer = await person.request("PATCH", "/v1/users/me", json=members)
    assert answer.status_code == 200, answer.text
    data: dict[str, object] = answer.json()["data"]
    return data


async def test_who_is_protected_is_seen_at_once_and_by_everyone(alice: Account, bob: Account) -> None:
    for protected in (True, False):
        assert (await _change(alice, protected=protected))["protected"] is protected
        for viewer in (alice, bob):
            shown = await viewer.get(f"/2/users/{alice.id}", user__fields="protected")
            assert shown["data"]["protected"] is protected


async def test_what_is_not_named_stays(alice: Account) -> None:
    await _change(alice, protected=True, location="London")
    assert (await _change(alice, name="Ada"))["protected"] is True
    assert (await _change(alice, protected=False))["location"] == "London"


async def test_language_and_country_are_taken_and_shown_to_nobody_else(alice: Account, bob: Account) -> None:
    await _change(alice, language="pt-BR", country="br")
    names = "created_at,description,entities,id,location,name,protected,public_metrics,url,username,verified,withheld"
    shown = await bob.get(f"/2/users/{alice.id}", user__fields=names)
    assert "language" not in shown["data"] and "country" not in shown["data"]
    await _change(alice, language="", country="")


async def test_a_description_may_have_lines(alice: Account) -> None:
    assert (await _change(alice, description="one\ntwo"))["description"] == "one\ntwo"


async def test_a_wrong_member_keeps_the_right_ones_from_being_changed(alice: Account) -> None:
    answer = await alice.request("PATCH", "/v1/users/me", json={"protected": True, "country": "ZZ"})
    assert_problem(answer, 400, "country")
    shown = await alice.get("/2/users/me", user__fields="protected")
    assert shown["data"]["protected"] is False


# --- pins


@pytest.mark.proves("PATCH /v1/users/me")
async def test_a_tweet_of_ones_own_is_pinned_and_unpinned(alice: Account, bob: Account) -> None:
    tweet = await alice.tweet("first of all")
    for given in (tweet, str(tweet)):
        data = await _change(alice, pinned_tweet_id=given)
        assert data["pinned_tweet_id"] == data["pinned_post_id"] == str(tweet)
    shown = await bob.get(f"/2/users/{alice.id}", expansions="pinned_tweet_id", tweet__fields="author_id")
    assert shown["data"]["pinned_tweet_id"] == str(tweet)
    assert [(one["id"], one["text"]) for one in shown["includes"]["tweets"]] == [(str(tweet), "first of all")]
    posts = await bob.get(f"/2/users/{alice.id}", expansions="pinned_post_id")
    assert posts["data"]["pinned_post_id"] == posts["includes"]["posts"][0]["id"] == str(tweet)
    for given in (0, "0"):
        await _change(alice, pinned_tweet_id=tweet)
        assert "pinned_tweet_id" not in await _change(alice, pinned_tweet_id=given)
    shown = await bob.get(f"/2/users/{alice.id}", expansions="pinned_tweet_id")
    assert shown == {"data": {"id": str(alice.id), "name": f"N {alice.username}", "username": alice.username}}


async def test_only_tweets_of_ones_own_are_pinned(alice: Account, bob: Account) -> None:
    theirs, deleted = await bob.tweet("theirs"), await alice.tweet("gone")
    await alice.delete(deleted)
    answers = []
    for tweet in (theirs, deleted, 2**60):
        answer = await alice.request("PATCH", "/v1/users/me", json={"pinned_tweet_id": str(tweet), "name": "New"})
        problem = assert_problem(answer, 404)
        answers.append(problem)
    assert answers[0] == answers[1] == answers[2]  # another's may be one that she must not know of
    retweet = await alice.request("POST", f"/2/users/{alice.id}/retweets", json={"tweet_id": str(theirs)})
    own = retweet.json()["data"]["rest_id"]
    assert_problem(await alice.request("PATCH", "/v1/users/me", json={"pinned_tweet_id": own}), 403)
    for wrong in (-1, "x", "", 2**63):
        assert_problem(await alice.request("PATCH", "/v1/users/me", json={"pinned_tweet_id": wrong}), 400)
    shown = await alice.get("/2/users/me", user__fields="pinned_tweet_id,name")
    assert shown["data"]["name"] == f"N {alice.username}" and "pinned_tweet_id" not in shown["data"]


async def test_the_pin_goes_with_its_tweet(alice: Account, bob: Account) -> None:
    tweet = await alice.tweet("first of all")
    await _change(alice, pinned_tweet_id=tweet)
    await alice.delete(tweet)

    async def unpinned() -> None:
        shown = await bob.get(f"/2/users/{alice.id}", expansions="pinned_tweet_id")
        assert "pinned_tweet_id" not in shown["data"] and "errors" not in shown

    await eventually(unpinned)


async def test_a_protected_persons_pin_shows_to_their_followers_only(alice: Account, bob: Account) -> None:
    tweet = await alice.tweet("among us")
    await bob.follow(alice)
    await _change(alice, pinned_tweet_id=tweet, protected=True)
    carol = await register(alice.edge)
    followed = await bob.get(f"/2/users/{alice.id}", expansions="pinned_tweet_id")
    assert followed["includes"]["tweets"][0]["id"] == str(tweet)
    hidden = await carol.get(f"/2/users/{alice.id}", expansions="pinned_tweet_id")
    assert "includes" not in hidden
    assert [error["value"] for error in hidden["errors"]] == [str(tweet)]


# --- entities


async def test_what_is_in_a_profile_is_told_with_its_places(alice: Account, bob: Account) -> None:
    about = "👋 I am @somebody of #rookery and $TWTR, see https://example.com/about and example.org"
    await _change(alice, description=about, url="https://example.com/ada?x=1")
    shown = await bob.get(f"/2/users/{alice.id}", user__fields="entities,description,url")
    entities = shown["data"]["entities"]
    assert entities.keys() == {"url", "description"}
    [link] = entities["url"]["urls"]
    assert (link["start"], link["end"], link["expanded_url"]) == (0, 27, "https://example.com/ada?x=1")
    found = entities["description"]
    assert {kind: [about[one["start"] : one["end"]] for one in found[kind]] for kind in found} == {
        "mentions": ["@somebody"],
        "hashtags": ["#rookery"],
        "cashtags": ["$TWTR"],
        "urls": ["https://example.com/about", "example.org"],
    }
    tweet = await alice.tweet("mine")
    included = await bob.get(f"/2/tweets/{tweet}", expansions="author_id", user__fields="entities")
    assert included["includes"]["users"][0]["entities"] == entities
    await _change(alice, url="")
    shown = await bob.get(f"/2/users/{alice.id}", user__fields="entities")
    assert shown["data"]["entities"] == {"description": found}
    await _change(alice, description="nothing in it")
    shown = await bob.get(f"/2/users/{alice.id}", user__fields="entities")
    assert "entities" not in shown["data"]


# --- tweepy


async def test_tweepy_reads_every_member_of_a_profile(tweepy_of: Maker, alice: Account, bob: Account) -> None:
    tweet = await alice.tweet("first of all")
    await _change(
        alice,
        description="sees #everything",
        url="https://example.com",
        location="London",
        protected=False,
        pinned_tweet_id=tweet,
    )
    fields = (
        "created_at,description,entities,id,location,most_recent_tweet_id,name,pinned_tweet_id,profile_image_url,"
        "protected,public_metrics,url,username,verified,verified_type,withheld"
    )
    client = tweepy_of(alice)
    mine = await client("get_me", user_auth=False, user_fields=fields, expansions=["pinned_tweet_id"])
    theirs = await tweepy_of(bob)("get_user", id=alice.id, user_fields=fields, expansions=["pinned_tweet_id"])
    for found in (mine, theirs):
        user = found.data
        assert (user.description, user.url, user.location) == ("sees #everything", "https://example.com", "London")
        assert user.protected is False and user.verified is False
        assert user.pinned_tweet_id == tweet
        assert [one["expanded_url"] for one in user.entities["url"]["urls"]] == ["https://example.com"]
        assert [one["tag"] for one in user.entities["description"]["hashtags"]] == ["everything"]
        assert [one.text for one in found.includes["tweets"]] == ["first of all"]


# --- search


async def _named(edge: httpx.AsyncClient, name: str) -> Account:
    username = fresh_name()
    body = {"username": username, "email": f"{username}@example.org", "password": PASSWORD, "name": name}
    data = (await edge.post("/v1/auth/register", json=body)).json()["data"]
    return Account(edge, int(data["user"]["id"]), username, data["access_token"], data["refresh_token"])


async def _found(viewer: Account, query: str, **params: str | int) -> list[int]:
    page = await viewer.get("/2/users/search", query=query, **params)
    return [int(one["id"]) for one in page.get("data", [])]


@pytest.mark.proves("GET /2/users/search")
async def test_people_are_found_by_the_beginnings_of_their_names(edge: httpx.AsyncClient, alice: Account) -> None:
    word = fresh_name().replace("_", "")
    ada = await _named(edge, f"Ada {word.upper()} Lovelace")
    bob = await _named(edge, f"Bob ({word[:-1]})")
    for query in (ada.username, ada.username[:-1].upper(), f"@{ada.username}", f"{word} lov", f"  {word}\t"):
        assert await _found(alice, query) == [ada.id], query
    assert await _found(alice, word[:-1]) == [bob.id, ada.id]
    assert await _found(alice, f"{word}x") == []
    empty = await alice.get("/2/users/search", query=f"{word}x")
    assert empty == {"meta": {"result_count": 0}}
    page = await alice.get("/2/users/search", query=word, user__fields="public_metrics,created_at")
    assert page["data"][0].keys() == {"id", "name", "username", "public_metrics", "created_at"}
    assert page["meta"] == {"result_count": 1}
    assert (await alice.get(f"/2/users/{ada.id}"))["data"]["username"] == ada.username  # the other route is there


async def test_a_search_is_paged_to_its_end(edge: httpx.AsyncClient, alice: Account, bob: Account) -> None:
    word = fresh_name().replace("_", "")
    people = [(await _named(edge, f"{word} {number % 2} {word}")).id for number in range(5)]
    for parameter in ("next_token", "pagination_token"):
        ids: list[int] = []
        params: dict[str, str | int] = {"query": word, "max_results": 2}
        while True:
            page = await alice.get("/2/users/search", **params)
            ids += [int(one["id"]) for one in page["data"]]
            if "next_token" not in page["meta"]:
                break
            params[parameter] = page["meta"]["next_token"]
        assert sorted(ids) == sorted(people)
        assert ids == await _found(alice, word)
    token = params["pagination_token"]
    for viewer, query in ((bob, word), (alice, word[:-1])):
        answer = await viewer.request("GET", "/2/users/search", params={"query": query, "next_token": token})
        assert_problem(answer, 400, "pagination_token")


async def test_a_search_finds_nobody_who_is_gone(edge: httpx.AsyncClient, alice: Account) -> None:
    word = fresh_name().replace("_", "")
    gone, back, left = [await _named(edge, f"{word} {number}") for number in range(3)]
    assert await _found(alice, word) == [gone.id, back.id, left.id]
    for one in (gone, back):
        await one.request("POST", "/v1/users/me/deactivate", json={"password": PASSWORD})
    assert await _found(alice, word) == [left.id]
    assert await _found(alice, word, max_results=1) == [left.id]
    await edge.post("/v1/auth/login", json={"username": back.username, "password": PASSWORD})
    assert await _found(alice, word) == [back.id, left.id]
    await _change(left, name="Another")
    assert await _found(alice, word) == [back.id]


async def test_a_search_finds_nobody_whom_a_block_hides(edge: httpx.AsyncClient, alice: Account) -> None:
    word = fresh_name().replace("_", "")
    blocker, blocked, left = [await _named(edge, f"{word} {number}") for number in range(3)]
    for one, other in ((blocker, alice), (alice, blocked)):
        answer = await one.request("POST", f"/2/users/{one.id}/blocking", json={"target_user_id": str(other.id)})
        assert answer.status_code == 200, answer.text
    assert await _found(alice, word) == [left.id]
    page = await alice.get("/2/users/search", query=word, max_results=1)
    assert [one["id"] for one in page["data"]] == [str(left.id)]
    assert page["meta"] == {"result_count": 1}, "pages are filled, and end"
    assert await _found(blocker, word) == [blocker.id, blocked.id, left.id]


@pytest.mark.parametrize(
    ("params", "about"),
    [
        ({}, "query"),
        ({"query": ""}, "query"),
        ({"query": "x" * 51}, "query"),
        ({"query": " @ "}, "query"),
        ({"query": "x", "max_results": "0"}, "max_results"),
        ({"query": "x", "max_results": "1001"}, "max_results"),
        ({"query": "x", "next_token": "made-up"}, "pagination_token"),
        ({"query": "x", "user.fields": "password"}, "user.fields"),
    ],
)
async def test_a_search_for_nothing_is_refused(alice: Account, params: dict[str, str], about: str) -> None:
    assert_problem(await alice.request("GET", "/2/users/search", params=params), 400, about)


async def test_a_search_needs_a_token(edge: httpx.AsyncClient) -> None:
    assert_problem(await edge.get("/2/users/search", params={"query": "a"}), 401)
