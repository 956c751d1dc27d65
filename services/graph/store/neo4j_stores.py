"""The graph's stores on one Neo4j database."""

from __future__ import annotations

from mesh.bus.base import Bus
from mesh.db.neo4j import Neo4jDatabase
from mesh.db.neo4j_leases import Neo4jLeases
from mesh.outbox.neo4j import Neo4jOutbox
from mesh.outbox.relay import OutboxOptions
from services.graph.domain import Line
from services.graph.store.neo4j import Neo4jGraphStore
from services.graph.store.neo4j_erasure import Neo4jRemains
from services.graph.store.neo4j_lists import Neo4jListStore
from services.graph.store.open import Stores


async def open_neo4j(url: str, bus: Bus, source: str, line: Line, options: OutboxOptions | None) -> Stores:
    """Opens them; the arguments are those of `Neo4jDatabase.open`, Neo4jOutbox and Neo4jGraphStore."""
    db = await Neo4jDatabase.open(url)
    outbox = Neo4jOutbox(db, bus, source, options=options)
    return Stores(
        Neo4jGraphStore(db, outbox, line),
        Neo4jListStore(db, outbox),
        Neo4jRemains(db),
        Neo4jLeases(db),
        outbox,
        db.close,
    )
