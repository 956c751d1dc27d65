"""Values loaded on demand: one loader a key at a time, renewal before the end, and going on without the store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from mesh.cache.loading import LoadingCache, SingleFlight
from mesh.cache.open import open_cache
from mesh.cache.store import CacheStore

from .conftest import Valkey


class Source:
    """Something slow to load from, which counts how often it is asked, and answers when it is let."""

    def __init__(self) -> None:
        self.asked = 0
        self.open = asyncio.Event()
        self.begun = asyncio.Event()

    async def load(self) -> bytes:
        """`v1`, `v2` and so on."""
        self.asked += 1
        mine = self.asked
        self.begun.set()
        await self.open.wait()
        return b"v%d" % mine


@pytest.fixture
async def store(valkey: Valkey) -> AsyncIterator[CacheStore]:
    one = open_cache(valkey.url)
    await one.client.flushdb()
    yield one
    await one.close()


@pytest.fixture
def source() -> Source:
    return Source()


# --- single flight


async def test_callers_at_the_same_time_share_one_load_and_later_ones_do_not(source: Source) -> None:
    flight: SingleFlight[str, bytes] = SingleFlight()
    callers = [asyncio.create_task(flight.do("k", source.load)) for _ in range(20)]
    await source.begun.wait()
    callers.append(asyncio.create_task(flight.do("k", source.load)))
    source.open.set()
    assert await asyncio.gather(*callers) == [b"v1"] * 21
    assert await flight.do("k", source.load) == b"v2"


async def test_different_keys_do_not_wait_for_each_other(source: Source) -> None:
    flight: SingleFlight[str, bytes] = SingleFlight()
    stuck = asyncio.create_task(flight.do("a", source.load))
    await source.begun.wait()

    async def quick() -> bytes:
        return b"b"

    async with asyncio.timeout(1):
        assert await flight.do("b", quick) == b"b"
    source.open.set()
    assert await stuck == b"v1"


async def test_a_load_goes_on_when_the_caller_that_began_it_goes_away(source: Source) -> None:
    flight: SingleFlight[str, bytes] = SingleFlight()
    first = asyncio.create_task(flight.do("k", source.load))
    await source.begun.wait()
    second = asyncio.create_task(flight.do("k", source.load))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    source.open.set()
    assert await second == b"v1"
    assert source.asked == 1


async def test_a_caller_waits_no_longer_than_its_own_deadline(source: Source) -> None:
    flight: SingleFlight[str, bytes] = SingleFlight()
    patient = asyncio.create_task(flight.do("k", source.load))
    await source.begun.wait()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await flight.do("k", source.load)
    source.open.set()
    assert await patient == b"v1"


async def test_a_failed_load_fails_all_who_share_it_and_is_not_kept() -> None:
    flight: SingleFlight[str, bytes] = SingleFlight()
    begun = 0

    async def fail() -> bytes:
        nonlocal begun
        begun += 1
        await asyncio.sleep(0)
        raise LookupError("gone")

    found = await asyncio.gather(*(flight.do("k", fail) for _ in range(3)), return_exceptions=True)
    assert [type(one) for one in found] == [LookupError] * 3
    assert begun == 1
    with pytest.raises(LookupError):
        await flight.do("k", fail)
    assert begun == 2


# --- values in the store


async def test_a_value_is_loaded_once_and_then_read_by_everybody(
    valkey: Valkey, store: CacheStore, source: Source
) -> None:
    source.open.set()
    assert await LoadingCache(store, "v:", ttl_s=100).get("k", source.load) == b"v1"
    other = open_cache(valkey.url)
    try:
        again = LoadingCache(other, "v:", ttl_s=100)
        assert [await again.get("k", source.load) for _ in range(20)] == [b"v1"] * 20
        assert await again.get("other", source.load) == b"v2"
        assert await LoadingCache(other, "w:", ttl_s=100).get("k", source.load) == b"v3", "prefixes do not mix"
    finally:
        await other.close()


async def test_an_empty_value_is_a_value(store: CacheStore) -> None:
    cache = LoadingCache(store, "v:", ttl_s=100)
    asked = 0

    async def load() -> bytes:
        nonlocal asked
        asked += 1
        return b""

    assert [await cache.get("k", load) for _ in range(5)] == [b""] * 5
    assert asked == 1


async def test_many_who_miss_at_once_load_once(store: CacheStore, source: Source) -> None:
    cache = LoadingCache(store, "v:", ttl_s=100)
    callers = [asyncio.create_task(cache.get("k", source.load)) for _ in range(30)]
    await source.begun.wait()
    source.open.set()
    assert set(await asyncio.gather(*callers)) == {b"v1"}
    assert source.asked == 1


async def test_a_dropped_value_is_loaded_again(store: CacheStore, source: Source) -> None:
    source.open.set()
    cache = LoadingCache(store, "v:", ttl_s=100)
    await cache.get("k", source.load)
    await cache.drop("k")
    await cache.drop("never there")
    assert await cache.get("k", source.load) == b"v2"


async def test_lifetimes_differ_by_a_tenth_each_way(store: CacheStore, source: Source) -> None:
    source.open.set()
    cache = LoadingCache(store, "v:", ttl_s=1000)
    for n in range(60):
        await cache.get(str(n), source.load)
    lives = [await store.client.pttl(f"v:{n}") for n in range(60)]
    assert all(890_000 < life <= 1_100_000 for life in lives)
    assert max(lives) - min(lives) > 50_000


async def test_a_value_is_renewed_before_its_end_and_the_sooner_the_dearer_it_is(store: CacheStore) -> None:
    """XFetch: of 300 readers 1 s before the end, a load of 1 ms is renewed by nearly none, one of 1 s by a third."""
    now = 1_000_000.0
    renewals: dict[float, int] = {}
    for cost_s in (0.001, 1.0):
        ends = now + 1.0
        kept = int(ends * 1000).to_bytes(8, "big") + int(cost_s * 1e6).to_bytes(4, "big") + b"old"
        renewed = 0

        async def load() -> bytes:
            nonlocal renewed
            renewed += 1
            return b"new"

        cache = LoadingCache(store, "v:", ttl_s=100, now=lambda: now)
        for _ in range(300):
            await store.client.set("v:k", kept)
            await cache.get("k", load)
        renewals[cost_s] = renewed
    assert renewals[0.001] == 0
    assert 60 < renewals[1.0] < 170, "e^-1 of 300 is 110"


async def test_a_value_past_its_end_is_never_shown(store: CacheStore, source: Source) -> None:
    """The store removes it at about the same time, by a clock of its own."""
    source.open.set()
    now = 1_000_000.0
    cache = LoadingCache(store, "v:", ttl_s=100, now=lambda: now)
    assert await cache.get("k", source.load) == b"v1"
    now += 111
    assert await cache.get("k", source.load) == b"v2"
    assert await cache.get("k", source.load) == b"v2"


async def test_a_load_that_fails_leaves_nothing(store: CacheStore, source: Source) -> None:
    cache = LoadingCache(store, "v:", ttl_s=100)

    async def fail() -> bytes:
        raise LookupError("gone")

    with pytest.raises(LookupError):
        await cache.get("k", fail)
    source.open.set()
    assert await cache.get("k", source.load) == b"v1"


async def test_without_the_store_values_are_loaded_one_loader_a_key(
    start_valkey: Callable[[bool], Valkey], source: Source
) -> None:
    server = start_valkey(False)
    store = open_cache(server.url)
    cache = LoadingCache(store, "v:", ttl_s=100)
    server.kill()

    async def load() -> bytes:
        return b"direct"

    async with asyncio.timeout(3):
        for _ in range(6):  # until the breaker is open, so that nobody waits to find out
            assert await cache.get("k", load) == b"direct"
        callers = [asyncio.create_task(cache.get("k", source.load)) for _ in range(20)]
        await source.begun.wait()
        source.open.set()
        assert await asyncio.gather(*callers) == [b"v1"] * 20
    await store.close()


async def test_a_store_that_goes_away_during_a_load_costs_nothing_but_the_keeping(
    start_valkey: Callable[[bool], Valkey], source: Source
) -> None:
    server = start_valkey(False)
    store = open_cache(server.url)
    caller = asyncio.create_task(LoadingCache(store, "v:", ttl_s=100).get("k", source.load))
    await source.begun.wait()
    server.kill()
    source.open.set()
    async with asyncio.timeout(3):
        assert await caller == b"v1"
    await store.close()
