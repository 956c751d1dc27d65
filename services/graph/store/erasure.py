"""What is left of one person in the graph store: the port, and its SQL adapter."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from mesh.db.sql import Database, Tx


class Kind(StrEnum):
    """What ties two people, by its table."""

    FOLLOW = "follows"
    REQUEST = "follow_requests"
    BLOCK = "blocks"
    MUTE = "mutes"


_ENDS = {
    Kind.FOLLOW: ("follower_id", "followee_id"),
    Kind.REQUEST: ("requester_id", "target_id"),
    Kind.BLOCK: ("blocker_id", "blocked_id"),
    Kind.MUTE: ("muter_id", "muted_id"),
}


@dataclass(frozen=True, slots=True)
class Tie:
    """One follow, request, block or mute."""

    kind: Kind
    """Which."""
    from_id: int
    """Who made it."""
    to_id: int
    """Whom it is about."""


class Place(StrEnum):
    """What ties a person to a list, by its table."""

    MEMBER = "list_members"
    FOLLOWER = "list_follows"
    PINNED = "list_pins"


@dataclass(frozen=True, slots=True)
class ListTie:
    """One membership, follow or pin of a list."""

    place: Place
    """Which."""
    list_id: int
    """The list."""
    owner_id: int
    """Whose it is."""


class Remains(Protocol):
    """What is left of somebody. All raise Unavailable."""

    async def ties(self, user_id: int, limit: int) -> list[Tie]:
        """Up to `limit` of each kind and direction that a person is at one end of."""
        ...

    async def lists(self, user_id: int, limit: int) -> list[int]:
        """Ids of up to `limit` lists of a person that are there."""
        ...

    async def list_ties(self, user_id: int, limit: int) -> list[ListTie]:
        """Up to `limit` of each kind."""
        ...

    async def forget(self, user_id: int) -> None:
        """Deletes what is known of a person who has no ties, and rows of lists that they deleted."""
        ...


class SqlRemains:
    """Remains in SQL."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def ties(self, user_id: int, limit: int) -> list[Tie]:
        """See Remains."""

        async def unit(tx: Tx) -> list[Tie]:
            found: list[Tie] = []
            for kind, ends in _ENDS.items():
                for end in ends:  # each has an index
                    rows = await tx.execute(
                        f"SELECT {ends[0]} AS from_id, {ends[1]} AS to_id FROM {kind.value} WHERE {end} = :id"
                        " LIMIT :limit",
                        {"id": user_id, "limit": limit},
                    )
                    found += [Tie(kind, row.from_id, row.to_id) for row in rows.all()]
            return found

        return await self._db.read(unit)

    async def lists(self, user_id: int, limit: int) -> list[int]:
        """See Remains."""

        async def unit(tx: Tx) -> list[int]:
            rows = await tx.execute(
                "SELECT list_id FROM lists WHERE owner_id = :id AND NOT gone LIMIT :limit",
                {"id": user_id, "limit": limit},
            )
            return [row.list_id for row in rows.all()]

        return await self._db.read(unit)

    async def list_ties(self, user_id: int, limit: int) -> list[ListTie]:
        """See Remains."""

        async def unit(tx: Tx) -> list[ListTie]:
            found: list[ListTie] = []
            for place in Place:
                rows = await tx.execute(
                    f"SELECT l.list_id, l.owner_id FROM {place.value} t JOIN lists l ON l.list_id = t.list_id"
                    " WHERE t.user_id = :id AND NOT l.gone LIMIT :limit",
                    {"id": user_id, "limit": limit},
                )
                found += [ListTie(place, row.list_id, row.owner_id) for row in rows.all()]
            return found

        return await self._db.read(unit)

    async def forget(self, user_id: int) -> None:
        """See Remains."""

        async def unit(tx: Tx) -> None:
            await tx.execute("DELETE FROM lists WHERE owner_id = :id AND gone", {"id": user_id})
            await tx.execute("DELETE FROM people WHERE user_id = :id", {"id": user_id})

        await self._db.write(unit)
