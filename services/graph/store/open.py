"""The graph's stores behind a URL: its scheme says which adapters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from mesh.bus.base import Bus
from mesh.db.leases import SqlLeases
from mesh.db.schemes import is_neo4j
from mesh.db.sql import Database
from mesh.ids import LeaseStore
from mesh.outbox.relay import Outbox, OutboxOptions
from mesh.outbox.sql import SqlOutbox
from services.graph.domain import Line
from services.graph.store.base import GraphStore
from services.graph.store.erasure import Remains, SqlRemains
from services.graph.store.lists import ListStore
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
        url: as for mesh.db.neo4j.Neo4jDatabase.open, or as for `Database.open`.
        bus: where events go.
        line: from how many followers on an audience is pulled.
        options: batches and times of the outbox.

    Raises:
        ValueError: a URL that names no usable database.
        Unavailable: the database cannot be opened now.
    """
    if is_neo4j(url):
        from services.graph.store.neo4j_stores import open_neo4j  # its driver is not for those who have no need of it

        return await open_neo4j(url, bus, _SOURCE, line, options)
    sql = await Database.open(url)
    rows = SqlOutbox(sql, bus, _SOURCE, options=options)
    return Stores(
        SqlGraphStore(sql, rows, line), SqlListStore(sql, rows), SqlRemains(sql), SqlLeases(sql), rows, sql.close
    )
