"""A SQL store as an end of a copy: a kind is a table, its fields are the columns."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import bindparam, text
from sqlalchemy.exc import DBAPIError

from mesh.db.migrations import UNFINISHED, load_migrations, migrate
from mesh.db.sql import Database, Tx, Unit
from mesh.transfer.base import EVENTS, Holder, Kind, Page, Record, TransferError, Type, Value, check_schema

_OPEN_S = 10.0
_PAGE_S = 60.0  # a page is some milliseconds; what is slow is another's lock, or a disk
_TABLE_S = 3_600.0  # counting or deleting a whole table
_KNOWN_EVENTS = text("SELECT event_id FROM outbox WHERE event_id IN :ids").bindparams(bindparam("ids", expanding=True))


class SqlTransfer:
    """mesh.transfer.base.Transfer of a database with the tables of the outbox and of leases.

    Args:
        db: the database, migrated.
        kinds: of the service, without EVENTS.
        settle: see Transfer.
    """

    def __init__(
        self, db: Database, kinds: Sequence[Kind], settle: Callable[[Database], Awaitable[None]] | None = None
    ) -> None:
        self._db = db
        self._kinds = (*kinds, EVENTS)
        self._settle = settle

    @classmethod
    async def open(
        cls,
        url: str,
        schemas: Path,
        kinds: Sequence[Kind],
        *,
        target: bool,
        settle: Callable[[Database], Awaitable[None]] | None = None,
    ) -> SqlTransfer:
        """The store behind a URL.

        Args:
            url: as for `Database.open`.
            schemas: the folder with the service's schemas, `sql` for SQLite and `postgresql`.
            kinds: of the service, without EVENTS.
            target: whether it is written to: then its schema is brought up to date. A source's must be.
            settle: see Transfer.

        Raises:
            TransferError: a source whose schema is older or newer than the folder.
            MigrationError, Unavailable, ValueError: as `migrate` and `Database.open`.
        """
        schema = schemas / ("postgresql" if url.startswith("postgresql") else "sql")
        if target:
            await migrate(url, schema, unfinished=True)
        db = await Database.open(url, deadline=_OPEN_S)
        try:
            check_schema(await db.read(_steps), [step.name for step in load_migrations(schema)])
        except BaseException:
            await db.close()
            raise
        return cls(db, kinds, settle)

    @property
    def kinds(self) -> Sequence[Kind]:
        """See Transfer."""
        return self._kinds

    async def holders(self) -> Sequence[Holder]:
        """See Transfer."""
        now = {"now": time.time_ns() // 1_000_000}

        async def unit(tx: Tx) -> list[Holder]:
            rows = await tx.execute(
                "SELECT holder, expires_ms FROM worker_leases WHERE expires_ms > :now"
                " UNION ALL SELECT holder, expires_ms FROM outbox_lease WHERE expires_ms > :now",
                now,
            )
            return [Holder(row.holder, row.expires_ms) for row in rows.all()]

        return await self._db.read(unit)

    async def settle(self) -> None:
        """See Transfer."""
        if self._settle is not None:
            await self._settle(self._db)

    async def count(self, kind: Kind) -> int | None:
        """See Transfer."""

        async def unit(tx: Tx) -> int:
            return int(await tx.scalar(f"SELECT COUNT(*) FROM {_table(kind)}"))

        return await self._db.read(unit, deadline=_TABLE_S)

    async def read(self, kind: Kind, after: str, limit: int) -> Page:
        """See Transfer."""
        if kind is EVENTS:
            return await self._read_events(after, limit)
        key = ", ".join(kind.key)
        bounds, where = _unpacked(after), ""
        if after:
            where = f" WHERE ({key}) > ({', '.join(f':after{i}' for i in range(len(kind.key)))})"
        query = f"SELECT {', '.join(kind.fields)} FROM {kind.name}{where} ORDER BY {key} LIMIT :limit"
        params: dict[str, Any] = {"limit": limit, **{f"after{i}": part for i, part in enumerate(bounds)}}

        async def unit(tx: Tx) -> list[Record]:
            types = list(kind.fields.values())
            return [
                tuple(_plain(value, type_) for value, type_ in zip(row, types, strict=True))
                for row in (await tx.execute(query, params)).all()
            ]

        records = await self._db.read(unit, deadline=_PAGE_S)
        return Page(records, _packed(kind.key_of(records[-1])) if len(records) == limit else "")

    async def _read_events(self, after: str, limit: int) -> Page:
        """In the order of their numbers, which for a key is that of commits."""
        query = f"SELECT id, {', '.join(EVENTS.fields)} FROM outbox WHERE id > :after ORDER BY id LIMIT :limit"

        async def unit(tx: Tx) -> tuple[list[Record], int]:
            rows = (await tx.execute(query, {"after": int(after or 0), "limit": limit})).all()
            types = list(EVENTS.fields.values())
            records = [tuple(_plain(value, type_) for value, type_ in zip(row[1:], types, strict=True)) for row in rows]
            return records, rows[-1].id if rows else 0

        records, last = await self._db.read(unit, deadline=_PAGE_S)
        return Page(records, str(last) if len(records) == limit else "")

    async def write(self, kind: Kind, records: Sequence[Record]) -> None:
        """See Transfer."""
        if not records:
            return
        try:
            await self._write(kind, records)
        except DBAPIError as error:
            if len(records) == 1:
                raise TransferError(f"{kind.name} {_shown(kind, records[0])} cannot be stored: {error.orig}") from error
            for record in records:  # which one?
                await self.write(kind, [record])

    async def _write(self, kind: Kind, records: Sequence[Record]) -> None:
        rows: list[dict[str, Value]] = [dict(zip(kind.fields, record, strict=True)) for record in records]
        names = ", ".join(kind.fields)
        values = ", ".join(f":{name}" for name in kind.fields)
        changed = ", ".join(f"{name} = excluded.{name}" for name in kind.fields if name not in kind.key)
        upsert = (
            f"INSERT INTO {kind.name} ({names}) VALUES ({values}) ON CONFLICT ({', '.join(kind.key)})"
            f" DO {f'UPDATE SET {changed}' if changed else 'NOTHING'}"
        )

        async def unit(tx: Tx) -> None:
            await tx.execute(upsert, rows)

        async def events(tx: Tx) -> None:
            known = set((await tx.execute(_KNOWN_EVENTS, {"ids": [row["event_id"] for row in rows]})).scalars())
            new = [row for row in rows if row["event_id"] not in known]
            if new:
                now = {"created_ms": time.time_ns() // 1_000_000}
                insert = f"INSERT INTO outbox ({names}, created_ms) VALUES ({values}, :created_ms)"
                await tx.execute(insert, [row | now for row in new])

        await self._db.write(events if kind is EVENTS else unit, deadline=_PAGE_S, blind=True)

    async def progress(self) -> str:
        """See Transfer."""

        async def unit(tx: Tx) -> str:
            if not await tx.scalar(_THERE[tx.dialect], {"name": UNFINISHED}):
                return ""
            return str(await tx.scalar(f"SELECT progress FROM {UNFINISHED}") or "")

        return await self._db.read(unit)

    async def save(self, progress: str) -> None:
        """See Transfer."""

        async def unit(tx: Tx) -> None:
            await tx.execute(f"CREATE TABLE IF NOT EXISTS {UNFINISHED} (id BIGINT PRIMARY KEY, progress TEXT NOT NULL)")
            await tx.execute(
                f"INSERT INTO {UNFINISHED} (id, progress) VALUES (1, :progress)"
                " ON CONFLICT (id) DO UPDATE SET progress = excluded.progress",
                {"progress": progress},
            )

        await self._db.write(unit, deadline=_PAGE_S)

    async def finish(self) -> None:
        """See Transfer."""

        async def unit(tx: Tx) -> None:
            await tx.execute(f"DROP TABLE IF EXISTS {UNFINISHED}")

        await self._db.write(unit, deadline=_PAGE_S)

    async def clear(self) -> None:
        """See Transfer."""
        for kind in reversed(self._kinds):
            await self._db.write(_delete_from(_table(kind)), deadline=_TABLE_S, blind=True)

    async def close(self) -> None:
        """See Transfer."""
        await self._db.close()


_THERE = {
    "sqlite": "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = :name",
    "postgresql": "SELECT 1 FROM pg_tables WHERE schemaname = current_schema() AND tablename = :name",
}


async def applied_steps(url: str) -> list[str]:
    """Names of the schema's steps that a database has, in their order; none for one that was never migrated.

    Raises as `Database.open` does.
    """
    db = await Database.open(url, deadline=_OPEN_S)
    try:
        return await db.read(_steps)
    finally:
        await db.close()


async def _steps(tx: Tx) -> list[str]:
    if not await tx.scalar(_THERE[tx.dialect], {"name": "schema_migrations"}):
        return []
    return list((await tx.execute("SELECT name FROM schema_migrations ORDER BY number")).scalars())


def _table(kind: Kind) -> str:
    return "outbox" if kind is EVENTS else kind.name


def _delete_from(table: str) -> Unit[None]:
    async def unit(tx: Tx) -> None:
        await tx.execute(f"DELETE FROM {table}")

    return unit


def _plain(value: Any, type_: Type) -> Value:
    """A column's value as every adapter has it."""
    if value is None:
        return None
    if type_ is Type.BOOLEAN:
        return bool(value)  # SQLite has numbers
    return bytes(value) if type_ is Type.BYTES else value


def _packed(key: Sequence[Value]) -> str:
    """A key as text. Bytes are marked, as JSON has none."""
    return json.dumps([{"bytes": part.hex()} if isinstance(part, bytes) else part for part in key])


def _unpacked(text_: str) -> list[Value]:
    parts = json.loads(text_) if text_ else []
    return [bytes.fromhex(part["bytes"]) if isinstance(part, dict) else part for part in parts]


def _shown(kind: Kind, record: Record) -> str:
    return ", ".join(f"{name} {value!r}" for name, value in zip(kind.key, kind.key_of(record), strict=True))
