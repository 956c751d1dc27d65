"""The graph in Neo4j.

A change of what is between two people locks both, in the order of their ids, and then looks: so it decides by what
nobody else changes until its commit, and no two changes wait for each other. Pages come from indexes of relationships;
`ORDER BY` names all columns of the index, or the planner sorts all that a person has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

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

from mesh.db.neo4j import Neo4jDatabase, Neo4jTx
from mesh.errors import PermissionDenied
from mesh.outbox.neo4j import Neo4jOutbox
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
from services.graph.store.neo4j_lists import cut_lists
from services.graph.store.neo4j_people import MADE

FOLLOWS: Final = "FOLLOWS"
ASKS: Final = "ASKS"
BLOCKS: Final = "BLOCKS"
MUTES: Final = "MUTES"

_MAX_ID = 2**63 - 1


def _pair(name: str, kind: str, one: str, other: str) -> str:
    return (
        f"OPTIONAL MATCH ()-[{name}:{kind}]->() USING INDEX SEEK {name}:{kind}(from_id, to_id)"
        f" WHERE {name}.from_id = {one} AND {name}.to_id = {other}\n"
    )


_LOCK_FOUND = "UNWIND $ids AS id\nMATCH (p:Person {id: id}) SET p.locked = true\n"
_LOCK_MADE = f"UNWIND $ids AS id\n{MADE} SET p.locked = true\n"
# One row, whoever is there: it reads what others committed before this one had the locks.
_LOOK = (
    "WITH collect(p) AS people\n"
    + _pair("follows", FOLLOWS, "$one", "$other")
    + _pair("followed", FOLLOWS, "$other", "$one")
    + _pair("asks", ASKS, "$one", "$other")
    + _pair("asked", ASKS, "$other", "$one")
    + _pair("blocks", BLOCKS, "$one", "$other")
    + _pair("blocked", BLOCKS, "$other", "$one")
    + _pair("mutes", MUTES, "$one", "$other")
    + "OPTIONAL MATCH (a:Person {id: $one})\n"
    "RETURN [p IN people | [p.id, p.following_count, p.followers_count, p.version, p.reach]] AS people,\n"
    " follows IS NOT NULL AS follows, followed IS NOT NULL AS followed, asks IS NOT NULL AS asks,\n"
    " asked IS NOT NULL AS asked, blocks IS NOT NULL AS blocks, blocked IS NOT NULL AS blocked,\n"
    " mutes IS NOT NULL AS mutes, COUNT { (a)-[:ASKS]->() } AS asking, COUNT { (a)-[:BLOCKS]->() } AS blocking,\n"
    " COUNT { (a)-[:MUTES]->() } AS muting"
)
_COUNTS = (
    " SET a.following_count = $following, a.version = $version, b.followers_count = $followers,"
    " b.version = $far_version, b.reach = $reach"
)
_LINK = (
    "MATCH (a:Person {id: $one}) MATCH (b:Person {id: $other})"
    f" CREATE (a)-[:FOLLOWS {{from_id: $one, to_id: $other, edge_id: $edge}}]->(b){_COUNTS}"
)
_CUT = (
    "MATCH (a:Person)-[r:FOLLOWS]->(b:Person) USING INDEX SEEK r:FOLLOWS(from_id, to_id)"
    f" WHERE r.from_id = $one AND r.to_id = $other DELETE r{_COUNTS}"
)


def _add(kind: str) -> str:
    return (
        "MATCH (a:Person {id: $one}) MATCH (b:Person {id: $other})"
        f" CREATE (a)-[:{kind} {{from_id: $one, to_id: $other, edge_id: $edge}}]->(b)"
    )


def _remove(kind: str) -> str:
    return (
        f"MATCH ()-[r:{kind}]->() USING INDEX SEEK r:{kind}(from_id, to_id)"
        " WHERE r.from_id = $one AND r.to_id = $other DELETE r"
    )


def page(kind: str, near: str, far: str, *, newest: bool) -> str:
    """The query for a page of relationships of one kind: their ids, and who is at the far end.

    Args:
        kind: the relationship's type.
        near: the property with the id of whose page it is.
        far: the one with the ids that are wanted.
        newest: whether it goes down from `$bound`, or up.
    """
    bound, order = ("<", " DESC") if newest else (">", "")
    return (
        f"MATCH ()-[r:{kind}]->() USING INDEX SEEK r:{kind}({near}, edge_id)"
        f" WHERE r.{near} = $id AND r.edge_id {bound} $bound"
        f" WITH r ORDER BY r.{near}{order}, r.edge_id{order} LIMIT $limit"
        f" RETURN collect(r.edge_id) AS edges, collect(r.{far}) AS people"
    )


FOLLOWER_IDS: Final = (
    "MATCH ()-[r:FOLLOWS]->() USING INDEX SEEK r:FOLLOWS(to_id, from_id) WHERE r.to_id = $id AND r.from_id > $after"
    " WITH r ORDER BY r.to_id, r.from_id LIMIT $limit RETURN collect(r.from_id) AS people"
)
SEEN_FOLLOWERS: Final = (
    "MATCH (p:Person)-[r:FOLLOWS]->() USING INDEX SEEK r:FOLLOWS(to_id, from_id)"
    " WHERE r.to_id = $id AND r.from_id > $after AND p.seen_ms >= $since"
    " WITH r ORDER BY r.to_id, r.from_id LIMIT $limit RETURN collect(r.from_id) AS people"
)
# Each end of blocks is cut by itself: somebody may be blocked by millions.
_RELATIONS = """\
OPTIONAL MATCH (p:Person {id: $id})
RETURN COLLECT { MATCH (p)-[:FOLLOWS]->(q:Person) RETURN [q.id, q.reach] LIMIT $follows } AS follows,
 COLLECT { MATCH (p)-[:BLOCKS]->(q:Person) RETURN q.id LIMIT $blocks } AS blocks,
 COLLECT { MATCH (p)<-[:BLOCKS]-(q:Person) RETURN q.id LIMIT $blocks } AS blocked,
 COLLECT { MATCH (p)-[:MUTES]->(q:Person) RETURN q.id LIMIT $mutes } AS mutes
"""


def _among(kind: str, near: str, far: str) -> str:
    return (
        f"COLLECT {{ MATCH ()-[r:{kind}]->() USING INDEX SEEK r:{kind}(from_id, to_id)"
        f" WHERE r.{near} = $id AND r.{far} IN $ids RETURN r.{far} }}"
    )


_STANDING = (
    f"RETURN {_among(FOLLOWS, 'from_id', 'to_id')} AS follows, {_among(BLOCKS, 'from_id', 'to_id')} AS blocks,"
    f" {_among(BLOCKS, 'to_id', 'from_id')} AS blocked, {_among(MUTES, 'from_id', 'to_id')} AS mutes"
)
_RELATED = (
    "UNWIND $pairs AS pair MATCH ()-[r:FOLLOWS]->() USING INDEX SEEK r:FOLLOWS(from_id, to_id)"
    " WHERE r.from_id = pair[0] AND r.to_id = pair[1] RETURN collect(pair) AS pairs"
)
_MARK = f"WITH $id AS id\n{MADE} SET p.locked = true\nWITH p WHERE coalesce(p.seen_ms, 0) < $stale SET p.seen_ms = $now"
# Whoever reads without a lock may meet a person without properties: seen once, while others were made beside it, so
# probably of a commit that Neo4j was about to finish.
_REVIEW = (
    "MATCH (p:Person) USING INDEX SEEK p:Person(id) WHERE p.id > $after"
    " RETURN p.id AS id, coalesce(p.reach, 0) AS reach, coalesce(p.followers_count, 0) AS followers"
    " ORDER BY p.id LIMIT $limit"
)
_LOCK_REACH = f"{_LOCK_FOUND}WITH p RETURN p.id AS id, p.reach AS reach, p.followers_count AS followers"
_SET_REACH = "MATCH (p:Person {id: $id}) SET p.reach = $reach"


@dataclass(slots=True)
class _Person:
    """A person as they are, and as this unit changes them."""

    id: int
    following: int = 0
    followers: int = 0
    version: int = 0
    reach: Reach = Reach.PUSHED


@dataclass(slots=True)
class _Pair:
    """Two people that are locked, and what is between them."""

    one: _Person
    other: _Person
    follows: bool
    followed: bool
    asks: bool
    asked: bool
    blocks: bool
    blocked: bool
    mutes: bool
    asking: int
    """How many requests the one has waiting."""
    blocking: int
    """How many people the one blocks."""
    muting: int
    """How many people the one mutes."""

    def refuse_across_block(self) -> None:
        """Raises PermissionDenied when the one may not follow the other."""
        check_unblocked(
            self.one.id, {person.id for person, does in ((self.one, self.blocks), (self.other, self.blocked)) if does}
        )


class Neo4jGraphStore:
    """services.graph.store.base.GraphStore."""

    def __init__(self, db: Neo4jDatabase, outbox: Neo4jOutbox, line: Line) -> None:
        self._db = db
        self._outbox = outbox
        self._line = line

    async def follow(self, follower_id: int, followee_id: int, follow_id: int) -> bool:
        """See GraphStore."""

        async def unit(tx: Neo4jTx) -> bool:
            pair = await self._lock(tx, follower_id, followee_id, made=True)
            if pair.follows:
                return False
            pair.refuse_across_block()
            if pair.asks:
                await self._remove(tx, ASKS, pair)
            await self._link(tx, pair, follow_id, accepted=False)
            return True

        return await self._db.write(unit)

    async def unfollow(self, follower_id: int, followee_id: int) -> bool:
        """See GraphStore."""

        async def unit(tx: Neo4jTx) -> bool:
            pair = await self._lock(tx, follower_id, followee_id)
            if pair.follows:
                await self._cut(tx, pair.one, pair.other)
            elif pair.asks:
                await self._withdraw(tx, pair.one, pair.other)
            return pair.follows or pair.asks

        return await self._db.write(unit)

    async def request(self, requester_id: int, target_id: int, request_id: int) -> bool:
        """See GraphStore."""

        async def unit(tx: Neo4jTx) -> bool:
            pair = await self._lock(tx, requester_id, target_id, made=True)
            if pair.follows:
                return False
            pair.refuse_across_block()
            if not pair.asks:
                _bound(pair.asking, MAX_REQUESTS, "have {} follow requests waiting")
                await self._add(tx, ASKS, pair, request_id)
                self._publish(tx, requester_id, FollowRequested(requester_id=requester_id, target_id=target_id))
            return True

        return await self._db.write(unit)

    async def accept(self, requester_id: int, target_id: int, follow_id: int) -> bool:
        """See GraphStore."""

        async def unit(tx: Neo4jTx) -> bool:
            pair = await self._lock(tx, requester_id, target_id)
            if not pair.asks:
                return pair.follows
            await self._remove(tx, ASKS, pair)
            await self._link(tx, pair, follow_id, accepted=True)
            return True

        return await self._db.write(unit)

    async def decline(self, requester_id: int, target_id: int) -> bool:
        """See GraphStore."""

        async def unit(tx: Neo4jTx) -> bool:
            pair = await self._lock(tx, requester_id, target_id)
            if pair.asks:
                await self._withdraw(tx, pair.one, pair.other)
            return pair.asks

        return await self._db.write(unit)

    async def block(self, blocker_id: int, blocked_id: int, block_id: int) -> bool:
        """See GraphStore."""

        async def unit(tx: Neo4jTx) -> bool:
            pair = await self._lock(tx, blocker_id, blocked_id, made=True)
            if pair.blocks:
                return False
            _bound(pair.blocking, MAX_BLOCKS, "block {} people")
            await self._add(tx, BLOCKS, pair, block_id)
            self._publish(tx, blocker_id, UserBlocked(blocker_id=blocker_id, blocked_id=blocked_id))
            # Everything that ties the two together ends here, in this transaction.
            if pair.follows:
                await self._cut(tx, pair.one, pair.other)
            elif pair.asks:
                await self._withdraw(tx, pair.one, pair.other)
            if pair.followed:
                await self._cut(tx, pair.other, pair.one)
            elif pair.asked:
                await self._withdraw(tx, pair.other, pair.one)
            await cut_lists(tx, self._outbox, blocker_id, blocked_id)
            return True

        return await self._db.write(unit)

    async def unblock(self, blocker_id: int, blocked_id: int) -> bool:
        """See GraphStore."""

        async def unit(tx: Neo4jTx) -> bool:
            pair = await self._lock(tx, blocker_id, blocked_id)
            if pair.blocks:
                await self._remove(tx, BLOCKS, pair)
                self._publish(tx, blocker_id, UserUnblocked(blocker_id=blocker_id, blocked_id=blocked_id))
            return pair.blocks

        return await self._db.write(unit)

    async def mute(self, muter_id: int, muted_id: int, mute_id: int) -> bool:
        """See GraphStore."""

        async def unit(tx: Neo4jTx) -> bool:
            pair = await self._lock(tx, muter_id, muted_id, made=True)
            if pair.mutes:
                return False
            _bound(pair.muting, MAX_MUTES, "mute {} people")
            await self._add(tx, MUTES, pair, mute_id)
            self._publish(tx, muter_id, UserMuted(muter_id=muter_id, muted_id=muted_id))
            return True

        return await self._db.write(unit)

    async def unmute(self, muter_id: int, muted_id: int) -> bool:
        """See GraphStore."""

        async def unit(tx: Neo4jTx) -> bool:
            pair = await self._lock(tx, muter_id, muted_id)
            if pair.mutes:
                await self._remove(tx, MUTES, pair)
                self._publish(tx, muter_id, UserUnmuted(muter_id=muter_id, muted_id=muted_id))
            return pair.mutes

        return await self._db.write(unit)

    @staticmethod
    async def _lock(tx: Neo4jTx, one_id: int, other_id: int, *, made: bool = False) -> _Pair:
        """Locks two people and says what is between them; who is not there is made, or has nothing."""
        params = {"ids": sorted((one_id, other_id)), "one": one_id, "other": other_id}
        [row] = await tx.run((_LOCK_MADE if made else _LOCK_FOUND) + _LOOK, params)
        found = {one[0]: _Person(one[0], one[1], one[2], one[3], Reach(one[4])) for one in row[0]}
        one, other = (found.get(id) or _Person(id) for id in (one_id, other_id))
        return _Pair(one, other, *row[1:])

    async def _link(self, tx: Neo4jTx, pair: _Pair, follow_id: int, *, accepted: bool) -> None:
        """Adds a follow that is not there."""
        follower, followee = pair.one, pair.other
        if follower.following >= MAX_FOLLOWING:
            who = "This person follows" if accepted else "You may follow"
            raise PermissionDenied(f"{who} {MAX_FOLLOWING} people at most.", reason="FOLLOWS_TOO_MANY")
        counts = self._count(tx, follower, followee, 1)
        await tx.run(_LINK, {**_changed(follower, followee), "edge": follow_id})
        event = UserFollowed(follower_id=follower.id, followee_id=followee.id, counts=counts, accepted=accepted)
        self._publish(tx, follower.id, event)

    async def _cut(self, tx: Neo4jTx, follower: _Person, followee: _Person) -> None:
        """Ends a follow that is there."""
        counts = self._count(tx, follower, followee, -1)
        await tx.run(_CUT, _changed(follower, followee))
        self._publish(tx, follower.id, UserUnfollowed(follower_id=follower.id, followee_id=followee.id, counts=counts))

    async def _withdraw(self, tx: Neo4jTx, requester: _Person, target: _Person) -> None:
        """Ends a request that is there, without a follow."""
        await tx.run(_remove(ASKS), {"one": requester.id, "other": target.id})
        event = FollowRequestWithdrawn(requester_id=requester.id, target_id=target.id)
        self._publish(tx, requester.id, event)

    @staticmethod
    async def _add(tx: Neo4jTx, kind: str, pair: _Pair, edge_id: int) -> None:
        await tx.run(_add(kind), {"one": pair.one.id, "other": pair.other.id, "edge": edge_id})

    @staticmethod
    async def _remove(tx: Neo4jTx, kind: str, pair: _Pair) -> None:
        await tx.run(_remove(kind), {"one": pair.one.id, "other": pair.other.id})

    def _count(self, tx: Neo4jTx, follower: _Person, followee: _Person, step: int) -> FollowCounts:
        follower.following += step
        follower.version += 1
        followee.followers += step
        followee.version += 1
        crossing = self._line.crossed(followee.reach, followee.followers)
        if crossing is not None:
            followee.reach = crossing
            self._publish_crossing(tx, followee.id, crossing)
        return FollowCounts(
            following_count=follower.following,
            follower_version=follower.version,
            followers_count=followee.followers,
            followee_version=followee.version,
        )

    async def _cross(self, tx: Neo4jTx, user_id: int, reach: Reach) -> None:
        await tx.run(_SET_REACH, {"id": user_id, "reach": int(reach)})
        self._publish_crossing(tx, user_id, reach)

    def _publish_crossing(self, tx: Neo4jTx, user_id: int, reach: Reach) -> None:
        if reach in (Reach.BECOMING_PULLED, Reach.BECOMING_PUSHED):
            self._publish(tx, user_id, ReachCrossed(user_id=user_id, pulled=reach is Reach.BECOMING_PULLED))

    async def followers(self, user_id: int, *, before: int, after: int, limit: int) -> list[Edge]:
        """See GraphStore."""
        return await self._edges(FOLLOWS, "to_id", "from_id", user_id, before, after, limit)

    async def following(self, user_id: int, *, before: int, after: int, limit: int) -> list[Edge]:
        """See GraphStore."""
        return await self._edges(FOLLOWS, "from_id", "to_id", user_id, before, after, limit)

    async def blocking(self, user_id: int, *, before: int, after: int, limit: int) -> list[Edge]:
        """See GraphStore."""
        return await self._edges(BLOCKS, "from_id", "to_id", user_id, before, after, limit)

    async def muting(self, user_id: int, *, before: int, after: int, limit: int) -> list[Edge]:
        """See GraphStore."""
        return await self._edges(MUTES, "from_id", "to_id", user_id, before, after, limit)

    async def requests_received(self, user_id: int, *, before: int, after: int, limit: int) -> list[Edge]:
        """See GraphStore."""
        return await self._edges(ASKS, "to_id", "from_id", user_id, before, after, limit)

    async def requests_sent(self, user_id: int, *, before: int, after: int, limit: int) -> list[Edge]:
        """See GraphStore."""
        return await self._edges(ASKS, "from_id", "to_id", user_id, before, after, limit)

    async def _edges(
        self, kind: str, near: str, far: str, user_id: int, before: int, after: int, limit: int
    ) -> list[Edge]:
        return await edges_of(self._db, page(kind, near, far, newest=not after), user_id, before, after, limit)

    async def relations(self, user_id: int) -> Relations:
        """See GraphStore."""
        params = {"id": user_id, "follows": MAX_FOLLOWING, "blocks": MAX_BLOCKED_SET + 1, "mutes": MAX_MUTES}
        [(follows, blocks, blocked, mutes)] = await self._db.read(lambda tx: tx.run(_RELATIONS, params))
        reach = {followee: Reach(how) for followee, how in follows}
        return Relations(
            followee_ids=list(reach),
            pulled_ids=[followee for followee, how in reach.items() if how.pulled],
            unpushed_ids=[followee for followee, how in reach.items() if not how.pushed],
            blocked_ids=list(dict.fromkeys([*blocks, *blocked]))[: MAX_BLOCKED_SET + 1],
            muted_ids=mutes,
        )

    async def standing(self, user_id: int, others: Sequence[int]) -> Standing:
        """See GraphStore."""
        params = {"id": user_id, "ids": list(others)}
        [(follows, blocks, blocked, mutes)] = await self._db.read(lambda tx: tx.run(_STANDING, params))
        return Standing(set(follows), {*blocks, *blocked}, set(mutes))

    async def related(self, pairs: Sequence[tuple[int, int]]) -> set[tuple[int, int]]:
        """See GraphStore."""
        params = {"pairs": [list(pair) for pair in pairs]}
        [(found,)] = await self._db.read(lambda tx: tx.run(_RELATED, params))
        return {(follower, followee) for follower, followee in found}

    async def audience(self, author_id: int, *, after: int, limit: int, seen_since_ms: int) -> Audience:
        """See GraphStore."""
        params = {"id": author_id, "after": after, "since": seen_since_ms, "limit": limit}

        async def unit(tx: Neo4jTx) -> Audience:
            author = await tx.one("MATCH (p:Person {id: $id}) RETURN coalesce(p.reach, 0)", {"id": author_id})
            if author is not None and not Reach(author[0]).pushed:
                return Audience(False, [])
            [(people,)] = await tx.run(SEEN_FOLLOWERS, params)
            return Audience(True, people)

        return await self._db.read(unit)

    async def follower_ids(self, author_id: int, *, after: int, limit: int) -> list[int]:
        """See GraphStore."""
        params = {"id": author_id, "after": after, "limit": limit}
        [(people,)] = await self._db.read(lambda tx: tx.run(FOLLOWER_IDS, params))
        return list(people)

    async def mark_seen(self, user_id: int, now_ms: int) -> None:
        """See GraphStore."""
        stale = now_ms - SEEN_STEP_MS
        query, params = "MATCH (p:Person {id: $id}) RETURN coalesce(p.seen_ms, 0)", {"id": user_id}
        seen = await self._db.read(lambda tx: tx.one(query, params))
        if seen is None or seen[0] < stale:  # most marks are young, and need no lock
            change = {"id": user_id, "now": now_ms, "stale": stale}
            await self._db.write(lambda tx: tx.run(_MARK, change))

    async def review(self, *, after: int, limit: int) -> int:
        """See GraphStore."""

        async def unit(tx: Neo4jTx) -> int:
            people = await tx.run(_REVIEW, {"after": after, "limit": limit})
            crossing = [one["id"] for one in people if self._crossing(one["reach"], one["followers"]) is not None]
            for one in await tx.run(_LOCK_REACH, {"ids": crossing}) if crossing else []:  # they come in order
                reach = self._crossing(one["reach"], one["followers"])
                if reach is not None:
                    await self._cross(tx, one["id"], reach)
            return int(people[-1]["id"]) if len(people) == limit else 0

        return await self._db.write(unit)

    def _crossing(self, reach: int, followers: int) -> Reach | None:
        """The crossing that an audience calls for, or that is under way."""
        now = Reach(reach)
        return self._line.crossed(now, followers) or (now if now.pushed and now.pulled else None)

    async def settle(self, user_id: int, *, pulled: bool) -> None:
        """See GraphStore."""

        async def unit(tx: Neo4jTx) -> None:
            for one in await tx.run(_LOCK_REACH, {"ids": [user_id]}):
                reach = settled(Reach(one["reach"]), pulled=pulled)
                if reach != one["reach"]:
                    await self._cross(tx, user_id, self._line.crossed(reach, one["followers"]) or reach)

        await self._db.write(unit)

    def _publish(self, tx: Neo4jTx, key: int, event: Message) -> None:
        self._outbox.add(tx, TOPIC, str(key).encode(), event.DESCRIPTOR.full_name, event.SerializeToString())


async def edges_of(db: Neo4jDatabase, query: str, id: int, before: int, after: int, limit: int) -> list[Edge]:
    """One page of what `page` asks for, the newest first, or with `after` the oldest first."""
    params = {"id": id, "bound": after or before or _MAX_ID, "limit": limit}
    [(edges, people)] = await db.read(lambda tx: tx.run(query, params))
    return [Edge(edge, person) for edge, person in zip(edges, people, strict=True)]


def _changed(follower: _Person, followee: _Person) -> dict[str, int]:
    return {
        "one": follower.id,
        "other": followee.id,
        "following": follower.following,
        "version": follower.version,
        "followers": followee.followers,
        "far_version": followee.version,
        "reach": int(followee.reach),
    }


def _bound(there: int, most: int, what: str) -> None:
    """Raises PermissionDenied when somebody who has so many may not have one more."""
    if there >= most:
        raise PermissionDenied(f"You may {what.format(most)} at most.", reason="TOO_MANY")
