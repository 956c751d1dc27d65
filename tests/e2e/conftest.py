"""People on the shared mesh, and an operator's view of its stores."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING

import aiohttp
import httpx
import pytest
import pytest_asyncio
import requests
import tweepy
from rookery.tweet.v1.tweet_moderation_mesh_pb2_grpc import TweetModerationMeshServiceStub
from rookery.user.v1.user_mesh_pb2_grpc import UserMeshServiceStub
from tweepy.asynchronous import AsyncClient

from cli.settle import settle
from cli.state import running_state
from cli.stores import Stores, open_stores
from mesh.cache.open import open_cache
from mesh.cache.store import CacheStore
from mesh.client import Destination
from tests.called import CALLED, watched
from tests.e2e.harness import Account, appointed, register
from tests.e2e.tweepy_clients import HOST, Maker, ToEdge, Tweepy

if TYPE_CHECKING:
    from rookery.tweet.v1.tweet_moderation_mesh_pb2_grpc import TweetModerationMeshServiceAsyncStub
    from rookery.user.v1.user_mesh_pb2_grpc import UserMeshServiceAsyncStub

    from cli.supervisor import Mesh


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def edge(mesh: Mesh) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the shared mesh's edge."""
    async with watched(mesh.url) as client:
        yield client


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stores(mesh: Mesh, engines: dict[str, str]) -> AsyncIterator[Stores]:
    """The shared mesh's stores."""
    async with open_stores(running_state(mesh.data), engines) as opened:
        yield opened


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def cache(stores: Stores) -> AsyncIterator[CacheStore]:
    """The shared mesh's cache store."""
    store = open_cache(stores.cache_url)
    yield store
    await store.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def settled(stores: Stores) -> Callable[[], Awaitable[None]]:
    """Waits until everything written to the shared mesh has reached lists, counts and read models."""
    return lambda: settle(stores, 15.0)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def operator(mesh: Mesh) -> AsyncIterator[Destination[UserMeshServiceAsyncStub]]:
    """`user`, as the mesh and its operators reach it."""
    target = running_state(mesh.data)["processes"]["user"]["target"]
    destination = Destination("user", target, UserMeshServiceStub)
    yield destination
    await destination.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def tweet_moderation(mesh: Mesh) -> AsyncIterator[Destination[TweetModerationMeshServiceAsyncStub]]:
    """`tweet`, as `moderation` reaches it."""
    target = running_state(mesh.data)["processes"]["tweet"]["target"]
    destination = Destination("tweet", target, TweetModerationMeshServiceStub)
    yield destination
    await destination.close()


@pytest_asyncio.fixture(loop_scope="session")
async def alice(edge: httpx.AsyncClient) -> Account:
    """Somebody new."""
    return await register(edge)


@pytest_asyncio.fixture(loop_scope="session")
async def bob(edge: httpx.AsyncClient) -> Account:
    """Somebody else, new too."""
    return await register(edge)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def appoint(operator: Destination[UserMeshServiceAsyncStub]) -> Callable[[Account], Awaitable[Account]]:
    """Makes somebody a moderator, who signs in again: tokens carry the role."""
    return lambda account: appointed(account, operator)


@pytest_asyncio.fixture(loop_scope="session")
async def moderator(edge: httpx.AsyncClient, appoint: Callable[[Account], Awaitable[Account]]) -> Account:
    """Somebody new who is a moderator."""
    return await appoint(await register(edge))


@pytest_asyncio.fixture(loop_scope="session", params=["sync", "async"])
async def tweepy_of(request: pytest.FixtureRequest, edge: httpx.AsyncClient) -> AsyncIterator[Maker]:
    """Makes a person's client."""
    url = str(edge.base_url).rstrip("/")
    sessions: list[requests.Session] = []

    async def to_edge(sent: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        sent.url = sent.url.with_scheme("http").with_host(edge.base_url.host).with_port(edge.base_url.port)
        answer = await handler(sent)
        CALLED.note(sent.method, str(sent.url), answer.status)
        return answer

    async with aiohttp.ClientSession(middlewares=(to_edge,)) as session:

        def make(account: Account) -> Tweepy:
            if request.param == "async":
                client = AsyncClient(bearer_token=account.token)
                client.session = session
                return Tweepy(client)
            blocking = tweepy.Client(bearer_token=account.token)
            blocking.session.mount(HOST, ToEdge(url))
            sessions.append(blocking.session)
            return Tweepy(blocking)

        yield make
    for opened in sessions:
        opened.close()
