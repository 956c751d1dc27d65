"""Lists of people in SQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rookery.events.v1.graph_events_pb2 import ListedCountChanged
from sqlalchemy import bindparam, text

from mesh.db.sql import Database, Tx
from mesh.errors import PermissionDenied
from mesh.outbox.sql import SqlOutbox
from services.graph.domain import TOPIC
from services.graph.list_domain import MAX_FOLLOWED, MAX_MEMBERS, MAX_OWNED, MAX_PINNED, PeopleList, no_list
from services.graph.store.base import Edge
from services.graph.store.lists import Listing

_MAX_ID = 2**63 - 1
_LIST = "l.list_id, l.owner_id, l.name, l.description, l.private, l.member_count, l.follower_count"
_BY_IDS = text(f"SELECT {_LIST} FROM lists l WHERE l.list_id IN :ids AND NOT l.gone").bindparams(
    bindparam("ids", expanding=True)
)
_COUNT_MEMBERS = text(
    "UPDATE list_members SET counted = :counted WHERE list_id = :list AND user_id IN :users"
).bindparams(bindparam("users", expanding=True))
_FEWER_MEMBERS = text("UPDATE lists SET member_count = member_count - 1 WHERE list_id IN :ids").bindparams(
    bindparam("ids", expanding=True)
)
_FEWER_FOLLOWERS = text("UPDATE lists SET follower_count = follower_count - 1 WHERE list_id IN :ids").bindparams(
    bindparam("ids", expanding=True)
)
_BETWEEN = "user_id = :user AND list_id IN (SELECT list_id FROM lists WHERE owner_id = :owner AND NOT gone)"


def _people_list(row: Any) -> PeopleList:
    return PeopleList(
        id=row.list_id,
        owner_id=row.owner_id,
        name=row.name,
        description=row.description,
        private=bool(row.private),
        member_count=row.member_count,
        follower_count=row.follower_count,
    )


async def _count_listed(tx: Tx, outbox: SqlOutbox, user_id: int, step: int) -> None:
    row = (
        await tx.execute(
            "INSERT INTO people (user_id, listed_count, version) VALUES (:id, :first, 1)"
            " ON CONFLICT (user_id) DO UPDATE SET listed_count = people.listed_count + :step,"
            " version = people.version + 1 RETURNING listed_count, version",
            {"id": user_id, "first": max(step, 0), "step": step},
        )
    ).one()
    event = ListedCountChanged(user_id=user_id, listed_count=row.listed_count, version=row.version)
    await outbox.add(tx, TOPIC, str(user_id).encode(), event.DESCRIPTOR.full_name, event.SerializeToString())


async def cut_lists(tx: Tx, outbox: SqlOutbox, one_id: int, other_id: int) -> None:
    """Takes each of two people off the other's lists, and out of their followers: part of a block's unit of work.

    An owner has 1,000 lists at most, so this is bounded.
    """
    for owner, user in sorted([(one_id, other_id), (other_id, one_id)]):
        pair = {"owner": owner, "user": user}
        members = (
            await tx.execute(f"DELETE FROM list_members WHERE {_BETWEEN} RETURNING list_id, counted", pair)
        ).all()
        if members:
            await tx.execute(_FEWER_MEMBERS, {"ids": [row.list_id for row in members]})
        if counted := sum(bool(row.counted) for row in members):
            await _count_listed(tx, outbox, user, -counted)
        follows = (await tx.execute(f"DELETE FROM list_follows WHERE {_BETWEEN} RETURNING list_id", pair)).all()
        if follows:
            await tx.execute(_FEWER_FOLLOWERS, {"ids": [row.list_id for row in follows]})
        await tx.execute(f"DELETE FROM list_pins WHERE {_BETWEEN}", pair)


class SqlListStore:
    """services.graph.store.lists.ListStore."""

    def __init__(self, db: Database, outbox: SqlOutbox) -> None:
        self._db = db
        self._outbox = outbox

    async def create(self, new: PeopleList, request_id: str = "") -> PeopleList:
        """See ListStore."""

        async def unit(tx: Tx) -> PeopleList:
            made = (
                await tx.execute(
                    f"SELECT {_LIST} FROM lists l WHERE l.list_id = :id"
                    " OR (l.owner_id = :owner AND l.request_id = :request AND l.request_id <> '')",
                    {"id": new.id, "owner": new.owner_id, "request": request_id},
                )
            ).first()
            if made is not None:
                return _people_list(made)
            await tx.execute(
                "INSERT INTO lists (list_id, owner_id, name, description, private, request_id)"
                " VALUES (:id, :owner, :name, :description, :private, :request)",
                {
                    "id": new.id,
                    "owner": new.owner_id,
                    "name": new.name,
                    "description": new.description,
                    "private": new.private,
                    "request": request_id,
                },
            )
            query = "SELECT COUNT(*) FROM lists WHERE owner_id = :owner AND NOT gone"
            if (await tx.scalar(query, {"owner": new.owner_id}) or 0) > MAX_OWNED:
                raise PermissionDenied(f"You may have {MAX_OWNED} lists at most.", reason="LISTS_TOO_MANY")
            return new

        return await self._db.write(unit)

    async def update(
        self, list_id: int, owner_id: int, *, name: str | None, description: str | None, private: bool | None
    ) -> None:
        """See ListStore."""

        async def unit(tx: Tx) -> None:
            row = (
                await tx.execute(
                    "SELECT private FROM lists WHERE list_id = :id AND owner_id = :owner AND NOT gone",
                    {"id": list_id, "owner": owner_id},
                )
            ).first()
            if row is None:
                raise no_list(list_id)
            await tx.execute(
                "UPDATE lists SET name = COALESCE(:name, name), description = COALESCE(:description, description),"
                " private = COALESCE(:private, private) WHERE list_id = :id",
                {"id": list_id, "name": name, "description": description, "private": private},
            )
            if private is not None and private != bool(row.private):
                await self._unsettle(tx, list_id)

        await self._db.write(unit)

    async def delete(self, list_id: int, owner_id: int) -> bool:
        """See ListStore."""

        async def unit(tx: Tx) -> bool:
            pair = {"id": list_id, "owner": owner_id}
            done = await tx.execute(
                "UPDATE lists SET gone = TRUE, name = '', description = '', member_count = 0, follower_count = 0"
                " WHERE list_id = :id AND owner_id = :owner AND NOT gone",
                pair,
            )
            if done.rowcount:
                await self._unsettle(tx, list_id)
                return True
            query = "SELECT 1 FROM lists WHERE list_id = :id AND owner_id = :owner"
            return await tx.scalar(query, pair) is not None

        return await self._db.write(unit)

    async def _unsettle(self, tx: Tx, list_id: int) -> None:
        await tx.execute(
            "INSERT INTO lists_unsettled (list_id) VALUES (:id) ON CONFLICT (list_id) DO NOTHING", {"id": list_id}
        )

    async def by_ids(self, list_ids: Sequence[int]) -> list[PeopleList]:
        """See ListStore."""

        async def unit(tx: Tx) -> list[PeopleList]:
            return [_people_list(row) for row in (await tx.execute(_BY_IDS, {"ids": list(list_ids)})).all()]

        return await self._db.read(unit) if list_ids else []

    async def owned(self, user_id: int, *, before: int, after: int, limit: int) -> list[Listing]:
        """See ListStore."""
        return await self._listings("lists l", "l.owner_id", "l.list_id", user_id, before, after, limit)

    async def followed(self, user_id: int, *, before: int, after: int, limit: int) -> list[Listing]:
        """See ListStore."""
        joined = "list_follows f JOIN lists l ON l.list_id = f.list_id"
        return await self._listings(joined, "f.user_id", "f.follow_id", user_id, before, after, limit)

    async def memberships(self, user_id: int, *, before: int, after: int, limit: int) -> list[Listing]:
        """See ListStore."""
        joined = "list_members m JOIN lists l ON l.list_id = m.list_id"
        return await self._listings(joined, "m.user_id", "m.member_id", user_id, before, after, limit)

    async def pinned(self, user_id: int, *, before: int, after: int, limit: int) -> list[Listing]:
        """See ListStore."""
        joined = "list_pins p JOIN lists l ON l.list_id = p.list_id"
        return await self._listings(joined, "p.user_id", "p.pin_id", user_id, before, after, limit)

    async def _listings(
        self, tables: str, near: str, key: str, user_id: int, before: int, after: int, limit: int
    ) -> list[Listing]:
        bound, order = (f"{key} > :after", "ASC") if after else (f"{key} < :before", "DESC")

        async def unit(tx: Tx) -> list[Listing]:
            rows = await tx.execute(
                f"SELECT {key} AS place, {_LIST} FROM {tables} WHERE {near} = :user AND {bound} AND NOT l.gone"
                f" ORDER BY {key} {order} LIMIT :limit",
                {"user": user_id, "limit": limit} | ({"after": after} if after else {"before": before or _MAX_ID}),
            )
            return [Listing(row.place, _people_list(row)) for row in rows.all()]

        return await self._db.read(unit)

    async def members(self, list_id: int, *, before: int, after: int, limit: int) -> list[Edge]:
        """See ListStore."""
        return await self._people("list_members", "member_id", list_id, before, after, limit)

    async def list_followers(self, list_id: int, *, before: int, after: int, limit: int) -> list[Edge]:
        """See ListStore."""
        return await self._people("list_follows", "follow_id", list_id, before, after, limit)

    async def _people(self, table: str, key: str, list_id: int, before: int, after: int, limit: int) -> list[Edge]:
        bound, order = (f"{key} > :after", "ASC") if after else (f"{key} < :before", "DESC")

        async def unit(tx: Tx) -> list[Edge]:
            rows = await tx.execute(
                f"SELECT {key} AS place, user_id FROM {table} WHERE list_id = :id AND {bound}"
                f" ORDER BY {key} {order} LIMIT :limit",
                {"id": list_id, "limit": limit} | ({"after": after} if after else {"before": before or _MAX_ID}),
            )
            return [Edge(row.place, row.user_id) for row in rows.all()]

        return await self._db.read(unit)

    async def member_ids(self, list_id: int) -> list[int]:
        """See ListStore."""

        async def unit(tx: Tx) -> list[int]:
            rows = await tx.execute(
                "SELECT user_id FROM list_members WHERE list_id = :id LIMIT :limit",
                {"id": list_id, "limit": MAX_MEMBERS},
            )
            return [row.user_id for row in rows.all()]

        return await self._db.read(unit)

    async def add_member(self, list_id: int, owner_id: int, user_id: int, member_id: int) -> bool:
        """See ListStore."""

        async def unit(tx: Tx) -> bool:
            private = await self._own(tx, list_id, owner_id)
            if await self._across_a_block(tx, owner_id, user_id):
                raise PermissionDenied("You may not add this account to a list.", reason="BLOCKED")
            done = await tx.execute(
                "INSERT INTO list_members (list_id, user_id, member_id, counted)"
                " VALUES (:list, :user, :id, :counted) ON CONFLICT (list_id, user_id) DO NOTHING",
                {"list": list_id, "user": user_id, "id": member_id, "counted": not private},
            )
            if done.rowcount == 0:
                return False
            count = await tx.scalar(
                "UPDATE lists SET member_count = member_count + 1 WHERE list_id = :id RETURNING member_count",
                {"id": list_id},
            )
            if count > MAX_MEMBERS:
                raise PermissionDenied(f"A list may have {MAX_MEMBERS} members at most.", reason="LIST_FULL")
            if not private:
                await _count_listed(tx, self._outbox, user_id, 1)
            return True

        return await self._db.write(unit)

    async def remove_member(self, list_id: int, owner_id: int, user_id: int) -> bool:
        """See ListStore."""

        async def unit(tx: Tx) -> bool:
            await self._own(tx, list_id, owner_id)
            row = (
                await tx.execute(
                    "DELETE FROM list_members WHERE list_id = :list AND user_id = :user RETURNING counted",
                    {"list": list_id, "user": user_id},
                )
            ).first()
            if row is None:
                return False
            await tx.execute(_FEWER_MEMBERS, {"ids": [list_id]})
            if row.counted:
                await _count_listed(tx, self._outbox, user_id, -1)
            return True

        return await self._db.write(unit)

    async def _own(self, tx: Tx, list_id: int, owner_id: int) -> bool:
        """Whether the owner's list is private. Raises NotFound when there is none such."""
        query = "SELECT private FROM lists WHERE list_id = :id AND owner_id = :owner AND NOT gone"
        row = (await tx.execute(query, {"id": list_id, "owner": owner_id})).first()
        if row is None:
            raise no_list(list_id)
        return bool(row.private)

    async def _across_a_block(self, tx: Tx, one_id: int, other_id: int) -> bool:
        query = (
            "SELECT 1 FROM blocks WHERE (blocker_id = :one AND blocked_id = :other)"
            " OR (blocker_id = :other AND blocked_id = :one)"
        )
        return await tx.scalar(query, {"one": one_id, "other": other_id}) is not None

    async def follow_list(self, list_id: int, user_id: int, follow_id: int) -> bool:
        """See ListStore."""

        async def unit(tx: Tx) -> bool:
            if not await self._keep(tx, "list_follows", "follow_id", list_id, user_id, follow_id):
                return False
            query = "SELECT COUNT(*) FROM list_follows WHERE user_id = :user"
            if (await tx.scalar(query, {"user": user_id}) or 0) > MAX_FOLLOWED:
                raise PermissionDenied(f"You may follow {MAX_FOLLOWED} lists at most.", reason="FOLLOWS_TOO_MANY")
            await tx.execute(
                "UPDATE lists SET follower_count = follower_count + 1 WHERE list_id = :id", {"id": list_id}
            )
            return True

        return await self._db.write(unit)

    async def unfollow_list(self, list_id: int, user_id: int) -> bool:
        """See ListStore."""

        async def unit(tx: Tx) -> bool:
            done = await tx.execute(
                "DELETE FROM list_follows WHERE list_id = :list AND user_id = :user",
                {"list": list_id, "user": user_id},
            )
            if done.rowcount == 0:
                return False
            # A deleted list has no followers left to count, though their rows are there for a moment more.
            await tx.execute(
                "UPDATE lists SET follower_count = follower_count - 1 WHERE list_id = :id AND NOT gone",
                {"id": list_id},
            )
            return True

        return await self._db.write(unit)

    async def pin(self, list_id: int, user_id: int, pin_id: int) -> bool:
        """See ListStore."""

        async def unit(tx: Tx) -> bool:
            if not await self._keep(tx, "list_pins", "pin_id", list_id, user_id, pin_id):
                return False
            query = (
                "SELECT COUNT(*) FROM list_pins p JOIN lists l ON l.list_id = p.list_id"
                " WHERE p.user_id = :user AND NOT l.gone AND (NOT l.private OR l.owner_id = :user)"
            )
            if (await tx.scalar(query, {"user": user_id}) or 0) > MAX_PINNED:
                raise PermissionDenied(f"You may pin {MAX_PINNED} lists at most.", reason="PINS_TOO_MANY")
            return True

        return await self._db.write(unit)

    async def _keep(self, tx: Tx, table: str, key: str, list_id: int, user_id: int, number: int) -> bool:
        """Adds a follow or a pin. False when it was there; raises NotFound for a list that does not show."""
        query = "SELECT owner_id, private FROM lists WHERE list_id = :id AND NOT gone"
        row = (await tx.execute(query, {"id": list_id})).first()
        if row is None or (row.private and row.owner_id != user_id):
            raise no_list(list_id)
        if await self._across_a_block(tx, row.owner_id, user_id):
            raise no_list(list_id)
        done = await tx.execute(
            f"INSERT INTO {table} (list_id, user_id, {key}) VALUES (:list, :user, :id)"
            " ON CONFLICT (list_id, user_id) DO NOTHING",
            {"list": list_id, "user": user_id, "id": number},
        )
        return done.rowcount > 0

    async def unpin(self, list_id: int, user_id: int) -> bool:
        """See ListStore."""

        async def unit(tx: Tx) -> bool:
            done = await tx.execute(
                "DELETE FROM list_pins WHERE list_id = :list AND user_id = :user", {"list": list_id, "user": user_id}
            )
            return done.rowcount > 0

        return await self._db.write(unit)

    async def settle(self, limit: int, after: int = 0) -> int:
        """See ListStore."""
        query = (
            "SELECT l.list_id, l.gone, l.private FROM lists_unsettled u JOIN lists l ON l.list_id = u.list_id"
            " WHERE u.list_id > :after ORDER BY u.list_id LIMIT 1"
        )

        async def unit(tx: Tx) -> int:
            row = (await tx.execute(query, {"after": after})).first()
            if row is None and after:
                row = (await tx.execute(query, {"after": 0})).first()
            if row is None:
                return 0
            if row.gone:
                done = await self._take_away(tx, row.list_id, limit)
            else:
                done = await self._recount(tx, row.list_id, not row.private, limit)
            if done < limit:
                await tx.execute("DELETE FROM lists_unsettled WHERE list_id = :id", {"id": row.list_id})
            return int(row.list_id)

        return await self._db.write(unit)

    async def _take_away(self, tx: Tx, list_id: int, limit: int) -> int:
        """Removes up to `limit` rows of a deleted list; says how many."""
        removed = 0
        for table in ("list_members", "list_follows", "list_pins"):
            returned = "user_id, counted" if table == "list_members" else "user_id"
            rows = (
                await tx.execute(
                    f"DELETE FROM {table} WHERE list_id = :id AND user_id IN"
                    f" (SELECT user_id FROM {table} WHERE list_id = :id LIMIT :limit) RETURNING {returned}",
                    {"id": list_id, "limit": limit - removed},
                )
            ).all()
            if table == "list_members":
                for user_id in sorted(row.user_id for row in rows if row.counted):
                    await _count_listed(tx, self._outbox, user_id, -1)
            removed += len(rows)
        return removed

    async def _recount(self, tx: Tx, list_id: int, counted: bool, limit: int) -> int:
        """Counts, or no longer counts, up to `limit` memberships of a switched list; says how many."""
        query = "SELECT user_id FROM list_members WHERE list_id = :id AND counted <> :counted LIMIT :limit"
        rows = (await tx.execute(query, {"id": list_id, "counted": counted, "limit": limit})).all()
        users = sorted(row.user_id for row in rows)
        if users:
            await tx.execute(_COUNT_MEMBERS, {"list": list_id, "counted": counted, "users": users})
        for user_id in users:
            await _count_listed(tx, self._outbox, user_id, 1 if counted else -1)
        return len(users)
