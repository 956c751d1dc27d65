"""The graph's stores behind a URL: its scheme says which adapters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from mesh.bus.base import Bus
from mesh.db.leases import SqlLeases
from mesh.db.neo4j import Neo4jDatabase, is_neo4j
from mesh.db.neo4j_leases import Neo4jLeases
from mesh.db.sql import Database
from mesh.ids import LeaseStore
from mesh.outbox.neo4j import Neo4jOutbox
from mesh.outbox.relay import Outbox, OutboxOptions
from mesh.outbox.sql import SqlOutbox
from services.graph.domain import Line
from services.graph.store.base import GraphStore
from services.graph.store.erasure import Remains, SqlRemains
from services.graph.store.lists import ListStore
from services.graph.store.neo4j import Neo4jGraphStore
from services.graph.store.neo4j_erasure import Neo4jRemains
from services.graph.store.neo4j_lists import Neo4jListStore
from services.graph.store.sql import SqlGraphStore
from services.graph.store.sql_lists import SqlListStore

_SOURCE = "graph"


@dataclass(frozen=True, slots=True)
class Stores:
    """Everything of one database."""

    graph: GraphStore
    """Follows, requests, blocks, mutes."""
    lists: ListStore
    """Lists of people."""
    remains: Remains
    """What is left of somebody."""
    leases: LeaseStore
    """Numbers of processes that make ids."""
    outbox: Outbox
    """Events of all changes; not started."""
    close: Callable[[], Awaitable[None]]
    """Ends the connections."""


async def open_stores(url: str, bus: Bus, line: Line, options: OutboxOptions | None = None) -> Stores:
    """Opens them.

    Args:
        url: as for `Neo4jDatabase.open`, or as for `Database.open`.
        bus: where events go.
        line: from how many followers on an audience is pulled.
        options: batches and times of the outbox.

    Raises:
        ValueError: a URL that names no usable database.
        Unavailable: the database cannot be opened now.
    """
    if is_neo4j(url):
        neo4j = await Neo4jDatabase.open(url)
        nodes = Neo4jOutbox(neo4j, bus, _SOURCE, options=options)
        return Stores(
            Neo4jGraphStore(neo4j, nodes, line),
            Neo4jListStore(neo4j, nodes),
            Neo4jRemains(neo4j),
            Neo4jLeases(neo4j),
            nodes,
            neo4j.close,
        )
    sql = await Database.open(url)
    rows = SqlOutbox(sql, bus, _SOURCE, options=options)
    return Stores(
        SqlGraphStore(sql, rows, line), SqlListStore(sql, rows), SqlRemains(sql), SqlLeases(sql), rows, sql.close
    )
