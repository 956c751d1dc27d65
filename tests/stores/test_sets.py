"""Guarded sets on a real Valkey: a loader that read rows before they changed never brings them back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mesh.cache.open import open_cache
from mesh.cache.sets import PRESENT, GuardedSets
from mesh.cache.store import CacheGone, CacheStore

from .conftest import Valkey

OWNER = 7
NAMES = ("joined", "special")


@pytest.fixture
async def store(valkey: Valkey) -> AsyncIterator[CacheStore]:
    one = open_cache(valkey.url)
    await one.client.flushdb()
    yield one
    await one.close()


@pytest.fixture
def sets(store: CacheStore) -> GuardedSets:
    return GuardedSets(store, NAMES)


async def members(store: CacheStore, name: str, owner: int = OWNER) -> set[int] | None:
    """What a reader sees; None for a set that must be loaded."""
    answer = await store.client.smembers(GuardedSets.key(name, owner))
    found = {one.decode() if isinstance(one, bytes) else one for one in answer}
    assert not found or PRESENT in found
    return {int(one) for one in found - {PRESENT}} if found else None


async def test_sets_are_written_whole(sets: GuardedSets, store: CacheStore) -> None:
    before = await sets.generation(OWNER)
    assert await sets.fill(OWNER, before, {"joined": [3, 1, 2], "special": []})
    assert await members(store, "joined") == {1, 2, 3}
    assert await members(store, "special") == set(), "empty differs from not loaded"
    assert await members(store, "joined", OWNER + 1) is None
    assert await sets.fill(OWNER, before, {"joined": [2], "special": [9]})
    assert await members(store, "joined") == {2}, "nothing of what was there is left"
    assert await members(store, "special") == {9}


async def test_a_change_drops_all_sets_of_the_owner_and_of_nobody_else(sets: GuardedSets, store: CacheStore) -> None:
    for owner in (1, 2, 3):
        await sets.fill(owner, await sets.generation(owner), {"joined": [owner], "special": [owner]})
    await sets.drop([1, 3])
    found = [await members(store, name, owner) for owner in (1, 2, 3) for name in NAMES]
    assert found == [None, None, {2}, {2}, None, None]


async def test_a_loader_that_read_before_a_change_writes_nothing(sets: GuardedSets, store: CacheStore) -> None:
    first = await sets.generation(OWNER)
    await sets.drop([OWNER])
    assert not await sets.fill(OWNER, first, {"joined": [1], "special": []})
    assert await members(store, "joined") is None

    second = await sets.generation(OWNER)
    assert await sets.fill(OWNER, second, {"joined": [2], "special": []})
    assert not await sets.fill(OWNER, first, {"joined": [1], "special": []}), "nor over what a later one wrote"
    assert await members(store, "joined") == {2}


async def test_generations_never_come_again(sets: GuardedSets, store: CacheStore) -> None:
    """Also when the store forgot one, as it may: a loader from before would meet its own again."""
    seen = [await sets.generation(OWNER)]
    for _ in range(30):
        await sets.drop([OWNER])
        seen.append(await sets.generation(OWNER))
        await store.client.flushdb()
    assert len(set(seen)) == len(seen)


async def test_a_generation_outlives_every_loader_and_then_ends(sets: GuardedSets, store: CacheStore) -> None:
    await sets.drop([OWNER])
    [key] = [one async for one in store.client.scan_iter("*")]
    assert 60 <= await store.client.ttl(key) <= 600


async def test_sets_end_at_different_times(store: CacheStore) -> None:
    sets = GuardedSets(store, NAMES, ttl_s=1000)
    for owner in range(1, 41):
        await sets.fill(owner, b"", {"joined": [1], "special": []})
    lives = [await store.client.ttl(GuardedSets.key("joined", owner)) for owner in range(1, 41)]
    assert all(895 <= life <= 1105 for life in lives)
    assert len(set(lives)) > 15


async def test_large_sets_are_written_at_once(sets: GuardedSets, store: CacheStore) -> None:
    """Far more members than a Lua call takes as arguments (about 8,000); sizes about a whole batch of 1,000."""
    many = range(1, 20_001)
    for size in (998, 999, 1000, 1001):
        await sets.fill(size, b"", {"joined": many[:size], "special": many[: size + 1]})
        assert await members(store, "joined", size) == set(many[:size])
        assert await members(store, "special", size) == set(many[: size + 1])
    await sets.fill(OWNER, b"", {"joined": many, "special": [1]})
    assert await members(store, "joined") == set(many)
    assert await members(store, "special") == {1}


# Steps of loaders and writers: a loader notes the generation, reads the rows, writes the sets; a writer commits, and
# then drops the sets. Each may be slow between any two of its steps.
STEPS = st.lists(st.integers(0, 5), min_size=4, max_size=40)


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=STEPS)
def test_no_order_of_loaders_and_writers_leaves_old_rows(valkey: Valkey, steps: list[int]) -> None:
    """Three loaders and three writers take turns; with none between commit and drop, the truth shows."""

    async def run() -> None:
        store = open_cache(valkey.url)
        await store.client.flushdb()
        sets = GuardedSets(store, NAMES)
        rows: set[int] = set()
        undropped: set[int] = set()
        noted: dict[int, bytes] = {}
        read: dict[int, set[int]] = {}
        for at, actor in enumerate(steps):
            if actor >= 3:  # a writer
                if actor in undropped:
                    await sets.drop([OWNER])
                    undropped.discard(actor)
                else:
                    rows ^= {1 + at % 4}
                    undropped.add(actor)
            elif actor not in noted:
                noted[actor] = await sets.generation(OWNER)
            elif actor not in read:
                read[actor] = set(rows)
            else:
                await sets.fill(OWNER, noted.pop(actor), {"joined": read.pop(actor), "special": []})
            if not undropped:
                assert await members(store, "joined") in (None, rows)
        await store.close()

    asyncio.run(run())


async def test_without_the_store_callers_are_told_at_once(start_valkey: Callable[[bool], Valkey]) -> None:
    server = start_valkey(False)
    store = open_cache(server.url)
    sets = GuardedSets(store, NAMES)
    generation = await sets.generation(OWNER)
    server.kill()
    async with asyncio.timeout(2):
        with pytest.raises(CacheGone):
            await sets.generation(OWNER)
        with pytest.raises(CacheGone):
            await sets.fill(OWNER, generation, {"joined": [], "special": []})
        with pytest.raises(CacheGone):
            await sets.drop([OWNER])
    await store.close()
