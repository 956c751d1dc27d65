"""Versioned records on a real Valkey: whatever order copies come in, the newest stays, and what is deleted is gone."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable

import pytest

from mesh.cache.open import open_cache
from mesh.cache.records import TOMBSTONE, VERSION_BYTES, Records, is_tombstone
from mesh.cache.store import CacheGone, CacheStore

from .conftest import Valkey

WEEK_S = 7 * 86_400
DAY_S = 86_400


def record(version: int, content: bytes = b"content") -> bytes:
    """A record as its owner numbers it."""
    return version.to_bytes(VERSION_BYTES, "big") + content


@pytest.fixture
async def store(valkey: Valkey) -> AsyncIterator[CacheStore]:
    one = open_cache(valkey.url)
    await one.client.flushdb()
    yield one
    await one.close()


@pytest.fixture
def records(store: CacheStore) -> Records:
    return Records(store, "thing:")


async def test_records_are_read_in_the_order_asked_with_none_for_the_absent(records: Records) -> None:
    odd = record(1, bytes(range(256)))
    await records.put({1: record(1, b"a"), 2: record(9, b""), 3: odd})
    assert await records.get([3, 4, 1, 3]) == [odd, None, record(1, b"a"), odd]
    assert await records.get([]) == []
    await records.put({})


@pytest.mark.parametrize(
    ("first", "second", "stays"),
    [
        (record(2, b"new"), record(1, b"old"), record(2, b"new")),
        (record(1, b"old"), record(2, b"new"), record(2, b"new")),
        (record(2, b"same"), record(2, b"other"), record(2, b"same")),
        (record(255, b"old"), record(256, b"new"), record(256, b"new")),
        (record(2**52, b"old"), record(2**52 + 1, b"new"), record(2**52 + 1, b"new")),
        (record(2**52 + 1, b"new"), record(2**52, b"old"), record(2**52 + 1, b"new")),
        (record(5, b"there"), TOMBSTONE, TOMBSTONE),
        (TOMBSTONE, record(5, b"late"), TOMBSTONE),
        (TOMBSTONE, record(2**53 - 2, b"late"), TOMBSTONE),
    ],
    ids=[
        "older",
        "newer",
        "same",
        "newer by a carry",
        "newer and large",
        "older and large",
        "deleted",
        "late after a deletion",
        "late with the highest number",
    ],
)
async def test_only_what_is_newer_is_written(records: Records, first: bytes, second: bytes, stays: bytes) -> None:
    await records.put({1: first})
    await records.put({1: second})
    assert await records.get([1]) == [stays]


def test_a_tombstone_is_told_from_a_record_without_content() -> None:
    assert is_tombstone(TOMBSTONE)
    assert not is_tombstone(record(2**53 - 1, b"x"))


async def test_something_that_is_no_record_is_replaced(records: Records, store: CacheStore) -> None:
    """What an older release, or anybody, left there."""
    await store.client.set(records.key(1), b"short")
    await records.put({1: record(1)})
    assert await records.get([1]) == [record(1)]


async def test_writers_that_race_leave_the_newest(valkey: Valkey, records: Records) -> None:
    """Many loaders with copies of different age, on connections of their own, at the same time."""
    versions = [1 + i // 4 for i in range(120)]
    random.Random(5).shuffle(versions)
    other = open_cache(valkey.url)
    try:
        seconds = Records(other, "thing:")
        await asyncio.gather(
            *(
                (records if i % 2 else seconds).put({n: record(version, b"v%d" % version) for n in (1, 2)})
                for i, version in enumerate(versions)
            )
        )
    finally:
        await other.close()
    newest = record(max(versions), b"v%d" % max(versions))
    assert await records.get([1, 2]) == [newest, newest]


async def test_a_deletion_wins_over_every_loader_that_races_with_it(records: Records) -> None:
    puts = [records.put({1: record(version)}) for version in range(1, 40)]
    puts.insert(20, records.put({1: TOMBSTONE}))
    await asyncio.gather(*puts)
    assert await records.get([1]) == [TOMBSTONE]


async def test_more_records_than_one_script_takes_are_written(records: Records, store: CacheStore) -> None:
    """1,201: two whole batches, and one more."""
    await records.put({n: record(n, b"%d" % n) for n in range(1, 1202)})
    found = await records.get(range(1, 1202))
    assert found == [record(n, b"%d" % n) for n in range(1, 1202)]
    assert len({key async for key in store.client.scan_iter(count=1_000)}) == 1201


async def test_records_end_at_different_times_and_tombstones_after_a_day(records: Records, store: CacheStore) -> None:
    await records.put({**{n: record(1) for n in range(1, 60)}, 60: TOMBSTONE})
    lives = [await store.client.ttl(records.key(n)) for n in range(1, 60)]
    assert all(0.89 * WEEK_S < life < 1.11 * WEEK_S for life in lives)
    assert len(set(lives)) > 30, "all would be loaded again in the same second"
    assert DAY_S - 5 < await store.client.ttl(records.key(60)) <= DAY_S


async def test_kinds_do_not_mix(store: CacheStore) -> None:
    one, other = Records(store, "one:"), Records(store, "other:")
    await one.put({1: record(1, b"one")})
    assert await other.get([1]) == [None]


async def test_without_the_store_callers_are_told_at_once(start_valkey: Callable[[bool], Valkey]) -> None:
    server = start_valkey(False)
    store = open_cache(server.url)
    records = Records(store, "thing:")
    await records.put({1: record(1)})
    server.kill()
    async with asyncio.timeout(2):
        for _ in range(20):  # more than the breaker lets through
            with pytest.raises(CacheGone):
                await records.get([1])
            with pytest.raises(CacheGone):
                await records.put({1: record(2)})
    await store.close()
