"""The stores of a mesh that runs, opened by an operator: whoever may read the data folder, or knows the URLs."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from cli.errors import StoreError
from cli.state import MeshState
from mesh.db.schemes import is_cassandra, is_neo4j
from mesh.db.sql import Database
from mesh.errors import Unavailable

if TYPE_CHECKING:
    from mesh.db.cassandra import Cassandra
    from mesh.db.neo4j import Neo4jDatabase

_OPEN_S = 10.0


@dataclass(frozen=True, slots=True)
class Stores:
    """Connections to what the services keep. For reading: each store's writer is its service."""

    users: Database
    """Accounts and signing keys."""
    graph: Database | Neo4jDatabase
    """Follows."""
    tweets: Database | Cassandra
    """Tweets."""
    moderation: Database
    """Cases."""
    bus_url: str
    """The bus."""
    cache_url: str
    """The cache store."""


def store_url(state: MeshState, service: str, name: str, operator: Mapping[str, str]) -> str:
    """The URL in variable `name` of a service of the mesh.

    Args:
        state: the mesh, as its supervisor wrote it down.
        service: whose variable.
        name: such as `ROOKERY_USERS_URL`.
        operator: the operator's environment, which goes first: passwords are masked in `state`.

    Raises:
        StoreError: the URL has a password and the operator's environment does not have the URL.
    """
    written = state["processes"][service]["environment"][name]
    url = operator.get(name) or written
    if "***" in url and state["profile"] == "cluster":
        url = _of_engines(name, written)
    if "***" in url:
        raise StoreError(f"{service}'s store has a password, which is written down nowhere: set {name}")
    return url


def _of_engines(name: str, written: str) -> str:
    """The URL of an engine that runs in this checkout, if it is the one that was written down without its password."""
    from cli.cluster import Cluster
    from cli.supervisor import without_secrets

    url = Cluster().running(name)
    return url if url is not None and without_secrets({name: url})[name] == written else written


@asynccontextmanager
async def open_stores(state: MeshState, operator: Mapping[str, str] | None = None) -> AsyncIterator[Stores]:
    """The stores of a mesh, closed after the block.

    Raises:
        StoreError: one of them cannot be opened.
    """
    environment = os.environ if operator is None else operator
    async with AsyncExitStack() as opened:

        async def database(service: str, name: str) -> Database:
            return await _opened(
                opened, service, Database.open(store_url(state, service, name, environment), deadline=_OPEN_S)
            )

        async def graph(name: str) -> Database | Neo4jDatabase:
            url = store_url(state, "graph", name, environment)
            if not is_neo4j(url):
                return await database("graph", name)
            from mesh.db.neo4j import Neo4jDatabase

            return await _opened(opened, "graph", Neo4jDatabase.open(url, deadline=_OPEN_S))

        async def tweets(name: str) -> Database | Cassandra:
            url = store_url(state, "tweet", name, environment)
            if not is_cassandra(url):
                return await database("tweet", name)
            from mesh.db.cassandra import Cassandra

            return await _opened(opened, "tweet", Cassandra.open(url, deadline=_OPEN_S))

        yield Stores(
            users=await database("user", "ROOKERY_USERS_URL"),
            graph=await graph("ROOKERY_GRAPH_URL"),
            tweets=await tweets("ROOKERY_TWEETS_URL"),
            moderation=await database("moderation", "ROOKERY_MODERATION_URL"),
            bus_url=store_url(state, "fanout", "ROOKERY_BUS_URL", environment),
            cache_url=store_url(state, "fanout", "ROOKERY_CACHE_URL", environment),
        )


class _Store(Protocol):
    """Something that is closed."""

    async def close(self) -> None: ...


_Opened = TypeVar("_Opened", bound=_Store)


async def _opened(opened: AsyncExitStack, service: str, opening: Awaitable[_Opened]) -> _Opened:
    try:
        found = await opening
    except (Unavailable, ValueError) as error:
        raise StoreError(f"{service}'s store cannot be opened: {error}") from error
    opened.push_async_callback(found.close)
    return found
