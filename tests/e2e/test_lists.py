"""Lists of people: made, changed, filled, followed, pinned, hidden and deleted, by tweepy where it has a method."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import httpx
import pytest
import tweepy

from cli.stores import Stores
from mesh.ids import rfc3339_of_id
from tests.e2e import graph_rows
from tests.e2e.harness import PASSWORD, VARYING, Account, assert_problem, eventually, register, register_many
from tests.e2e.tweepy_clients import Maker

pytestmark = pytest.mark.asyncio(loop_scope="session")
FIELDS = ["created_at", "description", "follower_count", "member_count", "owner_id", "private"]
MISSING = 12_345
"""A list that never was."""


async def make(owner: Account, name: str = "birds", **members: Any) -> int:
    """A new list's id."""
    answer = await owner.request("POST", "/2/lists", json={"name": name, **members})
    assert answer.status_code == 201, answer.text
    return int(answer.json()["data"]["id"])


async def ok(account: Account, method: str, path: str, json: Any = None) -> Any:
    """The `data` of a successful answer."""
    answer = await account.request(method, path, **({"json": json} if json is not None else {}))
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


async def add(owner: Account, list_id: int, *members: Account) -> None:
    """Puts people on a list, one after the other."""
    for member in members:
        assert await ok(owner, "POST", f"/2/lists/{list_id}/members", {"user_id": str(member.id)}) == {
            "is_member": True
        }


async def counts(reader: Account, list_id: int) -> tuple[int, int]:
    """Members and followers of a list."""
    found = await reader.get(f"/2/lists/{list_id}", list__fields="member_count,follower_count")
    return found["data"]["member_count"], found["data"]["follower_count"]


# --- each operation, as clients call it


@pytest.mark.proves("POST /2/lists", "GET /2/lists/{id}", "PUT /2/lists/{id}", "DELETE /2/lists/{id}")
async def test_a_list_from_its_making_to_its_end(tweepy_of: Maker, alice: Account, bob: Account) -> None:
    owner, reader = tweepy_of(alice), tweepy_of(bob)
    made = await owner("create_list", " birds ", description="all of them", private=False, user_auth=False)
    assert made.data["name"] == "birds"
    list_id = int(made.data["id"])
    found = await reader("get_list", list_id, list_fields=FIELDS, expansions="owner_id", user_fields="verified")
    assert (found.data.id, found.data.name, found.data.description) == (str(list_id), "birds", "all of them")
    assert (found.data.member_count, found.data.follower_count, found.data.private) == (0, 0, False)
    assert found.data.owner_id == str(alice.id)
    assert found.data.data["created_at"] == rfc3339_of_id(list_id)
    assert [(user.id, user.verified) for user in found.includes["users"]] == [(alice.id, False)]
    assert (await owner("update_list", list_id, description="", user_auth=False)).data == {"updated": True}
    assert (await owner("update_list", list_id, name="gulls", user_auth=False)).data == {"updated": True}
    found = await reader("get_list", list_id, list_fields=["description"])
    assert found.data.data == {"id": str(list_id), "name": "gulls", "description": ""}
    for _ in range(2):  # the second time its answer is the same
        assert (await owner("delete_list", list_id, user_auth=False)).data == {"deleted": True}
    found = await reader("get_list", list_id)
    assert found.data is None and found.errors[0]["resource_type"] == "list"


@pytest.mark.proves(
    "POST /2/lists/{id}/members",
    "DELETE /2/lists/{id}/members/{target_user_id}",
    "GET /2/lists/{id}/members",
    "GET /2/users/{id}/list_memberships",
)
async def test_members(tweepy_of: Maker, edge: httpx.AsyncClient, alice: Account, bob: Account) -> None:
    owner, reader = tweepy_of(alice), tweepy_of(bob)
    cleo = await register(edge)
    list_id = await make(alice)
    for member in (bob, cleo, cleo):  # twice is once
        assert (await owner("add_list_member", list_id, member.id, user_auth=False)).data == {"is_member": True}
    pages = await reader.all("get_list_members", list_id, max_results=1, user_fields=["created_at"])
    assert [user.id for page in pages for user in page.data or []] == [cleo.id, bob.id]
    assert await counts(bob, list_id) == (2, 0)
    on = await reader("get_list_memberships", bob.id, list_fields=["owner_id"], expansions="owner_id")
    assert [(one.id, one.owner_id) for one in on.data] == [(str(list_id), str(alice.id))]
    assert [user.id for user in on.includes["users"]] == [alice.id]
    for _ in range(2):
        assert (await owner("remove_list_member", list_id, cleo.id, user_auth=False)).data == {"is_member": False}
    assert [user.id for user in (await reader("get_list_members", list_id)).data] == [bob.id]
    assert await counts(bob, list_id) == (1, 0)
    assert (await reader("get_list_memberships", cleo.id)).data is None


@pytest.mark.proves(
    "POST /2/users/{id}/followed_lists",
    "DELETE /2/users/{id}/followed_lists/{list_id}",
    "GET /2/users/{id}/followed_lists",
    "GET /2/lists/{id}/followers",
)
async def test_following_lists(tweepy_of: Maker, alice: Account, bob: Account) -> None:
    follower, reader = tweepy_of(bob), tweepy_of(alice)
    one, two = await make(alice, "one"), await make(alice, "two")
    for list_id in (one, two, two):
        assert (await follower("follow_list", list_id, user_auth=False)).data == {"following": True}
    pages = await reader.all("get_followed_lists", bob.id, max_results=1, list_fields=["follower_count"])
    assert [(found.id, found.follower_count) for page in pages for found in page.data or []] == [
        (str(two), 1),
        (str(one), 1),
    ]
    assert [user.id for user in (await reader("get_list_followers", two)).data] == [bob.id]
    for list_id in (two, two, MISSING):
        assert (await follower("unfollow_list", list_id, user_auth=False)).data == {"following": False}
    assert (await reader("get_list_followers", two)).data is None
    assert [found.id for found in (await reader("get_followed_lists", bob.id)).data] == [str(one)]
    assert await counts(alice, two) == (0, 0)


@pytest.mark.proves(
    "POST /2/users/{id}/pinned_lists",
    "DELETE /2/users/{id}/pinned_lists/{list_id}",
    "GET /2/users/{id}/pinned_lists",
    "GET /2/users/{id}/owned_lists",
)
async def test_pinning_lists(tweepy_of: Maker, alice: Account) -> None:
    client = tweepy_of(alice)
    lists = [await make(alice, f"list {n}", private=n == 0) for n in range(6)]
    for list_id in lists[:5]:
        assert (await client("pin_list", list_id, user_auth=False)).data == {"pinned": True}
    with pytest.raises(tweepy.Forbidden, match="5 lists"):
        await client("pin_list", lists[5], user_auth=False)
    await client("pin_list", lists[0], user_auth=False)  # is there already
    pinned = await client("get_pinned_lists", list_fields=["private"], user_auth=False)
    assert [one.id for one in pinned.data] == [str(i) for i in reversed(lists[:5])]
    assert [one.private for one in pinned.data] == [False] * 4 + [True]
    for list_id in (lists[0], lists[0], MISSING):
        assert (await client("unpin_list", list_id, user_auth=False)).data == {"pinned": False}
    assert (await client("pin_list", lists[5], user_auth=False)).data == {"pinned": True}
    owned = await client.all("get_owned_lists", alice.id, max_results=4)
    assert [one.id for page in owned for one in page.data or []] == [str(i) for i in reversed(lists)]


# --- answers


async def test_an_answer_has_the_members_that_were_asked_for(alice: Account, bob: Account) -> None:
    list_id = await make(alice)
    assert await bob.get(f"/2/lists/{list_id}") == {"data": {"id": str(list_id), "name": "birds"}}
    found = await bob.get(f"/2/lists/{list_id}", expansions="owner_id")
    assert found["data"].keys() == {"id", "name", "owner_id"}
    assert found["includes"] == {
        "users": [{"id": str(alice.id), "name": f"N {alice.username}", "username": alice.username}]
    }
    page = await bob.get(f"/2/users/{alice.id}/owned_lists", list__fields="private,member_count")
    assert page == {
        "data": [{"id": str(list_id), "name": "birds", "private": False, "member_count": 0}],
        "meta": {"result_count": 1},
    }


async def test_the_same_request_id_makes_one_list(alice: Account, bob: Account) -> None:
    made = await asyncio.gather(*(make(alice, request_id="r1") for _ in range(5)))
    assert len(set(made)) == 1
    assert await make(bob, request_id="r1") not in made
    assert await make(alice, request_id="r2") not in made
    assert len(await bob.pages(f"/2/users/{alice.id}/owned_lists")) == 2


async def test_pages_of_lists_go_back_and_forth(alice: Account, bob: Account) -> None:
    lists = [await make(alice, f"list {n}") for n in range(5)][::-1]
    path = f"/2/users/{alice.id}/owned_lists"
    first = await bob.get(path, max_results=2)
    assert [int(one["id"]) for one in first["data"]] == lists[:2]
    second = await bob.get(path, max_results=2, pagination_token=first["meta"]["next_token"])
    assert [int(one["id"]) for one in second["data"]] == lists[2:4]
    back = await bob.get(path, max_results=2, pagination_token=second["meta"]["previous_token"])
    assert back["data"] == first["data"] and "previous_token" not in back["meta"]
    assert await bob.pages(path, max_results=2) == lists
    for token in (first["meta"]["next_token"], "x"):
        answer = await bob.request("GET", f"/2/users/{bob.id}/owned_lists", params={"pagination_token": token})
        assert_problem(answer, 400, "pagination_token")


async def test_pages_are_full_though_most_lists_are_hidden(alice: Account, bob: Account) -> None:
    public = []
    for n in range(30):
        list_id = await make(alice, f"list {n}", private=n % 10 != 0)
        await add(alice, list_id, bob)
        public += [list_id] if n % 10 == 0 else []
    path = f"/2/users/{bob.id}/list_memberships"
    first = await bob.get(path, max_results=2)
    assert [int(one["id"]) for one in first["data"]] == public[:0:-1]
    second = await bob.get(path, max_results=2, pagination_token=first["meta"]["next_token"])
    assert [int(one["id"]) for one in second["data"]] == public[:1]
    assert "next_token" not in second["meta"]
    back = await bob.get(path, max_results=2, pagination_token=second["meta"]["previous_token"])
    assert back["data"] == first["data"]
    assert len(await alice.pages(path)) == 30  # their owner sees all


# --- who sees a list


def _operations(viewer: Account, list_id: int) -> Sequence[tuple[str, str, Any]]:
    """Everything that one can ask of another's list."""
    return (
        ("GET", f"/2/lists/{list_id}?list.fields=owner_id&expansions=owner_id", None),
        ("GET", f"/2/lists/{list_id}/members", None),
        ("GET", f"/2/lists/{list_id}/followers?max_results=5", None),
        ("GET", f"/2/lists/{list_id}/tweets?expansions=author_id", None),
        ("PUT", f"/2/lists/{list_id}", {"name": "mine"}),
        ("DELETE", f"/2/lists/{list_id}", None),
        ("POST", f"/2/lists/{list_id}/members", {"user_id": str(viewer.id)}),
        ("DELETE", f"/2/lists/{list_id}/members/{viewer.id}", None),
        ("POST", f"/2/users/{viewer.id}/followed_lists", {"list_id": str(list_id)}),
        ("DELETE", f"/2/users/{viewer.id}/followed_lists/{list_id}", None),
        ("POST", f"/2/users/{viewer.id}/pinned_lists", {"list_id": str(list_id)}),
        ("DELETE", f"/2/users/{viewer.id}/pinned_lists/{list_id}", None),
    )


_DIFFERS = VARYING | {"content-length"}


async def _answers(viewer: Account, list_id: int) -> list[tuple[int, dict[str, str], str]]:
    """Status, headers and body of each, without the list's own id."""
    found = []
    for method, path, json in _operations(viewer, list_id):
        answer = await viewer.request(method, path, **({"json": json} if json is not None else {}))
        headers = {name: value for name, value in answer.headers.items() if name not in _DIFFERS}
        found.append((answer.status_code, headers, answer.text.replace(str(list_id), "ID")))
    return found


async def test_a_private_list_answers_as_a_missing_and_as_a_deleted_one(
    edge: httpx.AsyncClient, alice: Account, bob: Account
) -> None:
    private = await make(alice, private=True)
    await add(alice, private, bob, alice)
    await ok(alice, "POST", f"/2/users/{alice.id}/followed_lists", {"list_id": str(private)})
    deleted = await make(alice)
    await ok(alice, "DELETE", f"/2/lists/{deleted}")
    never = private + 1
    missing = await _answers(bob, never)
    assert [status for status, *_ in missing] == [200] * 4 + [404] * 5 + [200, 404, 200]
    assert '"resource_type":"list"' in missing[0][2]
    assert await _answers(bob, private) == missing
    assert await _answers(bob, deleted) == missing
    assert await counts(alice, private) == (2, 1)  # and none of it changed anything
    for path in (f"/2/users/{alice.id}/owned_lists", f"/2/users/{bob.id}/list_memberships"):
        assert await bob.get(path) == {"meta": {"result_count": 0}}, path
        assert await alice.pages(path) == [private], path
    assert await bob.get(f"/2/users/{alice.id}/followed_lists") == {"meta": {"result_count": 0}}


async def test_a_list_that_becomes_private_goes_from_its_followers_and_comes_back(alice: Account, bob: Account) -> None:
    list_id = await make(alice)
    await ok(bob, "POST", f"/2/users/{bob.id}/followed_lists", {"list_id": str(list_id)})
    await ok(bob, "POST", f"/2/users/{bob.id}/pinned_lists", {"list_id": str(list_id)})
    paths = [f"/2/users/{bob.id}/followed_lists", f"/2/users/{bob.id}/pinned_lists"]
    for private in (True, False):
        await ok(alice, "PUT", f"/2/lists/{list_id}", {"private": private})
        for path in paths:
            assert await bob.pages(path) == ([] if private else [list_id]), path


async def test_a_public_list_of_somebody_else_is_theirs_alone_to_change(alice: Account, bob: Account) -> None:
    list_id = await make(alice)
    await add(alice, list_id, alice)
    for method, path, json in (
        ("PUT", f"/2/lists/{list_id}", {"name": "mine"}),
        ("DELETE", f"/2/lists/{list_id}", None),
        ("POST", f"/2/lists/{list_id}/members", {"user_id": str(bob.id)}),
        ("DELETE", f"/2/lists/{list_id}/members/{alice.id}", None),
    ):
        answer = await bob.request(method, path, **({"json": json} if json is not None else {}))
        assert_problem(answer, 403, "owner")
    found = await bob.get(f"/2/lists/{list_id}", list__fields="member_count")
    assert found["data"] == {"id": str(list_id), "name": "birds", "member_count": 1}


async def test_nobody_follows_or_pins_in_anothers_name(alice: Account, bob: Account) -> None:
    list_id = await make(alice)
    for kind in ("followed_lists", "pinned_lists"):
        path = f"/2/users/{alice.id}/{kind}"
        assert_problem(await bob.request("POST", path, json={"list_id": str(list_id)}), 403)
        assert_problem(await bob.request("DELETE", f"{path}/{list_id}"), 403)
        assert await alice.pages(path) == []
    assert_problem(await bob.request("GET", f"/2/users/{alice.id}/pinned_lists"), 403)


async def test_lists_of_a_protected_person_show_to_followers_only(
    edge: httpx.AsyncClient, alice: Account, bob: Account
) -> None:
    cleo = await register(edge)
    await cleo.follow(alice)
    list_id = await make(alice)
    await add(alice, list_id, bob)
    assert (await alice.request("PATCH", "/v1/users/me", json={"protected": True})).status_code == 200
    assert await _answers(bob, list_id) == await _answers(bob, list_id + 1)
    assert await bob.get(f"/2/users/{bob.id}/list_memberships") == {"meta": {"result_count": 0}}
    missing = await bob.request("GET", "/2/users/1/owned_lists")
    hidden = await bob.request("GET", f"/2/users/{alice.id}/owned_lists")
    assert hidden.text == missing.text.replace('"1"', f'"{alice.id}"').replace("[1]", f"[{alice.id}]")
    for reader in (alice, cleo):
        assert await reader.pages(f"/2/users/{alice.id}/owned_lists") == [list_id]
        assert (await reader.get(f"/2/lists/{list_id}"))["data"]["id"] == str(list_id)


async def test_lists_of_somebody_who_left_are_gone_until_they_are_back(
    edge: httpx.AsyncClient, alice: Account, bob: Account
) -> None:
    list_id, other = await make(alice), await make(bob)
    await add(alice, list_id, bob)
    await add(bob, other, alice, bob)
    await ok(bob, "POST", f"/2/users/{bob.id}/followed_lists", {"list_id": str(list_id)})
    await ok(alice, "POST", "/v1/users/me/deactivate", {"password": PASSWORD})
    assert await _answers(bob, list_id) == await _answers(bob, list_id + 1)
    assert await bob.pages(f"/2/lists/{other}/members") == [bob.id]
    assert await bob.get(f"/2/users/{bob.id}/list_memberships") == {
        "data": [{"id": str(other), "name": "birds"}],
        "meta": {"result_count": 1},
    }
    answer = await bob.request("POST", f"/2/lists/{other}/members", json={"user_id": str(alice.id)})
    assert_problem(answer, 404)
    signed_in = await edge.post("/v1/auth/login", json={"username": alice.username, "password": PASSWORD})
    assert signed_in.status_code == 200
    assert await bob.pages(f"/2/lists/{other}/members") == [bob.id, alice.id]
    assert await bob.pages(f"/2/lists/{list_id}/members") == [bob.id]


async def test_a_block_takes_people_off_each_others_lists_and_hides_them(
    edge: httpx.AsyncClient, alice: Account, bob: Account
) -> None:
    cleo = await register(edge)
    mine, theirs, other = await make(alice), await make(bob), await make(cleo)
    await add(alice, mine, bob, cleo)
    await add(bob, theirs, alice)
    await add(cleo, other, alice, bob)
    await ok(bob, "POST", f"/2/users/{bob.id}/followed_lists", {"list_id": str(mine)})
    assert await ok(bob, "POST", f"/2/users/{bob.id}/blocking", {"target_user_id": str(alice.id)}) == {"blocking": True}
    assert await cleo.pages(f"/2/lists/{mine}/members") == [cleo.id]
    assert await cleo.pages(f"/2/lists/{theirs}/members") == []
    assert await counts(cleo, mine) == (1, 0)
    assert await _answers(bob, mine) == await _answers(bob, mine + 1)
    assert await _answers(alice, theirs) == await _answers(alice, theirs + 1)
    answer = await alice.request("POST", f"/2/lists/{mine}/members", json={"user_id": str(bob.id)})
    assert_problem(answer, 403)
    assert await alice.pages(f"/2/lists/{other}/members") == [alice.id]  # without whom one must not meet
    assert await cleo.pages(f"/2/lists/{other}/members") == [bob.id, alice.id]
    await ok(bob, "DELETE", f"/2/users/{bob.id}/blocking/{alice.id}")
    assert await bob.pages(f"/2/users/{alice.id}/owned_lists") == [mine]
    assert await bob.pages(f"/2/lists/{mine}/members") == [cleo.id]
    await add(alice, mine, bob)


# --- the timeline


@pytest.mark.proves("GET /2/lists/{id}/tweets")
async def test_the_timeline_of_a_list(tweepy_of: Maker, edge: httpx.AsyncClient, alice: Account, bob: Account) -> None:
    cleo, stranger = await register_many(edge, 2)
    list_id = await make(alice)
    await add(alice, list_id, bob, cleo)
    first = await bob.tweet("one")
    outside = await stranger.tweet("not of the list")
    second = await cleo.tweet("two")
    answer = await bob.tweet("an answer", reply={"in_reply_to_tweet_id": str(outside)})
    await ok(cleo, "POST", f"/2/users/{cleo.id}/retweets", {"tweet_id": str(outside)})
    reader = tweepy_of(stranger)
    pages = await reader.all(
        "get_list_tweets", list_id, max_results=2, expansions="author_id", tweet_fields=["created_at"]
    )
    shown = [tweet for page in pages for tweet in page.data or []]
    assert [tweet.id for tweet in shown][1:] == [answer, second, first]
    assert shown[0].author_id == cleo.id and shown[0].text.startswith("RT @")
    assert {user.id for page in pages for user in page.includes["users"]} == {bob.id, cleo.id}
    assert await alice.pages(f"/2/lists/{list_id}/tweets") == [tweet.id for tweet in shown]
    await bob.delete(answer)
    await ok(alice, "DELETE", f"/2/lists/{list_id}/members/{cleo.id}")
    assert await alice.pages(f"/2/lists/{list_id}/tweets") == [first]
    assert (await alice.get(f"/2/lists/{await make(alice)}/tweets")) == {"meta": {"result_count": 0}}


async def test_pages_of_a_lists_timeline_go_back_and_forth(
    edge: httpx.AsyncClient, alice: Account, bob: Account
) -> None:
    cleo = await register(edge)
    list_id = await make(alice)
    await add(alice, list_id, bob, cleo)
    ids = [await author.tweet(f"number {n}") for n, author in enumerate([bob, cleo] * 4)][::-1]
    path = f"/2/lists/{list_id}/tweets"
    first = await alice.get(path, max_results=3)
    assert first["meta"].keys() == {"result_count", "newest_id", "oldest_id", "next_token"}
    second = await alice.get(path, max_results=3, pagination_token=first["meta"]["next_token"])
    await bob.tweet("meanwhile")
    third = await alice.get(path, max_results=3, pagination_token=second["meta"]["next_token"])
    found = [[int(tweet["id"]) for tweet in page["data"]] for page in (first, second, third)]
    assert found == [ids[:3], ids[3:6], ids[6:]]
    assert "next_token" not in third["meta"]
    back = await alice.get(path, max_results=3, pagination_token=third["meta"]["previous_token"])
    assert back["data"] == second["data"]
    back = await alice.get(path, max_results=3, pagination_token=back["meta"]["previous_token"])
    assert back["data"] == first["data"]


async def test_a_lists_timeline_shows_what_the_reader_may_see_and_fills_its_pages(
    edge: httpx.AsyncClient, alice: Account, bob: Account
) -> None:
    locked, muted, blocked = await register_many(edge, 3)
    list_id = await make(alice)
    await add(alice, list_id, bob, locked, muted, blocked)
    await bob.follow(locked)
    seen = [await bob.tweet(f"seen {n}") for n in range(3)]
    hidden = [await author.tweet(f"hidden {n}") for author in (locked, muted, blocked) for n in range(5)]
    assert (await locked.request("PATCH", "/v1/users/me", json={"protected": True})).status_code == 200
    reader = await register(edge)
    await ok(reader, "POST", f"/2/users/{reader.id}/muting", {"target_user_id": str(muted.id)})
    await ok(blocked, "POST", f"/2/users/{blocked.id}/blocking", {"target_user_id": str(reader.id)})
    page = await reader.get(f"/2/lists/{list_id}/tweets", max_results=2)
    assert [int(tweet["id"]) for tweet in page["data"]] == seen[:0:-1]
    assert await reader.pages(f"/2/lists/{list_id}/tweets", max_results=2) == seen[::-1]
    # To their follower, who mutes and is blocked by nobody, all of them show.
    assert await bob.pages(f"/2/lists/{list_id}/tweets", max_results=4) == [*hidden[::-1], *seen[::-1]]
    await ok(reader, "DELETE", f"/2/users/{reader.id}/muting/{muted.id}")
    assert await reader.pages(f"/2/lists/{list_id}/tweets") == [*hidden[9:4:-1], *seen[::-1]]


async def listed(person: Account) -> int:
    """The listed_count on a profile."""
    found = await person.get("/2/users/me", user__fields="public_metrics")
    count: int = found["data"]["public_metrics"]["listed_count"]
    return count


async def test_profiles_count_the_public_lists_that_people_are_on(
    edge: httpx.AsyncClient, alice: Account, bob: Account
) -> None:
    cleo = await register(edge)
    first, second, private = await make(alice), await make(cleo), await make(alice, private=True)
    for owner, list_id in ((alice, first), (cleo, second), (alice, private)):
        await add(owner, list_id, bob)

    async def becomes(count: int) -> None:
        async def look() -> None:
            assert await listed(bob) == count

        await eventually(look)

    await becomes(2)
    await ok(alice, "PUT", f"/2/lists/{private}", {"private": False})
    await becomes(3)
    await ok(alice, "PUT", f"/2/lists/{first}", {"private": True})
    await becomes(2)
    await ok(cleo, "DELETE", f"/2/lists/{second}")
    await becomes(1)
    await ok(bob, "POST", f"/2/users/{bob.id}/blocking", {"target_user_id": str(alice.id)})
    await becomes(0)
    await ok(bob, "DELETE", f"/2/users/{bob.id}/blocking/{alice.id}")
    await add(alice, private, bob)
    await becomes(1)
    assert await listed(alice) == 0


# --- bad input


_WRONG: Sequence[tuple[str, str, Any, str]] = (
    ("POST", "/2/lists", {}, "name"),
    ("POST", "/2/lists", {"name": ""}, "name"),
    ("POST", "/2/lists", {"name": " \t "}, "name"),
    ("POST", "/2/lists", {"name": "x" * 26}, "name"),
    ("POST", "/2/lists", {"name": "a\0b"}, "name"),
    ("POST", "/2/lists", {"name": "a\nb"}, "name"),
    ("POST", "/2/lists", {"name": ["a"]}, ""),
    ("POST", "/2/lists", {"name": "a", "description": "x" * 101}, "description"),
    ("POST", "/2/lists", {"name": "a", "description": "a\x07"}, "description"),
    ("POST", "/2/lists", {"name": "a", "private": "maybe"}, ""),
    ("POST", "/2/lists", {"name": "a", "request_id": "r" * 65}, "request_id"),
    ("PUT", "/2/lists/{list}", {}, ""),
    ("PUT", "/2/lists/{list}", {"name": ""}, "name"),
    ("PUT", "/2/lists/{list}", {"name": "   "}, "name"),
    ("PUT", "/2/lists/{list}", {"name": "x" * 26}, "name"),
    ("PUT", "/2/lists/{list}", {"description": "x" * 101}, "description"),
    ("PUT", "/2/lists/{list}", {"id": "5", "name": "a"}, ""),
    ("PUT", "/2/lists/0", {"name": "a"}, "id"),
    ("POST", "/2/lists/{list}/members", {}, "user_id"),
    ("POST", "/2/lists/{list}/members", {"user_id": "-1"}, "user_id"),
    ("POST", "/2/lists/{list}/members", {"user_id": "me"}, ""),
    ("DELETE", "/2/lists/{list}/members/me", None, ""),
    ("DELETE", "/2/lists/zero", None, ""),
    ("GET", "/2/lists/{list}?list.fields=name,secrets", None, "list.fields"),
    ("GET", "/2/lists/{list}?expansions=pinned_tweet_id", None, "expansions"),
    ("GET", "/2/lists/{list}?user.fields=password", None, "user.fields"),
    ("GET", "/2/lists/{list}/members?max_results=101", None, "max_results"),
    ("GET", "/2/lists/{list}/members?pagination_token=x", None, "pagination_token"),
    ("GET", "/2/lists/{list}/followers?max_results=0", None, "max_results"),
    ("GET", "/2/lists/{list}/tweets?max_results=101", None, "max_results"),
    ("GET", "/2/lists/{list}/tweets?tweet.fields=secrets", None, "tweet.fields"),
    ("GET", "/2/lists/{list}/tweets?pagination_token=x", None, "pagination_token"),
    ("GET", "/2/users/{me}/owned_lists?max_results=0", None, "max_results"),
    ("GET", "/2/users/{me}/followed_lists?max_results=101", None, "max_results"),
    ("GET", "/2/users/{me}/list_memberships?pagination_token=abc", None, "pagination_token"),
    ("POST", "/2/users/{me}/followed_lists", {}, "list_id"),
    ("POST", "/2/users/{me}/followed_lists", {"list_id": "0"}, "list_id"),
    ("POST", "/2/users/{me}/pinned_lists", {"list_id": str(2**70)}, ""),
)


async def test_wrong_requests_are_problems_and_change_nothing(alice: Account, stores: Stores) -> None:
    list_id = await make(alice)
    before = await graph_rows.lists(stores)
    for method, path, json, about in _WRONG:
        where = path.replace("{list}", str(list_id)).replace("{me}", str(alice.id))
        answer = await alice.request(method, where, **({"json": json} if json is not None else {}))
        assert answer.status_code == 400, (method, path, json, answer.text)
        assert_problem(answer, 400, about)
    assert await graph_rows.lists(stores) == before


async def test_a_name_of_25_characters_of_any_script_is_taken(alice: Account) -> None:
    for name in ("鳥" * 25, "🐦" * 25, "x" * 25):
        list_id = await make(alice, name, description="字" * 100)
        assert (await alice.get(f"/2/lists/{list_id}"))["data"]["name"] == name


async def test_nobody_is_no_member(alice: Account) -> None:
    list_id = await make(alice)
    answer = await alice.request("POST", f"/2/lists/{list_id}/members", json={"user_id": "1"})
    assert_problem(answer, 404, "user_id")
    assert await counts(alice, list_id) == (0, 0)


async def test_lists_of_nobody_are_a_problem_inside_a_200(alice: Account) -> None:
    for kind in ("owned_lists", "followed_lists", "list_memberships"):
        body = await alice.get(f"/2/users/1/{kind}")
        assert body["meta"] == {"result_count": 0}
        assert [(error["resource_type"], error["value"]) for error in body["errors"]] == [("user", "1")]


# --- at once


async def test_counts_are_rows_after_many_changes_at_once(
    edge: httpx.AsyncClient, alice: Account, bob: Account
) -> None:
    list_id = await make(alice)
    dice = random.Random(3)

    async def change(call: Callable[[], Awaitable[Any]]) -> None:
        await call()

    def joining() -> Awaitable[Any]:
        return ok(alice, "POST", f"/2/lists/{list_id}/members", {"user_id": str(bob.id)})

    def leaving() -> Awaitable[Any]:
        return ok(alice, "DELETE", f"/2/lists/{list_id}/members/{bob.id}")

    def following() -> Awaitable[Any]:
        return ok(bob, "POST", f"/2/users/{bob.id}/followed_lists", {"list_id": str(list_id)})

    def unfollowing() -> Awaitable[Any]:
        return ok(bob, "DELETE", f"/2/users/{bob.id}/followed_lists/{list_id}")

    kinds = [joining, leaving, following, unfollowing] * 25
    dice.shuffle(kinds)
    await asyncio.gather(*map(change, kinds))
    members = await alice.pages(f"/2/lists/{list_id}/members")
    followers = await alice.pages(f"/2/lists/{list_id}/followers")
    assert await counts(alice, list_id) == (len(members), len(followers))
    await joining()
    assert await alice.pages(f"/2/lists/{list_id}/members") == [bob.id]
    assert (await counts(alice, list_id))[0] == 1


async def test_pages_of_members_hold_while_others_come_and_go(edge: httpx.AsyncClient, alice: Account) -> None:
    crowd = await register_many(edge, 7)
    list_id = await make(alice)
    await add(alice, list_id, *crowd[:6])
    path = f"/2/lists/{list_id}/members"
    first = await alice.get(path, max_results=2)
    await add(alice, list_id, crowd[6])  # above the page
    await ok(alice, "DELETE", f"{path}/{crowd[5].id}")  # of the page that was read
    rest = await alice.pages(path, max_results=2, pagination_token=first["meta"]["next_token"])
    assert [int(one["id"]) for one in first["data"]] == [crowd[5].id, crowd[4].id]
    assert rest == [one.id for one in reversed(crowd[:4])]
