"""What the graph store is made of, for copies to another one (mesh/transfer)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mesh.bus.redis_streams import RedisStreamsBus
from mesh.db.sql import Database
from mesh.outbox.sql import SqlOutbox
from mesh.transfer.base import Kind, Transfer, Type
from mesh.transfer.sql import SqlTransfer
from services.graph.store.sql_lists import SqlListStore

_INTEGER, _TEXT, _BOOLEAN = Type.INTEGER, Type.TEXT, Type.BOOLEAN
_ROWS = 500


def _pairs(table: str, near: str, far: str, number: str) -> Kind:
    return Kind(table, (near, far), {near: _INTEGER, far: _INTEGER, number: _INTEGER})


KINDS: Sequence[Kind] = (
    Kind(
        "people",
        ("user_id",),
        {
            "user_id": _INTEGER,
            "followers_count": _INTEGER,
            "following_count": _INTEGER,
            "listed_count": _INTEGER,
            "reach": _INTEGER,
            "seen_ms": _INTEGER,
            "version": _INTEGER,
        },
    ),
    _pairs("follows", "follower_id", "followee_id", "follow_id"),
    _pairs("follow_requests", "requester_id", "target_id", "request_id"),
    _pairs("blocks", "blocker_id", "blocked_id", "block_id"),
    _pairs("mutes", "muter_id", "muted_id", "mute_id"),
    Kind(
        "lists",
        ("list_id",),
        {
            "list_id": _INTEGER,
            "owner_id": _INTEGER,
            "name": _TEXT,
            "description": _TEXT,
            "private": _BOOLEAN,
            "gone": _BOOLEAN,
            "member_count": _INTEGER,
            "follower_count": _INTEGER,
            "request_id": _TEXT,
        },
    ),
    Kind(
        "list_members",
        ("list_id", "user_id"),
        {"list_id": _INTEGER, "user_id": _INTEGER, "member_id": _INTEGER, "counted": _BOOLEAN},
    ),
    _pairs("list_follows", "list_id", "user_id", "follow_id"),
    _pairs("list_pins", "list_id", "user_id", "pin_id"),
)
"""In the order in which they refer to each other."""
LEFT_OUT: Mapping[str, str] = {
    "lists_unsettled": "worked off at the source before the copy begins",
    "outbox": "moved as mesh.transfer.base.EVENTS",
    "outbox_lease": "who relays, and what they know of a bus that may be another at the target",
    "worker_leases": "of processes that have ended",
}
"""Tables that are no kind, and why."""


_SCHEMAS = Path(__file__).parents[1] / "schema"


async def open_transfer(url: str, *, target: bool) -> Transfer:
    """The graph store behind a URL, as an end of a copy. Raises as SqlTransfer.open."""
    if url.startswith(("neo4j", "bolt")):
        from services.graph.store.neo4j_transfer import open_neo4j  # its driver is not for those without need

        return await open_neo4j(url, _SCHEMAS / "neo4j", KINDS, target=target)
    return await SqlTransfer.open(url, _SCHEMAS, KINDS, target=target, settle=_settle)


async def _settle(db: Database) -> None:
    """Works off lists that were deleted or switched."""
    bus = RedisStreamsBus("unix:///nowhere")  # is not asked for anything: events wait in the outbox
    lists = SqlListStore(db, SqlOutbox(db, bus, "graph"))
    while await lists.settle(_ROWS):
        pass
    await bus.close()
