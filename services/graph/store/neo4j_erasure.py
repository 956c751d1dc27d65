"""What is left of one person in the graph store: the Neo4j adapter."""

from __future__ import annotations

from mesh.db.neo4j import Neo4jDatabase, Neo4jTx
from mesh.errors import Unavailable
from services.graph.store.erasure import Kind, ListTie, Place, Tie
from services.graph.store.neo4j import ASKS, BLOCKS, FOLLOWS, MUTES
from services.graph.store.neo4j_lists import FOLLOWS_LIST, ON_LIST, PINS_LIST

_KINDS = {Kind.FOLLOW: FOLLOWS, Kind.REQUEST: ASKS, Kind.BLOCK: BLOCKS, Kind.MUTE: MUTES}
_PLACES = {Place.MEMBER: ON_LIST, Place.FOLLOWER: FOLLOWS_LIST, Place.PINNED: PINS_LIST}


def _ties(kind: str) -> str:
    return ", ".join(
        f"COLLECT {{ MATCH (p){left}[r:{kind}]{right}() RETURN [r.from_id, r.to_id] LIMIT $limit }}"
        for left, right in (("-", "->"), ("<-", "-"))
    )


_TIES = f"MATCH (p:Person {{id: $id}}) RETURN {', '.join(_ties(kind) for kind in _KINDS.values())}"
_LISTS = "MATCH (:Person {id: $id})-[r:OWNS]->() RETURN r.list_id AS list LIMIT $limit"
_LIST_TIES = "MATCH (p:Person {id: $id}) RETURN " + ", ".join(
    f"COLLECT {{ MATCH (p)-[:{kind}]->(l) WHERE NOT l:GoneList RETURN [l.id, l.owner_id] LIMIT $limit }}"
    for kind in _PLACES.values()
)
_FORGET = """\
OPTIONAL MATCH (l:GoneList {owner_id: $id}) WHERE NOT EXISTS { (l)--() }
DELETE l
WITH count(*) AS lists
OPTIONAL MATCH (p:Person {id: $id})
FOREACH (one IN CASE WHEN p IS NULL THEN [] ELSE [p] END | SET one.locked = true)
WITH p, EXISTS { (p)--() } AS tied
FOREACH (one IN CASE WHEN p IS NULL OR tied THEN [] ELSE [p] END | DELETE one)
RETURN tied
"""


class Neo4jRemains:
    """services.graph.store.erasure.Remains."""

    def __init__(self, db: Neo4jDatabase) -> None:
        self._db = db

    async def ties(self, user_id: int, limit: int) -> list[Tie]:
        """See Remains."""
        row = await self._db.read(lambda tx: tx.one(_TIES, {"id": user_id, "limit": limit}))
        if row is None:
            return []
        both = [kind for kind in _KINDS for _ in range(2)]
        return [Tie(kind, *pair) for kind, pairs in zip(both, row, strict=True) for pair in pairs]

    async def lists(self, user_id: int, limit: int) -> list[int]:
        """See Remains."""
        rows = await self._db.read(lambda tx: tx.run(_LISTS, {"id": user_id, "limit": limit}))
        return [row["list"] for row in rows]

    async def list_ties(self, user_id: int, limit: int) -> list[ListTie]:
        """See Remains."""
        row = await self._db.read(lambda tx: tx.one(_LIST_TIES, {"id": user_id, "limit": limit}))
        if row is None:
            return []
        return [ListTie(place, *tie) for place, ties in zip(_PLACES, row, strict=True) for tie in ties]

    async def forget(self, user_id: int) -> None:
        """See Remains. Raises Unavailable when there are ties again: they are undone first."""

        async def unit(tx: Neo4jTx) -> bool:
            [(tied,)] = await tx.run(_FORGET, {"id": user_id})
            return bool(tied)

        if await self._db.write(unit):
            raise Unavailable("somebody was tied to a person who is erased")
