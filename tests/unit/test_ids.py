"""Ids never repeat and never go back, whatever the clock does; a worker number is never held twice."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from mesh.db.leases import SqlLeases
from mesh.db.sql import Database, Tx
from mesh.errors import Unavailable
from mesh.ids import EPOCH_MS, WORKERS, LeasedIds, LeaseStore, SnowflakeIds, id_of_ms, ms_of_id, rfc3339_of_id
from tests.stores.suites.leases import LeaseSuite

NOW = EPOCH_MS + 86_400_000
TTL_MS = 60_000


class Clock:
    """Milliseconds that tests move. Each reading may be scripted."""

    def __init__(self, now: int = NOW, *script: int) -> None:
        self.now = now
        self._script = list(script)

    def __call__(self) -> int:
        if self._script:
            self.now = self._script.pop(0)
        return self.now

    def seconds(self) -> float:
        return self.now / 1000


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    async def create(tx: Tx) -> None:
        await tx.execute(
            "CREATE TABLE worker_leases (worker BIGINT PRIMARY KEY, holder TEXT NOT NULL, expires_ms BIGINT NOT NULL)"
        )

    database = await Database.open(f"sqlite+aiosqlite:///{tmp_path}/ids.db")
    await database.write(create)
    yield database
    await database.close()


def worker_of(value: int) -> int:
    return value >> 12 & 0x3FF


# --- what an id says


def test_an_id_says_when_it_was_made() -> None:
    value = id_of_ms(NOW + 7)
    assert (ms_of_id(value), ms_of_id(value + (1 << 22) - 1)) == (NOW + 7, NOW + 7)
    assert rfc3339_of_id(value) == "2024-01-02T00:00:00.007Z"
    assert rfc3339_of_id(id_of_ms(NOW)) == "2024-01-02T00:00:00.000Z"  # milliseconds even when there are none


def test_times_before_the_epoch_have_the_smallest_id() -> None:
    assert id_of_ms(0) == id_of_ms(EPOCH_MS - 1) == 0


def test_an_id_stays_a_positive_int64_until_the_2090s() -> None:
    last = id_of_ms(EPOCH_MS + 2**41 - 1) | (1 << 22) - 1
    assert last == 2**63 - 1
    assert rfc3339_of_id(last).startswith("2093-")


# --- one worker


async def test_ids_of_many_tasks_never_repeat_and_rise_in_the_order_asked() -> None:
    ids = SnowflakeIds(5)
    made = await asyncio.gather(*(ids.next() for _ in range(5_000)))  # more than one millisecond's 4,096
    assert len(set(made)) == 5_000
    assert made[:100] == sorted(made[:100])
    assert {worker_of(value) for value in made} == {5}


async def test_workers_in_threads_never_make_the_same_id() -> None:
    made: list[list[int]] = [[], [], []]

    def work(worker: int) -> None:
        async def several() -> None:
            ids = SnowflakeIds(worker, now_ms=lambda: NOW)  # all in one millisecond
            made[worker] = [await ids.next() for _ in range(1_000)]

        asyncio.run(several())

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({value for some in made for value in some}) == 3_000


async def test_a_full_millisecond_waits_for_the_next_one() -> None:
    clock = Clock()
    ids = SnowflakeIds(0, now_ms=clock)
    first = [await ids.next() for _ in range(4_096)]
    waiting = asyncio.create_task(ids.next())
    await asyncio.sleep(0)
    assert not waiting.done()
    clock.now += 1
    following = await waiting
    assert ms_of_id(first[-1]) == NOW
    assert following == id_of_ms(NOW + 1)
    assert following > first[-1]


async def test_a_clock_that_steps_back_makes_no_id_until_it_has_caught_up() -> None:
    ids = SnowflakeIds(0, now_ms=Clock(NOW, NOW, NOW - 3, NOW - 2, NOW - 1, NOW, NOW + 1))
    made = [await ids.next(), await ids.next(), await ids.next()]
    assert [ms_of_id(value) for value in made] == [NOW, NOW, NOW + 1]
    assert made == sorted(set(made))


@pytest.mark.parametrize("clock", [Clock(NOW - 10_000), Clock(EPOCH_MS - 1)], ids=["stepped back", "never set"])
async def test_a_clock_that_stays_behind_is_an_error_and_no_bad_id(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def soon(_: float) -> None:
        """Time is the test's: waiting 2,000 times 1 ms takes none."""

    ids = SnowflakeIds(0, floor_ms=NOW if clock.now > EPOCH_MS else 0, now_ms=clock)
    monkeypatch.setattr("mesh.ids.asyncio.sleep", soon)
    with pytest.raises(Unavailable, match="clock"):
        await ids.next()


async def test_a_number_that_was_held_before_starts_behind_its_last_holder() -> None:
    clock = Clock()
    ids = SnowflakeIds(1, floor_ms=NOW, now_ms=clock)
    waiting = asyncio.create_task(ids.next())
    await asyncio.sleep(0)
    assert not waiting.done()  # the last holder may have made ids in this very millisecond
    clock.now += 1
    assert ms_of_id(await waiting) == NOW + 1


@pytest.mark.parametrize("worker", [-1, WORKERS])
def test_a_worker_number_outside_of_its_10_bits_is_refused(worker: int) -> None:
    with pytest.raises(ValueError, match="worker"):
        SnowflakeIds(worker)


# --- leases


class TestLeases(LeaseSuite):
    """All of the suite, on SQLite."""

    @pytest.fixture
    def opened(self, db: Database) -> Callable[[Callable[[], int]], LeaseStore]:
        """See LeaseSuite."""
        return lambda clock: SqlLeases(db, now_ms=clock)

    async def fill(self, store: LeaseStore, expires_ms: int) -> None:
        """See LeaseSuite."""
        assert isinstance(store, SqlLeases)

        async def unit(tx: Tx) -> None:
            for worker in range(WORKERS):
                await tx.execute(
                    "INSERT INTO worker_leases VALUES (:worker, 'x', :expires)",
                    {"worker": worker, "expires": expires_ms},
                )

        await store._db.write(unit)


async def test_who_cannot_renew_stops_before_the_number_is_anybody_elses(db: Database) -> None:
    clock = Clock()
    leases = SqlLeases(db, now_ms=clock)
    ids = LeasedIds(leases, monotonic=clock.seconds)
    first = worker_of(await ids.next())
    clock.now = NOW + 54_999
    assert worker_of(await ids.next()) == first
    clock.now = NOW + 55_000  # 5 s before the end
    assert worker_of(await ids.next()) != first


async def test_a_renewed_number_is_kept(db: Database) -> None:
    clock = Clock()
    renewed = asyncio.Event()

    class Watched(SqlLeases):
        """Tells when a renewal was stored."""

        async def renew(self, holder: str, worker: int, ttl_ms: int) -> bool:
            done = await super().renew(holder, worker, ttl_ms)
            renewed.set()
            return done

    ids = LeasedIds(Watched(db, now_ms=clock), monotonic=clock.seconds)
    first = worker_of(await ids.next())
    clock.now = NOW + 30_000
    task = asyncio.create_task(ids.renew_forever())
    await asyncio.wait_for(renewed.wait(), 5)
    await asyncio.sleep(0)
    task.cancel()
    clock.now = NOW + 84_999  # 30 s + 60 s - 5 s is the end now
    assert worker_of(await ids.next()) == first


async def test_a_number_that_was_lost_is_not_used_again(db: Database) -> None:
    acquired = asyncio.Queue[int]()

    class Watched(SqlLeases):
        """Tells which numbers were given."""

        async def acquire(self, holder: str, ttl_ms: int):  # type: ignore[no-untyped-def]
            lease = await super().acquire(holder, ttl_ms)
            acquired.put_nowait(lease.worker)
            return lease

    async def steal(tx: Tx) -> None:
        await tx.execute("UPDATE worker_leases SET holder = 'thief'")

    ids = LeasedIds(Watched(db))
    await ids.next()
    first = await acquired.get()
    await db.write(steal)
    task = asyncio.create_task(ids.renew_forever())
    second = await asyncio.wait_for(acquired.get(), 5)
    await asyncio.sleep(0)
    task.cancel()
    assert second != first
    assert worker_of(await ids.next()) == second


async def test_giving_back_frees_the_number_and_the_next_id_needs_another_lease(db: Database) -> None:
    ids = LeasedIds(SqlLeases(db))
    first = worker_of(await ids.next())
    await ids.release()
    await ids.release()  # twice is harmless
    assert worker_of(await ids.next()) != first  # not free yet: clocks may differ by a second
