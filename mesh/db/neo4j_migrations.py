"""Numbered `.cypher` files on Neo4j, applied in order, forward only.

Changes of the schema share a transaction with each other and with nothing else. So a file is not one transaction, and
its statements can be done again: what makes or drops something says `IF [NOT] EXISTS`, what makes nodes says `MERGE`.
A file that a crash interrupted is applied from its beginning by the next run. One process at a time applies files: it
holds a node's lock in a transaction that stays open meanwhile, and that ends when the process does.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections.abc import Sequence

from neo4j import WRITE_ACCESS, AsyncDriver, AsyncTransaction
from neo4j.exceptions import DriverError, Neo4jError

from mesh.db.migrations import Migration, MigrationError, check_whole, next_migration
from mesh.db.neo4j import Address, driver_of, unavailable
from mesh.errors import Unavailable

_CONNECT_S = 10.0
_WAIT_S = 60.0  # for another process's migration to end
_STATEMENT_S = 300.0  # an index of a large graph takes a while
_RETRIES = 20  # of a statement that met another one
# Ends of statements are the semicolons outside of these.
_TOKENS = re.compile(
    r"(?P<comment>//[^\n]*|/\*.*?\*/)|(?P<text>'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|`[^`]*`)|(?P<end>;)|.", re.DOTALL
)
_DEFINES = re.compile(r"(?i)(CREATE|DROP)\s+((RANGE|TEXT|POINT|LOOKUP|FULLTEXT|VECTOR)\s+)?(INDEX|CONSTRAINT)\b")
_AGAIN = re.compile(r"(?i)\bIF\s+(NOT\s+)?EXISTS\b")
_BOOK = "CREATE CONSTRAINT schema_migration IF NOT EXISTS FOR (m:SchemaMigration) REQUIRE m.number IS UNIQUE"
# Number 0 is no file: its node is the lock.
_LOCK = "MERGE (m:SchemaMigration {number: 0}) SET m.locked = true"
_APPLIED = "MATCH (m:SchemaMigration) WHERE m.number > 0 RETURN m.number, m.name, m.sha256"
_UNFINISHED = "MATCH (u:UnfinishedCopy) RETURN u.name LIMIT 1"
_NOTE = "MERGE (m:SchemaMigration {number: $number}) SET m.name = $name, m.sha256 = $sha256, m.applied_ms = $at"


def split_cypher(script: str) -> list[str]:
    """Split a script at the semicolons that end statements, without comments.

    Raises:
        MigrationError: the last statement has no end, or one could not be done again.
    """
    statements: list[str] = []
    current: list[str] = []
    for token in _TOKENS.finditer(script):
        if token["comment"]:
            current.append(" ")
        elif token["end"]:
            statements.append("".join(current).strip())
            current = []
        else:
            current.append(token[0])
    if "".join(current).strip():
        raise MigrationError("the last statement has no semicolon")
    for statement in statements:
        if _DEFINES.match(statement) and not _AGAIN.search(statement):
            raise MigrationError(f"a statement needs IF [NOT] EXISTS, to be done again after a crash: {statement[:80]}")
    return [statement for statement in statements if statement]


async def migrate_neo4j(url: str, migrations: Sequence[Migration], *, unfinished: bool = False) -> list[str]:
    """See `mesh.db.migrations.migrate`.

    Raises:
        MigrationError: a file does not fit, or a statement failed. What came before it in the file stays.
        Unavailable: the server is away, or another process migrates for too long.
    """
    address = Address.parse(url)
    steps = {migration.number: split_cypher(migration.sql) for migration in migrations}
    driver = driver_of(address, pool_size=2, timeout=_CONNECT_S)
    try:
        await _do(driver, address, _BOOK)
        async with (
            driver.session(database=address.database, default_access_mode=WRITE_ACCESS) as session,
            await session.begin_transaction() as lock,
        ):
            async with asyncio.timeout(_WAIT_S):
                await (await lock.run(_LOCK)).consume()
            if not unfinished:
                check_whole(await (await lock.run(_UNFINISHED)).single())
            return await _apply(driver, address, lock, migrations, steps)
    except (OSError, TimeoutError) as error:
        raise Unavailable(f"the database cannot be migrated now: {error}") from error
    except (DriverError, Neo4jError) as error:
        if unavailable(error):
            raise Unavailable(f"the database cannot be migrated now: {error}") from error
        raise MigrationError(str(error)) from error
    finally:
        await driver.close()


async def _apply(
    driver: AsyncDriver,
    address: Address,
    lock: AsyncTransaction,
    migrations: Sequence[Migration],
    steps: dict[int, list[str]],
) -> list[str]:
    done: list[str] = []
    while True:
        applied = {row[0]: (row[1], row[2]) async for row in await lock.run(_APPLIED)}
        migration = next_migration(applied, migrations)
        if migration is None:
            return done
        for statements in _together(steps[migration.number]):
            try:
                await _do(driver, address, *statements)
            except Neo4jError as error:
                if unavailable(error):
                    raise
                raise MigrationError(f"{migration.name}: {error.message}") from error
        await _do(driver, address, f"CALL db.awaitIndexes({int(_STATEMENT_S)})")
        note = {"number": migration.number, "name": migration.name, "sha256": migration.sha256}
        await _do(driver, address, _NOTE, at=time.time_ns() // 1_000_000, **note)
        done.append(migration.name)


def _together(statements: Sequence[str]) -> list[list[str]]:
    """Which statements share a transaction: changes of the schema that follow each other, which saves most of the
    time."""
    return [list(some) for _, some in itertools.groupby(statements, lambda one: bool(_DEFINES.match(one)))]


async def _do(driver: AsyncDriver, address: Address, *statements: str, **params: object) -> None:
    """Runs statements in a transaction of their own."""
    for attempt in range(1, _RETRIES + 1):
        try:
            async with (
                asyncio.timeout(_STATEMENT_S),
                driver.session(database=address.database, default_access_mode=WRITE_ACCESS) as session,
            ):
                async with await session.begin_transaction() as transaction:
                    for statement in statements:
                        await (await transaction.run(statement, params)).consume()
                    await transaction.commit()
                return
        except Neo4jError as error:
            if not error.is_retryable() or attempt == _RETRIES:
                raise
            await asyncio.sleep(0.02 * attempt)  # two processes that make the same index wait for each other's locks
