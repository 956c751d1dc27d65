"""Schema migrations: numbered files, applied in order, forward only."""

from __future__ import annotations

import asyncio
import hashlib
import re
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import URL, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from mesh.db.schemes import is_cassandra, is_neo4j
from mesh.db.sql import PG_UNAVAILABLE, PooledBackend, enable_wal, sqlite_error, sqlite_path
from mesh.errors import Unavailable

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

_log = structlog.stdlib.get_logger("mesh.db.migrations")

_MIGRATION_NAME = re.compile(r"(\d{3})_([a-z0-9_]+)\.[a-z]+")
_MIGRATIONS_DDL = (
    "CREATE TABLE IF NOT EXISTS schema_migrations ("
    "number INTEGER PRIMARY KEY, name TEXT NOT NULL, sha256 TEXT NOT NULL, applied_ms BIGINT NOT NULL)"
)
UNFINISHED = "unfinished_copy"
"""What a store has that a copy is under way to (mesh/transfer), such as a table: no service may take a part for the
whole."""
_MIGRATION_LOCK = 0x6D65_7368  # advisory lock key: "mesh"
_UNFINISHED_SQLITE = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
_UNFINISHED_POSTGRESQL = "SELECT 1 FROM pg_tables WHERE schemaname = current_schema() AND tablename = :name"
_MIGRATE_WAIT_S = 60.0  # for another process's migration to end


class MigrationError(Exception):
    """The folder and the database do not fit together, or a migration cannot be applied. Nothing of it was applied."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of a schema folder."""

    number: int
    name: str
    sql: str
    sha256: str


def load_migrations(folder: Path, suffix: str = "sql") -> list[Migration]:
    """The migrations in `folder`, in order.

    Args:
        folder: where.
        suffix: of the files: `sql`, `cql`, `cypher`.

    Raises:
        MigrationError: no such folder, a file with this suffix that is not named `NNN_name`, or a number used twice.
    """
    if not folder.is_dir():
        raise MigrationError(f"no schema folder {folder.name!r}")
    found: dict[int, Migration] = {}
    for path in sorted(folder.glob(f"*.{suffix}")):
        match = _MIGRATION_NAME.fullmatch(path.name)
        if match is None:
            raise MigrationError(f"{path.name} is not named NNN_name.{suffix}")
        number = int(match[1])
        if number in found:
            raise MigrationError(f"{path.name} has the number of {found[number].name}")
        content = path.read_bytes()
        found[number] = Migration(number, path.stem, content.decode(), hashlib.sha256(content).hexdigest())
    return [found[number] for number in sorted(found)]


async def migrate(url: str, folder: Path, *, unfinished: bool = False) -> list[str]:
    """Bring the schema at `url` up to the newest file of `folder`.

    Files are named `NNN_name.sql` (`.cql` for Cassandra, `.cypher` for Neo4j), applied in order, forward only, each in
    a transaction of its own where the database has such, and recorded in `schema_migrations`. Safe to run again, and by
    several processes at once. A database that is ahead of the folder is accepted (an older release runs on a newer
    schema during a roll-back).

    Args:
        url: as for `Database.open`, `Cassandra.open` or `Neo4jDatabase.open`.
        folder: the schema folder of this backend.
        unfinished: whether a store that a copy is under way to may be migrated: only the copy itself asks for that.

    Returns:
        The names that this call applied.

    Raises:
        MigrationError: an applied file was changed or is missing, a file is numbered below an applied one, a
            statement failed, or a copy to the store is under way.
        Unavailable: the database cannot be reached.
    """
    if is_cassandra(url):
        from mesh.db.cassandra_migrations import migrate_cassandra  # its driver is not for those who have no need of it

        cql = await asyncio.to_thread(load_migrations, folder, "cql")
        return await migrate_cassandra(url, cql, unfinished=unfinished)
    if is_neo4j(url):
        from mesh.db.neo4j_migrations import migrate_neo4j

        cypher = await asyncio.to_thread(load_migrations, folder, "cypher")
        return await migrate_neo4j(url, cypher, unfinished=unfinished)
    parsed = make_url(url)
    migrations = await asyncio.to_thread(load_migrations, folder)
    if parsed.get_backend_name() == "sqlite":
        return await asyncio.to_thread(_migrate_sqlite, sqlite_path(parsed), migrations, unfinished)
    if parsed.get_backend_name() == "postgresql":
        return await _migrate_postgresql(parsed, migrations, unfinished)
    raise ValueError(f"no database backend for {parsed.drivername!r}")


def next_migration(applied: Mapping[int, tuple[str, str]], migrations: Sequence[Migration]) -> Migration | None:
    """The first file to apply, after a check of those that were.

    Args:
        applied: number -> (name, sha256), as recorded.
        migrations: the folder, in order.
    """
    newest_file = migrations[-1].number if migrations else 0
    files = {migration.number: migration for migration in migrations}
    for number, (name, sha256) in sorted(applied.items()):
        if number not in files:
            if number <= newest_file:
                raise MigrationError(f"{name} was applied and is missing from the folder")
            _log.warning("the schema is newer than this release", migration=name)
        elif files[number].sha256 != sha256:
            raise MigrationError(f"{name} was changed after it was applied")
    newest_applied = max(applied, default=0)
    for migration in migrations:
        if migration.number not in applied:
            if migration.number < newest_applied:
                raise MigrationError(f"{migration.name} is numbered below an applied migration")
            return migration
    return None


def split_sqlite(script: str) -> list[str]:
    """Split a script at the semicolons that end statements (not at those in strings, comments or trigger bodies).

    Raises:
        MigrationError: the last statement has no end.
    """
    statements: list[str] = []
    rest = ""
    for part in re.split(r"(?<=;)", script):
        rest += part
        if sqlite3.complete_statement(rest):
            statements.append(rest.strip())
            rest = ""
    if re.sub(r"--[^\n]*|/\*.*?\*/|\s", "", rest, flags=re.DOTALL):
        raise MigrationError("the last statement has no semicolon")
    return statements


def check_whole(found: object) -> None:
    """Raises MigrationError when a database says that a copy to it is under way."""
    if found is not None:
        raise MigrationError("a copy to it is under way: end it with `rookery move`, or begin with an empty store")


def _migrate_sqlite(path: Path, migrations: Sequence[Migration], unfinished: bool) -> list[str]:
    applied_now: list[str] = []
    raw = sqlite3.connect(path, timeout=_MIGRATE_WAIT_S, isolation_level=None)
    try:
        enable_wal(raw, _MIGRATE_WAIT_S)
        raw.execute("PRAGMA synchronous = FULL")
        # Tables are changed by making a new one and renaming it, which needs this off; a check before COMMIT stands in.
        raw.execute("PRAGMA foreign_keys = OFF")
        while True:
            raw.execute("BEGIN EXCLUSIVE")  # one process at a time; each looks again at what is left to do
            try:
                raw.execute(_MIGRATIONS_DDL)
                if not unfinished:
                    check_whole(raw.execute(_UNFINISHED_SQLITE, (UNFINISHED,)).fetchone())
                rows = raw.execute("SELECT number, name, sha256 FROM schema_migrations").fetchall()
                migration = next_migration({row[0]: (row[1], row[2]) for row in rows}, migrations)
                if migration is not None:
                    _apply_sqlite(raw, migration)
                raw.execute("COMMIT")
            except BaseException:
                if raw.in_transaction:
                    raw.execute("ROLLBACK")
                raise
            if migration is None:
                return applied_now
            applied_now.append(migration.name)
    except sqlite3.Error as error:
        raise sqlite_error(error) from error
    finally:
        raw.close()


def _apply_sqlite(raw: sqlite3.Connection, migration: Migration) -> None:
    for statement in split_sqlite(migration.sql):
        try:
            raw.execute(statement)
        except sqlite3.Error as error:
            if isinstance(sqlite_error(error), Unavailable):
                raise
            raise MigrationError(f"{migration.name}: {error}") from error
        if not raw.in_transaction:
            raise MigrationError(f"{migration.name}: a migration must not end its transaction")
    broken = raw.execute("PRAGMA foreign_key_check").fetchone()
    if broken is not None:
        raise MigrationError(f"{migration.name}: rows of {broken[0]} refer to missing rows of {broken[2]}")
    raw.execute(
        "INSERT INTO schema_migrations (number, name, sha256, applied_ms) VALUES (?, ?, ?, ?)",
        (migration.number, migration.name, migration.sha256, time.time_ns() // 1_000_000),
    )


async def _migrate_postgresql(url: URL, migrations: Sequence[Migration], unfinished: bool) -> list[str]:
    from sqlalchemy.ext.asyncio import create_async_engine  # not for those on SQLite: it takes long to load

    applied_now: list[str] = []
    engine = create_async_engine(url, poolclass=NullPool, connect_args={"timeout": 10.0})
    try:
        async with asyncio.timeout(_MIGRATE_WAIT_S * 10):
            while True:
                async with engine.begin() as connection:
                    migration = await _apply_postgresql(connection, migrations, unfinished)
                if migration is None:
                    return applied_now
                applied_now.append(migration.name)
    except (OSError, TimeoutError) as error:
        raise Unavailable(f"the database cannot be migrated now: {error}") from error
    except DBAPIError as error:
        if PooledBackend.unavailable(error):
            raise Unavailable(f"the database cannot be migrated now: {error.orig}") from error
        raise MigrationError(str(error.orig)) from error
    finally:
        await engine.dispose()


async def _apply_postgresql(
    connection: AsyncConnection, migrations: Sequence[Migration], unfinished: bool
) -> Migration | None:
    await connection.execute(text(f"SET LOCAL lock_timeout = {int(_MIGRATE_WAIT_S * 1000)}"))
    await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
    await connection.execute(text(_MIGRATIONS_DDL))
    if not unfinished:
        check_whole((await connection.execute(text(_UNFINISHED_POSTGRESQL), {"name": UNFINISHED})).first())
    rows = await connection.execute(text("SELECT number, name, sha256 FROM schema_migrations"))
    migration = next_migration({row[0]: (row[1], row[2]) for row in rows}, migrations)
    if migration is None:
        return None
    # The server itself splits a script (simple query protocol), so quotes, comments and $$ bodies are as it sees them.
    driver = (await connection.get_raw_connection()).driver_connection
    if driver is None:
        raise Unavailable("the connection is gone")
    try:
        await driver.execute(migration.sql)
    except Exception as error:
        state = getattr(error, "sqlstate", None)
        if not isinstance(state, str) or state.startswith(PG_UNAVAILABLE):
            raise
        raise MigrationError(f"{migration.name}: {error}") from error
    if not driver.is_in_transaction():
        raise MigrationError(f"{migration.name}: a migration must not end its transaction")
    await connection.execute(
        text("INSERT INTO schema_migrations (number, name, sha256, applied_ms) VALUES (:number, :name, :sha256, :at)"),
        {
            "number": migration.number,
            "name": migration.name,
            "sha256": migration.sha256,
            "at": time.time_ns() // 1_000_000,
        },
    )
    return migration
