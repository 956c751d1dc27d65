"""Counts of calls in a real Valkey: exact in every window, whoever asks, however it is asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import count

import pytest
import pytest_asyncio

from mesh.cache.open import open_cache
from mesh.cache.store import CacheGone, CacheStore
from services.ratelimit.domain import Count, Limit
from services.ratelimit.store.cache import CacheCallStore, key_of
from tests.stores.conftest import Valkey

HOUR = Limit("hour", 10, "hour")
names = count()


@pytest_asyncio.fixture
async def cache(valkey: Valkey) -> AsyncIterator[CacheStore]:
    store = open_cache(valkey.url)
    yield store
    await store.close()


@pytest.fixture
def calls(cache: CacheStore) -> CacheCallStore:
    return CacheCallStore(cache, "calls:test:")


def counted(limit: Limit, owner: str = "") -> Count:
    """A count that nobody has used."""
    name = str(next(names))
    return Count(name, owner or name, limit)


async def admitted(store: CacheCallStore, one: Count, times: int) -> int:
    """How many of so many calls at the same time are admitted."""
    answers = await asyncio.gather(*(store.take([one], 1) for _ in range(times)))
    return sum(answer for answer, _ in answers)


async def test_as_many_are_admitted_as_the_limit_says_and_then_none(calls: CacheCallStore) -> None:
    one = counted(HOUR)
    before = time.time() * 1_000
    for number in range(10):
        passed, [standing] = await calls.take([one], 1)
        assert passed
        assert standing is not None
        assert (standing.over, standing.remaining) == (False, 9 - number)
        assert before + HOUR.window_ms - 1 <= standing.reset_ms <= time.time() * 1_000 + HOUR.window_ms + 1
    passed, [standing] = await calls.take([one], 1)
    assert not passed
    assert standing is not None
    assert (standing.over, standing.remaining) == (True, 0)


async def test_two_replicas_admit_no_more_than_one(valkey: Valkey, cache: CacheStore) -> None:
    other = open_cache(valkey.url)
    try:
        stores = [CacheCallStore(cache, "calls:test:"), CacheCallStore(other, "calls:test:")]
        one = counted(replace(HOUR, requests=300))
        assert sum(await asyncio.gather(*(admitted(store, one, 400) for store in stores))) == 300
    finally:
        await other.close()


async def test_calls_leave_the_window_one_by_one_and_refused_ones_never_were_in_it(calls: CacheCallStore) -> None:
    window_s, limit = 0.0, 5
    one = counted(Limit("second", limit, "second"))
    window_s = one.limit.window_ms / 1_000
    passed: list[tuple[float, float]] = []
    refused: list[tuple[float, float]] = []
    while len(passed) < 6 * limit:  # asked for all the time
        began = time.time()
        found, _ = await calls.take([one], 1)
        (passed if found else refused).append((began, time.time()))
    for begin, _ in passed:
        assert sum(begin <= first and last <= begin + window_s for first, last in passed) <= limit
    for first, last in refused:
        assert sum(first - window_s - 0.002 < end and start < last for start, end in passed) >= limit


async def test_a_key_takes_four_bytes_a_call_and_ends_with_its_window(calls: CacheCallStore, cache: CacheStore) -> None:
    one = counted(replace(HOUR, requests=50))
    await admitted(calls, one, 120)
    key = key_of("calls:test:", one)
    [size, ttl] = await cache.exchange([("STRLEN", key), ("PTTL", key)])
    assert size == 20 + 4 * 50
    assert HOUR.window_ms < ttl <= HOUR.window_ms + 1_000
    assert len(key_of("calls:test:", Count("x" * 10_000, "y" * 10_000, HOUR))) < 60


async def test_one_that_refuses_keeps_the_others_from_counting(calls: CacheCallStore) -> None:
    wide, narrow = counted(replace(HOUR, requests=100), "same"), counted(replace(HOUR, requests=3), "same")
    for _ in range(8):
        await calls.take([wide, narrow], 1)
    _, standings = await calls.take([wide], 1)
    assert [standing and standing.remaining for standing in standings] == [96]
    passed, standings = await calls.take([wide, narrow], 1)
    assert not passed
    assert [standing and standing.over for standing in standings] == [False, True]


async def test_several_hits_are_admitted_together_or_not_at_all(calls: CacheCallStore) -> None:
    one = counted(HOUR)
    assert (await calls.take([one], 7))[0]
    assert not (await calls.take([one], 4))[0]
    passed, [standing] = await calls.take([one], 3)
    assert passed
    assert standing is not None
    assert standing.remaining == 0


async def test_the_same_count_twice_in_one_request_counts_once(calls: CacheCallStore) -> None:
    one = counted(HOUR)
    _, standings = await calls.take([one, one], 1)
    assert [standing and standing.remaining for standing in standings] == [9, 9]


async def test_a_limit_in_shadow_mode_tells_and_refuses_nobody(calls: CacheCallStore) -> None:
    one = counted(replace(HOUR, shadow=True))
    assert await admitted(calls, one, 15) == 15
    _, [standing] = await calls.take([one], 1)
    assert standing is not None
    assert (standing.over, standing.remaining) == (True, 0)


async def test_nothing_is_admitted_where_the_limit_is_none(calls: CacheCallStore) -> None:
    assert await admitted(calls, counted(replace(HOUR, requests=0)), 3) == 0


@pytest.mark.parametrize(("before", "after"), [(10, 4), (10, 25), (4, 5)])
async def test_a_count_goes_on_when_its_limit_changes(calls: CacheCallStore, before: int, after: int) -> None:
    one = counted(replace(HOUR, requests=before))
    assert await admitted(calls, one, before + 3) == before
    assert await admitted(calls, one._replace(limit=replace(HOUR, requests=after)), 30) == max(0, after - before)


async def test_a_ring_that_has_gone_round_is_laid_out_anew(calls: CacheCallStore) -> None:
    """Some of its calls have left, so that its oldest one stands in the middle, when it grows."""
    one = counted(Limit("second", 6, "second"))
    assert await admitted(calls, one, 4) == 4
    until = time.time() + 1.0
    passed = 0
    while time.time() < until + 0.2 or not passed:
        passed += (await calls.take([one], 1))[0]
    more = one._replace(limit=Limit("second", 20, "minute"))
    assert 13 <= await admitted(calls, more, 40) <= 19


async def test_counts_in_several_slots_are_taken_together_or_given_back(cache: CacheStore) -> None:
    store = CacheCallStore(cache, "calls:test:")
    cache.together = lambda keys: [[key] for key in keys]  # type: ignore[method-assign]
    apart = CacheCallStore(cache, "calls:test:")
    wide, narrow = counted(replace(HOUR, requests=100)), counted(replace(HOUR, requests=3))
    passed = [(await apart.take([wide, narrow], 1))[0] for _ in range(8)]
    assert sum(passed) == 3
    del cache.together  # type: ignore[method-assign]
    _, [standing] = await store.take([wide], 1)
    assert standing is not None
    assert standing.remaining == 96


async def test_without_the_store_nobody_is_told_anything(valkey: Valkey) -> None:
    store = open_cache("unix:///nowhere/at/all?db=0")
    try:
        with pytest.raises(CacheGone):
            await CacheCallStore(store, "calls:test:").take([counted(HOUR)], 1)
    finally:
        await store.close()
