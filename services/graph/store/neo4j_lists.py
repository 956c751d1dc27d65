"""Lists of people in Neo4j.

A change locks people first, in the order of their ids, then lists in theirs, and looks after that. So nobody gets on a
list across a block, and no two changes wait for each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from neo4j import Record
from rookery.events.v1.graph_events_pb2 import ListedCountChanged

from mesh.db.neo4j import Neo4jDatabase, Neo4jTx
from mesh.errors import PermissionDenied
from mesh.outbox.neo4j import Neo4jOutbox
from services.graph.domain import TOPIC
from services.graph.list_domain import MAX_FOLLOWED, MAX_MEMBERS, MAX_OWNED, MAX_PINNED, PeopleList, no_list
from services.graph.store.base import Edge
from services.graph.store.lists import Listing
from services.graph.store.neo4j_people import MADE

OWNS: Final = "OWNS"
ON_LIST: Final = "ON_LIST"
FOLLOWS_LIST: Final = "FOLLOWS_LIST"
PINS_LIST: Final = "PINS_LIST"

_MAX_ID = 2**63 - 1
_LIST = "l.id, l.owner_id, l.name, l.description, l.private, l.member_count, l.follower_count"
_LOCK_LIST = (
    "OPTIONAL MATCH (l:PeopleList {id: $list})\n"
    "FOREACH (one IN CASE WHEN l IS NULL THEN [] ELSE [l] END | SET one.locked = true)\n"
)
_LOCK_FOUND = "UNWIND $ids AS id\nMATCH (p:Person {id: id}) SET p.locked = true\n"
_LOCK_MADE = f"UNWIND $ids AS id\n{MADE} SET p.locked = true\n"


def _between(name: str, one: str, other: str) -> str:
    return (
        f"OPTIONAL MATCH ()-[{name}:BLOCKS]->() USING INDEX SEEK {name}:BLOCKS(from_id, to_id)"
        f" WHERE {name}.from_id = {one} AND {name}.to_id = {other}\n"
    )


def _tie(name: str, kind: str) -> str:
    return (
        f"OPTIONAL MATCH ()-[{name}:{kind}]->() USING INDEX SEEK {name}:{kind}(list_id, user_id)"
        f" WHERE {name}.list_id = $list AND {name}.user_id = $user\n"
    )


# One row, whatever is there: it reads what others committed before this one had the locks.
_LOOK = (
    "WITH count(p) AS people\n"
    + _LOCK_LIST
    + "WITH l\n"
    + _tie("member", ON_LIST)
    + _tie("follower", FOLLOWS_LIST)
    + _tie("pin", PINS_LIST)
    + _between("blocks", "l.owner_id", "$user")
    + _between("blocked", "$user", "l.owner_id")
    + "OPTIONAL MATCH (u:Person {id: $user})\n"
    "RETURN l.owner_id AS owner, l:GoneList AS gone, l.private AS private, l.member_count AS members,\n"
    " l.follower_count AS followers, member.counted AS counted, member IS NOT NULL AS on_list,\n"
    " follower IS NOT NULL AS follows, pin IS NOT NULL AS pinned,\n"
    " blocks IS NOT NULL OR blocked IS NOT NULL AS across, COUNT { (u)-[:FOLLOWS_LIST]->() } AS following,\n"
    " COUNT { (u)-[:PINS_LIST]->(o) WHERE NOT o:GoneList AND (NOT o.private OR o.owner_id = $user) } AS pins"
)
_LOOK_MADE = _LOCK_MADE + _LOOK
_LOOK_FOUND = _LOCK_FOUND + _LOOK
_OWNER = "MATCH (l:PeopleList {id: $list}) RETURN l.owner_id AS owner"


def _add(kind: str, more: str = "") -> str:
    return (
        "MATCH (u:Person {id: $user}) MATCH (l:PeopleList {id: $list})"
        f" CREATE (u)-[:{kind} {{user_id: $user, list_id: $list, edge_id: $edge{more}}}]->(l)"
    )


def _remove(kind: str) -> str:
    return (
        f"MATCH ()-[r:{kind}]->(l) USING INDEX SEEK r:{kind}(list_id, user_id)"
        " WHERE r.list_id = $list AND r.user_id = $user DELETE r"
    )


_LISTED = (
    "UNWIND $ids AS id MATCH (p:Person {id: id})"
    " SET p.listed_count = p.listed_count + $step, p.version = p.version + 1"
    " RETURN p.id AS id, p.listed_count AS listed, p.version AS version"
)
# Of lists that one owns, and what ties another one to each; an owner has 1,000 lists at most.
_CUT = (
    "MATCH (:Person {id: $owner})-[:OWNS]->(l:PeopleList)\n"
    "WITH l ORDER BY l.id\n"
    + "".join(
        f"OPTIONAL MATCH ()-[{name}:{kind}]->() USING INDEX SEEK {name}:{kind}(list_id, user_id)"
        f" WHERE {name}.list_id = l.id AND {name}.user_id = $user\n"
        for name, kind in (("member", ON_LIST), ("follower", FOLLOWS_LIST), ("pin", PINS_LIST))
    )
    + "WITH l, member, follower, pin WHERE member IS NOT NULL OR follower IS NOT NULL OR pin IS NOT NULL\n"
)
_CUT_LOOK = f"{_CUT}SET l.locked = true"
_CUT_ALL = (
    f"{_CUT}WITH l, member, follower, pin, member.counted AS counted,"
    " member IS NOT NULL AS was_member, follower IS NOT NULL AS was_follower\n"
    "DELETE member, follower, pin\n"
    "SET l.member_count = l.member_count - CASE WHEN was_member THEN 1 ELSE 0 END,\n"
    " l.follower_count = l.follower_count - CASE WHEN was_follower THEN 1 ELSE 0 END\n"
    "RETURN counted"
)
_MADE_BEFORE = (
    f"{_LOCK_MADE}WITH p\n"
    "OPTIONAL MATCH (same:PeopleList {id: $list})\n"
    "OPTIONAL MATCH (l:PeopleList {owner_id: $owner, request_id: $request})\n"
    "WITH p, coalesce(same, l) AS l\n"
    f"RETURN COUNT {{ (p)-[:OWNS]->() }} AS owned, {_LIST}"
)
_CREATE = (
    "MATCH (p:Person {id: $owner})\n"
    "CREATE (p)-[:OWNS {user_id: $owner, list_id: $list, edge_id: $list}]->(l:PeopleList {id: $list, owner_id: $owner,"
    " name: $name, description: $description, private: $private, member_count: 0, follower_count: 0,"
    " request_id: $request})"  # a property that is null is none
)
_LOCK_OWN = (
    "MATCH (l:PeopleList {id: $list}) SET l.locked = true WITH l WHERE l.owner_id = $owner AND NOT l:GoneList"
    " RETURN l.private AS private"
)
_UPDATE = (
    "MATCH (l:PeopleList {id: $list}) SET l.name = coalesce($name, l.name),"
    " l.description = coalesce($description, l.description), l.private = coalesce($private, l.private)"
)
_UNSETTLE = "MATCH (l:PeopleList {id: $list}) SET l:UnsettledList"
_DELETE = (
    "MATCH (:Person {id: $owner})-[r:OWNS]->(l:PeopleList {id: $list}) DELETE r"
    " SET l:GoneList:UnsettledList, l.name = '', l.description = '', l.member_count = 0, l.follower_count = 0"
)
_BY_IDS = f"UNWIND $ids AS id MATCH (l:PeopleList {{id: id}}) WHERE NOT l:GoneList WITH DISTINCT l RETURN {_LIST}"
_MEMBER_IDS = (
    "MATCH (l:PeopleList {id: $id})"
    " RETURN COLLECT { MATCH (l)<-[r:ON_LIST]-() RETURN r.user_id LIMIT $limit } AS people"
)
_NEXT = (
    "MATCH (l:UnsettledList) USING INDEX SEEK l:UnsettledList(id) WHERE l.id > $after"
    " RETURN l.id AS id, l:GoneList AS gone, l.private AS private ORDER BY l.id LIMIT 1"
)
_GOING = "MATCH (l:PeopleList {id: $list})<-[r:ON_LIST]-() WITH r LIMIT $limit RETURN r.user_id AS user"
_MISCOUNTED = (
    "MATCH (l:PeopleList {id: $list})<-[r:ON_LIST]-() WHERE r.counted <> $counted"
    " WITH r LIMIT $limit RETURN r.user_id AS user"
)
_MEMBERS = (
    "UNWIND $ids AS id MATCH ()-[r:ON_LIST]->() USING INDEX SEEK r:ON_LIST(list_id, user_id)"
    " WHERE r.list_id = $list AND r.user_id = id WITH id, r, r.counted AS counted"
)
_TAKE_AWAY = f"{_MEMBERS} DELETE r RETURN id, counted"
_RECOUNT = f"{_MEMBERS} WHERE counted <> $counted SET r.counted = $counted RETURN id"
_SETTLED = "MATCH (l:PeopleList {id: $list}) REMOVE l:UnsettledList"


def _take_others(kind: str) -> str:
    return f"MATCH (l:PeopleList {{id: $list}})<-[r:{kind}]-() WITH r LIMIT $limit DELETE r RETURN count(*) AS done"


def listings(kind: str, *, newest: bool) -> str:
    """The query for a page of the lists that somebody is tied to in one way.

    Args:
        kind: the relationship's type.
        newest: whether it goes down from `$bound`, or up.
    """
    bound, order = ("<", " DESC") if newest else (">", "")
    return (
        f"MATCH ()-[r:{kind}]->(l) USING INDEX SEEK r:{kind}(user_id, edge_id)"
        f" WHERE r.user_id = $id AND r.edge_id {bound} $bound AND NOT l:GoneList"
        f" WITH r, l ORDER BY r.user_id{order}, r.edge_id{order} LIMIT $limit"
        f" RETURN r.edge_id, {_LIST}"
    )


def people(kind: str, *, newest: bool) -> str:
    """The query for a page of the people who are tied to a list in one way; arguments as for `listings`."""
    bound, order = ("<", " DESC") if newest else (">", "")
    return (
        f"MATCH ()-[r:{kind}]->() USING INDEX SEEK r:{kind}(list_id, edge_id)"
        f" WHERE r.list_id = $id AND r.edge_id {bound} $bound"
        f" WITH r ORDER BY r.list_id{order}, r.edge_id{order} LIMIT $limit"
        " RETURN collect(r.edge_id) AS edges, collect(r.user_id) AS people"
    )


def _people_list(row: Record | Sequence[Any]) -> PeopleList:
    return PeopleList(*row)


def _publish_listed(tx: Neo4jTx, outbox: Neo4jOutbox, rows: Sequence[Record]) -> None:
    for row in rows:
        event = ListedCountChanged(user_id=row["id"], listed_count=row["listed"], version=row["version"])
        key = str(row["id"]).encode()
        outbox.add(tx, TOPIC, key, event.DESCRIPTOR.full_name, event.SerializeToString())


async def _count_listed(tx: Neo4jTx, outbox: Neo4jOutbox, user_ids: Sequence[int], step: int) -> None:
    """Counts lists that people are on, who are locked."""
    _publish_listed(tx, outbox, await tx.run(_LISTED, {"ids": list(user_ids), "step": step}))


async def cut_lists(tx: Neo4jTx, outbox: Neo4jOutbox, one_id: int, other_id: int) -> None:
    """Takes each of two people, who are locked, off the other's lists, and out of their followers: part of a block's
    unit of work.

    An owner has 1,000 lists at most, so this is bounded.
    """
    for owner, user in sorted([(one_id, other_id), (other_id, one_id)]):
        pair = {"owner": owner, "user": user}
        await tx.run(_CUT_LOOK, pair)
        counted = sum(bool(row["counted"]) for row in await tx.run(_CUT_ALL, pair))
        if counted:
            await _count_listed(tx, outbox, [user], -counted)


@dataclass(frozen=True, slots=True)
class _Look:
    """A list and a person that are locked, and what is between them."""

    owner: int | None
    gone: bool | None
    private: bool | None
    members: int | None
    followers: int | None
    counted: bool | None
    on_list: bool
    follows: bool
    pinned: bool
    across: bool
    """Whether a block is between the list's owner and the person."""
    following: int
    pins: int

    def own(self, list_id: int, owner_id: int) -> None:
        """Raises NotFound when the owner has no such list."""
        if self.owner != owner_id or self.gone:
            raise no_list(list_id)


class Neo4jListStore:
    """services.graph.store.lists.ListStore."""

    def __init__(self, db: Neo4jDatabase, outbox: Neo4jOutbox) -> None:
        self._db = db
        self._outbox = outbox

    async def create(self, new: PeopleList, request_id: str = "") -> PeopleList:
        """See ListStore."""
        request = request_id or None
        params = {
            "list": new.id,
            "owner": new.owner_id,
            "name": new.name,
            "description": new.description,
            "private": new.private,
            "request": request,
        }

        async def unit(tx: Neo4jTx) -> PeopleList:
            look = {"ids": [new.owner_id], "list": new.id, "owner": new.owner_id, "request": request}
            [(owned, *made)] = await tx.run(_MADE_BEFORE, look)
            if made[0] is not None:
                return _people_list(made)
            if owned >= MAX_OWNED:
                raise PermissionDenied(f"You may have {MAX_OWNED} lists at most.", reason="LISTS_TOO_MANY")
            await tx.run(_CREATE, params)
            return new

        return await self._db.write(unit)

    async def update(
        self, list_id: int, owner_id: int, *, name: str | None, description: str | None, private: bool | None
    ) -> None:
        """See ListStore."""
        params = {"list": list_id, "name": name, "description": description, "private": private}

        async def unit(tx: Neo4jTx) -> None:
            found = await tx.one(_LOCK_OWN, {"list": list_id, "owner": owner_id})
            if found is None:
                raise no_list(list_id)
            await tx.run(_UPDATE, params)
            if private is not None and private != found["private"]:
                await tx.run(_UNSETTLE, {"list": list_id})

        await self._db.write(unit)

    async def delete(self, list_id: int, owner_id: int) -> bool:
        """See ListStore."""

        async def unit(tx: Neo4jTx) -> bool:
            look = await self._look(tx, list_id, owner_id)
            if look.owner != owner_id:
                return False
            if not look.gone:
                await tx.run(_DELETE, {"list": list_id, "owner": owner_id})
            return True

        return await self._db.write(unit)

    async def by_ids(self, list_ids: Sequence[int]) -> list[PeopleList]:
        """See ListStore."""
        if not list_ids:
            return []
        params = {"ids": list(list_ids)}
        return [_people_list(row) for row in await self._db.read(lambda tx: tx.run(_BY_IDS, params))]

    async def owned(self, user_id: int, *, before: int, after: int, limit: int) -> list[Listing]:
        """See ListStore."""
        return await self._listings(OWNS, user_id, before, after, limit)

    async def followed(self, user_id: int, *, before: int, after: int, limit: int) -> list[Listing]:
        """See ListStore."""
        return await self._listings(FOLLOWS_LIST, user_id, before, after, limit)

    async def memberships(self, user_id: int, *, before: int, after: int, limit: int) -> list[Listing]:
        """See ListStore."""
        return await self._listings(ON_LIST, user_id, before, after, limit)

    async def pinned(self, user_id: int, *, before: int, after: int, limit: int) -> list[Listing]:
        """See ListStore."""
        return await self._listings(PINS_LIST, user_id, before, after, limit)

    async def _listings(self, kind: str, user_id: int, before: int, after: int, limit: int) -> list[Listing]:
        query = listings(kind, newest=not after)
        params = {"id": user_id, "bound": after or before or _MAX_ID, "limit": limit}
        rows = await self._db.read(lambda tx: tx.run(query, params))
        return [Listing(row[0], _people_list(row[1:])) for row in rows]

    async def members(self, list_id: int, *, before: int, after: int, limit: int) -> list[Edge]:
        """See ListStore."""
        return await self._people(ON_LIST, list_id, before, after, limit)

    async def list_followers(self, list_id: int, *, before: int, after: int, limit: int) -> list[Edge]:
        """See ListStore."""
        return await self._people(FOLLOWS_LIST, list_id, before, after, limit)

    async def _people(self, kind: str, list_id: int, before: int, after: int, limit: int) -> list[Edge]:
        query = people(kind, newest=not after)
        params = {"id": list_id, "bound": after or before or _MAX_ID, "limit": limit}
        [(edges, users)] = await self._db.read(lambda tx: tx.run(query, params))
        return [Edge(edge, user) for edge, user in zip(edges, users, strict=True)]

    async def member_ids(self, list_id: int) -> list[int]:
        """See ListStore."""
        params = {"id": list_id, "limit": MAX_MEMBERS}
        found = await self._db.read(lambda tx: tx.one(_MEMBER_IDS, params))
        return [] if found is None else list(found["people"])

    async def add_member(self, list_id: int, owner_id: int, user_id: int, member_id: int) -> bool:
        """See ListStore."""

        async def unit(tx: Neo4jTx) -> bool:
            look = await self._look(tx, list_id, user_id, with_owner=owner_id)
            look.own(list_id, owner_id)
            if look.across:
                raise PermissionDenied("You may not add this account to a list.", reason="BLOCKED")
            if look.on_list:
                return False
            if (look.members or 0) >= MAX_MEMBERS:
                raise PermissionDenied(f"A list may have {MAX_MEMBERS} members at most.", reason="LIST_FULL")
            params = {"list": list_id, "user": user_id, "edge": member_id, "counted": not look.private}
            await tx.run(f"{_add(ON_LIST, ', counted: $counted')} SET l.member_count = l.member_count + 1", params)
            if not look.private:
                await _count_listed(tx, self._outbox, [user_id], 1)
            return True

        return await self._db.write(unit)

    async def remove_member(self, list_id: int, owner_id: int, user_id: int) -> bool:
        """See ListStore."""

        async def unit(tx: Neo4jTx) -> bool:
            look = await self._look(tx, list_id, user_id)
            look.own(list_id, owner_id)
            if look.on_list:
                params = {"list": list_id, "user": user_id}
                await tx.run(f"{_remove(ON_LIST)} SET l.member_count = l.member_count - 1", params)
                if look.counted:
                    await _count_listed(tx, self._outbox, [user_id], -1)
            return look.on_list

        return await self._db.write(unit)

    async def follow_list(self, list_id: int, user_id: int, follow_id: int) -> bool:
        """See ListStore."""

        async def unit(tx: Neo4jTx) -> bool:
            look = await self._shown(tx, list_id, user_id)
            if look.follows:
                return False
            if look.following >= MAX_FOLLOWED:
                raise PermissionDenied(f"You may follow {MAX_FOLLOWED} lists at most.", reason="FOLLOWS_TOO_MANY")
            params = {"list": list_id, "user": user_id, "edge": follow_id}
            await tx.run(f"{_add(FOLLOWS_LIST)} SET l.follower_count = l.follower_count + 1", params)
            return True

        return await self._db.write(unit)

    async def unfollow_list(self, list_id: int, user_id: int) -> bool:
        """See ListStore."""

        async def unit(tx: Neo4jTx) -> bool:
            look = await self._look(tx, list_id, user_id)
            if look.follows:
                # A deleted list has no followers left to count, though their rows are there for a moment more.
                fewer = "" if look.gone else " SET l.follower_count = l.follower_count - 1"
                await tx.run(f"{_remove(FOLLOWS_LIST)}{fewer}", {"list": list_id, "user": user_id})
            return look.follows

        return await self._db.write(unit)

    async def pin(self, list_id: int, user_id: int, pin_id: int) -> bool:
        """See ListStore."""

        async def unit(tx: Neo4jTx) -> bool:
            look = await self._shown(tx, list_id, user_id)
            if look.pinned:
                return False
            if look.pins >= MAX_PINNED:
                raise PermissionDenied(f"You may pin {MAX_PINNED} lists at most.", reason="PINS_TOO_MANY")
            await tx.run(_add(PINS_LIST), {"list": list_id, "user": user_id, "edge": pin_id})
            return True

        return await self._db.write(unit)

    async def unpin(self, list_id: int, user_id: int) -> bool:
        """See ListStore."""

        async def unit(tx: Neo4jTx) -> bool:
            look = await self._look(tx, list_id, user_id)
            if look.pinned:
                await tx.run(_remove(PINS_LIST), {"list": list_id, "user": user_id})
            return look.pinned

        return await self._db.write(unit)

    @staticmethod
    async def _look(tx: Neo4jTx, list_id: int, user_id: int, *, with_owner: int | None = None) -> _Look:
        """Locks a person and a list; with the owner of the list both people, who are made if they are not there."""
        ids = sorted({user_id, user_id if with_owner is None else with_owner})
        query = _LOOK_FOUND if with_owner is None else _LOOK_MADE
        [row] = await tx.run(query, {"ids": ids, "list": list_id, "user": user_id})
        return _Look(*row)

    async def _shown(self, tx: Neo4jTx, list_id: int, user_id: int) -> _Look:
        """Locks what is between a person and a list, its owner too. Raises NotFound for a list that does not show."""
        owner = await tx.one(_OWNER, {"list": list_id})
        if owner is None:
            raise no_list(list_id)
        look = await self._look(tx, list_id, user_id, with_owner=owner["owner"])
        if look.gone or (look.private and look.owner != user_id) or look.across:
            raise no_list(list_id)
        return look

    async def settle(self, limit: int, after: int = 0) -> int:
        """See ListStore."""

        async def unit(tx: Neo4jTx) -> int:
            found = await tx.one(_NEXT, {"after": after})
            if found is None and after:
                found = await tx.one(_NEXT, {"after": 0})
            if found is None:
                return 0
            list_id, gone, private = found
            # Whose counts change is known before they are locked, and they are before the list is.
            query, params = (_GOING, {}) if gone else (_MISCOUNTED, {"counted": not private})
            rows = await tx.run(query, {"list": list_id, "limit": limit, **params})
            users = sorted(row["user"] for row in rows)
            await tx.run(f"{_LOCK_FOUND}RETURN count(*)", {"ids": users})
            [row] = await tx.run(f"{_LOCK_LIST}RETURN l:GoneList AS gone, l.private AS private", {"list": list_id})
            if (row["gone"], row["private"]) == (gone, private):  # else it has its turn anew
                if gone:
                    await self._take_away(tx, list_id, users, limit)
                else:
                    await self._recount(tx, list_id, users, counted=not private)
            return int(list_id)

        return await self._db.write(unit)

    async def _take_away(self, tx: Neo4jTx, list_id: int, users: list[int], limit: int) -> None:
        """Removes these memberships of a deleted list, and others' ties to it, up to `limit` in all."""
        rows = await tx.run(_TAKE_AWAY, {"list": list_id, "ids": users})
        counted = [row["id"] for row in rows if row["counted"]]
        if counted:
            await _count_listed(tx, self._outbox, counted, -1)
        left = limit - len(users)
        for kind in (FOLLOWS_LIST, PINS_LIST):
            if left:
                [(done,)] = await tx.run(_take_others(kind), {"list": list_id, "limit": left})
                left -= done
        if left:
            await tx.run(_SETTLED, {"list": list_id})

    async def _recount(self, tx: Neo4jTx, list_id: int, users: list[int], *, counted: bool) -> None:
        """Counts, or no longer counts, these memberships of a switched list."""
        changed = {"list": list_id, "ids": users, "counted": counted}
        done = [row["id"] for row in await tx.run(_RECOUNT, changed)]
        if done:
            await _count_listed(tx, self._outbox, done, 1 if counted else -1)
        if not await tx.run(_MISCOUNTED, {"list": list_id, "counted": counted, "limit": 1}):
            await tx.run(_SETTLED, {"list": list_id})
