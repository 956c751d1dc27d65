"""Waits until a mesh has carried through what it was told: no event in an outbox, none unhandled on the bus."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, cast

import redis.asyncio as redis
from redis.exceptions import RedisError
from sqlalchemy.exc import DBAPIError

from cli.errors import StoreError
from cli.stores import Stores
from mesh.db.sql import Database, Tx
from mesh.errors import Unavailable

_POLL_S = 0.05
_EXCHANGE_S = 5.0
# Handlers publish too (`fanout` plans batches for itself) before they acknowledge, so whoever looks at the topics of
# facts first and at those of plans last misses nothing.
_LAST = b"bus:{fanout:"


async def settle(stores: Stores, deadline_s: float) -> None:
    """Returns once everything that was committed before the call has reached lists, counts and read models.

    Writes that go on meanwhile are waited for too.

    Raises:
        StoreError: it has not within the deadline; the message says what is left. Or a store does not answer.
    """
    until = time.monotonic() + deadline_s
    if not stores.bus_url.startswith(("unix:", "redis:", "rediss:", "valkey:")):
        raise StoreError("only a bus on Redis Streams can be asked what is left on it")
    client = redis.Redis.from_url(
        stores.bus_url, socket_timeout=_EXCHANGE_S, socket_connect_timeout=_EXCHANGE_S, protocol=2
    )
    try:
        while left := await _left(stores.databases, client):
            if time.monotonic() > until:
                raise StoreError(f"the mesh is not settled after {deadline_s:g} s: {'; '.join(left)}")
            await asyncio.sleep(_POLL_S)
    except (RedisError, OSError, Unavailable, DBAPIError) as error:
        raise StoreError(f"a store does not answer: {error}") from error
    finally:
        await client.aclose()


async def _left(databases: Mapping[str, Database], client: redis.Redis) -> list[str]:
    """What is under way, outboxes first; empty when nothing is."""
    for service, database in databases.items():
        waiting = await database.read(_waiting)
        if waiting:
            return [f"{waiting} events in the outbox of {service}"]
    streams = [key async for key in client.scan_iter(match="bus:{*:*}", count=1_000, _type="stream")]
    found = []
    for stream in sorted(streams, key=lambda key: (key.startswith(_LAST), key)):
        found += await _unhandled(client, stream)
    return found


async def _waiting(tx: Tx) -> int:
    return int(await tx.scalar("SELECT COUNT(*) FROM outbox WHERE published_ms IS NULL"))


async def _unhandled(client: redis.Redis, stream: bytes) -> list[str]:
    groups = await client.xinfo_groups(stream)
    newest = cast("list[tuple[bytes, Any]]", await client.xrevrange(stream, count=1))
    found = []
    for group in groups:
        behind = bool(newest) and _place(group["last-delivered-id"]) < _place(newest[0][0])
        if behind or group["pending"]:
            found.append(f"group {group['name'].decode()} has not handled all of {stream.decode()}")
    return found


def _place(entry_id: bytes) -> tuple[int, int]:
    ms, _, sequence = entry_id.partition(b"-")
    return int(ms), int(sequence)
