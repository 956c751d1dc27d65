"""Every REST operation, as a client without a library uses it: paths, statuses and bodies."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import pytest

from mesh.ids import rfc3339_of_id
from tests.e2e.harness import PASSWORD, Account, assert_problem, eventually, fresh_name, register

pytestmark = pytest.mark.asyncio(loop_scope="session")

_USER = {"id", "name", "username"}


@pytest.mark.proves("POST /v1/auth/register")
async def test_register(edge: httpx.AsyncClient) -> None:
    name = fresh_name()
    body = {"username": name, "email": f"{name}@example.org", "password": PASSWORD, "name": "Ada L."}
    answer = await edge.post("/v1/auth/register", json=body)
    assert answer.status_code == 201
    assert answer.headers["content-type"] == "application/json"
    assert answer.json().keys() == {"data"}
    data = answer.json()["data"]
    assert data.keys() == {"access_token", "refresh_token", "token_type", "expires_in", "user"}
    assert data["token_type"] == "bearer"
    assert data["expires_in"] == 3600
    user = data["user"]
    assert (user["username"], user["name"]) == (name, "Ada L.")
    assert user["created_at"] == rfc3339_of_id(int(user["id"]))
    assert PASSWORD not in answer.text and "email" not in answer.text
    claims = _claims(data["access_token"])
    assert claims["sub"] == user["id"] and claims["exp"] - claims["iat"] == 3600


async def test_register_without_a_name_shows_the_username(edge: httpx.AsyncClient) -> None:
    name = fresh_name()
    answer = await edge.post(
        "/v1/auth/register", json={"username": name, "email": f"{name}@example.org", "password": PASSWORD}
    )
    assert answer.json()["data"]["user"]["name"] == name


@pytest.mark.parametrize("by", ["username", "email"])
@pytest.mark.proves("POST /v1/auth/login")
async def test_login(edge: httpx.AsyncClient, alice: Account, by: str) -> None:
    value = (alice.username if by == "username" else alice.email).upper()
    answer = await edge.post("/v1/auth/login", json={by: value, "password": PASSWORD})
    assert answer.status_code == 200
    data = answer.json()["data"]
    assert data["user"]["id"] == str(alice.id)
    me = await edge.get("/2/users/me", headers={"authorization": f"Bearer {data['access_token']}"})
    assert me.json()["data"]["id"] == str(alice.id)


async def test_refresh_rotates_and_a_spent_token_ends_the_session(edge: httpx.AsyncClient, alice: Account) -> None:
    first = alice.refresh_token
    second = await _refreshed(edge, first)
    third = await _refreshed(edge, second)
    assert len({first, second, third}) == 3
    assert_problem(await _refresh(edge, first), 401)  # spent, and no retry: somebody has a copy
    assert_problem(await _refresh(edge, third), 401)  # so the whole session is over


@pytest.mark.proves("POST /v1/auth/refresh")
async def test_another_session_outlives_one_that_was_ended(edge: httpx.AsyncClient, alice: Account) -> None:
    login = await edge.post("/v1/auth/login", json={"username": alice.username, "password": PASSWORD})
    other = login.json()["data"]["refresh_token"]
    await _refreshed(edge, await _refreshed(edge, alice.refresh_token))
    assert_problem(await _refresh(edge, alice.refresh_token), 401)
    await _refreshed(edge, other)


@pytest.mark.proves("POST /v1/auth/logout")
async def test_logout_ends_one_session(edge: httpx.AsyncClient, alice: Account) -> None:
    login = await edge.post("/v1/auth/login", json={"username": alice.username, "password": PASSWORD})
    other = login.json()["data"]["refresh_token"]
    answer = await edge.post("/v1/auth/logout", json={"refresh_token": alice.refresh_token})
    assert (answer.status_code, answer.json()) == (200, {"data": {"logged_out": True}})
    assert_problem(await _refresh(edge, alice.refresh_token), 401)
    await _refreshed(edge, other)


async def test_logout_of_all_ends_every_session(edge: httpx.AsyncClient, alice: Account, bob: Account) -> None:
    login = await edge.post("/v1/auth/login", json={"username": alice.username, "password": PASSWORD})
    answer = await alice.request("POST", "/v1/auth/logout", json={"all": True})
    assert (answer.status_code, answer.json()) == (200, {"data": {"logged_out": True}})
    for token in (alice.refresh_token, login.json()["data"]["refresh_token"]):
        assert_problem(await _refresh(edge, token), 401)
    await _refreshed(edge, bob.refresh_token)
    assert_problem(await edge.post("/v1/auth/logout", json={"all": True}), 401)


@pytest.mark.proves("GET /.well-known/jwks.json")
async def test_jwks(edge: httpx.AsyncClient, alice: Account) -> None:
    answer = await edge.get("/.well-known/jwks.json")
    assert answer.status_code == 200
    keys = answer.json()["keys"]
    for key in keys:
        assert key.keys() == {"kty", "crv", "x", "kid", "alg", "use"}  # nothing private
        assert (key["kty"], key["crv"], key["alg"], key["use"]) == ("OKP", "Ed25519", "EdDSA", "sig")
    assert _header(alice.token)["kid"] in {key["kid"] for key in keys}


async def test_healthz_needs_no_token(edge: httpx.AsyncClient) -> None:
    answer = await edge.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


@pytest.mark.proves("GET /2/users/me")
async def test_me(alice: Account) -> None:
    assert await alice.get("/2/users/me") == {
        "data": {"id": str(alice.id), "name": f"N {alice.username}", "username": alice.username}
    }


@pytest.mark.proves("PATCH /v1/users/me")
async def test_updating_ones_profile(alice: Account, bob: Account) -> None:
    changes = {
        "name": "Ada",
        "description": "Räksmörgås 🦐",
        "location": "London",
        "url": "https://example.com/ada",
    }
    answer = await alice.request("PATCH", "/v1/users/me", json=changes)
    assert answer.status_code == 200
    data = answer.json()["data"]
    assert {name: data[name] for name in changes} == changes
    assert data["username"] == alice.username
    found = await bob.get(f"/2/users/{alice.id}", user__fields="description,location,url")
    assert found["data"] == {"id": str(alice.id), "username": alice.username, **changes}
    answer = await alice.request("PATCH", "/v1/users/me", json={"description": "", "url": ""})
    assert answer.json()["data"]["description"] == ""
    assert answer.json()["data"]["name"] == "Ada"  # what is not named stays
    assert "url" not in (await bob.get(f"/2/users/{alice.id}", user__fields="url"))["data"]


@pytest.mark.proves("GET /2/users/{id}", "GET /2/users", "GET /2/users/by/username/{username}", "GET /2/users/by")
async def test_users_by_id_and_by_name(alice: Account, bob: Account) -> None:
    one = await alice.get(f"/2/users/{bob.id}")
    assert one["data"].keys() == _USER
    assert await alice.get(f"/2/users/by/username/{bob.username.upper()}") == one
    both = await alice.get("/2/users", ids=f"{bob.id},{alice.id},{bob.id}")
    assert [user["id"] for user in both["data"]] == [str(bob.id), str(alice.id)]
    assert "errors" not in both
    named = await alice.get("/2/users/by", usernames=f"{alice.username},{bob.username}")
    assert [user["id"] for user in named["data"]] == [str(alice.id), str(bob.id)]
    full = await alice.get(f"/2/users/{bob.id}", user__fields="created_at,public_metrics,verified,protected")
    assert full["data"]["public_metrics"] == {
        "followers_count": 0,
        "following_count": 0,
        "tweet_count": 0,
        "post_count": 0,
        "listed_count": 0,
        "like_count": 0,
    }
    assert full["data"]["verified"] is False and full["data"]["protected"] is False


async def test_what_is_not_there_is_a_problem_inside_a_200(alice: Account) -> None:
    for path, kind, parameter, value in (
        ("/2/users/1", "user", "id", "1"),
        ("/2/users/by/username/nobody_at_all", "user", "username", "nobody_at_all"),
        ("/2/users?ids=1", "user", "ids", "1"),
        ("/2/users/by?usernames=nobody_at_all", "user", "usernames", "nobody_at_all"),
        ("/2/tweets/1", "tweet", "id", "1"),
        ("/2/tweets?ids=1", "tweet", "ids", "1"),
    ):
        body = await alice.get(path)
        assert body.keys() == {"errors"}, path
        assert body["errors"] == [
            {
                "title": "Not Found Error",
                "detail": f"Could not find {kind} with {parameter}: [{value}].",
                "type": "https://api.x.com/2/problems/resource-not-found",
                "resource_type": kind,
                "resource_id": value,
                "parameter": parameter,
                "value": value,
            }
        ]
    for path in ("/2/users/1/tweets", "/2/users/1/followers", "/2/users/1/following"):
        body = await alice.get(path)
        assert body["meta"] == {"result_count": 0}
        assert body["errors"][0]["resource_id"] == "1"


@pytest.mark.proves("POST /2/tweets", "GET /2/tweets/{id}", "GET /2/tweets", "DELETE /2/tweets/{id}")
async def test_creating_and_reading_and_deleting_a_tweet(alice: Account, bob: Account) -> None:
    answer = await alice.request("POST", "/2/tweets", json={"text": "  hello  "})
    assert answer.status_code == 201
    data = answer.json()["data"]
    assert data == {"id": data["id"], "text": "hello", "edit_history_tweet_ids": [data["id"]]}
    tweet_id = data["id"]
    assert await bob.get(f"/2/tweets/{tweet_id}") == {"data": data}
    assert await bob.get("/2/tweets", ids=tweet_id) == {"data": [data]}
    answer = await alice.request("DELETE", f"/2/tweets/{tweet_id}")
    assert (answer.status_code, answer.json()) == (200, {"data": {"deleted": True}})
    assert "data" not in await bob.get(f"/2/tweets/{tweet_id}")


async def test_the_same_request_id_gives_the_same_tweet(alice: Account, bob: Account) -> None:
    body = {"text": "once", "request_id": "r" * 64}
    answers = [await alice.request("POST", "/2/tweets", json=body) for _ in range(3)]
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    other = await bob.request("POST", "/2/tweets", json=body)  # somebody else's
    assert other.json()["data"]["id"] != answers[0].json()["data"]["id"]
    assert len(await alice.pages(f"/2/users/{alice.id}/tweets")) == 1


@pytest.mark.proves("GET /2/users/{id}/tweets")
async def test_a_persons_tweets(alice: Account, bob: Account) -> None:
    ids = await bob.tweets(12)
    first = await alice.get(f"/2/users/{bob.id}/tweets")
    assert [int(tweet["id"]) for tweet in first["data"]] == ids[:10]
    assert first["meta"].keys() == {"result_count", "newest_id", "oldest_id", "next_token"}
    assert (first["meta"]["newest_id"], first["meta"]["oldest_id"]) == (str(ids[0]), str(ids[9]))
    second = await alice.get(f"/2/users/{bob.id}/tweets", pagination_token=first["meta"]["next_token"])
    assert [int(tweet["id"]) for tweet in second["data"]] == ids[10:]
    assert "next_token" not in second["meta"]
    back = await alice.get(f"/2/users/{bob.id}/tweets", pagination_token=second["meta"]["previous_token"])
    assert back["data"] == first["data"]
    assert await alice.pages(f"/2/users/{bob.id}/tweets", exclude="replies,retweets") == ids


@pytest.mark.proves("GET /2/users/{id}/timelines/reverse_chronological")
async def test_home_timeline_and_its_fields(alice: Account, bob: Account) -> None:
    await alice.follow(bob)
    ids = await bob.tweets(3)
    await alice.home_is(ids)
    page = await alice.get(
        f"/2/users/{alice.id}/timelines/reverse_chronological",
        max_results=2,
        tweet__fields="created_at,author_id",
        expansions="author_id",
        user__fields="verified",
    )
    assert [int(tweet["id"]) for tweet in page["data"]] == ids[:2]
    assert page["data"][0].keys() == {"id", "text", "edit_history_tweet_ids", "created_at", "author_id"}
    assert page["data"][0]["created_at"] == rfc3339_of_id(ids[0])
    assert page["includes"] == {
        "users": [
            {"id": str(bob.id), "name": f"N {bob.username}", "username": bob.username, "verified": False},
        ]
    }
    assert page["meta"].keys() == {"result_count", "newest_id", "oldest_id", "next_token"}


@pytest.mark.proves(
    "POST /2/users/{id}/following",
    "DELETE /2/users/{id}/following/{target_user_id}",
    "GET /2/users/{id}/followers",
    "GET /2/users/{id}/following",
)
async def test_following(alice: Account, bob: Account) -> None:
    answer = await alice.request("POST", f"/2/users/{alice.id}/following", json={"target_user_id": str(bob.id)})
    assert (answer.status_code, answer.json()) == (200, {"data": {"following": True, "pending_follow": False}})
    again = await alice.request("POST", f"/2/users/{alice.id}/following", json={"target_user_id": str(bob.id)})
    assert again.json() == answer.json()
    followers = await alice.get(f"/2/users/{bob.id}/followers")
    assert [user["id"] for user in followers["data"]] == [str(alice.id)]
    assert followers["data"][0].keys() == _USER
    following = await bob.get(f"/2/users/{alice.id}/following")
    assert [user["id"] for user in following["data"]] == [str(bob.id)]
    for _ in range(2):
        answer = await alice.request("DELETE", f"/2/users/{alice.id}/following/{bob.id}")
        assert (answer.status_code, answer.json()) == (200, {"data": {"following": False}})
    assert (await alice.get(f"/2/users/{bob.id}/followers")) == {"meta": {"result_count": 0}}


@pytest.mark.proves("GET /2/users/{id}/followers")
async def test_followers_come_in_pages_the_newest_first(edge: httpx.AsyncClient, alice: Account) -> None:
    crowd = [await register(edge) for _ in range(5)]
    for one in crowd:
        await one.follow(alice)
    ids = [one.id for one in reversed(crowd)]
    first = await alice.get(f"/2/users/{alice.id}/followers", max_results=2)
    assert [int(user["id"]) for user in first["data"]] == ids[:2]
    assert await alice.pages(f"/2/users/{alice.id}/followers", max_results=2) == ids
    second = await alice.get(
        f"/2/users/{alice.id}/followers", max_results=2, pagination_token=first["meta"]["next_token"]
    )
    back = await alice.get(
        f"/2/users/{alice.id}/followers", max_results=2, pagination_token=second["meta"]["previous_token"]
    )
    assert back["data"] == first["data"]


@pytest.mark.proves("POST /tweets", "GET /feed", "GET /timeline")
async def test_the_plain_operations(alice: Account, bob: Account) -> None:
    answer = await bob.request("POST", "/tweets", json={"user_id": str(bob.id), "content": "plain"})
    assert answer.status_code == 201
    tweet = answer.json()["data"]
    assert tweet["text"] == "plain"
    by_number = await bob.request("POST", "/tweets", json={"user_id": bob.id, "content": "plainer"})
    assert by_number.status_code == 201
    await alice.follow(bob)

    async def look() -> None:
        feed = await alice.get("/feed", user_id=alice.id, max_results=1)
        assert [one["text"] for one in feed["data"]] == ["plainer"]
        rest = await alice.get("/timeline", user_id=alice.id, pagination_token=feed["meta"]["next_token"])
        assert [one["id"] for one in rest["data"]] == [tweet["id"]]

    await eventually(look)


async def test_unknown_query_parameters_and_headers_of_browsers_are_no_matter(alice: Account) -> None:
    answer = await alice.request(
        "GET",
        "/2/users/me?utm_source=x&tweet.mode=extended",
        headers={"accept": "text/html", "origin": "https://example.com", "cookie": "a=b"},
    )
    assert answer.status_code == 200


async def test_answers_do_not_say_what_they_are_made_with(alice: Account) -> None:
    answer = await alice.request("GET", "/2/users/me")
    assert answer.headers["server"] == "rookery"
    assert not [name for name in answer.headers if name.startswith(("x-envoy", "grpc-", "x-problem", "x-http"))]


async def _refresh(edge: httpx.AsyncClient, token: str) -> httpx.Response:
    return await edge.post("/v1/auth/refresh", json={"refresh_token": token})


async def _refreshed(edge: httpx.AsyncClient, token: str) -> str:
    answer = await _refresh(edge, token)
    assert answer.status_code == 200, answer.text
    data = answer.json()["data"]
    me = await edge.get("/2/users/me", headers={"authorization": f"Bearer {data['access_token']}"})
    assert me.status_code == 200
    return str(data["refresh_token"])


def _claims(token: str) -> dict[str, Any]:
    return _part(token, 1)


def _header(token: str) -> dict[str, Any]:
    return _part(token, 0)


def _part(token: str, place: int) -> dict[str, Any]:
    text = token.split(".")[place]
    part: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return part
