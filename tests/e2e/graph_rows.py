"""What the graph's store has of people, on whatever it is, by queries of its own."""

from __future__ import annotations

from typing import Any

from cli.stores import Stores
from mesh.db.neo4j import Neo4jDatabase, Neo4jTx
from mesh.db.sql import Tx

Pairs = list[tuple[int, int]]
_TABLES = {
    "follows": ("follower_id", "followee_id", "FOLLOWS"),
    "follow_requests": ("requester_id", "target_id", "ASKS"),
    "blocks": ("blocker_id", "blocked_id", "BLOCKS"),
    "mutes": ("muter_id", "muted_id", "MUTES"),
}
"""For each table of SQL its columns, and the relationship that is the same in Neo4j."""


async def between(stores: Stores, one: int, other: int) -> dict[str, Pairs]:
    """All that is between two people, by the table's name: (who, whom)."""
    ids = {"a": one, "b": other}

    async def rows(tx: Tx) -> dict[str, Pairs]:
        found = {}
        for table, (near, far, _) in _TABLES.items():
            query = f"SELECT {near}, {far} FROM {table} WHERE {near} IN (:a, :b) AND {far} IN (:a, :b)"
            found[table] = sorted((row[0], row[1]) for row in (await tx.execute(query, ids)).all())
        return found

    async def relationships(tx: Neo4jTx) -> dict[str, Pairs]:
        found = {}
        for table, (_, _, kind) in _TABLES.items():
            query = f"MATCH (p:Person)-[:{kind}]->(q:Person) WHERE p.id IN [$a, $b] AND q.id IN [$a, $b]"
            found[table] = sorted((row[0], row[1]) for row in await tx.run(f"{query} RETURN p.id, q.id", ids))
        return found

    if isinstance(stores.graph, Neo4jDatabase):
        return await stores.graph.read(relationships)
    return await stores.graph.read(rows)


async def reach(stores: Stores, person: int) -> str:
    """How somebody's tweets come to their followers."""
    of = {"id": person}

    async def row(tx: Tx) -> int:
        return int(await tx.scalar("SELECT reach FROM people WHERE user_id = :id", of))

    async def node(tx: Neo4jTx) -> int:
        found = await tx.one("MATCH (p:Person {id: $id}) RETURN coalesce(p.reach, 0)", of)
        assert found is not None
        return int(found[0])

    known = await (stores.graph.read(node) if isinstance(stores.graph, Neo4jDatabase) else stores.graph.read(row))
    return ("pushed", "becoming pulled", "pulled", "becoming pushed")[known]


async def following(stores: Stores, person: int) -> int:
    """How many people somebody follows."""
    of = {"id": person}

    async def rows(tx: Tx) -> int:
        return int(await tx.scalar("SELECT count(*) FROM follows WHERE follower_id = :id", of))

    async def relationships(tx: Neo4jTx) -> int:
        [(count,)] = await tx.run("MATCH (:Person {id: $id})-[r:FOLLOWS]->() RETURN count(r)", of)
        return int(count)

    if isinstance(stores.graph, Neo4jDatabase):
        return await stores.graph.read(relationships)
    return await stores.graph.read(rows)


async def lists(stores: Stores) -> list[str]:
    """Everything that lists of people are made of, in an order that is the same each time."""
    if isinstance(stores.graph, Neo4jDatabase):
        return sorted(f"{kind} {row!r}" for kind, row in await in_neo4j(stores) if "list" in kind.lower())

    async def rows(tx: Tx) -> list[str]:
        tables = ("lists", "list_members", "list_follows", "list_pins")
        return [f"{one} {tuple(row)}" for one in tables for row in (await tx.execute(f"SELECT * FROM {one}")).all()]

    return sorted(await stores.graph.read(rows))


async def in_neo4j(stores: Stores) -> list[tuple[str, bytes]]:
    """Each node and relationship, its kind and its properties; nothing when the store is another."""
    if not isinstance(stores.graph, Neo4jDatabase):
        return []

    async def everything(tx: Neo4jTx) -> list[tuple[str, bytes]]:
        found = await tx.run(
            "MATCH (n) WHERE NOT n:OutboxSlot RETURN labels(n)[0] AS kind, properties(n) AS has"
            " UNION ALL MATCH ()-[r]->() RETURN type(r) AS kind, properties(r) AS has"
        )
        return [(one["kind"], _flat(one["has"])) for one in found]

    return await stores.graph.read(everything, deadline=20.0)


def _flat(properties: dict[str, Any]) -> bytes:
    """All names and values, bytes as they are."""
    cells = (part for name in sorted(properties) for part in (name, properties[name]))
    return b"\x00".join(cell if isinstance(cell, bytes) else str(cell).encode() for cell in cells)
