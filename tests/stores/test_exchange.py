"""`CacheStore.exchange` on a real Valkey over one connection, where an unread answer would be the next trip's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
import redis.asyncio as redis
from redis.exceptions import ResponseError

from mesh.cache.open import open_cache
from mesh.cache.store import CacheGone, CacheStore, Commands
from tests.stores.conftest import Valkey


@pytest_asyncio.fixture
async def store(valkey: Valkey) -> AsyncIterator[CacheStore]:
    made = open_cache(valkey.url, connections=1)
    await made.exchange([("SET", "exchange:a", "A"), ("SET", "exchange:b", "B")])
    yield made
    await made.close()


@pytest_asyncio.fixture
async def other(valkey: Valkey) -> AsyncIterator[redis.Redis]:
    async with redis.Redis.from_url(valkey.url, protocol=2) as client:
        yield client


async def blocked(other: redis.Redis) -> None:
    """Waits until the store's connection waits inside Valkey."""
    until = time.monotonic() + 5
    while (await other.info("clients"))["blocked_clients"] == 0:
        assert time.monotonic() < until
        await asyncio.sleep(0.005)  # it is another process's state


async def test_answers_come_in_order_and_as_a_pipeline_of_the_client_gives_them(store: CacheStore) -> None:
    words = [
        ("DEL", "exchange:s"),
        ("SADD", "exchange:s", 7, b"\x00\xff", "ü"),
        ("SMISMEMBER", "exchange:s", 7, 8, "ü"),
        ("MGET", "exchange:a", "exchange:none", b"exchange:b"),
        ("ZRANGE", "exchange:none", 0, -1),
    ]
    commands = Commands()
    async with store.client.pipeline(transaction=False) as pipe:
        for command in words:
            commands.execute_command(*command)
            pipe.execute_command(*command)
        await store.exchange([("DEL", "exchange:s")])
        found = await store.exchange(commands.queued)
        await store.exchange([("DEL", "exchange:s")])
        assert found == await pipe.execute() == [0, 3, [1, 0, 1], [b"A", None, b"B"], []]


async def test_a_refused_command_is_raised_when_all_answers_are_read(store: CacheStore) -> None:
    """The connection is as good as before: the pool would have to replace one with answers left in it."""
    before = await store.exchange([("CLIENT", "ID")])
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await store.exchange([("GET", "exchange:a"), ("SMEMBERS", "exchange:a"), ("GET", "exchange:a")])
    assert await store.exchange([("GET", "exchange:b"), ("CLIENT", "ID")]) == [b"B", *before]


async def test_after_a_cancelled_trip_the_next_reads_its_own_answers(store: CacheStore, other: redis.Redis) -> None:
    trip = asyncio.create_task(store.exchange([("GET", "exchange:a"), ("BLPOP", "exchange:none", 0)]))
    await blocked(other)
    trip.cancel()
    with pytest.raises(asyncio.CancelledError):
        await trip
    assert await store.exchange([("GET", "exchange:b")]) == [b"B"]


async def test_a_trip_that_takes_too_long_is_cache_gone_and_the_next_reads_its_own_answers(store: CacheStore) -> None:
    with pytest.raises(CacheGone):
        await store.exchange([("GET", "exchange:a"), ("BLPOP", "exchange:none", 0)])
    assert await store.exchange([("GET", "exchange:b")]) == [b"B"]


async def test_a_trip_whose_connection_is_lost_is_made_once_more(store: CacheStore, other: redis.Redis) -> None:
    """In the middle of the trip: one that was lost before is noticed when the pool gives it out."""
    trip = asyncio.create_task(store.exchange([("GET", "exchange:a"), ("BLPOP", "exchange:queue", 0)]))
    await blocked(other)
    await other.client_kill_filter(_type="normal", skipme=True)
    await other.rpush("exchange:queue", "late")
    assert await trip == [b"A", [b"exchange:queue", b"late"]]


async def test_a_store_that_does_not_run_is_cache_gone(valkey: Valkey) -> None:
    store = open_cache(f"unix://{valkey.socket}.none?db=0")
    with pytest.raises(CacheGone):
        await store.exchange([("GET", "exchange:a")])
    await store.close()
