"""Engines, and what tests keep in them: each test has a database, or a prefix, of its own."""

from __future__ import annotations

import asyncio
import functools
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import URL, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from mesh.bus.redis_streams import RedisStreamsBus
from mesh.db.migrations import migrate
from mesh.db.sql import Database, Tx
from mesh.outbox.sql import SqlOutbox
from scripts.engines.catalogue import ENGINES
from scripts.engines.control import Control, make_folder
from tests.stores.sqlite_stores import Sql

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".engines"


def inside(name: str) -> Path:
    """A folder for engines of a test's own, in the one of all engines, which is there from now on."""
    make_folder(FOLDER)
    return FOLDER / name


"""Where `make engines` starts them too."""


def control(name: str) -> Control:
    """An engine of this checkout."""
    return Control(ENGINES[name], FOLDER)


def schema(service: str) -> Path:
    """A service's schema for PostgreSQL."""
    return ROOT / "services" / service / "schema" / "postgresql"


def address(database: str) -> str:
    """The URL of a database of the server that runs."""
    return server().set(database=database).render_as_string(hide_password=False)


@functools.cache
def server() -> URL:
    """The server that runs."""
    return make_url(control("postgresql").urls()["ROOKERY_USERS_URL"]).set(database="postgres")


async def administer(*statements: str) -> None:
    """Runs statements outside of any transaction, as CREATE DATABASE must be."""
    engine = create_async_engine(server(), poolclass=NullPool, isolation_level="AUTOCOMMIT")
    try:
        async with engine.connect() as connection:
            for statement in statements:
                await connection.execute(text(statement))
    finally:
        await engine.dispose()


@asynccontextmanager
async def new_database(*, template: str = "template1") -> AsyncIterator[str]:
    """The URL of a database that lives as long as the block."""
    name = f"test_{uuid.uuid4().hex}"
    await administer(f"CREATE DATABASE {name} TEMPLATE {template}")
    try:
        yield address(name)
    finally:
        await administer(f"DROP DATABASE {name} WITH (FORCE)")


_templates: dict[str, str] = {}


async def template(service: str) -> str:
    """A database with a service's schema and no rows: copying it is quicker than migrating again."""
    if service not in _templates:
        name = f"template_{service}_{uuid.uuid4().hex}"
        await administer(f"CREATE DATABASE {name}")
        await migrate(address(name), schema(service))
        _templates[service] = name
    return _templates[service]


async def drop_templates() -> None:
    """At the end of a run."""
    await administer(*(f"DROP DATABASE {name} WITH (FORCE)" for name in (*_shared.values(), *_templates.values())))
    _shared.clear()
    _templates.clear()


@asynccontextmanager
async def postgresql_store(service: str, *, pool_size: int = 4) -> AsyncIterator[Sql]:
    """A new database of a service, closed and deleted at the end."""
    async with new_database(template=await template(service)) as url:
        db = await Database.open(url, pool_size=pool_size, deadline=10.0)
        bus = RedisStreamsBus("unix:///nowhere/s?db=0")
        try:
            yield Sql(db, SqlOutbox(db, bus, service))
        finally:
            await bus.close()
            await db.close()


_shared: dict[str, str] = {}


@asynccontextmanager
async def emptied_store(service: str) -> AsyncIterator[Sql]:
    """A database of a service that the run makes once, without rows: making one takes a second on a busy disk."""
    if service not in _shared:
        _shared[service] = name = f"shared_{service}_{uuid.uuid4().hex}"
        await administer(f"CREATE DATABASE {name} TEMPLATE {await template(service)}")
    db = await Database.open(address(_shared[service]), deadline=10.0)
    bus = RedisStreamsBus("unix:///nowhere/s?db=0")
    try:
        await db.write(_empty)
        yield Sql(db, SqlOutbox(db, bus, service))
    finally:
        await bus.close()
        await db.close()


async def _empty(tx: Tx) -> None:
    tables = await tx.execute(  # the newest first: others refer to none that is newer
        "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace"
        " AND relname <> 'schema_migrations' ORDER BY oid DESC"
    )
    for table in tables.scalars().all():
        await tx.execute(f"DELETE FROM {table}")


def forget() -> None:
    """Drops what the run made. Call it when no event loop runs."""
    if _templates:
        asyncio.run(drop_templates())
