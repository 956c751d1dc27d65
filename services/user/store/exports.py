"""Exports and erasures: the port, and its SQL adapter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from google.protobuf.message import Message
from sqlalchemy import bindparam, text

from mesh.db.sql import Database, Tx
from mesh.outbox.sql import SqlOutbox
from services.user.store.sql import TOPIC, end_sessions

WAITING, READY, FAILED = "waiting", "ready", "failed"
_EXPORT = "id, user_id, status, progress, attempts, finished_ms, expires_ms, size"
_OF_A_PERSON = (
    "user_roles",
    "user_words",
    "mails",
    "mail_tokens",
    "known_addresses",
    "recovery_codes",
    "second_factors",
)
"""Tables whose rows of a person go with them."""
_KNOWN = text("SELECT id FROM exports WHERE id IN :ids").bindparams(bindparam("ids", expanding=True))


@dataclass(frozen=True, slots=True)
class StoredExport:
    """One archive, made or being made."""

    id: int
    """Snowflake id."""
    user_id: int
    """Whose."""
    status: str
    """WAITING, READY or FAILED."""
    progress: int
    """0 to 100."""
    attempts: int
    """How often making it failed for a reason of its own."""
    finished_ms: int
    """When it was ready or given up; 0 for not yet."""
    expires_ms: int
    """When it is deleted; 0 while it waits."""
    size: int
    """Bytes; 0 until it is ready."""


@dataclass(frozen=True, slots=True)
class OwnSession:
    """A session, for its person's archive."""

    created_ms: int
    """When it began."""
    expires_ms: int
    """When it ends."""
    client_id: str
    """The client that was let in; empty for a sign-in of the person's own."""
    scope: str
    """What it may do."""


@dataclass(frozen=True, slots=True)
class OwnClient:
    """A client that the person registered."""

    id: str
    """Its id."""
    name: str
    """Its name."""
    redirect_uris: tuple[str, ...]
    """Where people may be sent back to."""
    created_ms: int
    """When it was registered."""


@dataclass(frozen=True, slots=True)
class OwnData:
    """What this store has of a person, for their archive."""

    columns: dict[str, Any]
    """The person's row, but for the password and what is derived from other columns."""
    sessions: list[OwnSession]
    """The oldest first; 1,000 at most."""
    clients: list[OwnClient]
    """The oldest first."""


@dataclass(frozen=True, slots=True)
class Erased:
    """Somebody who is not there any more."""

    username_key: str
    """The folded username, which is free again."""
    export_ids: list[int]
    """Archives whose objects are to be deleted."""


class ExportStore(Protocol):
    """Exports and erasures. All raise Unavailable."""

    async def begin(self, export_id: int, user_id: int, *, finished_after_ms: int) -> StoredExport | None:
        """Adds an export that waits; gives the one instead that waits already, or was ready after that time.

        None when there is nobody of that id.
        """
        ...

    async def by_id(self, export_id: int) -> StoredExport | None:
        """One."""
        ...

    async def of_user(self, user_id: int, limit: int) -> list[StoredExport]:
        """A person's, the newest first."""
        ...

    async def claim(self, holder: str, *, now_ms: int, until_ms: int) -> StoredExport | None:
        """Takes the oldest that waits and that nobody makes, for the time given; None when there is none."""
        ...

    async def renew(self, export_id: int, holder: str, *, progress: int, until_ms: int) -> bool:
        """Notes progress and keeps the claim; False when it is another's by now, or the export is gone."""
        ...

    async def put_off(self, export_id: int, holder: str, *, until_ms: int, failed: bool) -> None:
        """Gives a claim back; nobody takes it before then. `failed` counts an attempt."""
        ...

    async def finish(
        self, export_id: int, holder: str, status: str, *, size: int, now_ms: int, expires_ms: int
    ) -> bool:
        """Ends the making of one; False as `renew`."""
        ...

    async def expired(self, now_ms: int, limit: int) -> list[int]:
        """Ids of some whose time is over."""
        ...

    async def remove(self, export_id: int) -> None:
        """Deletes one."""
        ...

    async def known(self, ids: Sequence[int]) -> set[int]:
        """Those of the ids that exports have."""
        ...

    async def own_data(self, user_id: int) -> OwnData | None:
        """What this store has of a person; None when they are gone."""
        ...

    async def erase(self, user_id: int, event: Message, *, until_ms: int) -> Erased | None:
        """Deletes a person and all that this store has of them but a note that they go, which ends then.

        None when there is nobody.
        """
        ...

    async def erasures_over(self, now_ms: int, limit: int) -> list[int]:
        """People whose note ends now."""
        ...

    async def forget_erasure(self, user_id: int, event: Message) -> None:
        """Deletes the note and tells the others a last time."""
        ...


class SqlExportStore:
    """ExportStore in SQL."""

    def __init__(self, db: Database, outbox: SqlOutbox) -> None:
        self._db = db
        self._outbox = outbox

    async def begin(self, export_id: int, user_id: int, *, finished_after_ms: int) -> StoredExport | None:
        """See ExportStore."""

        async def unit(tx: Tx) -> StoredExport | None:
            there = (
                await tx.execute(
                    f"SELECT {_EXPORT} FROM exports WHERE user_id = :user AND"
                    " (status = 'waiting' OR (status = 'ready' AND finished_ms > :after)) ORDER BY id DESC LIMIT 1",
                    {"user": user_id, "after": finished_after_ms},
                )
            ).first()
            made = (
                there
                or (
                    await tx.execute(
                        "INSERT INTO exports (id, user_id) SELECT :id, id FROM users WHERE id = :user"
                        f" RETURNING {_EXPORT}",
                        {"id": export_id, "user": user_id},
                    )
                ).first()
            )
            return None if made is None else _export(made)

        return await self._db.write(unit)

    async def by_id(self, export_id: int) -> StoredExport | None:
        """See ExportStore."""

        async def unit(tx: Tx) -> StoredExport | None:
            row = (await tx.execute(f"SELECT {_EXPORT} FROM exports WHERE id = :id", {"id": export_id})).first()
            return None if row is None else _export(row)

        return await self._db.read(unit)

    async def of_user(self, user_id: int, limit: int) -> list[StoredExport]:
        """See ExportStore."""

        async def unit(tx: Tx) -> list[StoredExport]:
            rows = await tx.execute(
                f"SELECT {_EXPORT} FROM exports WHERE user_id = :user ORDER BY id DESC LIMIT :limit",
                {"user": user_id, "limit": limit},
            )
            return [_export(row) for row in rows.all()]

        return await self._db.read(unit)

    async def claim(self, holder: str, *, now_ms: int, until_ms: int) -> StoredExport | None:
        """See ExportStore."""
        params = {"holder": holder, "now": now_ms, "until": until_ms}
        free = "SELECT id FROM exports WHERE status = 'waiting' AND lease_ms < :now ORDER BY id LIMIT 1"

        async def look(tx: Tx) -> int | None:
            found: int | None = await tx.scalar(free, {"now": now_ms})
            return found

        async def unit(tx: Tx) -> StoredExport | None:
            row = (
                await tx.execute(
                    "UPDATE exports SET holder = :holder, lease_ms = :until, progress = 0"
                    f" WHERE id = ({free}) RETURNING {_EXPORT}",
                    params,
                )
            ).first()
            return None if row is None else _export(row)

        if await self._db.read(look) is None:  # most of the time: a write would be an fsync a second for nothing
            return None
        return await self._db.write(unit)

    async def renew(self, export_id: int, holder: str, *, progress: int, until_ms: int) -> bool:
        """See ExportStore."""
        return await self._held(
            "progress = :progress, lease_ms = :until",
            {"id": export_id, "holder": holder, "progress": progress, "until": until_ms},
        )

    async def put_off(self, export_id: int, holder: str, *, until_ms: int, failed: bool) -> None:
        """See ExportStore."""
        await self._held(
            "holder = '', progress = 0, lease_ms = :until, attempts = attempts + :failed",
            {"id": export_id, "holder": holder, "until": until_ms, "failed": int(failed)},
        )

    async def finish(
        self, export_id: int, holder: str, status: str, *, size: int, now_ms: int, expires_ms: int
    ) -> bool:
        """See ExportStore."""
        return await self._held(
            "status = :status, size = :size, finished_ms = :now, expires_ms = :expires, holder = '',"
            " progress = CASE :status WHEN 'ready' THEN 100 ELSE progress END",
            {
                "id": export_id,
                "holder": holder,
                "status": status,
                "size": size,
                "now": now_ms,
                "expires": expires_ms,
            },
        )

    async def _held(self, assignments: str, params: dict[str, Any]) -> bool:
        async def unit(tx: Tx) -> bool:
            done = await tx.execute(
                f"UPDATE exports SET {assignments} WHERE id = :id AND holder = :holder AND status = 'waiting'", params
            )
            return done.rowcount == 1

        return await self._db.write(unit)

    async def expired(self, now_ms: int, limit: int) -> list[int]:
        """See ExportStore."""

        async def unit(tx: Tx) -> list[int]:
            rows = await tx.execute(
                "SELECT id FROM exports WHERE expires_ms > 0 AND expires_ms <= :now LIMIT :limit",
                {"now": now_ms, "limit": limit},
            )
            return [row.id for row in rows.all()]

        return await self._db.read(unit)

    async def remove(self, export_id: int) -> None:
        """See ExportStore."""

        async def unit(tx: Tx) -> None:
            await tx.execute("DELETE FROM exports WHERE id = :id", {"id": export_id})

        await self._db.write(unit)

    async def known(self, ids: Sequence[int]) -> set[int]:
        """See ExportStore."""

        async def unit(tx: Tx) -> set[int]:
            return {row.id for row in (await tx.execute(_KNOWN, {"ids": list(ids)})).all()}

        return await self._db.read(unit) if ids else set()

    async def own_data(self, user_id: int) -> OwnData | None:
        """See ExportStore."""

        async def unit(tx: Tx) -> OwnData | None:
            row = (
                await tx.execute(
                    "SELECT id, username, email, claim_key = '' AS email_verified, name, description, location, url,"
                    " language, country, protected,"
                    " verified, suspended, pinned_tweet_id, followers_count, following_count, tweet_count, like_count,"
                    " listed_count, deactivated_ms, EXISTS (SELECT 1 FROM second_factors WHERE user_id = :id"
                    " AND confirmed_ms > 0) AS second_factor FROM users WHERE id = :id",
                    {"id": user_id},
                )
            ).first()
            if row is None:
                return None
            sessions = await tx.execute(
                "SELECT created_ms, expires_ms, client_id, scope FROM sessions WHERE user_id = :id"
                " ORDER BY created_ms LIMIT 1000",
                {"id": user_id},
            )
            clients = await tx.execute(
                "SELECT id, name, redirect_uris, created_ms FROM clients WHERE owner_id = :id ORDER BY created_ms, id",
                {"id": user_id},
            )
            return OwnData(
                row._asdict(),
                [OwnSession(one.created_ms, one.expires_ms, one.client_id, one.scope) for one in sessions.all()],
                [
                    OwnClient(one.id, one.name, tuple(one.redirect_uris.split()), one.created_ms)
                    for one in clients.all()
                ],
            )

        return await self._db.read(unit)

    async def erase(self, user_id: int, event: Message, *, until_ms: int) -> Erased | None:
        """See ExportStore."""
        whose = {"id": user_id}

        async def unit(tx: Tx) -> Erased | None:
            key = await tx.scalar("SELECT username_key FROM users WHERE id = :id", whose)
            if key is None:
                return None
            gone = await tx.execute("DELETE FROM exports WHERE user_id = :id RETURNING id", whose)
            export_ids = [row.id for row in gone.all()]
            # Of other people too, at clients that were this one's.
            clients = "(SELECT clients.id FROM clients WHERE owner_id = :id)"
            await end_sessions(tx, f"user_id = :id OR (client_id <> '' AND client_id IN {clients})", whose)
            await tx.execute(f"DELETE FROM grants WHERE user_id = :id OR client_id IN {clients}", whose)
            await tx.execute("DELETE FROM clients WHERE owner_id = :id", whose)
            for table in _OF_A_PERSON:
                await tx.execute(f"DELETE FROM {table} WHERE user_id = :id", whose)
            await tx.execute("DELETE FROM users WHERE id = :id", whose)
            await tx.execute(
                "INSERT INTO erasures (user_id, until_ms) VALUES (:id, :until)", {**whose, "until": until_ms}
            )
            await self._publish(tx, user_id, event)
            return Erased(key, export_ids)

        return await self._db.write(unit)

    async def erasures_over(self, now_ms: int, limit: int) -> list[int]:
        """See ExportStore."""

        async def unit(tx: Tx) -> list[int]:
            rows = await tx.execute(
                "SELECT user_id FROM erasures WHERE until_ms <= :now LIMIT :limit", {"now": now_ms, "limit": limit}
            )
            return [row.user_id for row in rows.all()]

        return await self._db.read(unit)

    async def forget_erasure(self, user_id: int, event: Message) -> None:
        """See ExportStore."""

        async def unit(tx: Tx) -> None:
            done = await tx.execute("DELETE FROM erasures WHERE user_id = :id", {"id": user_id})
            if done.rowcount:
                await self._publish(tx, user_id, event)

        await self._db.write(unit)

    async def _publish(self, tx: Tx, user_id: int, event: Message) -> None:
        await self._outbox.add(tx, TOPIC, str(user_id).encode(), event.DESCRIPTOR.full_name, event.SerializeToString())


def _export(row: Any) -> StoredExport:
    return StoredExport(
        id=row.id,
        user_id=row.user_id,
        status=row.status,
        progress=row.progress,
        attempts=row.attempts,
        finished_ms=row.finished_ms,
        expires_ms=row.expires_ms,
        size=row.size,
    )
