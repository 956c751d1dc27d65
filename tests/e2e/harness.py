"""People who use a mesh through its edge, and ways to wait for what they caused."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

import httpx
from rookery.user.v1.user_mesh_pb2 import SetRoleRequest

from mesh.cache.store import CacheStore
from mesh.client import Destination
from views.entry import SIZE, unpack
from views.lists import home_lists

if TYPE_CHECKING:
    from rookery.user.v1.user_mesh_pb2_grpc import UserMeshServiceAsyncStub

T = TypeVar("T")
_POLL_S = 0.02
VARYING = frozenset({"date", "x-request-id", "x-rate-limit-remaining", "x-rate-limit-reset"})
"""Headers that differ between two answers that are the same."""
PASSWORD = "correct horse battery"


async def eventually(probe: Callable[[], Awaitable[T]], deadline_s: float = 15.0) -> T:
    """Calls `probe` until it raises no AssertionError; gives what it gives. Its last error, after `deadline_s`."""
    until = time.monotonic() + deadline_s
    while True:
        try:
            return await probe()
        except AssertionError:
            if time.monotonic() > until:
                raise
        await asyncio.sleep(_POLL_S)


def fresh_name() -> str:
    """A username that nobody has."""
    return f"u_{secrets.token_hex(6)}"


@dataclass(frozen=True)
class Account:
    """Somebody who is signed in."""

    edge: httpx.AsyncClient
    id: int
    username: str
    token: str
    refresh_token: str

    @property
    def email(self) -> str:
        """As given to `register`."""
        return f"{self.username}@example.org"

    async def request(self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **more: Any) -> Any:
        """An answer of the edge to this person."""
        signed = {"authorization": f"Bearer {self.token}", **(headers or {})}
        return await self.edge.request(method, path, headers=signed, **more)

    async def get(self, path: str, **params: str | int) -> Any:
        """The body of a successful GET; parameter names have `__` for a dot."""
        query = {name.replace("__", "."): value for name, value in params.items()}
        answer = await self.request("GET", path, params=query or None)  # an empty one would replace the path's own
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def tweet(self, text: str, **members: Any) -> int:
        """Posts; gives the id."""
        answer = await self.request("POST", "/2/tweets", json={"text": text, **members})
        assert answer.status_code == 201, answer.text
        return int(answer.json()["data"]["id"])

    async def tweets(self, count: int, at_once: int = 8) -> list[int]:
        """Posts many; gives the ids, the newest first."""
        ids: list[int] = []
        numbers = iter(range(count))

        async def poster() -> None:
            for number in numbers:
                ids.append(await self.tweet(f"number {number} of {count}"))

        await asyncio.gather(*(poster() for _ in range(at_once)))
        return sorted(ids, reverse=True)

    async def delete(self, tweet_id: int) -> None:
        """Deletes one's own tweet."""
        answer = await self.request("DELETE", f"/2/tweets/{tweet_id}")
        assert answer.status_code == 200, answer.text

    async def follow(self, other: Account) -> None:
        """Follows."""
        answer = await self.request("POST", f"/2/users/{self.id}/following", json={"target_user_id": str(other.id)})
        assert answer.status_code == 200, answer.text

    async def unfollow(self, other: Account) -> None:
        """Unfollows."""
        answer = await self.request("DELETE", f"/2/users/{self.id}/following/{other.id}")
        assert answer.status_code == 200, answer.text

    async def home(self, **params: str | int) -> list[int]:
        """The whole home timeline, page by page: ids as they came."""
        return await self.pages(f"/2/users/{self.id}/timelines/reverse_chronological", **params)

    async def pages(self, path: str, **params: str | int) -> list[int]:
        """Ids of all pages of a list, as they came."""
        ids: list[int] = []
        for _ in range(50):
            page = await self.get(path, **params)
            ids += [int(item["id"]) for item in page.get("data", [])]
            assert page["meta"]["result_count"] == len(page.get("data", []))
            if "next_token" not in page["meta"]:
                return ids
            params["pagination_token"] = page["meta"]["next_token"]
        raise AssertionError("the list does not end")

    async def home_is(self, ids: Sequence[int]) -> None:
        """Waits until the home timeline is exactly this."""

        async def look() -> None:
            assert await self.home() == list(ids)

        await eventually(look)


async def register(edge: httpx.AsyncClient, username: str | None = None) -> Account:
    """A new account."""
    username = username or fresh_name()
    answer = await edge.post(
        "/v1/auth/register",
        json={"username": username, "email": f"{username}@example.org", "password": PASSWORD, "name": f"N {username}"},
    )
    assert answer.status_code == 201, answer.text
    data = answer.json()["data"]
    return Account(edge, int(data["user"]["id"]), username, data["access_token"], data["refresh_token"])


async def register_many(edge: httpx.AsyncClient, count: int) -> list[Account]:
    """New accounts."""
    return list(await asyncio.gather(*(register(edge) for _ in range(count))))


async def home_members(cache: CacheStore, viewer: int) -> dict[int, bytes]:
    """What a home list in the cache store holds: entries by tweet."""
    members = cast("list[bytes]", await cache.client.zrange(home_lists(cache).key(viewer), 0, -1))
    return {unpack(member).tweet_id: member for member in members if len(member) == SIZE}


INSIDE = (
    "rookery.",
    "envoy",
    "grpc",
    "sqlite",
    "postgres",
    "asyncpg",
    "sqlalchemy",
    "s3:",
    "redis",
    "valkey",
    "traceback",
    "unix:",
    ".sock",
    ".py",
)
"""Words of the inside that no answer may have: names of packages, programs, stores and files."""


async def appointed(account: Account, operator: Destination[UserMeshServiceAsyncStub]) -> Account:
    """Makes somebody a moderator, who signs in again: tokens carry the role."""
    grant = SetRoleRequest(username=account.username, role="moderator", granted=True)
    await operator.call(operator.stub.SetRole, grant)
    answer = await account.edge.post("/v1/auth/login", json={"username": account.username, "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    return replace(account, token=answer.json()["data"]["access_token"])


async def case_of(tweet_id: int, moderator: Account) -> dict[str, Any]:
    """The case of a tweet that waits, once it is there."""

    async def look() -> dict[str, Any]:
        query = "max_results=100"
        while True:
            page = (await moderator.request("GET", f"/v1/moderation/cases?{query}")).json()
            for case in page.get("data", []):
                if case.get("tweet_id") == str(tweet_id):
                    return dict(case)
            assert "next_token" in page["meta"], "no case of it yet"
            query = f"max_results=100&pagination_token={page['meta']['next_token']}"

    return await eventually(look)


def assert_problem(answer: httpx.Response, status: int, about: str = "") -> dict[str, Any]:
    """Checks that an answer is a problem (RFC 9457) of the X API's shape; gives it.

    Args:
        answer: the answer.
        status: of the status line and of the document.
        about: what one of its `errors` must speak of.
    """
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem.keys() >= {"title", "detail", "type", "status", "errors"}, problem
    assert problem["status"] == status
    assert problem["title"] and problem["detail"] and problem["type"]
    messages = [error["message"] for error in problem["errors"]]
    assert all(messages) and messages
    assert about in " ".join(messages), messages
    leaked = [word for word in INSIDE if word in json.dumps(problem).lower()]
    assert not leaked, problem
    return problem
