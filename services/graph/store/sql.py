"""The graph in SQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from google.protobuf.message import Message
from rookery.events.v1.graph_events_pb2 import (
    FollowCounts,
    FollowRequested,
    FollowRequestWithdrawn,
    ReachCrossed,
    UserBlocked,
    UserFollowed,
    UserMuted,
    UserUnblocked,
    UserUnfollowed,
    UserUnmuted,
)
from sqlalchemy import TextClause, bindparam, text

from mesh.db.sql import Database, Tx
from mesh.errors import PermissionDenied
from mesh.outbox.sql import SqlOutbox
from services.graph.domain import (
    MAX_BLOCKED_SET,
    MAX_BLOCKS,
    MAX_FOLLOWING,
    MAX_MUTES,
    MAX_REQUESTS,
    SEEN_STEP_MS,
    TOPIC,
    Line,
    Reach,
    check_unblocked,
    settled,
)
from services.graph.store.base import Audience, Edge, Relations, Standing
from services.graph.store.sql_lists import cut_lists


@dataclass(frozen=True, slots=True)
class _Pairs:
    """A table of numbered pairs, and the names of its columns. Who made a pair is `near`, whom it is about `far`."""

    table: str
    near: str
    far: str
    edge: str

    @property
    def reversed(self) -> _Pairs:
        """The same, seen from the other end."""
        return replace(self, near=self.far, far=self.near)

    def among(self) -> TextClause:
        """The query for those of `ids` that stand at the far end of pairs with `id` at the near one."""
        query = f"SELECT {self.far} AS user_id FROM {self.table} WHERE {self.near} = :id AND {self.far} IN :ids"
        return text(query).bindparams(bindparam("ids", expanding=True))


_FOLLOWS = _Pairs("follows", "follower_id", "followee_id", "follow_id")
_REQUESTS = _Pairs("follow_requests", "requester_id", "target_id", "request_id")
_BLOCKS = _Pairs("blocks", "blocker_id", "blocked_id", "block_id")
_MUTES = _Pairs("mutes", "muter_id", "muted_id", "mute_id")

_FOLLOWED = _FOLLOWS.among()
_BLOCKED = _BLOCKS.among()
_BLOCKERS = _BLOCKS.reversed.among()
_MUTED = _MUTES.among()


class SqlGraphStore:
    """services.graph.store.base.GraphStore."""

    def __init__(self, db: Database, outbox: SqlOutbox, line: Line) -> None:
        self._db = db
        self._outbox = outbox
        self._line = line

    async def follow(self, follower_id: int, followee_id: int, follow_id: int) -> bool:
        """See GraphStore."""

        async def unit(tx: Tx) -> bool:
            if await self._follows(tx, follower_id, followee_id):
                return False
            await self._refuse_across_block(tx, follower_id, followee_id)
            await self._remove(tx, _REQUESTS, follower_id, followee_id)
            await self._link(tx, follower_id, followee_id, follow_id, accepted=False)
            return True

        return await self._db.write(unit)

    async def unfollow(self, follower_id: int, followee_id: int) -> bool:
        """See GraphStore."""

        async def unit(tx: Tx) -> bool:
            return await self._cut(tx, follower_id, followee_id)

        return await self._db.write(unit)

    async def request(self, requester_id: int, target_id: int, request_id: int) -> bool:
        """See GraphStore."""

        async def unit(tx: Tx) -> bool:
            if await self._follows(tx, requester_id, target_id):
                return False
            await self._refuse_across_block(tx, requester_id, target_id)
            if await self._add(tx, _REQUESTS, requester_id, target_id, request_id):
                await self._bound(tx, _REQUESTS, requester_id, MAX_REQUESTS, "have {} follow requests waiting")
                await self._publish(tx, requester_id, FollowRequested(requester_id=requester_id, target_id=target_id))
            return True

        return await self._db.write(unit)

    async def accept(self, requester_id: int, target_id: int, follow_id: int) -> bool:
        """See GraphStore."""

        async def unit(tx: Tx) -> bool:
            if not await self._remove(tx, _REQUESTS, requester_id, target_id):
                return await self._follows(tx, requester_id, target_id)
            await self._link(tx, requester_id, target_id, follow_id, accepted=True)
            return True

        return await self._db.write(unit)

    async def decline(self, requester_id: int, target_id: int) -> bool:
        """See GraphStore."""

        async def unit(tx: Tx) -> bool:
            return await self._withdraw(tx, requester_id, target_id)

        return await self._db.write(unit)

    async def block(self, blocker_id: int, blocked_id: int, block_id: int) -> bool:
        """See GraphStore."""

        async def unit(tx: Tx) -> bool:
            if not await self._add(tx, _BLOCKS, blocker_id, blocked_id, block_id):
                return False
            await self._bound(tx, _BLOCKS, blocker_id, MAX_BLOCKS, "block {} people")
            await self._publish(tx, blocker_id, UserBlocked(blocker_id=blocker_id, blocked_id=blocked_id))
            # Everything that ties the two together ends here, in this transaction.
            await self._cut(tx, blocker_id, blocked_id)
            await self._cut(tx, blocked_id, blocker_id)
            await cut_lists(tx, self._outbox, blocker_id, blocked_id)
            return True

        return await self._db.write(unit)

    async def unblock(self, blocker_id: int, blocked_id: int) -> bool:
        """See GraphStore."""

        async def unit(tx: Tx) -> bool:
            if not await self._remove(tx, _BLOCKS, blocker_id, blocked_id):
                return False
            await self._publish(tx, blocker_id, UserUnblocked(blocker_id=blocker_id, blocked_id=blocked_id))
            return True

        return await self._db.write(unit)

    async def mute(self, muter_id: int, muted_id: int, mute_id: int) -> bool:
        """See GraphStore."""

        async def unit(tx: Tx) -> bool:
            if not await self._add(tx, _MUTES, muter_id, muted_id, mute_id):
                return False
            await self._bound(tx, _MUTES, muter_id, MAX_MUTES, "mute {} people")
            await self._publish(tx, muter_id, UserMuted(muter_id=muter_id, muted_id=muted_id))
            return True

        return await self._db.write(unit)

    async def unmute(self, muter_id: int, muted_id: int) -> bool:
        """See GraphStore."""

        async def unit(tx: Tx) -> bool:
            if not await self._remove(tx, _MUTES, muter_id, muted_id):
                return False
            await self._publish(tx, muter_id, UserUnmuted(muter_id=muter_id, muted_id=muted_id))
            return True

        return await self._db.write(unit)

    async def _link(self, tx: Tx, follower_id: int, followee_id: int, follow_id: int, *, accepted: bool) -> None:
        """Adds a follow that is not there."""
        await self._add(tx, _FOLLOWS, follower_id, followee_id, follow_id)
        counts = await self._count(tx, follower_id, followee_id, 1)
        if counts.following_count > MAX_FOLLOWING:
            who = "This person follows" if accepted else "You may follow"
            raise PermissionDenied(f"{who} {MAX_FOLLOWING} people at most.", reason="FOLLOWS_TOO_MANY")
        event = UserFollowed(follower_id=follower_id, followee_id=followee_id, counts=counts, accepted=accepted)
        await self._publish(tx, follower_id, event)

    async def _cut(self, tx: Tx, follower_id: int, followee_id: int) -> bool:
        """Ends a follow, or the request for one; False when there was neither."""
        if not await self._remove(tx, _FOLLOWS, follower_id, followee_id):
            return await self._withdraw(tx, follower_id, followee_id)
        counts = await self._count(tx, follower_id, followee_id, -1)
        event = UserUnfollowed(follower_id=follower_id, followee_id=followee_id, counts=counts)
        await self._publish(tx, follower_id, event)
        return True

    async def _withdraw(self, tx: Tx, requester_id: int, target_id: int) -> bool:
        """Ends a request without a follow; False when there was none."""
        if not await self._remove(tx, _REQUESTS, requester_id, target_id):
            return False
        await self._publish(tx, requester_id, FollowRequestWithdrawn(requester_id=requester_id, target_id=target_id))
        return True

    @staticmethod
    async def _follows(tx: Tx, follower_id: int, followee_id: int) -> bool:
        query = "SELECT 1 FROM follows WHERE follower_id = :follower AND followee_id = :followee"
        return await tx.scalar(query, {"follower": follower_id, "followee": followee_id}) is not None

    @staticmethod
    async def _refuse_across_block(tx: Tx, follower_id: int, followee_id: int) -> None:
        rows = await tx.execute(
            "SELECT blocker_id FROM blocks WHERE (blocker_id = :one AND blocked_id = :other)"
            " OR (blocker_id = :other AND blocked_id = :one)",
            {"one": follower_id, "other": followee_id},
        )
        check_unblocked(follower_id, {row.blocker_id for row in rows.all()})

    @staticmethod
    async def _add(tx: Tx, pairs: _Pairs, near_id: int, far_id: int, edge_id: int) -> bool:
        """Adds a pair; False when it was there."""
        done = await tx.execute(
            f"INSERT INTO {pairs.table} ({pairs.near}, {pairs.far}, {pairs.edge}) VALUES (:near, :far, :edge)"
            f" ON CONFLICT ({pairs.near}, {pairs.far}) DO NOTHING",
            {"near": near_id, "far": far_id, "edge": edge_id},
        )
        return done.rowcount > 0

    @staticmethod
    async def _remove(tx: Tx, pairs: _Pairs, near_id: int, far_id: int) -> bool:
        """Takes a pair away; False when it was not there."""
        done = await tx.execute(
            f"DELETE FROM {pairs.table} WHERE {pairs.near} = :near AND {pairs.far} = :far",
            {"near": near_id, "far": far_id},
        )
        return done.rowcount > 0

    @staticmethod
    async def _bound(tx: Tx, pairs: _Pairs, near_id: int, most: int, what: str) -> None:
        """Raises PermissionDenied when somebody has more than `most` pairs: the one just added is too many."""
        query = f"SELECT COUNT(*) FROM (SELECT 1 FROM {pairs.table} WHERE {pairs.near} = :id LIMIT :limit) AS found"
        if await tx.scalar(query, {"id": near_id, "limit": most + 1}) > most:
            raise PermissionDenied(f"You may {what.format(most)} at most.", reason="TOO_MANY")

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
        return await self._edges(_FOLLOWS.reversed, user_id, before, after, limit)

    async def following(self, user_id: int, *, before: int, after: int, limit: int) -> list[Edge]:
        """See GraphStore."""
        return await self._edges(_FOLLOWS, user_id, before, after, limit)

    async def blocking(self, user_id: int, *, before: int, after: int, limit: int) -> list[Edge]:
        """See GraphStore."""
        return await self._edges(_BLOCKS, user_id, before, after, limit)

    async def muting(self, user_id: int, *, before: int, after: int, limit: int) -> list[Edge]:
        """See GraphStore."""
        return await self._edges(_MUTES, user_id, before, after, limit)

    async def requests_received(self, user_id: int, *, before: int, after: int, limit: int) -> list[Edge]:
        """See GraphStore."""
        return await self._edges(_REQUESTS.reversed, user_id, before, after, limit)

    async def requests_sent(self, user_id: int, *, before: int, after: int, limit: int) -> list[Edge]:
        """See GraphStore."""
        return await self._edges(_REQUESTS, user_id, before, after, limit)

    async def _edges(self, pairs: _Pairs, user_id: int, before: int, after: int, limit: int) -> list[Edge]:
        bound, order = (f"{pairs.edge} > :after", "ASC") if after else (f"{pairs.edge} < :before", "DESC")

        async def unit(tx: Tx) -> list[Edge]:
            rows = await tx.execute(
                f"SELECT {pairs.edge} AS edge_id, {pairs.far} AS user_id FROM {pairs.table}"
                f" WHERE {pairs.near} = :id AND {bound} ORDER BY {pairs.edge} {order} LIMIT :limit",
                {"id": user_id, "limit": limit} | ({"after": after} if after else {"before": before or 2**63 - 1}),
            )
            return [Edge(row.edge_id, row.user_id) for row in rows.all()]

        return await self._db.read(unit)

    async def relations(self, user_id: int) -> Relations:
        """See GraphStore."""

        async def unit(tx: Tx) -> Relations:
            rows = (
                await tx.execute(
                    "SELECT f.followee_id, p.reach FROM follows f JOIN people p ON p.user_id = f.followee_id"
                    " WHERE f.follower_id = :id LIMIT :limit",
                    {"id": user_id, "limit": MAX_FOLLOWING},
                )
            ).all()
            reach = {row.followee_id: Reach(row.reach) for row in rows}
            # Each half is cut before they are joined: somebody may be blocked by millions.
            blocked = await tx.execute(
                "SELECT id FROM (SELECT blocked_id AS id FROM blocks WHERE blocker_id = :id LIMIT :limit) AS mine"
                " UNION SELECT id FROM (SELECT blocker_id AS id FROM blocks WHERE blocked_id = :id LIMIT :limit)"
                " AS theirs LIMIT :limit",
                {"id": user_id, "limit": MAX_BLOCKED_SET + 1},
            )
            muted = await tx.execute(
                "SELECT muted_id FROM mutes WHERE muter_id = :id LIMIT :limit", {"id": user_id, "limit": MAX_MUTES}
            )
            return Relations(
                followee_ids=list(reach),
                pulled_ids=[followee for followee, how in reach.items() if how.pulled],
                unpushed_ids=[followee for followee, how in reach.items() if not how.pushed],
                blocked_ids=[row.id for row in blocked.all()],
                muted_ids=[row.muted_id for row in muted.all()],
            )

        return await self._db.read(unit)

    async def standing(self, user_id: int, others: Sequence[int]) -> Standing:
        """See GraphStore."""
        params = {"id": user_id, "ids": list(others)}

        async def unit(tx: Tx) -> Standing:
            async def among(query: TextClause) -> set[int]:
                return {row.user_id for row in (await tx.execute(query, params)).all()}

            return Standing(await among(_FOLLOWED), await among(_BLOCKED) | await among(_BLOCKERS), await among(_MUTED))

        return await self._db.read(unit)

    async def related(self, pairs: Sequence[tuple[int, int]]) -> set[tuple[int, int]]:
        """See GraphStore."""
        by_follower: dict[int, list[int]] = {}
        for follower, followee in pairs:
            by_follower.setdefault(follower, []).append(followee)

        async def unit(tx: Tx) -> set[tuple[int, int]]:
            return {
                (follower, row.user_id)
                for follower, followees in by_follower.items()
                for row in (await tx.execute(_FOLLOWED, {"id": follower, "ids": followees})).all()
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

    async def review(self, *, after: int, limit: int) -> int:
        """See GraphStore."""

        async def unit(tx: Tx) -> int:
            rows = (
                await tx.execute(
                    "SELECT user_id, reach, followers_count FROM people WHERE user_id > :after"
                    " ORDER BY user_id LIMIT :limit",
                    {"after": after, "limit": limit},
                )
            ).all()
            for row in rows:
                reach = Reach(row.reach)
                crossing = self._line.crossed(reach, row.followers_count)
                if crossing is None and reach.pushed and reach.pulled:
                    crossing = reach
                if crossing is not None:
                    await self._cross(tx, row.user_id, crossing)
            return rows[-1].user_id if len(rows) == limit else 0

        return await self._db.write(unit)

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
