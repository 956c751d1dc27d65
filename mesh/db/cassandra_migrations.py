"""Numbered `.cql` files on Cassandra, applied in order, forward only.

There is no transaction around a file, so each of its statements can be done again: what makes or drops something says
`IF [NOT] EXISTS`. A file that a crash interrupted is applied from its beginning by the next run. One process at a time
applies files: it holds a row that was written conditionally and ends by itself, and renews it before each statement.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from cassandra import ConsistencyLevel, InvalidRequest
from cassandra.cluster import Cluster, Session
from cassandra.query import SimpleStatement

from mesh.db.cassandra import Address, driver_cluster, short, told
from mesh.db.cassandra_reactor import LoopConnection
from mesh.db.migrations import UNFINISHED, Migration, MigrationError, check_whole, next_migration
from mesh.errors import Unavailable

_HOLD_S = 60
_WAIT_S = 60.0
_STATEMENT_S = 30.0
_AGREE_S = 30.0
_POLL_S = 0.2
_TABLES = {
    "schema_migrations": "part text, number int, name text, sha256 text, applied_ms bigint, PRIMARY KEY (part, number)",
    "schema_lock": "name text PRIMARY KEY, holder text",
}
# Ends of statements are the semicolons outside of these.
_TOKENS = re.compile(
    r"(?P<comment>--[^\n]*|//[^\n]*|/\*.*?\*/)|(?P<text>'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|\$\$.*?\$\$)|(?P<end>;)|.",
    re.DOTALL,
)
_DEFINES = re.compile(r"(?i)(CREATE|ALTER|DROP)\b")
_AGAIN = re.compile(r"(?i)\bIF\s+(NOT\s+)?EXISTS\b")
# Options of a table are set, which may be done again.
_SETS = re.compile(r"(?i)ALTER\s+TABLE\s+\w+\s+WITH\b")

_log = structlog.stdlib.get_logger("mesh.db.migrations")


def split_cql(script: str) -> list[str]:
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
        if _DEFINES.match(statement) and not (_AGAIN.search(statement) or _SETS.match(statement)):
            raise MigrationError(f"a statement needs IF [NOT] EXISTS, to be done again after a crash: {statement[:80]}")
    return [statement for statement in statements if statement]


async def migrate_cassandra(url: str, migrations: Sequence[Migration], *, unfinished: bool = False) -> list[str]:
    """See `mesh.db.migrations.migrate`. The keyspace is made if it is missing, with as many replicas as the URL says.

    Raises:
        MigrationError: a file does not fit, or a statement failed. What came before it in the file stays.
        Unavailable: the cluster is away, its nodes do not agree, or another process migrates for too long.
    """
    address = Address.parse(url)
    steps = [(migration, split_cql(migration.sql)) for migration in migrations]
    cluster = driver_cluster(address, LoopConnection.on(asyncio.get_running_loop()))
    try:
        return await asyncio.to_thread(_Run(address, cluster, unfinished).apply, steps)
    except Exception as error:
        known = told(error)
        if known is error:
            raise
        raise Unavailable(f"the database cannot be migrated now: {short(error)}") from error
    finally:
        await asyncio.to_thread(cluster.shutdown)


class _Run:
    """In a thread: the driver waits there for the loop, and nothing else runs on this cluster object."""

    def __init__(self, address: Address, cluster: Cluster, unfinished: bool) -> None:
        self._address = address
        self._unfinished = unfinished
        self._cluster = cluster
        self._holder = secrets.token_hex(8)
        self._session: Session

    def apply(self, steps: Sequence[tuple[Migration, list[str]]]) -> list[str]:
        self._session = self._cluster.connect()
        keyspace = self._address.keyspace
        if not self._ask("SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = %s", keyspace):
            where = self._address.datacentre or "replication_factor"
            self._define(
                f'CREATE KEYSPACE IF NOT EXISTS "{keyspace}" WITH replication ='
                f" {{'class': 'NetworkTopologyStrategy', '{where}': {self._address.replicas}}}"
            )
        self._settled(lambda: self._session.set_keyspace(keyspace))
        there = {
            row[0]
            for row in self._ask("SELECT table_name FROM system_schema.tables WHERE keyspace_name = %s", keyspace)
        }
        for table, columns in _TABLES.items():
            if table not in there:
                # Nodes that make a table at the same moment give it two ids, and keep disagreeing. With one given they
                # agree.
                number = uuid.uuid5(uuid.NAMESPACE_URL, f"cassandra:{keyspace}/{table}")
                self._define(f"CREATE TABLE IF NOT EXISTS {table} ({columns}) WITH id = {number}")
        self._agree()
        self._settled(lambda: self._ask("SELECT holder FROM schema_lock WHERE name = 'migrate'"))
        self._settled(lambda: self._next(steps))
        if not self._unfinished:
            check_whole(next(iter(self._ask("SELECT name FROM schema_lock WHERE name = %s", UNFINISHED)), None))
        if self._next(steps) is None:  # most often nothing is to be done, and nobody needs the lock for that
            return []
        self._lock()
        try:
            done: list[str] = []
            while (step := self._next(steps)) is not None:
                migration, statements = step
                for statement in statements:
                    self._hold()
                    self._one(migration, statement)
                self._hold()
                self._ask(
                    "INSERT INTO schema_migrations (part, number, name, sha256, applied_ms)"
                    " VALUES ('schema', %s, %s, %s, %s)",
                    *(migration.number, migration.name, migration.sha256, time.time_ns() // 1_000_000),
                )
                done.append(migration.name)
            return done
        finally:
            self._ask("DELETE FROM schema_lock WHERE name = 'migrate' IF holder = %s", self._holder)

    def _next(self, steps: Sequence[tuple[Migration, list[str]]]) -> tuple[Migration, list[str]] | None:
        rows = self._ask("SELECT number, name, sha256 FROM schema_migrations WHERE part = 'schema'")
        found = next_migration({row[0]: (row[1], row[2]) for row in rows}, [migration for migration, _ in steps])
        return next((step for step in steps if step[0] is found), None)

    def _one(self, migration: Migration, statement: str) -> None:
        try:
            if _DEFINES.match(statement):
                self._define(statement)
                self._agree()
            else:
                self._ask(statement)
        except Exception as error:
            if told(error) is not error or isinstance(error, Unavailable):
                raise
            raise MigrationError(f"{migration.name}: {short(error)}") from error

    def _ask(self, cql: str, *values: object) -> list[Any]:
        statement = SimpleStatement(
            cql,
            consistency_level=ConsistencyLevel.LOCAL_QUORUM,
            serial_consistency_level=ConsistencyLevel.LOCAL_SERIAL,
        )
        return list(self._session.execute(statement, values or None, timeout=_STATEMENT_S))

    def _define(self, cql: str) -> None:
        self._session.execute(cql, timeout=_STATEMENT_S)

    def _agree(self) -> None:
        """Wait until all nodes have the same schema. Raises the driver's own error when they have not."""
        self._cluster.refresh_keyspace_metadata(self._address.keyspace, max_schema_agreement_wait=_AGREE_S)

    def _settled(self, ask: Callable[[], object]) -> None:
        """What another process makes at this moment is listed a little before it is there: ask until it is."""
        until = time.monotonic() + _AGREE_S
        while True:
            try:
                ask()
            except InvalidRequest:
                if time.monotonic() > until:
                    raise
                time.sleep(_POLL_S)
            else:
                return

    def _lock(self) -> None:
        self._wait(
            lambda: self._ask(
                "INSERT INTO schema_lock (name, holder) VALUES ('migrate', %s) IF NOT EXISTS USING TTL %s",
                *(self._holder, _HOLD_S),
            )
        )

    def _wait(self, ask: Callable[[], list[Any]]) -> None:
        until = time.monotonic() + _WAIT_S
        while not ask()[0][0]:
            if time.monotonic() > until:
                raise Unavailable("another process migrates for too long")
            time.sleep(_POLL_S)  # nothing tells of the end of a row

    def _hold(self) -> None:
        """Go on holding the lock. Raises Unavailable when it was lost."""
        held = self._ask(
            "UPDATE schema_lock USING TTL %s SET holder = %s WHERE name = 'migrate' IF holder = %s",
            *(_HOLD_S, self._holder, self._holder),
        )
        if not held[0][0]:
            raise Unavailable("another process began to migrate, as this one took too long")
