"""Blocks, mutes and requests to follow: what they change at once, what they refuse, and whose they are."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import httpx
import pytest
from rookery.graph.v1.graph_mesh_pb2 import GetStandingRequest, GetStandingResponse
from rookery.graph.v1.graph_mesh_pb2_grpc import GraphMeshServiceStub

from cli.stores import Stores
from cli.supervisor import Mesh
from mesh.cache.sets import GuardedSets
from mesh.cache.store import CacheStore
from tests.e2e import graph_rows
from tests.e2e.harness import PASSWORD, Account, assert_problem, register, register_many
from tests.e2e.tweepy_clients import Maker

pytestmark = pytest.mark.asyncio(loop_scope="session")
Settled = Callable[[], Awaitable[None]]
_NOBODY = 1
"""An id that nobody has."""


async def _post(person: Account, path: str, **members: object) -> dict[str, Any]:
    """What a POST of theirs is answered with."""
    answer = await person.request("POST", path, json=members)
    assert answer.status_code == 200, answer.text
    data: dict[str, Any] = answer.json()["data"]
    return data


async def _delete(person: Account, path: str) -> dict[str, Any]:
    """What a DELETE of theirs is answered with."""
    answer = await person.request("DELETE", path)
    assert answer.status_code == 200, answer.text
    data: dict[str, Any] = answer.json()["data"]
    return data


async def _follow(person: Account, other: Account) -> dict[str, Any]:
    return await _post(person, f"/2/users/{person.id}/following", target_user_id=str(other.id))


async def _block(person: Account, other: Account) -> None:
    assert await _post(person, f"/2/users/{person.id}/blocking", target_user_id=str(other.id)) == {"blocking": True}


async def _unblock(person: Account, other: Account) -> None:
    assert await _delete(person, f"/2/users/{person.id}/blocking/{other.id}") == {"blocking": False}


async def _protect(person: Account, protected: bool = True) -> None:
    answer = await person.request("PATCH", "/v1/users/me", json={"protected": protected})
    assert answer.status_code == 200, answer.text


FOLLOWING = {"following": True, "pending_follow": False}
PENDING = {"following": False, "pending_follow": True}


async def _standing(mesh: Mesh, viewer: Account, *others: Account) -> GetStandingResponse:
    """How a viewer stands to others, as `graph` tells other services."""
    async with grpc.aio.insecure_channel(
        f"unix://{mesh.data}/run/graph.sock", options=[("grpc.default_authority", "localhost")]
    ) as channel:
        request = GetStandingRequest(viewer_id=viewer.id, user_ids=[other.id for other in others])
        answer: GetStandingResponse = await GraphMeshServiceStub(channel).GetStanding(request)
        return answer


# --- blocks


@pytest.mark.proves(
    "POST /2/users/{id}/blocking", "DELETE /2/users/{id}/blocking/{target_user_id}", "GET /2/users/{id}/blocking"
)
async def test_a_block_cuts_both_follows_and_lasts_until_it_is_lifted(
    alice: Account, bob: Account, stores: Stores, settled: Settled
) -> None:
    await alice.follow(bob)
    await bob.follow(alice)
    for _ in range(2):
        await _block(alice, bob)
        assert await alice.pages(f"/2/users/{alice.id}/blocking") == [bob.id]
        assert await bob.pages(f"/2/users/{bob.id}/blocking") == [], "it is hers alone"
        assert (await graph_rows.between(stores, alice.id, bob.id))["follows"] == []
    await settled()
    for person in (alice, bob):
        me = await person.get("/2/users/me", user__fields="public_metrics")
        counts = me["data"]["public_metrics"]
        assert (counts["followers_count"], counts["following_count"]) == (0, 0)
    for _ in range(2):
        await _unblock(alice, bob)
        assert await alice.pages(f"/2/users/{alice.id}/blocking") == []
    assert (await graph_rows.between(stores, alice.id, bob.id))["follows"] == [], "what was cut does not come back"
    assert await _follow(bob, alice) == FOLLOWING


async def test_nobody_follows_across_a_block(alice: Account, bob: Account, stores: Stores) -> None:
    await _block(alice, bob)
    for protected in (False, True):
        await _protect(alice, protected)
        await _protect(bob, protected)
        body = {"target_user_id": str(alice.id)}
        refused = await bob.request("POST", f"/2/users/{bob.id}/following", json=body)
        assert_problem(refused, 403, "You have been blocked from following this account.")
        body = {"target_user_id": str(bob.id)}
        assert_problem(await alice.request("POST", f"/2/users/{alice.id}/following", json=body), 403, "unblock")
    between = await graph_rows.between(stores, alice.id, bob.id)
    assert (between["follows"], between["follow_requests"]) == ([], [])


async def test_a_block_ends_requests_of_either(alice: Account, bob: Account) -> None:
    await _protect(alice)
    await _protect(bob)
    assert await _follow(alice, bob) == PENDING
    assert await _follow(bob, alice) == PENDING
    await _block(alice, bob)
    for person in (alice, bob):
        assert await person.pages("/v1/follow_requests") == []
        assert await person.pages("/v1/follow_requests/sent") == []
    assert_problem(await alice.request("POST", f"/v1/follow_requests/{bob.id}/accept", json={}), 404)


async def test_a_pair_that_does_everything_at_once_ends_in_one_state(
    alice: Account, bob: Account, stores: Stores, settled: Settled
) -> None:
    """50 requests of both at once, over and over: no follow crosses a block, and counts are those of the rows."""
    dice = random.Random(5)

    async def once(one: Account, other: Account, doing: int) -> None:
        body = {"target_user_id": str(other.id)}
        path = f"/2/users/{one.id}/{('following', 'blocking')[doing // 2]}"
        if doing % 2:
            answer = await one.request("DELETE", f"{path}/{other.id}")
        else:
            answer = await one.request("POST", path, json=body)
        assert answer.status_code in ((200, 403) if doing == 0 else (200,)), answer.text

    pairs = ((alice, bob), (bob, alice))
    for _ in range(3):
        doings = [(*pairs[n % 2], n % 4 if n < 40 else 0) for n in range(50)]
        dice.shuffle(doings)
        await asyncio.gather(*(once(*doing) for doing in doings))
        between = await graph_rows.between(stores, alice.id, bob.id)
        assert not (between["follows"] and between["blocks"]), between
        await settled()
        for one, other in pairs:
            me = await one.get("/2/users/me", user__fields="public_metrics")
            counts = me["data"]["public_metrics"]
            assert counts["following_count"] == between["follows"].count((one.id, other.id))
            assert counts["followers_count"] == between["follows"].count((other.id, one.id))
    # After a last block nothing that races it may stand.
    racing = [once(bob, alice, 0) for _ in range(10)]
    await asyncio.gather(*racing[:5], _block(alice, bob), *racing[5:])
    between = await graph_rows.between(stores, alice.id, bob.id)
    assert between["follows"] == []
    assert (alice.id, bob.id) in between["blocks"]


# --- mutes


@pytest.mark.proves(
    "POST /2/users/{id}/muting", "DELETE /2/users/{id}/muting/{target_user_id}", "GET /2/users/{id}/muting"
)
async def test_a_mute_leaves_the_follow_and_is_the_muters_alone(alice: Account, bob: Account, stores: Stores) -> None:
    await alice.follow(bob)
    for _ in range(2):
        body = {"target_user_id": str(bob.id)}
        assert await _post(alice, f"/2/users/{alice.id}/muting", **body) == {"muting": True}
        assert await alice.pages(f"/2/users/{alice.id}/muting") == [bob.id]
        assert await bob.pages(f"/2/users/{bob.id}/muting") == []
    assert (await graph_rows.between(stores, alice.id, bob.id))["follows"] == [(alice.id, bob.id)]
    for _ in range(2):
        assert await _delete(alice, f"/2/users/{alice.id}/muting/{bob.id}") == {"muting": False}
        assert await alice.pages(f"/2/users/{alice.id}/muting") == []


@pytest.mark.proves(
    "POST /2/users/{id}/muting",
    "DELETE /2/users/{id}/muting/{target_user_id}",
    "GET /2/users/{id}/muting",
    "GET /2/users/{id}/blocking",
)
async def test_tweepy_mutes_and_reads_mutes_and_blocks(
    tweepy_of: Maker, edge: httpx.AsyncClient, alice: Account, bob: Account
) -> None:
    carol = await register(edge)
    await _block(alice, carol)
    mine = tweepy_of(alice)
    # Without `user_auth` tweepy asks who it is by GET /2/users/me first.
    assert (await mine("mute", bob.id, user_auth=False)).data == {"muting": True}
    muted = await mine("get_muted", user_fields=["created_at"], user_auth=False)
    assert [(user.id, user.username) for user in muted.data] == [(bob.id, bob.username)]
    assert muted.data[0].created_at is not None
    assert muted.meta == {"result_count": 1}
    blocked = await mine("get_blocked", user_auth=False)
    assert [user.id for user in blocked.data] == [carol.id]
    assert (await mine("unmute", bob.id, user_auth=False)).data == {"muting": False}
    assert (await mine("get_muted", user_auth=False)).data is None
    assert (await mine("follow_user", bob.id, user_auth=False)).data == FOLLOWING
    assert (await mine("unfollow_user", bob.id, user_auth=False)).data == {"following": False}


# --- requests


@pytest.mark.proves("GET /v1/follow_requests", "GET /v1/follow_requests/sent", "POST /v1/follow_requests/{id}/accept")
async def test_a_protected_person_is_asked_and_accepts(
    alice: Account, bob: Account, stores: Stores, settled: Settled
) -> None:
    await _protect(bob)
    for _ in range(2):
        assert await _follow(alice, bob) == PENDING
        assert await bob.pages("/v1/follow_requests") == [alice.id]
        assert await alice.pages("/v1/follow_requests/sent") == [bob.id]
    assert (await graph_rows.between(stores, alice.id, bob.id))["follows"] == []
    for _ in range(2):
        assert await _post(bob, f"/v1/follow_requests/{alice.id}/accept") == {"accepted": True}
        assert await bob.pages("/v1/follow_requests") == []
        assert await alice.pages("/v1/follow_requests/sent") == []
    assert (await graph_rows.between(stores, alice.id, bob.id))["follows"] == [(alice.id, bob.id)]
    assert await _follow(alice, bob) == FOLLOWING, "following still"
    await settled()
    shown = await alice.get(f"/2/users/{bob.id}", user__fields="public_metrics")
    assert shown["data"]["public_metrics"]["followers_count"] == 1


@pytest.mark.proves("POST /v1/follow_requests/{id}/decline", "DELETE /2/users/{id}/following/{target_user_id}")
async def test_a_request_is_declined_or_taken_back(alice: Account, bob: Account) -> None:
    await _protect(bob)
    assert await _follow(alice, bob) == PENDING
    assert await _post(bob, f"/v1/follow_requests/{alice.id}/decline") == {"declined": True}
    assert await alice.pages("/v1/follow_requests/sent") == []
    assert await _follow(alice, bob) == PENDING, "one may ask again"
    assert await _delete(alice, f"/2/users/{alice.id}/following/{bob.id}") == {"following": False}
    assert await bob.pages("/v1/follow_requests") == []
    for what in ("accept", "decline"):
        assert_problem(await bob.request("POST", f"/v1/follow_requests/{alice.id}/{what}", json={}), 404)


async def test_who_goes_public_keeps_requests_and_who_goes_private_keeps_followers(
    edge: httpx.AsyncClient, alice: Account, bob: Account, stores: Stores
) -> None:
    carol = await register(edge)
    await carol.follow(bob)
    await _protect(bob)
    assert await _follow(carol, bob) == FOLLOWING
    assert await _follow(alice, bob) == PENDING
    await _protect(bob, False)
    assert await bob.pages("/v1/follow_requests") == [alice.id]
    assert await _follow(alice, bob) == FOLLOWING, "there is nothing to ask for any more"
    assert await bob.pages("/v1/follow_requests") == []
    await _protect(bob)
    assert (await graph_rows.between(stores, alice.id, bob.id))["follows"] == [(alice.id, bob.id)]


async def test_requests_are_paged_the_newest_first(edge: httpx.AsyncClient, bob: Account) -> None:
    await _protect(bob)
    askers = await register_many(edge, 5)
    for asker in askers:
        await _follow(asker, bob)
    newest_first = [asker.id for asker in reversed(askers)]
    assert await bob.pages("/v1/follow_requests", max_results=2) == newest_first
    first = await bob.get("/v1/follow_requests", max_results=2, user__fields="protected")
    assert all(person["protected"] is False for person in first["data"])
    for path in ("/v1/follow_requests/sent", f"/2/users/{bob.id}/blocking"):
        crossed = {"pagination_token": first["meta"]["next_token"]}
        assert_problem(await bob.request("GET", path, params=crossed), 400, "pagination_token")
    theirs = {"pagination_token": first["meta"]["next_token"]}
    assert_problem(await askers[0].request("GET", "/v1/follow_requests", params=theirs), 400, "pagination_token")


async def test_who_is_gone_is_in_no_list_and_comes_back_to_all(
    edge: httpx.AsyncClient, alice: Account, bob: Account
) -> None:
    """As an unknown person: not to be followed, blocked, muted or accepted. Nothing of it ends, as they may return."""
    carol = await register(edge)
    await _protect(bob)
    await _follow(carol, bob)
    await _block(alice, carol)
    await _post(bob, f"/2/users/{bob.id}/muting", target_user_id=str(carol.id))
    lists = (
        (bob, "/v1/follow_requests"),
        (alice, f"/2/users/{alice.id}/blocking"),
        (bob, f"/2/users/{bob.id}/muting"),
    )
    assert (await carol.request("POST", "/v1/users/me/deactivate", json={"password": PASSWORD})).status_code == 200
    for viewer, path in lists:
        assert await viewer.pages(path) == []
    for what in ("following", "blocking", "muting"):
        answers = [
            await alice.request("POST", f"/2/users/{alice.id}/{what}", json={"target_user_id": str(target)})
            for target in (carol.id, _NOBODY)
        ]
        gone, missing = [assert_problem(answer, 404) for answer in answers]
        assert gone == json.loads(json.dumps(missing).replace(f"[{_NOBODY}]", f"[{carol.id}]"))
    assert_problem(await bob.request("POST", f"/v1/follow_requests/{carol.id}/accept", json={}), 404)
    back = await edge.post("/v1/auth/login", json={"username": carol.username, "password": PASSWORD})
    assert back.status_code == 200, back.text
    for viewer, path in lists:
        assert await viewer.pages(path) == [carol.id]
    assert await _post(bob, f"/v1/follow_requests/{carol.id}/accept") == {"accepted": True}


# --- the read model


async def test_other_services_see_a_change_at_once(
    mesh: Mesh, cache: CacheStore, edge: httpx.AsyncClient, alice: Account, bob: Account
) -> None:
    """The sets are loaded by the question, hold all relations, and are gone with each change."""
    carol = await register(edge)
    names = ("following", "pulled", "blocked", "muted")

    async def kept(person: Account, name: str) -> set[bytes]:
        return set(await cache.client.smembers(GuardedSets.key(name, person.id)))  # type: ignore[misc]

    async def looks() -> tuple[list[int], list[int], list[int]]:
        found = await _standing(mesh, alice, bob, carol)
        assert await _standing(mesh, alice) == GetStandingResponse()
        sets = [await kept(alice, name) for name in names]
        assert all(b"0" in members for members in sets), "loaded"
        for members, ids in zip(
            (sets[0], sets[2], sets[3]), (found.following_ids, found.blocked_ids, found.muted_ids), strict=True
        ):
            assert members - {b"0"} == {str(i).encode() for i in ids}
        return list(found.following_ids), list(found.blocked_ids), list(found.muted_ids)

    assert await looks() == ([], [], [])
    await alice.follow(bob)
    assert await looks() == ([bob.id], [], [])
    await _post(alice, f"/2/users/{alice.id}/muting", target_user_id=str(bob.id))
    assert await looks() == ([bob.id], [], [bob.id])
    await _block(carol, alice)
    assert await looks() == ([bob.id], [carol.id], [bob.id])
    await _block(bob, alice)
    assert sorted((await looks())[1]) == sorted([bob.id, carol.id])
    assert (await looks())[0] == []
    for person in (bob, carol):
        await _unblock(person, alice)
    assert await looks() == ([], [], [bob.id])


# --- bad input, and somebody else's


@dataclass(frozen=True)
class Case:
    """One wrong request of alice."""

    name: str
    method: str
    path: str
    status: int
    target: str | int | None = None
    about: str = ""


def _cases() -> list[Case]:
    found = []
    for verb, what in (("block", "blocking"), ("mute", "muting")):
        mine, theirs = f"/2/users/{{me}}/{what}", f"/2/users/{{other}}/{what}"
        found += [
            Case(f"{verb}: oneself", "POST", mine, 400, "{me}", "target_user_id"),
            Case(f"{verb}: nobody", "POST", mine, 404, str(_NOBODY)),
            Case(f"{verb}: no target", "POST", mine, 400, None, "target_user_id"),
            Case(f"{verb}: a negative id", "POST", mine, 400, "-5", "target_user_id"),
            Case(f"{verb}: a word for an id", "POST", mine, 400, "other"),
            Case(f"{verb}: an id of 70 bits", "POST", mine, 400, str(2**70)),
            Case(f"{verb}: in somebody else's name", "POST", theirs, 403, "{me}"),
            Case(f"{verb}: a word in the path", "POST", f"/2/users/me/{what}", 400, "{other}"),
            Case(f"un{verb}: oneself", "DELETE", f"{mine}/{{me}}", 400, about="target_user_id"),
            Case(f"un{verb}: in somebody else's name", "DELETE", f"{theirs}/{{me}}", 403),
            Case(f"un{verb}: a word for an id", "DELETE", f"{mine}/other", 400),
            Case(f"{what}: somebody else's", "GET", theirs, 403),
            Case(f"{what}: max_results=0", "GET", f"{mine}?max_results=0", 400, about="max_results"),
            Case(f"{what}: max_results=1001", "GET", f"{mine}?max_results=1001", 400, about="max_results"),
            Case(f"{what}: a made-up cursor", "GET", f"{mine}?pagination_token=x", 400, about="pagination_token"),
            Case(f"{what}: an unknown field", "GET", f"{mine}?user.fields=password", 400, about="user.fields"),
        ]
    for path in ("/v1/follow_requests", "/v1/follow_requests/sent"):
        found += [
            Case(f"{path}: max_results=0", "GET", f"{path}?max_results=0", 400, about="max_results"),
            Case(f"{path}: a made-up cursor", "GET", f"{path}?pagination_token=x", 400, about="pagination_token"),
            Case(f"{path}: an unknown expansion", "GET", f"{path}?expansions=secrets", 400, about="expansions"),
        ]
    for what in ("accept", "decline"):
        path = "/v1/follow_requests"
        found += [
            Case(f"{what}: who never asked", "POST", f"{path}/{{other}}/{what}", 404),
            Case(f"{what}: oneself", "POST", f"{path}/{{me}}/{what}", 404),
            Case(f"{what}: nobody", "POST", f"{path}/{_NOBODY}/{what}", 404),
            Case(f"{what}: zero", "POST", f"{path}/0/{what}", 400),
            Case(f"{what}: a word for an id", "POST", f"{path}/other/{what}", 400),
        ]
    return found


@pytest.mark.parametrize("case", _cases(), ids=lambda case: case.name)
async def test_a_wrong_request_is_a_problem_and_changes_nothing(
    alice: Account, bob: Account, stores: Stores, case: Case
) -> None:
    def fill(text: str) -> str:
        return text.replace("{me}", str(alice.id)).replace("{other}", str(bob.id))

    more: dict[str, Any] = {}
    if case.method == "POST":
        more["json"] = {} if case.target is None else {"target_user_id": fill(str(case.target))}
    answer = await alice.request(case.method, fill(case.path), **more)
    assert_problem(answer, case.status, case.about)
    assert not any((await graph_rows.between(stores, alice.id, bob.id)).values())


async def test_taking_back_what_never_was_is_no_error(alice: Account, bob: Account) -> None:
    for what, member in (("blocking", "blocking"), ("muting", "muting"), ("following", "following")):
        for target in (bob.id, _NOBODY):
            assert await _delete(alice, f"/2/users/{alice.id}/{what}/{target}") == {member: False}


async def test_nobody_answers_a_request_to_somebody_else(edge: httpx.AsyncClient, alice: Account, bob: Account) -> None:
    """Neither the requester nor a third person; and there is nothing to see of it for them."""
    carol = await register(edge)
    await _protect(bob)
    await _follow(alice, bob)
    for person, requester in itertools.product((alice, carol), (alice, bob)):
        for what in ("accept", "decline"):
            answer = await person.request("POST", f"/v1/follow_requests/{requester.id}/{what}", json={})
            assert_problem(answer, 404)
        assert await person.pages("/v1/follow_requests") == []
    assert await carol.pages("/v1/follow_requests/sent") == []
    assert await bob.pages("/v1/follow_requests") == [alice.id]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/2/users/1/blocking"),
        ("DELETE", "/2/users/1/blocking/2"),
        ("GET", "/2/users/1/blocking"),
        ("POST", "/2/users/1/muting"),
        ("DELETE", "/2/users/1/muting/2"),
        ("GET", "/2/users/1/muting"),
        ("GET", "/v1/follow_requests"),
        ("GET", "/v1/follow_requests/sent"),
        ("POST", "/v1/follow_requests/1/accept"),
        ("POST", "/v1/follow_requests/1/decline"),
    ],
)
async def test_nothing_of_it_is_for_who_is_not_signed_in(edge: httpx.AsyncClient, method: str, path: str) -> None:
    assert_problem(await edge.request(method, path), 401)
