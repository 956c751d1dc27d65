"""The layer under adapters on a real Cassandra: statements, batches, conditions, migrations, leases of numbers."""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from cassandra import InvalidRequest

from mesh.db.cassandra import Address, Cassandra, token_ranges
from mesh.db.cassandra_leases import LEASES_CQL, CassandraLeases
from mesh.db.cassandra_migrations import split_cql
from mesh.db.migrations import MigrationError, migrate
from mesh.errors import Unavailable
from mesh.ids import WORKERS, LeaseStore
from scripts.engines.control import Control
from tests.stores.suites.leases import LeaseSuite
from tests.stores.suites.outbox import eventually

from .cassandra_keyspaces import emptied, keyspace
from .lossy import Lossy

TABLES = f"""
CREATE TABLE IF NOT EXISTS things (key bigint, number int, text text, PRIMARY KEY (key, number));
CREATE TABLE IF NOT EXISTS names (name text PRIMARY KEY, owner int);
CREATE TABLE IF NOT EXISTS heaps (key bigint PRIMARY KEY, grains list<int>);
{LEASES_CQL}
"""
PUT = "INSERT INTO things (key, number, text) VALUES (?, ?, ?)"
OF = "SELECT number, text FROM things WHERE key = ?"
TAKE = "INSERT INTO names (name, owner) VALUES (?, ?) IF NOT EXISTS"
GROW = "UPDATE heaps SET grains = grains + ? WHERE key = ?"  # twice is not as good as once
_keys = itertools.count(1)


@pytest.fixture(scope="module")
def address(cassandra: Control) -> Iterator[str]:
    with keyspace(cassandra, TABLES) as url:
        yield url


@pytest.fixture
async def db(address: str) -> AsyncIterator[Cassandra]:
    one = await Cassandra.open(address, deadline=20.0)
    yield one
    await one.close()


@pytest.fixture
def key() -> int:
    """A partition of the test's own."""
    return next(_keys)


# --- statements


async def test_rows_are_tuples_with_names_of_all_pages(db: Cassandra, key: int) -> None:
    await db.many([(PUT, (key, number, f"t{number}")) for number in range(2_500)], reads=False)
    rows = await db.rows(OF, (key,))
    assert [(row.number, row.text) for row in rows] == [(n, f"t{n}") for n in range(2_500)]
    assert rows[7] == (7, "t7")
    assert await db.row(OF, (-1,)) is None
    pages = [len(page) async for page in db.pages(OF, (key,), size=1_000)]
    assert pages == [1_000, 1_000, 500]


async def test_a_select_that_gives_more_than_it_may_is_a_defect(db: Cassandra, key: int) -> None:
    await db.many([(PUT, (key, number, "")) for number in range(30)], reads=False)
    assert len(await db.rows(OF, (key,), most=30)) == 30
    with pytest.raises(ValueError, match="more than 29 rows"):
        await db.rows(OF, (key,), most=29)


async def test_many_statements_give_their_rows_in_their_order(db: Cassandra, key: int) -> None:
    await db.many([(PUT, (key * 1_000 + n, n, "")) for n in range(300)], reads=False, concurrency=50)
    found = await db.many([(OF, (key * 1_000 + n,)) for n in range(299, -1, -1)], concurrency=7)
    assert [rows[0].number for rows in found] == list(range(299, -1, -1))


async def test_a_later_timestamp_wins_whatever_the_order_of_writes(db: Cassandra, key: int) -> None:
    at = time.time_ns() // 1_000
    put = "INSERT INTO things (key, number, text) VALUES (?, ?, ?) USING TIMESTAMP ?"
    await db.execute(put, (key, 1, "newer", at), idempotent=True)
    await db.execute(put, (key, 1, "older", at - 1), idempotent=True)
    assert [row.text for row in await db.rows(OF, (key,))] == ["newer"]


async def test_a_batch_writes_to_several_partitions(db: Cassandra, key: int) -> None:
    await db.batch([(PUT, (key, 1, "a")), (PUT, (-key, 1, "b")), (GROW, ([key], key))])
    assert [row.text for n in (key, -key) for row in await db.rows(OF, (n,))] == ["a", "b"]


async def test_of_fifty_that_race_for_a_row_one_has_it_and_the_others_see_who(db: Cassandra) -> None:
    name = uuid.uuid4().hex
    answers = await asyncio.gather(*(db.conditional(TAKE, (name, owner)) for owner in range(50)))
    [winner] = [owner for owner, answer in enumerate(answers) if answer.applied]
    assert {answer.row.owner for answer in answers if answer.row is not None} == {winner}
    assert (await db.rows("SELECT owner FROM names WHERE name = ?", (name,), serial=True))[0].owner == winner


async def test_a_condition_on_a_row_that_is_not_there_says_so(db: Cassandra) -> None:
    answer = await db.conditional("UPDATE names SET owner = ? WHERE name = ? IF owner = ?", (1, uuid.uuid4().hex, 2))
    assert (answer.applied, answer.row) == (False, None)


async def test_a_wrong_statement_is_the_drivers_own_error(db: Cassandra) -> None:
    with pytest.raises(InvalidRequest):
        await db.rows("SELECT nothing FROM things WHERE key = ?", (1,))


async def test_token_ranges_walk_a_table_without_gap_or_overlap(db: Cassandra, address: str) -> None:
    await emptied(address)
    await db.many([(PUT, (n, 0, "")) for n in range(200)], reads=False)
    found: list[int] = []
    for part in token_ranges(7):
        rows = await db.rows("SELECT key FROM things WHERE token(key) > ? AND token(key) <= ?", part)
        found += [row.key for row in rows]
    assert sorted(found) == list(range(200))


# --- trouble


async def test_opening_does_not_wait_for_a_cluster_that_is_away_and_statements_do_for_as_long_as_they_may() -> None:
    db = await Cassandra.open("cassandra://127.0.0.1:9/nowhere", deadline=0.2)
    with pytest.raises(Unavailable):
        await db.rows("SELECT key FROM things")
    await db.close()
    with pytest.raises(Unavailable, match="closed"):
        await db.rows("SELECT key FROM things")


async def test_a_statement_without_an_answer_ends_at_its_deadline(address: str, key: int) -> None:
    parsed = Address.parse(address)
    async with Lossy(*parsed.hosts[0]).running() as proxy:
        db = await Cassandra.open(f"cassandra://127.0.0.1:{proxy.port}/{parsed.keyspace}?dc={parsed.datacentre}")
        await db.execute(PUT, (key, 1, ""), deadline=20.0)
        proxy.holds = True
        started = time.monotonic()
        with pytest.raises(Unavailable, match="in time"):
            await db.execute(PUT, (key, 2, ""), deadline=0.3)
        with pytest.raises(Unavailable, match="in time"):
            await db.many([(OF, (key,)), (OF, (key,))], deadline=0.3)
        assert time.monotonic() - started < 5.0
        await db.close()


async def test_a_write_whose_answer_got_lost_is_not_done_twice(db: Cassandra, address: str, key: int) -> None:
    parsed = Address.parse(address)
    async with Lossy(*parsed.hosts[0]).running() as proxy:
        through = await Cassandra.open(
            f"cassandra://127.0.0.1:{proxy.port}/{parsed.keyspace}?dc={parsed.datacentre}", deadline=20.0
        )
        await through.execute(GROW, ([0], key))
        await through.rows(OF, (key,))
        proxy.breaks = True
        with pytest.raises(Unavailable):
            await through.execute(GROW, ([1], key))
        assert proxy.lost.is_set()
        proxy.breaks = False

        async def again() -> bool:  # by itself, on a new connection
            try:
                await through.rows(OF, (key,), deadline=1.0)
            except Unavailable:
                return False
            return True

        await eventually(again, 30.0)
        await through.close()
    grains = await db.row("SELECT grains FROM heaps WHERE key = ?", (key,))
    assert grains is not None
    assert grains.grains == [0, 1]  # it was done, and once


async def test_more_statements_than_may_run_wait_their_turn_and_more_than_may_wait_are_refused(address: str) -> None:
    db = await Cassandra.open(address, deadline=20.0, in_flight=4, max_waiting=20)
    await db.rows(OF, (1,))
    answers = await asyncio.gather(*(db.rows(OF, (n,)) for n in range(24)))
    assert len(answers) == 24
    outcomes = await asyncio.gather(*(db.rows(OF, (n,)) for n in range(40)), return_exceptions=True)
    assert sum(isinstance(outcome, Unavailable) for outcome in outcomes) == 16
    assert await db.rows(OF, (-1,)) == []
    await db.close()


async def test_a_caller_that_goes_away_gives_its_place_back(address: str) -> None:
    db = await Cassandra.open(address, deadline=20.0, in_flight=2, max_waiting=50)
    await db.rows(OF, (1,))
    for _ in range(5):
        tasks = [asyncio.create_task(db.rows(OF, (n,))) for n in range(20)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert len(await asyncio.gather(*(db.rows(OF, (n,)) for n in range(20)))) == 20
    await db.close()


# --- migrations


def folder(where: Path, **files: str) -> Path:
    where.mkdir(exist_ok=True)
    for name, cql in files.items():
        (where / f"{name[1:]}.cql").write_text(cql)
    return where


@pytest.fixture
def empty(cassandra: Control) -> Iterator[str]:
    """The URL of a keyspace that is not there yet."""
    name = f"test_{uuid.uuid4().hex}"
    [url] = cassandra.engine.apart(cassandra.place(), name).values()
    yield url
    cassandra.engine.drop(cassandra.place(), name)


async def test_a_keyspace_is_made_and_brought_up_to_date_by_several_at_once(empty: str, tmp_path: Path) -> None:
    files = folder(
        tmp_path / "s",
        _001_a="CREATE TABLE IF NOT EXISTS a (k int PRIMARY KEY);\n-- x;\nINSERT INTO a (k) VALUES (1);",
        _002_b="CREATE TABLE IF NOT EXISTS b (k int PRIMARY KEY) WITH comment = 'one; two';",
    )
    done = await asyncio.gather(*(migrate(empty, files) for _ in range(3)))
    assert sorted(itertools.chain(*done)) == ["001_a", "002_b"]
    assert await migrate(empty, files) == []
    folder(files, _003_c="ALTER TABLE a ADD IF NOT EXISTS v int;")
    assert await migrate(empty, files) == ["003_c"]
    (files / "001_a.cql").write_text("CREATE TABLE IF NOT EXISTS a (k bigint PRIMARY KEY);")
    with pytest.raises(MigrationError, match="was changed"):
        await migrate(empty, files)


async def test_a_file_that_was_interrupted_is_applied_from_its_beginning(empty: str, tmp_path: Path) -> None:
    files = folder(
        tmp_path / "s", _001_a="CREATE TABLE IF NOT EXISTS a (k int PRIMARY KEY); INSERT INTO nowhere (k) VALUES (1);"
    )
    with pytest.raises(MigrationError, match="001_a"):
        await migrate(empty, files)
    folder(files, _001_a="CREATE TABLE IF NOT EXISTS a (k int PRIMARY KEY); INSERT INTO a (k) VALUES (1);")
    assert await migrate(empty, files) == ["001_a"]


def test_a_statement_that_cannot_be_done_again_is_refused() -> None:
    with pytest.raises(MigrationError, match="IF"):
        split_cql("CREATE TABLE a (k int PRIMARY KEY);")
    with pytest.raises(MigrationError, match="semicolon"):
        split_cql("INSERT INTO a (k) VALUES (1)")
    assert split_cql("INSERT INTO a (t) VALUES ('a;''b'); /* ; */ DROP TABLE IF EXISTS b; // ;\n") == [
        "INSERT INTO a (t) VALUES ('a;''b')",
        "DROP TABLE IF EXISTS b",
    ]


# --- leases


class TestLeases(LeaseSuite):
    """All of the suite."""

    @pytest.fixture
    async def opened(self, address: str, db: Cassandra) -> Callable[[Callable[[], int]], LeaseStore]:
        """See LeaseSuite."""
        await db.execute("TRUNCATE worker_leases")
        return lambda clock: CassandraLeases(db, now_ms=clock)

    async def fill(self, store: LeaseStore, expires_ms: int) -> None:
        """See LeaseSuite."""
        assert isinstance(store, CassandraLeases)
        insert = "INSERT INTO worker_leases (worker, holder, expires_ms) VALUES (?, 'x', ?) IF NOT EXISTS"
        for start in range(0, WORKERS, 64):
            await asyncio.gather(
                *(store._db.conditional(insert, (worker, expires_ms)) for worker in range(start, start + 64))
            )


@pytest.mark.parametrize(
    "url",
    [
        "cassandra://h1",
        "cassandra://h1/Upper",
        "cassandra://h1:x/k",
        "cassandra:///k",
        "cassandra://h1/k?rf=0",
        "cassandra://h1/k?other=1",
        "postgresql://h1/k",
    ],
)
def test_a_url_that_names_no_keyspace_is_a_clear_error(url: str) -> None:
    with pytest.raises(ValueError, match="cassandra://"):
        Address.parse(url)


def test_a_url_names_nodes_keyspace_and_who_asks() -> None:
    address = Address.parse("cassandra://me:p%40s@h1:9,[::1]:10,h3/k1?dc=east&rf=5")
    assert address == Address((("h1", 9), ("::1", 10), ("h3", 9042)), "k1", "me", "p@s", "east", 5)
    assert "p@s" not in repr(address)
