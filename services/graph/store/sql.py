"""The follow graph in SQL."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import Message
from rookery.events.v1.graph_events_pb2 import FollowCounts, ReachCrossed, UserFollowed, UserUnfollowed
from sqlalchemy import bindparam, text

from mesh.db.sql import Database, Tx
from mesh.errors import PermissionDenied
from mesh.outbox import Outbox
from services.graph.domain import MAX_FOLLOWING, SEEN_STEP_MS, Line, Reach, settled
from services.graph.store.base import Audience, Edge, Following

TOPIC = "social"
_PAIRS = text("SELECT followee_id FROM follows WHERE follower_id = :follower AND followee_id IN :followees").bindparams(
    bindparam("followees", expanding=True)
)


class SqlGraphStore:
    """services.graph.store.base.GraphStore."""

    def __init__(self, db: Database, outbox: Outbox, line: Line) -> None:
        self._db = db
        self._outbox = outbox
        self._line = line

    async def knows(self, user_id: int) -> bool:
        """See GraphStore."""

        async def unit(tx: Tx) -> bool:
            return await tx.scalar("SELECT 1 FROM people WHERE user_id = :id", {"id": user_id}) is not None

        return await self._db.read(unit)

    async def follow(self, follower_id: int, followee_id: int, follow_id: int) -> bool:
        """See GraphStore."""

        async def unit(tx: Tx) -> bool:
            done = await tx.execute(
                "INSERT INTO follows (follower_id, followee_id, follow_id) VALUES (:follower, :followee, :id)"
                " ON CONFLICT (follower_id, followee_id) DO NOTHING",
                {"follower": follower_id, "followee": followee_id, "id": follow_id},
            )
            if done.rowcount == 0:
                return False
            counts = await self._count(tx, follower_id, followee_id, 1)
            if counts.following_count > MAX_FOLLOWING:
                raise PermissionDenied(f"You may follow {MAX_FOLLOWING} people at most.", reason="FOLLOWS_TOO_MANY")
            event = UserFollowed(follower_id=follower_id, followee_id=followee_id, counts=counts)
            await self._publish(tx, follower_id, event)
            return True

        return await self._db.write(unit)

    async def unfollow(self, follower_id: int, followee_id: int) -> bool:
        """See GraphStore."""

        async def unit(tx: Tx) -> bool:
            done = await tx.execute(
                "DELETE FROM follows WHERE follower_id = :follower AND followee_id = :followee",
                {"follower": follower_id, "followee": followee_id},
            )
            if done.rowcount == 0:
                return False
            counts = await self._count(tx, follower_id, followee_id, -1)
            event = UserUnfollowed(follower_id=follower_id, followee_id=followee_id, counts=counts)
            await self._publish(tx, follower_id, event)
            return True

        return await self._db.write(unit)

    async def _count(self, tx: Tx, follower_id: int, followee_id: int, step: int) -> FollowCounts:
        # Always in the order of ids, so that two opposite follows cannot wait for each other.
        rows = {}
        for user_id, column in sorted([(follower_id, "following_count"), (followee_id, "followers_count")]):
            rows[column] = (
                await tx.execute(
                    f"INSERT INTO people (user_id, {column}, version) VALUES (:id, :first, 1)"
                    f" ON CONFLICT (user_id) DO UPDATE SET {column} = people.{column} + :step,"
                    " version = people.version + 1"
                    " RETURNING user_id, followers_count, following_count, reach, version",
                    {"id": user_id, "first": max(step, 0), "step": step},
                )
            ).one()
        followee = rows["followers_count"]
        crossing = self._line.crossed(Reach(followee.reach), followee.followers_count)
        if crossing is not None:
            await self._cross(tx, followee_id, crossing)
        return FollowCounts(
            following_count=rows["following_count"].following_count,
            follower_version=rows["following_count"].version,
            followers_count=followee.followers_count,
            followee_version=followee.version,
        )

    async def _cross(self, tx: Tx, user_id: int, reach: Reach) -> None:
        await tx.execute("UPDATE people SET reach = :reach WHERE user_id = :id", {"id": user_id, "reach": int(reach)})
        if reach in (Reach.BECOMING_PULLED, Reach.BECOMING_PUSHED):
            await self._publish(tx, user_id, ReachCrossed(user_id=user_id, pulled=reach is Reach.BECOMING_PULLED))

    async def followers(self, user_id: int, *, before: int, after: int, limit: int) -> list[Edge]:
        """See GraphStore."""
        return await self._edges("followee_id", "follower_id", user_id, before, after, limit)

    async def following(self, user_id: int, *, before: int, after: int, limit: int) -> list[Edge]:
        """See GraphStore."""
        return await self._edges("follower_id", "followee_id", user_id, before, after, limit)

    async def _edges(self, near: str, far: str, user_id: int, before: int, after: int, limit: int) -> list[Edge]:
        bound, order = ("follow_id > :after", "ASC") if after else ("follow_id < :before", "DESC")

        async def unit(tx: Tx) -> list[Edge]:
            rows = await tx.execute(
                f"SELECT follow_id, {far} AS user_id FROM follows WHERE {near} = :id AND {bound}"
                f" ORDER BY follow_id {order} LIMIT :limit",
                {"id": user_id, "limit": limit} | ({"after": after} if after else {"before": before or 2**63 - 1}),
            )
            return [Edge(row.follow_id, row.user_id) for row in rows.all()]

        return await self._db.read(unit)

    async def all_following(self, user_id: int) -> Following:
        """See GraphStore."""

        async def unit(tx: Tx) -> Following:
            rows = (
                await tx.execute(
                    "SELECT f.followee_id, p.reach FROM follows f JOIN people p ON p.user_id = f.followee_id"
                    " WHERE f.follower_id = :id LIMIT :limit",
                    {"id": user_id, "limit": MAX_FOLLOWING},
                )
            ).all()
            reach = {row.followee_id: Reach(row.reach) for row in rows}
            return Following(
                followee_ids=list(reach),
                pulled_ids=[user_id for user_id, how in reach.items() if how.pulled],
                unpushed_ids=[user_id for user_id, how in reach.items() if not how.pushed],
            )

        return await self._db.read(unit)

    async def related(self, pairs: Sequence[tuple[int, int]]) -> set[tuple[int, int]]:
        """See GraphStore."""
        by_follower: dict[int, list[int]] = {}
        for follower, followee in pairs:
            by_follower.setdefault(follower, []).append(followee)

        async def unit(tx: Tx) -> set[tuple[int, int]]:
            return {
                (follower, row.followee_id)
                for follower, followees in by_follower.items()
                for row in (await tx.execute(_PAIRS, {"follower": follower, "followees": followees})).all()
            }

        return await self._db.read(unit)

    async def audience(self, author_id: int, *, after: int, limit: int, seen_since_ms: int) -> Audience:
        """See GraphStore."""

        async def unit(tx: Tx) -> Audience:
            reach = Reach(await tx.scalar("SELECT reach FROM people WHERE user_id = :id", {"id": author_id}) or 0)
            if not reach.pushed:
                return Audience(False, [])
            rows = await tx.execute(
                "SELECT f.follower_id FROM follows f JOIN people p ON p.user_id = f.follower_id"
                " WHERE f.followee_id = :id AND f.follower_id > :after AND p.seen_ms >= :since"
                " ORDER BY f.follower_id LIMIT :limit",
                {"id": author_id, "after": after, "since": seen_since_ms, "limit": limit},
            )
            return Audience(True, [row.follower_id for row in rows.all()])

        return await self._db.read(unit)

    async def follower_ids(self, author_id: int, *, after: int, limit: int) -> list[int]:
        """See GraphStore."""

        async def unit(tx: Tx) -> list[int]:
            rows = await tx.execute(
                "SELECT follower_id FROM follows WHERE followee_id = :id AND follower_id > :after"
                " ORDER BY follower_id LIMIT :limit",
                {"id": author_id, "after": after, "limit": limit},
            )
            return [row.follower_id for row in rows.all()]

        return await self._db.read(unit)

    async def mark_seen(self, user_id: int, now_ms: int) -> None:
        """See GraphStore."""

        async def unit(tx: Tx) -> None:
            await tx.execute(
                "INSERT INTO people (user_id, seen_ms) VALUES (:id, :now)"
                " ON CONFLICT (user_id) DO UPDATE SET seen_ms = :now WHERE people.seen_ms < :stale",
                {"id": user_id, "now": now_ms, "stale": now_ms - SEEN_STEP_MS},
            )

        await self._db.write(unit)

    async def settle(self, user_id: int, *, pulled: bool) -> None:
        """See GraphStore."""

        async def unit(tx: Tx) -> None:
            row = (
                await tx.execute("SELECT reach, followers_count FROM people WHERE user_id = :id", {"id": user_id})
            ).first()
            if row is None:
                return
            reach = settled(Reach(row.reach), pulled=pulled)
            if reach == row.reach:
                return
            await self._cross(tx, user_id, self._line.crossed(reach, row.followers_count) or reach)

        await self._db.write(unit)

    async def _publish(self, tx: Tx, key: int, event: Message) -> None:
        await self._outbox.add(tx, TOPIC, str(key).encode(), event.DESCRIPTOR.full_name, event.SerializeToString())
