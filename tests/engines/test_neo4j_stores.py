"""The Neo4j adapters of the graph's ports: the suites that those for SQL pass."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.graph.store.neo4j import FOLLOWER_IDS, SEEN_FOLLOWERS
from tests.stores.suites.graph import GraphStores, GraphStoreSuite
from tests.stores.suites.lists import ListStores, ListStoreSuite
from tests.stores.suites.told_it_timed_out import Told, ToldGraphSuite

from .neo4j_stores import PAGES, graph_stores, in_order, list_stores, neo4j_store, plan_of, told

pytestmark = pytest.mark.usefixtures("neo4j")


class TestGraphStore(GraphStoreSuite):
    """All of the suite."""

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncIterator[GraphStores]:
        """See GraphStoreSuite."""
        async with neo4j_store() as graph:
            yield graph_stores(graph)


class TestListStore(ListStoreSuite):
    """All of the suite."""

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncIterator[ListStores]:
        """See ListStoreSuite."""
        async with neo4j_store() as graph:
            yield list_stores(graph)


class TestToldItTimedOut(ToldGraphSuite):
    """All of the suite."""

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncIterator[Told]:
        """See ToldItTimedOutSuite."""
        async with neo4j_store() as graph:
            yield told(graph)


@pytest.mark.parametrize("query", [*PAGES, FOLLOWER_IDS, SEEN_FOLLOWERS])
async def test_a_page_is_read_in_the_order_of_an_index(query: str) -> None:
    async with neo4j_store():
        plan = await plan_of(query)
    assert in_order(plan), plan


async def test_a_person_who_has_no_properties_yet_is_one_who_was_never_seen() -> None:
    """As a reader without a lock met one once."""
    now = 1_800_000_000_000
    async with neo4j_store() as graph:
        await graph.db.write(lambda tx: tx.run("CREATE (:Person {id: 7})", {}))
        stores = graph_stores(graph)
        audience = await stores.graph.audience(7, after=0, limit=10, seen_since_ms=0)
        assert (audience.pushed, audience.follower_ids) == (True, [])
        assert await stores.graph.review(after=0, limit=10) == 0
        await stores.graph.mark_seen(7, now)
        [(seen,)] = await graph.db.read(lambda tx: tx.run("MATCH (p:Person {id: 7}) RETURN p.seen_ms", {}))
        assert seen == now
