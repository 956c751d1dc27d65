"""What a request may say of itself: an id that is not the path's, members that nobody may set (hostile input 10).

For every operation with a body or an id in its path, from the document that the edge serves.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import pytest_asyncio

from tests.e2e.harness import Account, assert_problem, register
from tests.e2e.rest_world import (
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

if TYPE_CHECKING:
    from cli.supervisor import Mesh

pytestmark = pytest.mark.asyncio(loop_scope="session")

_NUMBER = 987_654_321
_TEXT = "forged"
# What people have tried elsewhere, and names of the inside.
_TRIED = (
    "role",
    "roles",
    "scope",
    "scopes",
    "is_admin",
    "admin",
    "viewer_id",
    "author_id",
    "owner_id",
    "password_hash",
)


@dataclass(frozen=True)
class Scene:
    """Somebody with one of everything, and somebody else."""

    operations: list[Described]
    mine: Things
    theirs: Things
    moderator: Account


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def scene(edge: httpx.AsyncClient, appoint: Callable[[Account], Awaitable[Account]]) -> AsyncIterator[Scene]:
    """All operations, and what they are about."""
    me, star, somebody = [await register(edge) for _ in range(3)]
    theirs, moderator = await open_things_of(star), await appoint(somebody)
    yield Scene(described(await document_of(edge)), await things_of(me, moderator, theirs), theirs, moderator)


def _forged(document: Mapping[str, Any]) -> dict[str, Any]:
    """A value for every member that any answer has."""
    found: dict[str, Any] = dict.fromkeys(_TRIED, _TEXT)
    for name, schema in document["components"]["schemas"].items():
        if name.endswith("Request") or name == "ProblemDocument":
            continue
        for member, is_what in schema.get("properties", {}).items():
            value = {"boolean": True, "integer": _NUMBER, "string": _TEXT, "array": []}
            kind = is_what.get("type", "object")
            found.setdefault(member, str(_NUMBER) if "pattern" in is_what else value.get(kind, {}))
    assert {"verified", "public_metrics", "created_at", "author_id", "like_count"} <= found.keys()
    return found


def _is_forged(text: str) -> bool:
    return _TEXT in text or str(_NUMBER) in text


async def test_members_that_nobody_may_set_change_nothing(edge: httpx.AsyncClient, mesh: Mesh, scene: Scene) -> None:
    mine, forged = scene.mine, _forged(scene.operations[0].document)
    await with_archive(mine)
    spent = await spent_on(edge)
    asked = 0
    for part in in_order(scene.operations):
        for operation in part:
            if "properties" not in (operation.body or {}):  # forms of OAuth refuse what they do not know
                continue
            extra = {name: value for name, value in forged.items() if name not in operation.body.get("properties", {})}
            extra = {name: value for name, value in extra.items() if f"{{{name}}}" not in operation.path}
            things = await about(operation, mine, spent, scene.moderator, mesh.data)
            which, more = things.request(operation, **extra)
            answer = await sent_by(things.owner, operation, which, more)
            assert 200 <= answer.status_code < 300, (operation.name, answer.text)
            assert not _is_forged(answer.text), (operation.name, answer.text)
            asked += 1
    assert asked > 20
    fields = {
        f"{kind}.fields": ",".join(schema["items"]["enum"])
        for kind, schema in (
            (kind, scene.operations[0].document["components"]["schemas"][f"{kind.title()}Fields"])
            for kind in ("user", "tweet", "list")
        )
    }
    me = (await mine.owner.request("GET", "/2/users/me", params={"user.fields": fields["user.fields"]})).json()["data"]
    assert me["verified"] is False and me["id"] == str(mine.owner.id)
    tweets = await mine.owner.request(
        "GET", f"/2/users/{me['id']}/tweets", params={"tweet.fields": fields["tweet.fields"], "max_results": 100}
    )
    assert {tweet["author_id"] for tweet in tweets.json()["data"]} == {me["id"]}
    lists = await mine.owner.request(
        "GET", f"/2/users/{me['id']}/owned_lists", params={"list.fields": fields["list.fields"]}
    )
    assert {listed["owner_id"] for listed in lists.json()["data"]} == {me["id"]}
    for seen in (str(me), tweets.text, lists.text):
        assert not _is_forged(seen), seen


async def test_an_id_in_a_body_that_has_one_in_its_path_is_refused(scene: Scene) -> None:
    asked = 0
    for operation in scene.operations:
        if operation.body is None or "{id}" not in operation.path:
            continue
        which, more = scene.mine.request(operation, id=scene.theirs.named["user"])
        assert_problem(await scene.mine.owner.request(*which, **more), 400)
        asked += 1
    assert asked > 10


async def test_an_id_in_the_query_is_not_the_paths(scene: Scene) -> None:
    """Byte for byte what the same request without it gets."""
    mine = scene.mine
    await with_archive(mine)
    asked = 0
    for operation in scene.operations:
        if operation.method != "GET" or "{" not in operation.path or operation.path.endswith("/archive"):
            continue
        (method, path), more = mine.request(operation)
        who = scene.moderator if operation.roles else mine.owner
        plain = await who.request(method, path, **more)
        others = {"id": scene.theirs.named["user"], "username": scene.theirs.owner.username}
        mixed = await who.request(method, path, params={**more.get("params", {}), **others})
        assert (mixed.status_code, mixed.content) == (plain.status_code, plain.content), operation.name
        assert plain.status_code == 200, operation.name
        asked += 1
    assert asked > 20
