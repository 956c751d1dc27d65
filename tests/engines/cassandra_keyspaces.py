"""Keyspaces of tests: one for a module, as making tables takes its time, and empty for each test."""

from __future__ import annotations

import asyncio
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mesh.db.cassandra import Cassandra
from mesh.db.migrations import migrate
from mesh.outbox.cassandra import OUTBOX_CQL
from scripts.engines.control import Control

OUTBOX = f"CREATE TABLE IF NOT EXISTS things (id bigint PRIMARY KEY);\n{OUTBOX_CQL}"


@contextmanager
def keyspace(control: Control, cql: str) -> Iterator[str]:
    """The URL of a keyspace with these tables, which lives as long as the block."""
    name = f"test_{uuid.uuid4().hex}"
    [url] = control.engine.apart(control.place(), name).values()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "001_init.cql").write_text(cql)
        asyncio.run(migrate(url, Path(folder)))
    try:
        yield url
    finally:
        control.engine.drop(control.place(), name)


async def emptied(url: str) -> None:
    """Takes all rows out of its tables."""
    db = await Cassandra.open(url, deadline=20.0)
    try:
        tables = await db.rows("SELECT table_name FROM system_schema.tables WHERE keyspace_name = ?", (db.keyspace,))
        for table in tables:
            if not table.table_name.startswith("schema_"):
                await db.execute(f"TRUNCATE {table.table_name}")
    finally:
        await db.close()
