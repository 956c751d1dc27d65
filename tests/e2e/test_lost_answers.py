"""Done, but the caller was told that it timed out: a retry never doubles anything (hostile.md, 18).

Between the edge and the services, and between the services themselves, stand proxies: each call is passed on the first
time it comes, and carried out, and then its caller is told DEADLINE_EXCEEDED. The same call is answered when it comes
again. So every write of every service is done at least once more than it is answered.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import pytest_asyncio
from httpx_aiohttp import AiohttpTransport

from cli.check import check_timelines
from cli.profile import SERVICES
from cli.settle import settle
from cli.state import running_state
from cli.stores import Stores, open_stores
from cli.supervisor import Mesh, running_mesh
from mesh.db.sql import Tx
from tests.conftest import UNLIMITED
from tests.e2e.harness import PASSWORD, Account, assert_problem, eventually, fresh_name

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("lost-answers")]

# Health, and the keys that the edge needs before anybody can be let in.
_ANSWERED = ("/grpc.health.v1.Health/", "/rookery.user.v1.AuthService/GetJwks")
_HOP = ("user-agent", "content-type", "te", "grpc-accept-encoding", "accept-encoding")

Call = Callable[[bytes, grpc.aio.ServicerContext[bytes, bytes]], Awaitable[bytes]]


class Forgetful(grpc.GenericRpcHandler):
    """Passes every call on, and loses the first answer to each."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self._done: set[tuple[str, bytes, str]] = set()
        self.forgets = True
        self.lost: Counter[str] = Counter()
        """How many answers to each RPC."""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        method = str(details.method)
        forward: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(method)

        async def handle(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
            metadata = [(key, value) for key, value in context.invocation_metadata() or () if key not in _HOP]
            viewer = next((str(value) for key, value in metadata if key == "x-user-id"), "")
            call = forward(request, metadata=metadata, timeout=context.time_remaining())
            try:
                answer: bytes = await call
            except grpc.aio.AioRpcError as error:
                await context.abort(error.code(), error.details() or "", tuple(error.trailing_metadata() or ()))
                raise AssertionError("abort returned") from error
            first = (method, request, viewer) not in self._done
            if self.forgets and first and not method.startswith(_ANSWERED):
                self._done.add((method, request, viewer))
                self.lost[method.rpartition("/")[2]] += 1
                await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "lost")
            await context.send_initial_metadata(tuple(await call.initial_metadata()))
            return answer

        return grpc.unary_unary_rpc_method_handler(handle)


class Insisting(httpx.AsyncBaseTransport):
    """Sends a request again while its answer is that it took too long, or that a service is not there."""

    def __init__(self) -> None:
        self._transport = AiohttpTransport(verify=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        for _ in range(100):
            answer = await self._transport.handle_async_request(request)
            if answer.status_code not in (503, 504):
                return answer
            await answer.aread()
            await answer.aclose()
            await asyncio.sleep(0.02)  # as a client would, before it tries again
        return answer

    async def aclose(self) -> None:
        await self._transport.aclose()


class World:
    """The mesh of this module."""

    def __init__(self, mesh: Mesh, stores: Stores, edge: httpx.AsyncClient, proxies: dict[str, Forgetful]) -> None:
        self.mesh = mesh
        self.stores = stores
        self.edge = edge
        self.proxies = proxies

    def lost(self, service: str, rpc: str) -> int:
        """How many answers of an RPC were lost."""
        return self.proxies[service].lost[rpc]

    async def register(self) -> Account:
        """A new account. The answer to `register` is lost, so that it is taken when it is asked for again: signs in."""
        name = fresh_name()
        body = {"username": name, "email": f"{name}@example.org", "password": PASSWORD}
        assert_problem(await self.edge.post("/v1/auth/register", json=body), 409, "is taken")
        answer = await self.edge.post("/v1/auth/login", json={"username": name, "password": PASSWORD})
        data = answer.json()["data"]
        return Account(self.edge, int(data["user"]["id"]), name, data["access_token"], data["refresh_token"])

    async def rows(self, service: str, query: str, **params: Any) -> list[tuple[Any, ...]]:
        """Rows of a service's tables."""

        async def unit(tx: Tx) -> list[tuple[Any, ...]]:
            return [tuple(row) for row in (await tx.execute(query, params)).all()]

        databases = {"user": self.stores.users, "graph": self.stores.graph, "tweet": self.stores.tweets}
        return await databases[service].read(unit)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def world() -> AsyncIterator[World]:
    """A mesh whose every service is reached through a forgetful proxy."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lost-", dir="/tmp")))
        proxies, settings = {}, {}
        for name in SERVICES:
            channel = await stack.enter_async_context(
                grpc.aio.insecure_channel(f"unix://{folder}/data/run/{name}.sock", options=_LOCAL)
            )
            proxies[name] = Forgetful(channel)
            server = grpc.aio.server()
            server.add_generic_rpc_handlers((proxies[name],))
            settings[f"ROOKERY_{name.upper()}_TARGET"] = f"unix://{folder}/{name}.sock"
            server.add_insecure_port(settings[f"ROOKERY_{name.upper()}_TARGET"])
            await server.start()
            stack.push_async_callback(server.stop, 0)
        mesh = await stack.enter_async_context(running_mesh(folder / "data", env=settings | UNLIMITED))
        edge = await stack.enter_async_context(
            httpx.AsyncClient(base_url=mesh.url, timeout=20, trust_env=False, verify=False, transport=Insisting())
        )
        stores = await stack.enter_async_context(open_stores(running_state(mesh.data), {}))

        async def keys_are_there() -> None:
            answer = await edge.get("/2/users/me", headers={"authorization": "Bearer a.b.c"})
            assert "Jwks" not in answer.text

        await eventually(keys_are_there)
        yield World(mesh, stores, edge, proxies)


_LOCAL = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 200))


async def test_registering_makes_one_account(world: World) -> None:
    before = world.lost("user", "Register")
    account = await world.register()
    assert world.lost("user", "Register") == before + 1
    query = "SELECT COUNT(*) FROM users WHERE username_key = :name"
    assert await world.rows("user", query, name=account.username) == [(1,)]


async def test_a_request_id_makes_one_tweet(world: World) -> None:
    account = await world.register()
    before = world.lost("tweet", "CreateTweet")
    tweets = [await account.tweet("once", request_id=f"r{number}") for number in range(3)]
    assert world.lost("tweet", "CreateTweet") == before + 3
    query = "SELECT id FROM tweets WHERE author_id = :id ORDER BY id"
    assert await world.rows("tweet", query, id=account.id) == [(tweet,) for tweet in tweets]
    query = "SELECT tweet_count FROM authors WHERE author_id = :id"
    assert await world.rows("tweet", query, id=account.id) == [(3,)]
    query = "SELECT COUNT(*) FROM outbox WHERE topic = 'tweets' AND key = :key"
    assert await world.rows("tweet", query, key=str(account.id).encode()) == [(3,)]


async def test_deleting_counts_once(world: World) -> None:
    account = await world.register()
    tweets = [await account.tweet("text", request_id=f"r{number}") for number in range(2)]
    before = world.lost("tweet", "DeleteTweet")
    await account.delete(tweets[0])
    assert world.lost("tweet", "DeleteTweet") == before + 1
    query = "SELECT tweet_count FROM authors WHERE author_id = :id"
    assert await world.rows("tweet", query, id=account.id) == [(1,)]


async def test_following_and_unfollowing_count_once(world: World) -> None:
    one, other = await world.register(), await world.register()
    query = "SELECT followers_count, following_count FROM people WHERE user_id = :id"
    await one.follow(other)
    assert world.lost("graph", "Follow") >= 1
    assert await world.rows("graph", query, id=other.id) == [(1, 0)]
    assert await world.rows("graph", query, id=one.id) == [(0, 1)]
    await one.unfollow(other)
    assert world.lost("graph", "Unfollow") >= 1
    assert await world.rows("graph", query, id=other.id) == [(0, 0)]
    assert await world.rows("graph", query, id=one.id) == [(0, 0)]


async def test_a_profile_ends_as_it_was_asked_for(world: World) -> None:
    account = await world.register()
    before = world.lost("user", "UpdateMe")
    answer = await account.request("PATCH", "/v1/users/me", json={"name": "Ada", "location": "London"})
    assert answer.json()["data"]["name"] == "Ada"
    assert world.lost("user", "UpdateMe") == before + 1
    found = await account.get("/2/users/me", user__fields="location")
    assert (found["data"]["name"], found["data"]["location"]) == ("Ada", "London")


async def test_a_refresh_whose_answer_was_lost_is_asked_for_again(world: World) -> None:
    """A token that was just spent is good once more: whoever lost the answer does not have to sign in again."""
    account = await world.register()
    login = await world.edge.post("/v1/auth/login", json={"username": account.username, "password": PASSWORD})
    other = login.json()["data"]["refresh_token"]
    before = world.lost("user", "Refresh")
    got = await world.edge.post("/v1/auth/refresh", json={"refresh_token": account.refresh_token})
    assert got.status_code == 200, got.text
    assert world.lost("user", "Refresh") == before + 1
    query = "SELECT COUNT(*) FROM sessions WHERE user_id = :id"
    # Signing in was done three times for two answers; registering made one more.
    assert await world.rows("user", query, id=account.id) == [(4,)]
    answer = await world.edge.post("/v1/auth/logout", json={"refresh_token": other})
    assert answer.json() == {"data": {"logged_out": True}}
    assert await world.rows("user", query, id=account.id) == [(3,)]


async def test_every_timeline_and_count_ends_at_the_truth(world: World) -> None:
    people = [await world.register() for _ in range(4)]
    for one in people:
        await one.get(f"/2/users/{one.id}/timelines/reverse_chronological")  # a list that fan-out writes to
    for number, one in enumerate(people):
        for other in people[number + 1 :]:
            await one.follow(other)
            await other.follow(one)
        await one.tweet("before", request_id="before")
    await people[0].unfollow(people[1])
    for one in people:
        doomed = await one.tweet("doomed", request_id="doomed")
        await one.tweet("after", request_id="after")
        await one.delete(doomed)
    for one in people:
        await one.home()
    await settle(world.stores, 30.0)
    for proxy in world.proxies.values():
        proxy.forgets = False
    outcome = await check_timelines(running_state(world.mesh.data))
    assert not outcome.differences, outcome.differences
    reader = replace(people[0])
    for one, followers, following in zip(people, (3, 2, 3, 3), (2, 3, 3, 3), strict=True):
        found = await reader.get(f"/2/users/{one.id}", user__fields="public_metrics")
        counts = found["data"]["public_metrics"]
        assert (counts["followers_count"], counts["following_count"], counts["tweet_count"]) == (
            followers,
            following,
            2,
        )
    for service, rpc in (
        *(("graph", "ListActiveFollowers"), ("graph", "BatchGetRelation"), ("graph", "GetFollowing")),
        *(("graph", "MarkActive"), ("tweet", "ListRecentTweets"), ("timeline", "GetHomeTimeline")),
    ):
        assert world.lost(service, rpc) > 0, rpc
