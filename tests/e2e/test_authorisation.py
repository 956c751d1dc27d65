"""Every operation, with every kind of token that must not do, and with everybody else's ids: no cell leaks.

The operations come from the document that the edge serves, which is made from the contracts: one that is added is in
the matrix. RPCs without an operation are unreachable, which tests/edge/test_paths.py walks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import pytest_asyncio
from rookery.user.v1.user_mesh_pb2 import SetSuspensionRequest

from cli.stores import Stores
from mesh.client import Destination
from tests.e2e.harness import Account, assert_problem, eventually, register
from tests.e2e.rest_world import (
    ENDS_ITS_CALLER,
    Described,
    Things,
    about,
    described,
    document_of,
    in_order,
    open_things_of,
    sent_by,
    spent_on,
    things_of,
    with_archive,
)
from tests.e2e.tokens import signed, signing_key

if TYPE_CHECKING:
    from rookery.user.v1.user_mesh_pb2_grpc import UserMeshServiceAsyncStub

    from cli.supervisor import Mesh

pytestmark = pytest.mark.asyncio(loop_scope="session")

_AT_ONCE = 8
# They ask for the password as well, and leave nothing to suspend.
_STAYS_ONES_RIGHT = ("POST /v1/users/me/deactivate", "POST /v1/users/me/erase")


@dataclass(frozen=True)
class Matrix:
    """Rows, and whom they are about."""

    operations: Sequence[Described]
    mine: Things
    hermits: Things
    """Of somebody who shows nothing to anybody."""
    moderator: Account


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def matrix(edge: httpx.AsyncClient, appoint: Callable[[Account], Awaitable[Account]]) -> AsyncIterator[Matrix]:
    """All operations, and two people who have one of everything."""
    me, hermit, star, somebody = [await register(edge) for _ in range(4)]
    seen, moderator = await open_things_of(star), await appoint(somebody)
    mine, hermits = [await things_of(who, moderator, seen) for who in (me, hermit)]
    yield Matrix(described(await document_of(edge)), mine, hermits, moderator)


Cell = Callable[[Described], Awaitable[str]]


async def _failures(operations: Sequence[Described], cell: Cell) -> str:
    """What is wrong in one column, an operation a line."""
    left = iter(operations)
    found: list[str] = []

    async def work() -> None:
        for operation in left:
            if wrong := await cell(operation):
                found.append(f"{operation.name}: {wrong}")

    await asyncio.gather(*(work() for _ in range(_AT_ONCE)))
    return "\n".join(found)


def _guarded(operations: Sequence[Described]) -> list[Described]:
    return [one for one in operations if not one.is_open]


def _refused(answer: httpx.Response, *statuses: int) -> str:
    """What is wrong with an answer that must be a problem."""
    if answer.status_code not in statuses:
        return f"{answer.status_code}: {answer.text[:300]}"
    assert_problem(answer, answer.status_code)
    return ""


async def test_the_matrix_has_every_operation(matrix: Matrix) -> None:
    from scripts.operations import known_operations, name_of

    assert {one.name for one in matrix.operations} == {name_of(one) for one in known_operations()}
    assert len(_guarded(matrix.operations)) > 60


@pytest.mark.parametrize("kind", ["no token", "expired", "wrong audience", "wrong issuer", "of nobody"])
async def test_without_a_good_token_nothing_but_the_open_operations_answers(
    edge: httpx.AsyncClient, stores: Stores, matrix: Matrix, kind: str
) -> None:
    key, sub, now = await signing_key(stores), str(matrix.mine.owner.id), int(time.time())
    token = {
        "no token": "",
        "expired": signed(key, sub=sub, iat=now - 3600, exp=now - 60),
        "wrong audience": signed(key, sub=sub, aud="somebody"),
        "wrong issuer": signed(key, sub=sub, iss="somebody"),
        "of nobody": signed(key),
    }[kind]
    headers = _bearer(token) if token else {}

    async def cell(operation: Described) -> str:
        which, more = matrix.mine.request(operation)
        answer = await edge.request(*which, headers=headers, **more)
        wrong = _refused(answer, 401)
        return wrong or (matrix.mine.secret if matrix.mine.secret in answer.text else "")

    assert await _failures(_guarded(matrix.operations), cell) == ""


async def test_a_token_that_lacks_a_scope_does_nothing_that_needs_it(
    edge: httpx.AsyncClient, stores: Stores, matrix: Matrix
) -> None:
    """It has every other scope, and is good where none is lacking."""
    key, sub = await signing_key(stores), str(matrix.mine.owner.id)
    every = {scope for operation in matrix.operations for scope in operation.scopes}
    assert len(every) > 10
    good = await edge.get("/2/users/me", headers=_bearer(signed(key, sub=sub, scope=" ".join(sorted(every)))))
    assert good.status_code == 200, good.text

    async def cell(operation: Described) -> str:
        assert operation.scopes, operation.name
        which, more = matrix.mine.request(operation)
        for scope in operation.scopes:
            token = signed(key, sub=sub, scope=" ".join(sorted(every - {scope})))
            answer = await edge.request(*which, headers=_bearer(token), **more)
            if wrong := _refused(answer, 403):
                return wrong
            if "insufficient_scope" not in answer.headers.get("www-authenticate", ""):
                return f"not for its scope: {answer.text[:300]}"
        return ""

    assert await _failures(_guarded(matrix.operations), cell) == ""


async def test_what_needs_a_role_is_refused_without_it(matrix: Matrix) -> None:
    me = matrix.mine.owner

    async def cell(operation: Described) -> str:
        which, more = matrix.mine.request(operation)
        return _refused(await me.request(*which, **more), 403)

    assert await _failures([one for one in matrix.operations if one.roles], cell) == ""


async def test_a_suspended_persons_tokens_are_good_for_nothing(
    edge: httpx.AsyncClient, operator: Destination[UserMeshServiceAsyncStub], matrix: Matrix
) -> None:
    """From a moment on that each service learns of by itself, 60 s later at most."""
    who = await register(edge)
    things = Things(who, {**matrix.mine.named, "user": str(who.id)}, "")
    # Not `/2/users/me`, which says 401 as soon as the person's record does not show.
    every_service = [("GET", f"/2/users?ids={who.id}"), ("GET", "/feed"), ("POST", "/v1/reports")]
    every_service += [("GET", f"/2/users/{who.id}/{end}") for end in ("following", "tweets")]
    for method, path in every_service:
        answer = await who.request(method, path)
        assert answer.status_code == (200 if method == "GET" else 400), answer.text
    await operator.call(operator.stub.SetSuspension, SetSuspensionRequest(user_id=who.id, suspended=True))
    for where in every_service:

        async def known(where: tuple[str, str] = where) -> None:
            assert_problem(await who.request(*where), 401)

        await eventually(known, 60.0)

    async def cell(operation: Described) -> str:
        which, more = things.request(operation)
        answer = await who.request(*which, **more)
        if operation.name in _STAYS_ONES_RIGHT and answer.status_code == 200:
            return ""
        return _refused(answer, 401, 403)

    assert await _failures(_guarded(matrix.operations), cell) == ""


def _bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def test_nobody_reads_or_changes_what_is_somebody_elses(matrix: Matrix) -> None:
    """Each request is one that its owner may send, and names nothing but theirs; who sends it is somebody else."""
    hermits, me = matrix.hermits, matrix.mine.owner
    await with_archive(hermits)
    before = await _kept(hermits)

    async def cell(operation: Described) -> str:
        which, more = hermits.request(operation)
        answer = await me.request(*which, **more)
        if hermits.secret in answer.text:
            return f"{answer.status_code} leaks: {answer.text[:300]}"
        return _refused(answer, 403) if operation.is_for_oneself else ""

    operations = [one for one in _guarded(matrix.operations) if one.name not in ENDS_ITS_CALLER]
    assert len([one for one in operations if one.is_for_oneself]) > 20
    assert await _failures(operations, cell) == ""
    assert await _kept(hermits) == before


async def _kept(things: Things) -> list[Any]:
    """What somebody has, as they see it."""
    owner, named = things.owner, things.named
    tweet = await owner.get(f"/2/tweets/{named['tweet']}", tweet__fields="text,author_id,reply_settings")
    return [
        tweet["data"],
        (await owner.get("/2/users/me", user__fields="name,location,protected,url,description,pinned_tweet_id"))[
            "data"
        ],
        (await owner.get(f"/2/lists/{named['list']}", list__fields="name,description,private,member_count"))["data"],
        await owner.pages(f"/2/users/{owner.id}/bookmarks"),
        await owner.pages(f"/2/users/{owner.id}/blocking"),
        await owner.pages(f"/2/users/{owner.id}/muting"),
        await owner.pages(f"/2/users/{owner.id}/following"),
        await owner.pages(f"/2/users/{owner.id}/pinned_lists"),
        await owner.pages("/v1/follow_requests"),
    ]


async def test_the_same_requests_are_good_with_a_good_token(
    edge: httpx.AsyncClient, mesh: Mesh, matrix: Matrix
) -> None:
    """So that a refusal above is for its reason, and for no other."""
    mine = matrix.mine
    await with_archive(mine)
    spent = await spent_on(edge)

    async def cell(operation: Described) -> str:
        things = await about(operation, mine, spent, matrix.moderator, mesh.data)
        which, more = things.request(operation)
        answer = await sent_by(things.owner, operation, which, more)
        return "" if 200 <= answer.status_code < 300 else f"{answer.status_code}: {answer.text[:300]}"

    for operations in in_order(matrix.operations):
        assert await _failures(operations, cell) == ""
