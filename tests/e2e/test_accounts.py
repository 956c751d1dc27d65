"""Accounts that go and come back, and passwords."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from rookery.user.v1.user_mesh_pb2 import BatchGetUsersRequest, ResolveUsernamesRequest, SetSuspensionRequest

from mesh.client import Destination
from mesh.errors import InvalidArgument, NotFound
from tests.e2e.harness import PASSWORD, Account, assert_problem, eventually, fresh_name, register

if TYPE_CHECKING:
    from rookery.user.v1.user_mesh_pb2_grpc import UserMeshServiceAsyncStub

pytestmark = pytest.mark.asyncio(loop_scope="session")
Settled = Callable[[], Awaitable[None]]
_OTHER_PASSWORD = "staple battery horse"


async def _suspend(operator: Destination[UserMeshServiceAsyncStub], person: Account, suspended: bool = True) -> None:
    request = SetSuspensionRequest(user_id=person.id, suspended=suspended)
    await operator.call(operator.stub.SetSuspension, request)


async def _login(edge: httpx.AsyncClient, person: Account, password: str = PASSWORD) -> httpx.Response:
    return await edge.post("/v1/auth/login", json={"username": person.username, "password": password})


async def _refresh(edge: httpx.AsyncClient, token: str) -> httpx.Response:
    return await edge.post("/v1/auth/refresh", json={"refresh_token": token})


async def _deactivate(person: Account, password: str = PASSWORD) -> httpx.Response:
    answer: httpx.Response = await person.request("POST", "/v1/users/me/deactivate", json={"password": password})
    return answer


async def _like_nobody(viewer: Account, person: Account) -> None:
    """Checks that a person is there no more than somebody who never was."""
    missing, nobody = 2**60 + 1, "nobody_" + fresh_name()[2:8]

    def like(answer: dict[str, Any], given: object, instead: object) -> None:
        assert "data" not in answer
        [error] = answer["errors"]
        assert (error["value"], error["resource_id"]) == (str(given), str(given))
        assert error["detail"] == detail_of[type(given)].replace("X", str(given))
        assert error["title"] == "Not Found Error" and str(instead) not in str(answer)

    detail_of = {int: "Could not find user with id: [X].", str: "Could not find user with username: [X]."}
    for user_id in (person.id, missing):
        like(await viewer.get(f"/2/users/{user_id}"), user_id, person.username)
    for name in (person.username, nobody):
        like(await viewer.get(f"/2/users/by/username/{name}"), name, person.id)
    many = await viewer.get("/2/users", ids=f"{viewer.id},{person.id}")
    assert [one["id"] for one in many["data"]] == [str(viewer.id)]
    assert [one["value"] for one in many["errors"]] == [str(person.id)]
    named = await viewer.get("/2/users/by", usernames=f"{viewer.username},{person.username}")
    assert [one["id"] for one in named["data"]] == [str(viewer.id)]


async def _is_there(viewer: Account, person: Account) -> None:
    assert (await viewer.get(f"/2/users/{person.id}"))["data"]["username"] == person.username
    assert (await viewer.get(f"/2/users/by/username/{person.username}"))["data"]["id"] == str(person.id)


async def _followers(viewer: Account, person: Account) -> list[int]:
    return await viewer.pages(f"/2/users/{person.id}/followers")


# --- deactivation


@pytest.mark.proves("POST /v1/users/me/deactivate")
async def test_who_deactivates_is_nobody_until_they_log_in(
    edge: httpx.AsyncClient, alice: Account, bob: Account, settled: Settled
) -> None:
    await alice.follow(bob)
    await settled()
    assert await _followers(bob, bob) == [alice.id]
    tweet = await alice.tweet("mine")
    answer = await _deactivate(alice)
    assert answer.status_code == 200, answer.text
    data = answer.json()["data"]
    assert data["deactivated"] is True
    left = datetime.fromisoformat(data["erased_after"]) - datetime.now(UTC)
    assert timedelta(days=29, hours=23, minutes=59) < left <= timedelta(days=30)
    again = await _deactivate(alice)
    assert again.json() == answer.json(), "a second time changes nothing"

    await _like_nobody(bob, alice)
    assert await _followers(bob, bob) == []
    shown = await bob.get(f"/2/tweets/{tweet}", expansions="author_id")
    assert str(alice.username) not in str(shown)
    assert_problem(await _refresh(edge, alice.refresh_token), 401)
    assert_problem(await alice.request("GET", "/2/users/me"), 401)
    assert_problem(await alice.request("PATCH", "/v1/users/me", json={"name": "Back"}), 401)
    taken = {"username": alice.username, "email": "other@example.org", "password": PASSWORD}
    assert_problem(await edge.post("/v1/auth/register", json=taken), 409, "username")

    assert_problem(await _login(edge, alice, "wrong password"), 401)
    await _like_nobody(bob, alice)
    back = await _login(edge, alice)
    assert back.status_code == 200
    assert back.json()["data"]["user"]["name"] == f"N {alice.username}"
    await _is_there(bob, alice)
    assert await _followers(bob, bob) == [alice.id]
    assert (await _refresh(edge, back.json()["data"]["refresh_token"])).status_code == 200
    await settled()
    await _is_there(bob, alice)


async def test_deactivating_needs_ones_password(alice: Account, bob: Account, edge: httpx.AsyncClient) -> None:
    assert_problem(await _deactivate(alice, "wrong password"), 401)
    assert_problem(await _deactivate(alice, ""), 400, "password")
    assert_problem(await _deactivate(alice, "x" * 129), 400, "password")
    assert_problem(await edge.post("/v1/users/me/deactivate", json={"password": PASSWORD}), 401)
    answer = await bob.request(
        "POST", "/v1/users/me/deactivate", json={"password": PASSWORD, "user_id": str(alice.id), "id": str(alice.id)}
    )
    assert answer.status_code == 200  # Bob's own account: no member names another's
    await _is_there(alice, alice)


async def test_who_is_gone_is_shown_by_no_event_that_comes_late(alice: Account, bob: Account, settled: Settled) -> None:
    await bob.follow(alice)
    await bob.follow(await register(bob.edge))
    await _deactivate(alice)
    await settled()
    await _like_nobody(bob, alice)


# --- suspension


async def test_who_is_suspended_is_gone_at_once_and_cannot_log_in(
    edge: httpx.AsyncClient,
    alice: Account,
    bob: Account,
    operator: Destination[UserMeshServiceAsyncStub],
    settled: Settled,
) -> None:
    await alice.follow(bob)
    await settled()
    await _is_there(bob, alice)
    for _ in range(2):
        await _suspend(operator, alice)
        await _like_nobody(bob, alice)
    assert await _followers(bob, bob) == []
    assert_problem(await _refresh(edge, alice.refresh_token), 401)
    refused = assert_problem(await _login(edge, alice), 403)
    assert refused["detail"] == "This account is suspended."
    wrong = await _login(edge, alice, "wrong password")
    unknown = await edge.post("/v1/auth/login", json={"username": fresh_name(), "password": PASSWORD})
    assert wrong.json() == unknown.json(), "only who has the password is told of the suspension"

    await _suspend(operator, alice, False)
    await _is_there(bob, alice)
    assert await _followers(bob, bob) == [alice.id]
    assert (await _login(edge, alice)).status_code == 200


async def test_the_mesh_sees_nobody_in_an_account_that_is_gone(
    alice: Account, bob: Account, operator: Destination[UserMeshServiceAsyncStub]
) -> None:
    await _suspend(operator, alice)
    await _deactivate(bob)
    request = BatchGetUsersRequest(ids=[alice.id, bob.id])
    records = (await operator.call(operator.stub.BatchGetUsers, request)).records
    assert [len(record) for record in records] == [8, 8]  # a version, and nothing after it
    names = ResolveUsernamesRequest(usernames=[alice.username, bob.username.upper()])
    assert list((await operator.call(operator.stub.ResolveUsernames, names)).ids) == [0, 0]


async def test_a_suspension_is_no_operation_of_the_edge(
    alice: Account, bob: Account, operator: Destination[UserMeshServiceAsyncStub]
) -> None:
    for path in ("/rookery.user.v1.UserMeshService/SetSuspension", f"/v1/users/{bob.id}/suspension"):
        answer = await alice.request("POST", path, json={"user_id": str(bob.id), "suspended": True})
        assert answer.status_code == 404
    await _is_there(alice, bob)
    with pytest.raises(NotFound):
        await operator.call(operator.stub.SetSuspension, SetSuspensionRequest(user_id=2**60, suspended=True))
    with pytest.raises(InvalidArgument):
        await operator.call(operator.stub.SetSuspension, SetSuspensionRequest(suspended=True))


async def test_tweets_of_a_suspended_author_come_without_their_author(
    alice: Account, bob: Account, operator: Destination[UserMeshServiceAsyncStub]
) -> None:
    tweet = await alice.tweet("mine")
    reply = await bob.tweet("yours", reply={"in_reply_to_tweet_id": str(tweet)})
    await _suspend(operator, alice)

    async def look() -> None:
        shown = await bob.get(
            f"/2/tweets/{reply}",
            expansions="author_id,in_reply_to_user_id,referenced_tweets.id.author_id",
        )
        assert [person["id"] for person in shown["includes"]["users"]] == [str(bob.id)]

    await eventually(look)


@pytest.mark.parametrize("how", ["deactivated", "suspended"])
async def test_what_somebody_wrote_is_gone_and_comes_back_with_them(
    edge: httpx.AsyncClient, alice: Account, bob: Account, operator: Destination[UserMeshServiceAsyncStub], how: str
) -> None:
    carol = await register(edge)
    await bob.follow(alice)
    await bob.follow(carol)
    tweet = await alice.tweet("mine")
    reply = await carol.tweet("yours", reply={"in_reply_to_tweet_id": str(tweet)})
    answer = await carol.request("POST", f"/2/users/{carol.id}/retweets", json={"tweet_id": str(tweet)})
    retweet = int(answer.json()["data"]["rest_id"])
    for person in (alice, carol):
        await person.request("POST", f"/2/users/{person.id}/likes", json={"tweet_id": str(reply)})
    await bob.home_is([retweet, reply, tweet])
    paths = {
        f"/2/users/{alice.id}/tweets": [tweet],
        f"/2/users/{carol.id}/tweets": [retweet, reply],
        f"/2/tweets/{reply}/liking_users": [carol.id, alice.id],
        f"/2/users/{bob.id}/following": [carol.id, alice.id],
        f"/v1/tweets/{tweet}/conversation": [reply, tweet],
    }
    for path, ids in paths.items():
        assert await bob.pages(path) == ids, path

    if how == "deactivated":
        await _deactivate(alice)
    else:
        await _suspend(operator, alice)
    without = {
        f"/2/users/{alice.id}/tweets": [],
        f"/2/users/{carol.id}/tweets": [reply],
        f"/2/tweets/{reply}/liking_users": [carol.id],
        f"/2/users/{bob.id}/following": [carol.id],
    }
    for path, ids in without.items():
        assert await bob.pages(path) == ids, path
    assert await bob.home() == [reply]
    shown = await bob.get("/2/tweets", ids=f"{tweet},{reply},{retweet}", expansions="referenced_tweets.id")
    assert [one["id"] for one in shown["data"]] == [str(reply)]
    assert "tweets" not in shown.get("includes", {})
    assert sorted(error["value"] for error in shown["errors"]) == sorted([str(tweet), str(retweet), str(tweet)])
    for path, body, status in (
        (f"/2/users/{bob.id}/likes", {"tweet_id": str(tweet)}, 404),
        (f"/2/users/{bob.id}/retweets", {"tweet_id": str(tweet)}, 404),
        ("/2/tweets", {"text": "me too", "quote_tweet_id": str(tweet)}, 403),
    ):
        assert_problem(await bob.request("POST", path, json=body), status)

    if how == "deactivated":
        assert (await _login(edge, alice)).status_code == 200
    else:
        await _suspend(operator, alice, False)
    for path, ids in paths.items():
        assert await bob.pages(path) == ids, path
    await bob.home_is([retweet, reply, tweet])


async def test_who_is_gone_is_followed_blocked_and_mentioned_by_nobody(
    alice: Account, bob: Account, operator: Destination[UserMeshServiceAsyncStub]
) -> None:
    await alice.follow(bob)  # `graph` has heard of her
    await _suspend(operator, alice)
    for member in ("following", "blocking", "muting"):
        answer = await bob.request("POST", f"/2/users/{bob.id}/{member}", json={"target_user_id": str(alice.id)})
        assert_problem(answer, 404)
    tweet = await bob.tweet(f"hello @{alice.username}")
    shown = await bob.get(f"/2/tweets/{tweet}", tweet__fields="entities", expansions="entities.mentions.username")
    assert "id" not in shown["data"]["entities"]["mentions"][0]
    assert "includes" not in shown


# --- passwords


@pytest.mark.proves("POST /v1/auth/password")
async def test_another_password_ends_all_other_sessions(edge: httpx.AsyncClient, alice: Account) -> None:
    elsewhere = (await _login(edge, alice)).json()["data"]["refresh_token"]
    change = {"password": PASSWORD, "new_password": _OTHER_PASSWORD}
    answer = await alice.request("POST", "/v1/auth/password", json=change)
    assert answer.status_code == 200, answer.text
    data = answer.json()["data"]
    assert data.keys() == {"access_token", "refresh_token", "token_type", "expires_in", "user"}
    assert data["user"]["id"] == str(alice.id)
    for token in (alice.refresh_token, elsewhere):
        assert_problem(await _refresh(edge, token), 401)
    assert_problem(await _login(edge, alice), 401)
    assert (await _login(edge, alice, _OTHER_PASSWORD)).status_code == 200
    assert (await _refresh(edge, data["refresh_token"])).status_code == 200
    me = await edge.get("/2/users/me", headers={"authorization": f"Bearer {data['access_token']}"})
    assert me.json()["data"]["id"] == str(alice.id)


async def test_who_lost_the_answer_may_change_the_password_again(edge: httpx.AsyncClient, alice: Account) -> None:
    change = {"password": PASSWORD, "new_password": _OTHER_PASSWORD}
    for _ in range(2):
        answer = await alice.request("POST", "/v1/auth/password", json=change)
        assert answer.status_code == 200, answer.text
    assert (await _refresh(edge, answer.json()["data"]["refresh_token"])).status_code == 200


@pytest.mark.parametrize(
    ("change", "status", "about"),
    [
        ({"password": "wrong password", "new_password": _OTHER_PASSWORD}, 401, ""),
        ({"password": PASSWORD, "new_password": "seven.."}, 400, "new_password"),
        ({"password": PASSWORD, "new_password": "x" * 129}, 400, "new_password"),
        ({"password": PASSWORD}, 400, "new_password"),
        ({"new_password": _OTHER_PASSWORD}, 400, "password"),
        ({"password": PASSWORD, "new_password": ["x"] * 8}, 400, ""),
    ],
)
async def test_a_wrong_change_of_password_changes_nothing(
    edge: httpx.AsyncClient, alice: Account, change: dict[str, object], status: int, about: str
) -> None:
    assert_problem(await alice.request("POST", "/v1/auth/password", json=change), status, about)
    assert (await _login(edge, alice)).status_code == 200
    assert (await _refresh(edge, alice.refresh_token)).status_code == 200


async def test_nobody_changes_anothers_password(edge: httpx.AsyncClient, alice: Account, bob: Account) -> None:
    change = {"password": PASSWORD, "new_password": _OTHER_PASSWORD, "username": alice.username, "id": str(alice.id)}
    assert (await bob.request("POST", "/v1/auth/password", json=change)).status_code == 200
    assert (await _login(edge, alice)).status_code == 200
    assert (await _login(edge, bob, _OTHER_PASSWORD)).status_code == 200
    assert_problem(await edge.post("/v1/auth/password", json=change), 401)
