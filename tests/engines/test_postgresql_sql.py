"""The SQL port on a real PostgreSQL: what a unit is promised while others work beside it, and when the server goes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy.exc import DBAPIError, IntegrityError

from mesh.db.leases import SqlLeases
from mesh.db.migrations import MigrationError, migrate
from mesh.db.sql import Database, Tx, violated
from mesh.errors import Unavailable
from scripts.engines.control import Control
from scripts.engines.postgresql import PostgreSQL
from services.tweet.domain import Mark, StoredTweet
from services.tweet.store.sql import SqlTweetStore
from tests.stores.suites.outbox import eventually

from .engines import ROOT, address, administer, new_database, postgresql_store, schema, server

pytestmark = pytest.mark.usefixtures("postgresql")


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """A database with one table."""
    async with new_database() as one:
        db = await Database.open(one)
        await db.write(lambda tx: tx.execute("CREATE TABLE items (id BIGINT PRIMARY KEY, n BIGINT NOT NULL)"))
        await db.close()
        yield one


@asynccontextmanager
async def opened(url: str, count: int = 1, *, deadline: float = 20.0) -> AsyncIterator[list[Database]]:
    """As many replicas as that, of one database."""
    databases = [await Database.open(url, deadline=deadline) for _ in range(count)]
    try:
        yield databases
    finally:
        for one in databases:
            await one.close()


def insert(number: int, n: int = 0) -> Callable[[Tx], Awaitable[int]]:
    async def unit(tx: Tx) -> int:
        await tx.execute("INSERT INTO items VALUES (:id, :n)", {"id": number, "n": n})
        return number

    return unit


def step(number: int) -> Callable[[Tx], Awaitable[int]]:
    """Reads, then writes what it read and one more: right only if nobody comes between."""

    async def unit(tx: Tx) -> int:
        n = int(await tx.scalar("SELECT n FROM items WHERE id = :id", {"id": number}))
        await tx.execute("UPDATE items SET n = :n WHERE id = :id", {"id": number, "n": n + 1})
        return n

    return unit


async def rows(tx: Tx) -> list[tuple[int, int]]:
    return [(row.id, row.n) for row in (await tx.execute("SELECT id, n FROM items ORDER BY id")).all()]


# --- units


async def test_callbacks_follow_a_commit_and_nothing_follows_a_rollback(url: str) -> None:
    seen: list[str] = []

    async def good(tx: Tx) -> int:
        tx.on_commit(lambda: seen.append("good"))
        return await insert(1)(tx)

    async def bad(tx: Tx) -> None:
        tx.on_commit(lambda: seen.append("bad"))
        await insert(2)(tx)
        raise LookupError

    async with opened(url) as [db]:
        assert await db.write(good) == 1
        with pytest.raises(LookupError):
            await db.write(bad)
        with pytest.raises(IntegrityError):
            await db.write(good)
        assert seen == ["good"]
        assert await db.read(rows) == [(1, 0)]


async def test_a_read_is_a_snapshot_and_cannot_write(url: str) -> None:
    async with opened(url) as [db]:
        await db.write(insert(1))
        read_once, written = asyncio.Event(), asyncio.Event()

        async def twice(tx: Tx) -> list[list[tuple[int, int]]]:
            first = await rows(tx)
            read_once.set()
            await written.wait()  # breaks the rule that a unit awaits nothing but its Tx, to look inside
            return [first, await rows(tx)]

        reading = asyncio.create_task(db.read(twice))
        await read_once.wait()
        await db.write(insert(2))
        written.set()
        assert await reading == [[(1, 0)], [(1, 0)]]
        with pytest.raises(DBAPIError, match="read-only"):
            await db.read(insert(3))


async def test_a_thousand_changes_of_one_row_by_four_replicas_are_all_there(url: str) -> None:
    async with opened(url, 4) as databases:
        await databases[0].write(insert(1))
        seen: list[int] = []
        for _ in range(10):
            seen += await asyncio.gather(*(databases[n % 4].write(step(1)) for n in range(100)))
        assert sorted(seen) == list(range(1000))
        assert await databases[0].read(rows) == [(1, 1000)]


async def test_of_many_who_make_the_same_row_one_does_and_all_get_it(url: str) -> None:
    def get_or_make(mine: int) -> Callable[[Tx], Awaitable[int]]:
        async def unit(tx: Tx) -> int:
            there = await tx.scalar("SELECT n FROM items WHERE id = 7")
            if there is not None:
                return int(there)
            await insert(7, mine)(tx)
            return mine

        return unit

    async with opened(url, 4) as databases:
        got = await asyncio.gather(*(databases[n % 4].write(get_or_make(n)) for n in range(40)))
        assert len(set(got)) == 1
        assert await databases[0].read(rows) == [(7, got[0])]


async def test_two_who_each_look_at_what_the_other_writes_do_not_both_succeed_blindly(url: str) -> None:
    """At most one is on call: with snapshots alone, both would see nobody and begin."""

    def begin(mine: int) -> Callable[[Tx], Awaitable[bool]]:
        async def unit(tx: Tx) -> bool:
            if await tx.scalar("SELECT COUNT(*) FROM items") > 0:
                return False
            await insert(mine)(tx)
            return True

        return unit

    async with opened(url, 4) as databases:
        for _ in range(10):
            began = await asyncio.gather(*(databases[n].write(begin(n)) for n in range(4)))
            assert began.count(True) == 1
            await databases[0].write(lambda tx: tx.execute("DELETE FROM items"))


async def test_two_who_wait_for_each_other_both_end(url: str) -> None:
    async with opened(url, 2) as databases:
        await databases[0].write(insert(1))
        await databases[0].write(insert(2))

        def both(first: int, second: int) -> Callable[[Tx], Awaitable[None]]:
            async def unit(tx: Tx) -> None:
                await step(first)(tx)
                await step(second)(tx)

            return unit

        for _ in range(10):
            await asyncio.gather(databases[0].write(both(1, 2)), databases[1].write(both(2, 1)))
        assert await databases[0].read(rows) == [(1, 20), (2, 20)]


async def test_what_refused_a_row_is_named_without_its_values(url: str) -> None:
    async with opened(url) as [db]:
        await db.write(insert(1234567))
        with pytest.raises(IntegrityError) as refused:
            await db.write(insert(1234567))
        assert violated(refused.value) == "items_pkey"


async def test_a_unit_that_takes_too_long_is_stopped_at_the_server_too(url: str) -> None:
    async with opened(url) as [db]:
        with pytest.raises(Unavailable, match="in time"):
            await db.write(lambda tx: tx.execute("SELECT pg_sleep(60)"), deadline=0.3)
        busy = "SELECT COUNT(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND state = 'active'"
        others = f"{busy} AND pid <> pg_backend_pid()"

        async def none_left() -> bool:
            return await db.read(lambda tx: tx.scalar(others)) == 0

        await eventually(none_left, seconds=5.0)


async def test_who_waits_for_a_connection_waits_no_longer_than_the_deadline(url: str) -> None:
    async with opened(url, deadline=0.5) as [db]:
        sleeping = [
            asyncio.create_task(db.read(lambda tx: tx.execute("SELECT pg_sleep(3)"), deadline=10.0)) for _ in range(4)
        ]
        await asyncio.sleep(0)
        started = asyncio.get_running_loop().time()
        with pytest.raises(Unavailable):
            await db.read(rows)
        assert asyncio.get_running_loop().time() - started < 2.0
        await asyncio.gather(*sleeping)


async def test_a_closed_database_answers_nobody(url: str) -> None:
    async with opened(url) as [db]:
        await db.read(rows)
        await db.close()
        await db.close()
        for attempt in (db.read(rows), db.write(insert(1))):
            with pytest.raises(Unavailable):
                await attempt


async def test_a_schema_that_changes_under_prepared_statements_is_no_error(url: str) -> None:
    async with opened(url) as [db]:
        everything = "SELECT * FROM items ORDER BY id"
        await db.write(insert(1))
        await asyncio.gather(*(db.read(lambda tx: tx.scalar(everything)) for _ in range(8)))
        await db.write(lambda tx: tx.execute("ALTER TABLE items ADD COLUMN more TEXT"))
        assert await asyncio.gather(*(db.read(lambda tx: tx.scalar(everything)) for _ in range(8))) == [1] * 8


async def test_a_unit_whose_connection_is_cut_runs_again_and_counts_once(url: str) -> None:
    runs = 0
    async with opened(url) as [db]:

        async def unit(tx: Tx) -> None:
            nonlocal runs
            runs += 1
            await insert(runs)(tx)
            if runs == 1:
                pid = await tx.scalar("SELECT pg_backend_pid()")
                await administer(f"SELECT pg_terminate_backend({pid})")
                await tx.scalar("SELECT 1")

        await db.write(unit)
        assert await db.read(rows) == [(2, 0)]


async def test_numbers_of_workers_are_leased_to_one_process_each() -> None:
    async with postgresql_store("tweet", pool_size=8) as sql:
        leases = await asyncio.gather(*(SqlLeases(sql.db).acquire(f"holder-{n}", 60_000) for n in range(16)))
        assert len({lease.worker for lease in leases}) == 16


async def test_counts_that_two_replicas_add_up_are_added_once() -> None:
    async with postgresql_store("tweet", pool_size=8) as sql:
        one, other = SqlTweetStore(sql.db, sql.outbox), SqlTweetStore(sql.db, sql.outbox)
        for tweet_id in range(1, 6):
            await one.create(StoredTweet(tweet_id, 1, "text"), "")
        likes = asyncio.gather(
            *((one, other)[n % 2].mark(Mark.LIKE, 100 + n, 1 + n % 5, 1_000 + n) for n in range(100))
        )

        async def add_up(store: SqlTweetStore) -> None:
            while not likes.done() or await store.counts.waiting():
                await store.counts.apply(7)

        await asyncio.gather(add_up(one), add_up(other))
        await likes
        assert [tweet.like_count for tweet in sorted(await one.by_ids(range(1, 6)), key=lambda t: t.id)] == [20] * 5


# --- the server


@pytest.fixture
def own_server(tmp_path: Path, postgresql: Control) -> Iterator[Control]:
    """A server that the test may kill."""
    del postgresql
    control = Control(PostgreSQL(), tmp_path / "engines")
    control.up()
    yield control
    control.down()


async def test_without_the_server_callers_are_told_at_once_and_with_it_they_are_served_again(
    own_server: Control,
) -> None:
    async with opened(own_server.urls()["ROOKERY_USERS_URL"], deadline=2.0) as [db]:
        await db.write(lambda tx: tx.execute("CREATE TABLE items (id BIGINT PRIMARY KEY, n BIGINT NOT NULL)"))
        accepted = await asyncio.gather(*(db.write(insert(n)) for n in range(50)))
        writing = [asyncio.create_task(db.write(insert(n))) for n in range(50, 500)]
        await asyncio.wait(writing, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.to_thread(own_server.kill, "postgresql-1")
        outcomes = await asyncio.gather(*writing, return_exceptions=True)
        accepted += [one for one in outcomes if isinstance(one, int)]
        assert {type(one) for one in outcomes} <= {int, Unavailable}
        started = asyncio.get_running_loop().time()
        with pytest.raises(Unavailable):
            await db.read(rows)
        assert asyncio.get_running_loop().time() - started < 2.5
        await asyncio.to_thread(own_server.up)
        there = {number for number, _ in await db.read(rows, deadline=20.0)}
        assert set(accepted) <= there


# --- migrations


@pytest.mark.parametrize("service", ["user", "graph", "tweet", "moderation"])
async def test_the_schema_has_the_tables_and_columns_that_it_has_on_sqlite(service: str, tmp_path: Path) -> None:
    """Names, whether they may be null, and types in a common word."""
    words = {"integer": "number", "bigint": "number", "smallint": "number", "blob": "bytes", "bytea": "bytes"}
    here = f"sqlite+aiosqlite:///{tmp_path}/a.db"
    await migrate(here, ROOT / "services" / service / "schema" / "sql")
    async with opened(here) as [db]:
        columns = await _all(db, _SQLITE_COLUMNS)
        indexes = await _all(db, "SELECT name FROM sqlite_master WHERE sql LIKE 'CREATE %INDEX%'")
    async with postgresql_store(service) as sql:
        made_columns = await _all(sql.db, _POSTGRESQL_COLUMNS)
        made_indexes = await _all(sql.db, "SELECT indexname FROM pg_indexes WHERE schemaname = 'public'")

    def common(found: set[tuple[object, ...]]) -> set[tuple[object, ...]]:
        return {(table, column, words.get(str(kind), kind), bool(needed)) for table, column, kind, needed in found}

    assert common(made_columns) == common(columns)
    assert indexes <= made_indexes


_SQLITE_COLUMNS = (
    'SELECT m.name, c.name, lower(c.type), c."notnull" OR c.pk > 0'
    " FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%'"
)
_POSTGRESQL_COLUMNS = (
    "SELECT table_name, column_name, data_type, is_nullable = 'NO'"
    " FROM information_schema.columns WHERE table_schema = 'public'"
)


async def _all(db: Database, query: str) -> set[tuple[object, ...]]:
    async def unit(tx: Tx) -> set[tuple[object, ...]]:
        return {tuple(row) for row in (await tx.execute(query)).all()}

    return await db.read(unit)


async def test_two_processes_migrate_at_once_and_each_step_is_taken_once() -> None:
    program = (
        "import asyncio, sys; from pathlib import Path; from mesh.db.migrations import migrate;"
        " print(*asyncio.run(migrate(sys.argv[1], Path(sys.argv[2]))))"
    )
    async with new_database() as url:
        processes = [
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", program, url, str(schema("tweet"))),
                cwd=ROOT,
                stdout=asyncio.subprocess.PIPE,
            )
            for _ in range(3)
        ]
        out = [(await process.communicate())[0].decode().split() for process in processes]
        assert [process.returncode for process in processes] == [0, 0, 0]
        steps = sorted(path.stem for path in schema("tweet").glob("*.sql"))
        assert sorted(name for one in out for name in one) == steps
        assert await migrate(url, schema("tweet")) == []


async def test_a_step_that_fails_leaves_nothing_and_says_which(tmp_path: Path) -> None:
    (tmp_path / "001_good.sql").write_text("CREATE TABLE a (id BIGINT PRIMARY KEY);")
    (tmp_path / "002_bad.sql").write_text("CREATE TABLE b (id BIGINT);\nINSERT INTO nowhere VALUES (1);")
    async with new_database() as url:
        with pytest.raises(MigrationError, match="002_bad"):
            await migrate(url, tmp_path)
        async with opened(url) as [db]:
            assert await db.read(
                lambda tx: tx.scalar("SELECT to_regclass('a') IS NOT NULL AND to_regclass('b') IS NULL")
            )
        (tmp_path / "001_good.sql").write_text("CREATE TABLE other (id BIGINT PRIMARY KEY);")
        with pytest.raises(MigrationError, match="001_good was changed"):
            await migrate(url, tmp_path)


async def test_a_server_that_refuses_or_is_not_there_is_said_to_be_unavailable(tmp_path: Path) -> None:
    wrong = server().set(password="wrong").render_as_string(hide_password=False)
    nowhere = server().set(port=1).render_as_string(hide_password=False)
    for url in (wrong, nowhere, address("no_such_database")):
        with pytest.raises(Unavailable):
            await migrate(url, tmp_path)
        async with opened(url, deadline=2.0) as [db]:
            with pytest.raises(Unavailable):
                await db.read(rows)
