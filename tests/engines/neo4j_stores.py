"""Neo4j for the tests: a server of each worker's own, emptied before each use, and what suites need on it."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pool, message_factory
from neo4j import AsyncGraphDatabase

from mesh.bus.base import Bus
from mesh.bus.redis_streams import RedisStreamsBus
from mesh.db.migrations import migrate
from mesh.db.neo4j import Address, Neo4jDatabase, Neo4jTx
from mesh.db.neo4j_leases import Neo4jLeases
from mesh.ids import LeaseStore
from mesh.outbox.base import OutboxRows
from mesh.outbox.neo4j import OUTBOX_CYPHER, Neo4jOutbox, Neo4jRows
from mesh.outbox.relay import Outbox, OutboxOptions
from scripts.engines.control import Control
from scripts.engines.neo4j import Neo4j
from services.graph.domain import Line
from services.graph.store.base import GraphStore
from services.graph.store.erasure import Remains
from services.graph.store.lists import ListStore
from services.graph.store.neo4j import ASKS, BLOCKS, FOLLOWS, MUTES, Neo4jGraphStore, page
from services.graph.store.neo4j_erasure import Neo4jRemains
from services.graph.store.neo4j_lists import (
    FOLLOWS_LIST,
    ON_LIST,
    OWNS,
    PINS_LIST,
    Neo4jListStore,
    listings,
    people,
)
from tests.stores.suites.events import Event
from tests.stores.suites.graph import LINE, GraphStores
from tests.stores.suites.lists import ListStores
from tests.stores.suites.scale import FIRST, GraphAtScale, ListsAtScale
from tests.stores.suites.told_it_timed_out import LINE as TOLD_LINE
from tests.stores.suites.told_it_timed_out import Told

from .engines import ROOT, inside

SCHEMA = ROOT / "services" / "graph" / "schema" / "neo4j"
OPENER = f"{__name__}:open_neo4j"
_AT_ONCE = 5_000  # rows of one transaction
_DEADLINE_S = 60.0
_MANY_S = 10.0
_PERSON = (
    "MERGE (p:Person {id: id}) ON CREATE SET p.followers_count = 0, p.following_count = 0, p.listed_count = 0,"
    " p.version = 0, p.reach = 0, p.seen_ms = 0"
)
_VOLATILE = {
    "OutboxWaiting": {"id", "event_id", "created_ms", "traceparent"},
    "OutboxPublished": {"id", "event_id", "created_ms", "traceparent"},
    "WorkerLease": {"expires_ms"},
    "OutboxLease": {"expires_ms", "contended_ms"},
}


def server() -> Control:
    """This worker's own, as its database is emptied."""
    return Control(Neo4j(), inside("neo4j-tests") / os.environ.get("PYTEST_XDIST_WORKER", "alone"))


def address() -> str:
    """The URL of the server that runs."""
    return server().urls()["ROOKERY_GRAPH_URL"]


async def run(url: str, *queries: str) -> list[Any]:
    """Runs queries outside of any unit, and gives the last one's records."""
    where = Address.parse(url)
    async with AsyncGraphDatabase.driver(where.uri, auth=where.auth) as driver, driver.session() as session:
        records: list[Any] = []
        for query in queries:
            records = [record async for record in await session.run(query)]
        return records


async def empty(url: str) -> None:
    """Deletes all but what migrations made."""
    await run(
        url,
        # What somebody has 100,000 of would not fit into the transaction that deletes the person.
        f"MATCH ()-[r]->() CALL (r) {{ DELETE r }} IN TRANSACTIONS OF {_AT_ONCE} ROWS",
        "MATCH (n) WHERE NOT n:OutboxSlot AND NOT n:SchemaMigration"
        f" CALL (n) {{ DETACH DELETE n }} IN TRANSACTIONS OF {_AT_ONCE} ROWS",
    )


@dataclass(frozen=True, slots=True)
class Graph:
    """What an adapter is made of."""

    db: Neo4jDatabase
    """Migrated by the service's own files."""
    outbox: Neo4jOutbox
    """It is not started: events stay where they are put, and the bus is never asked for anything."""

    async def events(self) -> list[Event]:
        """See suites.events.Events."""
        query = "MATCH (e:OutboxWaiting) RETURN e.topic, e.key, e.type, e.payload ORDER BY e.id"
        pool = descriptor_pool.Default()
        return [
            Event(
                topic,
                key.decode(),
                message_factory.GetMessageClass(pool.FindMessageTypeByName(kind)).FromString(payload),
            )
            for topic, key, kind, payload in await self.db.read(lambda tx: tx.run(query))
        ]

    async def insert(self, query: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Many rows, some at a time; the query has each in `row`."""
        for start in range(0, len(rows), _AT_ONCE):
            params = {"rows": [dict(row) for row in rows[start : start + _AT_ONCE]]}
            await self.db.write(lambda tx: tx.run(f"UNWIND $rows AS row {query}", params), deadline=_DEADLINE_S)  # noqa: B023

    async def make_people(self, ids: Sequence[int]) -> None:
        """People without anything."""
        await self.insert(f"WITH row.id AS id {_PERSON}", [{"id": one} for one in dict.fromkeys(ids)])

    async def relate(self, kind: str, pairs: Sequence[tuple[int, int]], first: int = 1) -> None:
        """Numbered relationships of one kind between people."""
        await self.make_people([one for pair in pairs for one in pair])
        await self.insert(
            "MATCH (a:Person {id: row.a}) MATCH (b:Person {id: row.b})"
            f" CREATE (a)-[:{kind} {{from_id: row.a, to_id: row.b, edge_id: row.n}}]->(b)",
            [{"a": a, "b": b, "n": n} for n, (a, b) in enumerate(pairs, first)],
        )

    async def list_to(self, kind: str, pairs: Sequence[tuple[int, int]], first: int) -> None:
        """Numbered relationships of people to lists, which are made if they are not there."""
        await self.make_people([user for _, user in pairs])
        lists = [{"list": one} for one in dict.fromkeys(one for one, _ in pairs)]
        await self.insert("MERGE (l:PeopleList {id: row.list}) ON CREATE SET l.owner_id = 0, l.private = false", lists)
        await self.insert(
            "MATCH (u:Person {id: row.user}) MATCH (l:PeopleList {id: row.list})"
            f" CREATE (u)-[:{kind} {{user_id: row.user, list_id: row.list, edge_id: row.n, counted: false}}]->(l)",
            [{"list": one, "user": user, "n": n} for n, (one, user) in enumerate(pairs, first)],
        )


@asynccontextmanager
async def neo4j_store(*, deadline: float = _MANY_S) -> AsyncIterator[Graph]:
    """The server's database, empty."""
    url = address()
    await migrate(url, SCHEMA)
    await empty(url)
    db = await Neo4jDatabase.open(url, deadline=deadline)
    bus = RedisStreamsBus("unix:///nowhere/s?db=0")
    try:
        yield Graph(db, Neo4jOutbox(db, bus, "graph"))
    finally:
        await bus.close()
        await db.close()


def graph_stores(graph: Graph) -> GraphStores:
    """For GraphStoreSuite."""

    async def follow_all(follower: int, followees: range) -> None:
        await graph.relate(FOLLOWS, [(follower, followee) for followee in followees])
        await graph.db.write(
            lambda tx: tx.run(
                "MATCH (a:Person {id: $id})-[:FOLLOWS]->(b) SET b.followers_count = 1, b.version = 1"
                " WITH a, count(b) AS all SET a.following_count = all, a.version = all",
                {"id": follower},
            )
        )

    async def block_all(pairs: Sequence[tuple[int, int]]) -> None:
        await graph.relate(BLOCKS, pairs)

    async def mute_all(muter: int, muted: range) -> None:
        await graph.relate(MUTES, [(muter, one) for one in muted])

    async def request_all(requester: int, targets: range) -> None:
        await graph.relate(ASKS, [(requester, one) for one in targets])

    return GraphStores(
        Neo4jGraphStore(graph.db, graph.outbox, LINE),
        graph.events,
        follow_all,
        block_all,
        mute_all,
        request_all,
        lambda line: Neo4jGraphStore(graph.db, graph.outbox, line),
    )


_KINDS = {"list_members": ON_LIST, "list_follows": FOLLOWS_LIST}
_COUNTS = {"list_members": "member_count", "list_follows": "follower_count"}


def list_stores(graph: Graph) -> ListStores:
    """For ListStoreSuite."""

    async def fill(table: str, pairs: Sequence[tuple[int, int]]) -> None:
        await graph.list_to(_KINDS[table], pairs, 10**6)
        query = f"MATCH (l:PeopleList) SET l.{_COUNTS[table]} = COUNT {{ (l)<-[:{_KINDS[table]}]-() }}"
        await graph.db.write(lambda tx: tx.run(query), deadline=_DEADLINE_S)

    async def unordered() -> list[str]:
        pages = [
            *(
                listings(kind, newest=newest)
                for kind in (OWNS, ON_LIST, FOLLOWS_LIST, PINS_LIST)
                for newest in (True, False)
            ),
            *(people(kind, newest=newest) for kind in (ON_LIST, FOLLOWS_LIST) for newest in (True, False)),
        ]
        return [plan for query in pages if not in_order(plan := await plan_of(query))]

    line = Neo4jGraphStore(graph.db, graph.outbox, Line(10))
    return ListStores(Neo4jListStore(graph.db, graph.outbox), line, graph.events, fill, unordered)


async def plan_of(query: str) -> str:
    """The names of a plan's steps, the first last."""
    where = Address.parse(address())
    params = {"id": 1, "bound": 9, "limit": 3, "after": 0, "since": 0}
    async with AsyncGraphDatabase.driver(where.uri, auth=where.auth) as driver, driver.session() as session:
        summary = await (await session.run(f"EXPLAIN {query}", params)).consume()

    def steps(plan: Mapping[str, Any]) -> list[str]:
        return [
            plan["operatorType"].partition("@")[0],
            *(step for one in plan.get("children", []) for step in steps(one)),
        ]

    assert summary.plan is not None
    return " <- ".join(steps(summary.plan))


def in_order(plan: str) -> bool:
    """Whether a plan reads one index in its order, and nothing to sort."""
    return plan.endswith("RelationshipIndexSeek") and not any(word in plan for word in ("Sort", "Top", "Scan"))


PAGES = [
    page(kind, near, far, newest=newest)
    for kind, near, far in (
        (FOLLOWS, "to_id", "from_id"),
        (FOLLOWS, "from_id", "to_id"),
        (BLOCKS, "from_id", "to_id"),
        (MUTES, "from_id", "to_id"),
        (ASKS, "from_id", "to_id"),
        (ASKS, "to_id", "from_id"),
    )
    for newest in (True, False)
]
"""The queries for pages of people."""


def graph_at_scale(graph: Graph) -> GraphAtScale:
    """For GraphAtScaleSuite."""

    async def follow_each(pairs: Sequence[tuple[int, int]]) -> None:
        await graph.relate(FOLLOWS, pairs, FIRST)
        await graph.insert(
            "MATCH (p:Person {id: row.id}) SET p.following_count = COUNT { (p)-[:FOLLOWS]->() },"
            " p.followers_count = COUNT { (p)<-[:FOLLOWS]-() }, p.version = 1",
            [{"id": one} for one in {one for pair in pairs for one in pair}],
        )

    return GraphAtScale(Neo4jGraphStore(graph.db, graph.outbox, Line(10**9)), follow_each)


def lists_at_scale(graph: Graph) -> ListsAtScale:
    """For ListsAtScaleSuite."""

    async def follow_all(list_id: int, users: Sequence[int]) -> None:
        await graph.list_to(FOLLOWS_LIST, [(list_id, user) for user in users], FIRST)

    return ListsAtScale(Neo4jListStore(graph.db, graph.outbox), follow_all)


def told(graph: Graph) -> Told:
    """For ToldGraphSuite."""
    db, outbox = graph.db, graph.outbox
    ports: dict[type, object] = {
        LeaseStore: Neo4jLeases(db),
        OutboxRows: Neo4jRows(db),
        GraphStore: Neo4jGraphStore(db, outbox, Line(TOLD_LINE)),
        ListStore: Neo4jListStore(db, outbox),
        Remains: Neo4jRemains(db),
    }

    async def miscount() -> None:
        raise AssertionError("of tweets only")

    return Told(ports, lambda: content(db), miscount)


async def content(db: Neo4jDatabase) -> dict[str, list[str]]:
    """Every node and relationship, less what differs from run to run."""

    async def unit(tx: Neo4jTx) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        nodes = await tx.run(
            "MATCH (n) WHERE NOT n:OutboxSlot AND NOT n:SchemaMigration RETURN labels(n), properties(n)"
        )
        ties = await tx.run("MATCH ()-[r]->() RETURN [type(r)], properties(r)")
        for labels, properties in [*nodes, *ties]:
            kind = "outbox" if labels[0].startswith("OutboxW") or labels[0].startswith("OutboxP") else labels[0]
            less = {"locked"}.union(*(_VOLATILE.get(label, set()) for label in labels))
            kept = {name: properties[name] for name in sorted(properties) if name not in less}
            found.setdefault(kind, []).append(f"{sorted(labels)} {kept}")
        return {kind: sorted(rows) for kind, rows in found.items()}

    return await db.read(unit, deadline=_DEADLINE_S)


class Neo4jOutboxDb:
    """tests.stores.suites.outbox.OutboxDb."""

    def __init__(self, db: Neo4jDatabase) -> None:
        self.db = db

    def outbox(
        self,
        bus: Bus,
        source: str = "test",
        *,
        options: OutboxOptions | None = None,
        traceparent: Callable[[], str | None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> Outbox:
        """See OutboxDb."""
        return Neo4jOutbox(self.db, bus, source, options=options, traceparent=traceparent, clock=clock)

    async def make(
        self, outbox: Outbox, topic: str, number: int, *, payload: bytes | None = None, gives_up: bool = False
    ) -> str:
        """See OutboxDb."""
        assert isinstance(outbox, Neo4jOutbox)

        async def unit(tx: Neo4jTx) -> str:
            await tx.run("CREATE (:Thing {id: $id})", {"id": number})
            event_id = outbox.add(tx, topic, b"k", "test.ThingMade", payload or b"%d" % number)
            if gives_up:
                raise LookupError
            return event_id

        return await self.db.write(unit)

    async def waiting(self, topic: str | None = None) -> int:
        """See OutboxDb."""
        query = "MATCH (e:OutboxWaiting) WHERE $topic IS NULL OR e.topic = $topic RETURN count(e)"
        [(count,)] = await self.db.read(lambda tx: tx.run(query, {"topic": topic}))
        return int(count)

    async def kept(self) -> list[int]:
        """See OutboxDb."""
        query = "MATCH (e:OutboxWaiting|OutboxPublished) RETURN e.payload ORDER BY e.id"
        return [int(payload) for (payload,) in await self.db.read(lambda tx: tx.run(query))]

    async def close(self) -> None:
        """See OutboxDb."""
        await self.db.close()


async def open_neo4j(url: str) -> Neo4jOutboxDb:
    """Opens a database that has what the outbox needs."""
    return Neo4jOutboxDb(await Neo4jDatabase.open(url, deadline=_MANY_S))


def outbox_schema(folder: Path) -> Path:
    """A schema of the outbox alone. It is the graph service's too, so that one database may have either."""
    schema = folder / "schema"
    schema.mkdir()
    (schema / "001_init.cypher").write_text(OUTBOX_CYPHER)
    return schema
