"""The graph in Neo4j as an end of a copy.

A pair of people, or of a person and a list, is a relationship; a person without anything to say is a node that others
need, and no record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesh.db.migrations import load_migrations, migrate
from mesh.db.neo4j import Neo4jDatabase, Neo4jTx
from mesh.transfer.base import EVENTS, Kind, Page, Record, check_schema
from mesh.transfer.neo4j import Neo4jCopies
from services.graph.store.neo4j import ASKS, BLOCKS, FOLLOWS, MUTES
from services.graph.store.neo4j_lists import FOLLOWS_LIST, ON_LIST, OWNS, PINS_LIST, Neo4jListStore
from services.graph.store.neo4j_people import MADE

_OPEN_S = 10.0
_SETTLED = 500
_STEPS = "MATCH (m:SchemaMigration) WHERE m.number > 0 RETURN m.name ORDER BY m.number"


@dataclass(frozen=True, slots=True)
class _Ties:
    """A kind whose records are relationships: its first two fields are its key, the third is the number."""

    type: str
    near: str
    far: str
    to_list: bool = False
    counted: bool = False

    @property
    def properties(self) -> tuple[str, ...]:
        """Of a relationship, in the order of the record's fields."""
        return (self.near, self.far, "edge_id", *(("counted",) if self.counted else ()))

    @property
    def _found(self) -> str:
        return f"MATCH ()-[r:{self.type}]->() USING INDEX SEEK r:{self.type}({self.near}, {self.far})"

    @property
    def pages(self) -> tuple[str, str]:
        """The queries for what follows a key: of the same near end, and of later ones."""
        end = (
            f" WITH r ORDER BY r.{self.near}, r.{self.far} LIMIT $limit"
            f" RETURN {', '.join(f'r.{name}' for name in self.properties)}"
        )
        return (
            f"{self._found} WHERE r.{self.near} = $near AND r.{self.far} > $far{end}",
            f"{self._found} WHERE r.{self.near} > $near AND r.{self.far} IS NOT NULL{end}",
        )

    @property
    def change(self) -> str:
        """The query that changes those of `$rows` that are there, and says which they are."""
        changed = ", ".join(f"r.{name} = row.{name}" for name in self.properties[2:])
        return (
            f"UNWIND $rows AS row {self._found} WHERE r.{self.near} = row.{self.near} AND r.{self.far} = row.{self.far}"
            f" SET {changed} RETURN r.{self.near}, r.{self.far}"
        )

    @property
    def create(self) -> str:
        """The query that adds `$rows`."""
        ends = (
            "MATCH (a:Person {id: row.user_id}) MATCH (b:PeopleList {id: row.list_id})"
            if self.to_list
            else "MATCH (a:Person {id: row.from_id}) MATCH (b:Person {id: row.to_id})"
        )
        properties = ", ".join(f"{name}: row.{name}" for name in self.properties)
        return f"UNWIND $rows AS row {ends} CREATE (a)-[:{self.type} {{{properties}}}]->(b)"


_TIES = {
    "follows": _Ties(FOLLOWS, "from_id", "to_id"),
    "follow_requests": _Ties(ASKS, "from_id", "to_id"),
    "blocks": _Ties(BLOCKS, "from_id", "to_id"),
    "mutes": _Ties(MUTES, "from_id", "to_id"),
    "list_members": _Ties(ON_LIST, "list_id", "user_id", to_list=True, counted=True),
    "list_follows": _Ties(FOLLOWS_LIST, "list_id", "user_id", to_list=True),
    "list_pins": _Ties(PINS_LIST, "list_id", "user_id", to_list=True),
}
_MAKE_PEOPLE = f"UNWIND $ids AS id {MADE}"
_LISTS = (
    "MATCH (l:PeopleList) USING INDEX SEEK l:PeopleList(id) WHERE l.id > $after"
    " RETURN l.id, l.owner_id, l.name, l.description, l.private, l:GoneList, l.member_count, l.follower_count,"
    " coalesce(l.request_id, '') ORDER BY l.id LIMIT $limit"
)
_SET_LISTS = (
    "UNWIND $rows AS row MERGE (l:PeopleList {id: row.list_id}) SET l.owner_id = row.owner_id, l.name = row.name,"
    " l.description = row.description, l.private = row.private, l.member_count = row.member_count,"
    " l.follower_count = row.follower_count, l.request_id = CASE row.request_id WHEN '' THEN null"
    " ELSE row.request_id END"  # a property that is null is none
)
_SET_GONE = (
    "UNWIND $ids AS id MATCH (l:PeopleList {id: id}) SET l:GoneList WITH l OPTIONAL MATCH (l)<-[r:OWNS]-() DELETE r"
)
_SET_OWNED = (
    "UNWIND $rows AS row MATCH (p:Person {id: row.owner_id}) MATCH (l:PeopleList {id: row.list_id})"
    " WHERE NOT EXISTS { (l)<-[:OWNS]-() }"
    " CREATE (p)-[:OWNS {user_id: row.owner_id, list_id: row.list_id, edge_id: row.list_id}]->(l)"
)


async def open_neo4j(url: str, schema: Path, kinds: Sequence[Kind], *, target: bool) -> Neo4jGraphTransfer:
    """The store behind a URL, as SqlTransfer.open.

    Raises:
        TransferError: a source whose schema is older or newer than the folder.
        MigrationError, Unavailable, ValueError: as `migrate` and `Neo4jDatabase.open`.
    """
    if target:
        await migrate(url, schema, unfinished=True)
    db = await Neo4jDatabase.open(url, deadline=_OPEN_S)
    try:
        steps = await db.read(lambda tx: tx.run(_STEPS))
        check_schema([step[0] for step in steps], [step.name for step in load_migrations(schema, "cypher")])
    except BaseException:
        await db.close()
        raise
    return Neo4jGraphTransfer(db, kinds)


class Neo4jGraphTransfer(Neo4jCopies):
    """mesh.transfer.base.Transfer of the graph.

    Args:
        db: the database, migrated.
        kinds: of services.graph.store.transfer.
    """

    def __init__(self, db: Neo4jDatabase, kinds: Sequence[Kind]) -> None:
        super().__init__(db, "graph")
        self._kinds = (*kinds, EVENTS)

    @property
    def kinds(self) -> Sequence[Kind]:
        """See Transfer."""
        return self._kinds

    async def settle(self) -> None:
        """See Transfer. Works off lists that were deleted or switched."""
        lists = Neo4jListStore(self.db, self.outbox)
        while await lists.settle(_SETTLED):
            pass

    async def count(self, kind: Kind) -> int | None:
        """See Transfer. Nodes of people are more than records."""
        if kind is EVENTS:
            return await self.count_events()
        if kind.name == "people":
            return None
        ties = _TIES.get(kind.name)
        found = "(x:PeopleList)" if ties is None else f"()-[x:{ties.type}]->()"
        return int((await self.run(f"MATCH {found} RETURN count(x)"))[0][0])

    async def read(self, kind: Kind, after: str, limit: int) -> Page:
        """See Transfer."""
        if kind is EVENTS:
            return await self.read_events(after, limit)
        ties = _TIES.get(kind.name)
        if ties is not None:
            return await self._read_ties(ties, after, limit)
        query = _LISTS if kind.name == "lists" else _people(kind)
        rows = [tuple(row) for row in await self.run(query, after=int(after or -1), limit=limit)]
        found = rows if kind.name == "lists" else [row for row in rows if any(row[1:])]
        return Page(found, str(rows[-1][0]) if len(rows) == limit else "")

    async def _read_ties(self, ties: _Ties, after: str, limit: int) -> Page:
        near, far = (int(part) for part in after.split(",")) if after else (-1, -1)
        rows: list[tuple[Any, ...]] = []
        for query in ties.pages if after else ties.pages[1:]:
            if len(rows) < limit:
                rows += [tuple(row) for row in await self.run(query, near=near, far=far, limit=limit - len(rows))]
        return Page(rows, ",".join(str(part) for part in rows[-1][:2]) if len(rows) == limit else "")

    async def write(self, kind: Kind, records: Sequence[Record]) -> None:
        """See Transfer."""
        if not records:
            return
        if kind is EVENTS:
            await self.write_events(records)
            return
        ties = _TIES.get(kind.name)
        names = tuple(kind.fields) if ties is None else ties.properties
        rows: list[dict[str, Any]] = [dict(zip(names, record, strict=True)) for record in records]
        if ties is not None:
            await self._write_ties(ties, rows)
        elif kind.name == "lists":
            await self._write_lists(rows)
        else:
            changed = ", ".join(f"p.{name} = row.{name}" for name in names[1:])
            query = f"UNWIND $rows AS row MERGE (p:Person {{id: row.user_id}}) SET {changed}"
            await self.db.write(lambda tx: tx.run(query, {"rows": rows}))

    async def _write_ties(self, ties: _Ties, rows: Sequence[dict[str, Any]]) -> None:
        ends = ("user_id",) if ties.to_list else ("from_id", "to_id")
        people = sorted({row[end] for row in rows for end in ends})

        async def unit(tx: Neo4jTx) -> None:
            await tx.run(_MAKE_PEOPLE, {"ids": people})
            there = {tuple(pair) for pair in await tx.run(ties.change, {"rows": list(rows)})}
            new = [row for row in rows if (row[ties.near], row[ties.far]) not in there]
            if new:
                await tx.run(ties.create, {"rows": new})

        await self.change(unit)

    async def _write_lists(self, rows: Sequence[dict[str, Any]]) -> None:
        there = [row for row in rows if not row["gone"]]

        async def unit(tx: Neo4jTx) -> None:
            await tx.run(_MAKE_PEOPLE, {"ids": sorted({row["owner_id"] for row in there})})
            await tx.run(_SET_LISTS, {"rows": list(rows)})
            await tx.run(_SET_GONE, {"ids": [row["list_id"] for row in rows if row["gone"]]})
            await tx.run(_SET_OWNED, {"rows": there})

        await self.change(unit)

    async def clear(self) -> None:
        """See Transfer."""
        await self.clear_events()
        for type_ in (OWNS, *(ties.type for ties in _TIES.values())):
            await self.delete_all(f"MATCH ()-[x:{type_}]->()")
        for label in ("PeopleList", "Person"):
            await self.delete_all(f"MATCH (x:{label})")


def _people(kind: Kind) -> str:
    names = ", ".join(f"p.{name}" for name in list(kind.fields)[1:])
    return (
        "MATCH (p:Person) USING INDEX SEEK p:Person(id) WHERE p.id > $after"
        f" RETURN p.id, {names} ORDER BY p.id LIMIT $limit"
    )
