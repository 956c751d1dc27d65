"""What is left in Neo4j of somebody who is erased: every node and relationship is looked at, whatever it is."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from mesh.cache.open import open_cache
from mesh.cache.sets import GuardedSets
from mesh.cache.store import CacheStore
from mesh.errors import Unavailable
from services.graph.domain import SETS
from services.graph.erasure import Erasure
from services.graph.list_domain import PeopleList
from services.graph.readmodel import ReadModel
from services.graph.store.neo4j import ASKS, BLOCKS, FOLLOWS, MUTES
from services.graph.store.neo4j_erasure import Neo4jRemains
from services.graph.store.neo4j_lists import FOLLOWS_LIST, ON_LIST, OWNS, PINS_LIST
from tests.stores.conftest import Valkey

from .neo4j_stores import Graph, graph_stores, list_stores, neo4j_store

pytestmark = pytest.mark.usefixtures("neo4j")

GONE = 7_000_000_007
OTHER = 8_000_000_008
THIRD = 9_000_000_009


@pytest_asyncio.fixture
async def cache(valkey: Valkey) -> AsyncIterator[CacheStore]:
    """What relations are read from."""
    store = open_cache(valkey.url)
    yield store
    await store.close()


async def traces(graph: Graph) -> list[str]:
    """Kinds of nodes and relationships that have the id in any property, but for events, which go by age."""
    rows = await graph.db.read(
        lambda tx: tx.run(
            "MATCH (n) WHERE NOT n:OutboxWaiting AND NOT n:OutboxPublished"
            " RETURN labels(n)[0] AS kind, properties(n) AS has"
            " UNION ALL MATCH ()-[r]->() RETURN type(r) AS kind, properties(r) AS has"
        ),
        deadline=60.0,
    )
    return sorted({row["kind"] for row in rows if str(GONE) in str(row["has"])})


async def live(graph: Graph) -> None:
    """Everything that may tie somebody, from both ends."""
    people, lists = graph_stores(graph).graph, list_stores(graph).lists
    number = iter(range(1, 100))
    for one, other in ((GONE, OTHER), (OTHER, GONE)):
        await people.follow(one, other, next(number))
        await people.mute(one, other, next(number))
    for one, other in ((GONE, THIRD), (THIRD, GONE)):
        await people.request(one, other, next(number))
    for one, other in ((GONE, 5), (5, GONE)):
        await people.block(one, other, next(number))
    for list_id, owner, other in ((100, GONE, OTHER), (200, OTHER, GONE)):
        await lists.create(PeopleList(list_id, owner, "birds", "", False, 0, 0), "r")
        await lists.add_member(list_id, owner, other, next(number))
        for user in (GONE, OTHER):
            await lists.follow_list(list_id, user, next(number))
            await lists.pin(list_id, user, next(number))
    await lists.create(PeopleList(300, GONE, "gone before", "", False, 0, 0))
    await lists.delete(300, GONE)


async def test_nothing_is_left_of_who_is_erased_and_others_keep_theirs(cache: CacheStore) -> None:
    async with neo4j_store() as graph:
        await live(graph)
        kinds = {"Person", FOLLOWS, ASKS, BLOCKS, MUTES, "PeopleList", OWNS, ON_LIST, FOLLOWS_LIST, PINS_LIST}
        assert set(await traces(graph)) == kinds, "something of every kind, or there is nothing to find"
        people, lists = graph_stores(graph).graph, list_stores(graph).lists
        erasure = Erasure(people, lists, Neo4jRemains(graph.db), ReadModel(people, GuardedSets(cache, SETS)))
        for _ in range(2):  # it may be begun again at any time
            await erasure.erase(GONE)
            assert await traces(graph) == []
        [kept] = await lists.by_ids([100, 200, 300])
        assert (kept.id, kept.member_count, kept.follower_count) == (200, 0, 1)


async def test_who_is_tied_again_meanwhile_is_not_forgotten_before_that_is_undone() -> None:
    async with neo4j_store() as graph:
        people = graph_stores(graph).graph
        await people.follow(OTHER, GONE, 1)
        with pytest.raises(Unavailable):
            await Neo4jRemains(graph.db).forget(GONE)
        assert await people.followers(GONE, before=0, after=0, limit=5) != []
