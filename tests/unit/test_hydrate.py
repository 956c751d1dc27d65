"""Hydration: one trip for what is known, one batch to the owner for the rest, each record asked for once."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest

from mesh.cache.open import open_cache
from mesh.cache.records import TOMBSTONE, Records
from mesh.cache.store import CacheStore
from mesh.context import CallContext, current, enter
from mesh.errors import Unavailable
from tests.stores.conftest import Valkey
from views.hydrate import Hydrator


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    with tempfile.TemporaryDirectory(prefix="vk") as folder:
        server = Valkey(Path(folder), durable=False)
        yield server
        server.kill()


@pytest.fixture
async def store(valkey: Valkey) -> AsyncIterator[CacheStore]:
    made = open_cache(valkey.url)
    await made.client.flushall()
    yield made
    await made.close()


def record(number: int, version: int = 1) -> bytes:
    return version.to_bytes(8, "big") + f"record {number}".encode()


class Owner:
    """The owner's BatchGet: has every even id, and answers when the test lets it."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.seen: list[CallContext] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.entered = asyncio.Event()
        self.broken = False

    async def fetch(self, ids: Sequence[int]) -> Sequence[bytes]:
        self.asked.append(list(ids))
        self.seen.append(current())
        self.entered.set()
        await self.gate.wait()
        if self.broken:
            raise Unavailable("The owner is gone.")
        return [record(i) if i % 2 == 0 else b"" for i in ids]


async def test_what_is_known_is_not_asked_for_and_the_rest_in_one_batch(store: CacheStore) -> None:
    records, owner = Records(store, "r:"), Owner()
    await records.put({2: record(2), 8: TOMBSTONE})
    found = await Hydrator(records, owner.fetch).get([4, 2, 8, 3, 6, 4])
    assert found == [record(4), record(2), TOMBSTONE, b"", record(6), record(4)]
    assert owner.asked == [[4, 3, 6]]  # once each, a deleted one not at all


async def test_nothing_asked_is_nothing_done(store: CacheStore) -> None:
    owner = Owner()
    assert await Hydrator(Records(store, "r:"), owner.fetch).get([]) == []
    assert owner.asked == []


async def test_a_record_that_many_want_at_once_is_asked_for_once(store: CacheStore) -> None:
    owner = Owner()
    owner.gate.clear()
    hydrator = Hydrator(Records(store, "r:"), owner.fetch)
    first = asyncio.create_task(hydrator.get([2, 4]))
    await asyncio.wait_for(owner.entered.wait(), 5)
    others = [asyncio.create_task(hydrator.complete([4, 6, 2], [None, None, None])) for _ in range(5)]
    await asyncio.sleep(0)
    owner.gate.set()
    assert await first == [record(2), record(4)]
    assert await asyncio.gather(*others) == [[record(4), record(6), record(2)]] * 5
    assert sorted(owner.asked) == [[2, 4], [6]]


async def test_without_the_cache_the_owner_answers_for_all(tmp_path: Path) -> None:
    store, owner = open_cache(f"unix://{tmp_path}/none"), Owner()
    assert await Hydrator(Records(store, "r:"), owner.fetch).get([2, 4]) == [record(2), record(4)]
    assert owner.asked == [[2, 4]]
    await store.close()


async def test_when_the_owner_fails_everyone_is_told_and_the_next_one_asks_again(store: CacheStore) -> None:
    owner = Owner()
    owner.broken = True
    owner.gate.clear()
    hydrator = Hydrator(Records(store, "r:"), owner.fetch)
    waiting = [asyncio.create_task(hydrator.complete([2], [None])) for _ in range(3)]
    await asyncio.wait_for(owner.entered.wait(), 5)
    owner.gate.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [Unavailable] * 3
    owner.broken = False
    assert await hydrator.get([2]) == [record(2)]
    assert len(owner.asked) == 2


async def test_who_goes_away_does_not_take_the_answer_from_the_others(store: CacheStore) -> None:
    owner = Owner()
    owner.gate.clear()
    hydrator = Hydrator(Records(store, "r:"), owner.fetch)
    first = asyncio.create_task(hydrator.complete([2], [None]))
    await asyncio.wait_for(owner.entered.wait(), 5)
    second = asyncio.create_task(hydrator.complete([2], [None]))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    owner.gate.set()
    assert await asyncio.wait_for(second, 5) == [record(2)]
    assert len(owner.asked) == 1


async def test_a_shared_batch_is_asked_for_in_nobodys_name_and_without_anyones_deadline(store: CacheStore) -> None:
    """Else the first to come would decide how long the others wait, and for whom the owner answers."""
    owner = Owner()
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    enter(CallContext(viewer_id=7, deadline=asyncio.get_running_loop().time() + 0.001, traceparent=trace))
    await Hydrator(Records(store, "r:"), owner.fetch).get([2])
    (seen,) = owner.seen
    assert (seen.viewer_id, seen.deadline, seen.traceparent) == (0, None, trace)
    assert current().viewer_id == 7


async def test_the_owner_is_asked_for_a_thousand_at_a_time(store: CacheStore) -> None:
    owner = Owner()
    ids = list(range(2_500))
    found = await Hydrator(Records(store, "r:"), owner.fetch).get(ids)
    assert found == [record(i) if i % 2 == 0 else b"" for i in ids]
    assert sorted(map(len, owner.asked)) == [500, 1_000, 1_000]


async def test_an_owner_that_answers_for_too_few_is_an_error_and_not_a_wrong_record(store: CacheStore) -> None:
    async def short(ids: Sequence[int]) -> Sequence[bytes]:
        return [record(ids[-1])]

    with pytest.raises(ValueError, match="zip"):
        await asyncio.wait_for(Hydrator(Records(store, "r:"), short).get([2, 4]), 5)
