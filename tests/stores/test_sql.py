"""The SQL port on real SQLite files: group commit, isolation of units, durability settings, migrations."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import column, select, table
from sqlalchemy.exc import IntegrityError, OperationalError

from mesh.db.migrations import MigrationError, migrate, split_sqlite
from mesh.db.sql import Database, Tx
from mesh.errors import Unavailable

ITEMS = table("items", column("id"), column("name"))
ROOT = Path(__file__).parents[2]


def url_of(folder: Path) -> str:
    return f"sqlite+aiosqlite:///{folder}/test.db"


async def create_items(tx: Tx) -> None:
    await tx.execute("CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT NOT NULL)")


def insert(number: int, name: str = "x") -> Callable[[Tx], Awaitable[int]]:
    async def unit(tx: Tx) -> int:
        await tx.execute("INSERT INTO items VALUES (:id, :name)", {"id": number, "name": name})
        return number

    return unit


async def ids(tx: Tx) -> list[int]:
    return [row[0] for row in await tx.execute(select(ITEMS.c.id).order_by(ITEMS.c.id))]


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    database = await Database.open(url_of(tmp_path))
    await database.write(create_items)
    yield database
    await database.close()


async def test_a_write_is_on_disk_for_another_connection_when_it_returns(db: Database, tmp_path: Path) -> None:
    assert await db.write(insert(1, "one")) == 1
    with sqlite3.connect(tmp_path / "test.db") as other:
        assert other.execute("SELECT id, name FROM items").fetchall() == [(1, "one")]


async def test_each_connection_has_the_durability_and_safety_settings(db: Database) -> None:
    async def pragmas(tx: Tx) -> dict[str, Any]:
        names = ("synchronous", "journal_mode", "foreign_keys", "busy_timeout")
        return {name: await tx.scalar(f"PRAGMA {name}") for name in names}

    written = await db.write(pragmas)
    assert written["synchronous"] == 2  # FULL
    assert written["journal_mode"] == "wal"
    assert written["foreign_keys"] == 1
    assert written["busy_timeout"] == 2000
    assert (await db.read(pragmas))["journal_mode"] == "wal"


async def test_waiting_units_share_one_commit(tmp_path: Path, db: Database) -> None:
    """While the last unit of a group runs, what its first one wrote is not committed yet."""
    entered, gate = threading.Event(), threading.Event()

    async def hold(tx: Tx) -> None:
        entered.set()
        gate.wait(5)

    blocker = asyncio.create_task(db.write(hold))
    await asyncio.to_thread(entered.wait, 5)
    visible: list[int] = []

    async def look_from_outside(tx: Tx) -> None:
        with sqlite3.connect(tmp_path / "test.db") as other:
            visible.append(other.execute("SELECT count(*) FROM items").fetchone()[0])

    writes = [asyncio.create_task(db.write(insert(1))), asyncio.create_task(db.write(look_from_outside))]
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(blocker, *writes)
    assert visible == [0]
    assert await db.read(ids) == [1]


async def test_a_failing_unit_undoes_only_itself(db: Database) -> None:
    async def fails_late(tx: Tx) -> None:
        await tx.execute("INSERT INTO items VALUES (500, 'gone')")
        raise ValueError("no")

    units: list[Callable[[Tx], Awaitable[object]]] = [insert(n) for n in range(20)]
    units.insert(7, fails_late)
    units.insert(13, insert(3))  # a duplicate
    results = await asyncio.gather(*(db.write(unit) for unit in units), return_exceptions=True)
    errors = {position: type(one) for position, one in enumerate(results) if isinstance(one, BaseException)}
    assert errors == {7: ValueError, 13: IntegrityError}
    assert await db.read(ids) == list(range(20))


async def test_a_deferred_constraint_fails_only_the_unit_that_broke_it(db: Database) -> None:
    async def schema(tx: Tx) -> None:
        await tx.execute("CREATE TABLE parents (id INTEGER PRIMARY KEY)")
        await tx.execute(
            "CREATE TABLE children (id INTEGER PRIMARY KEY, parent INTEGER NOT NULL"
            " REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED)"
        )

    await db.write(schema)

    async def orphan(tx: Tx) -> None:
        await tx.execute("INSERT INTO children VALUES (1, 99)")

    results = await asyncio.gather(db.write(insert(1)), db.write(orphan), db.write(insert(2)), return_exceptions=True)
    assert results[0] == 1
    assert isinstance(results[1], IntegrityError)
    assert results[2] == 2
    assert await db.read(ids) == [1, 2]


async def test_callbacks_run_after_the_commit_and_never_after_a_rollback(db: Database, tmp_path: Path) -> None:
    seen: list[tuple[str, int]] = []

    def count(name: str) -> None:
        with sqlite3.connect(tmp_path / "test.db") as other:
            seen.append((name, other.execute("SELECT count(*) FROM items").fetchone()[0]))

    async def good(tx: Tx) -> None:
        tx.on_commit(lambda: count("good"))
        await tx.execute("INSERT INTO items VALUES (1, 'x')")

    async def bad(tx: Tx) -> None:
        tx.on_commit(lambda: count("bad"))
        raise LookupError

    await asyncio.gather(db.write(good), db.write(bad), return_exceptions=True)
    assert seen == [("good", 1)]


async def test_a_cancelled_caller_does_not_break_the_group(db: Database) -> None:
    tasks = [asyncio.create_task(db.write(insert(number))) for number in range(30)]
    await asyncio.sleep(0)
    tasks[10].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[10], asyncio.CancelledError)
    assert set(range(30)) - set(await db.read(ids)) <= {10}


async def test_an_interrupted_unit_is_left_out_and_the_rest_of_its_group_commits(db: Database) -> None:
    endless = "INSERT INTO items WITH RECURSIVE n(i) AS (SELECT 100 UNION ALL SELECT i + 1 FROM n) SELECT i, 'x' FROM n"

    async def runaway(tx: Tx) -> None:
        await tx.execute(endless)

    first, bad, last = await asyncio.gather(
        db.write(insert(1)), db.write(runaway, deadline=0.1), db.write(insert(2)), return_exceptions=True
    )
    assert (first, last) == (1, 2)
    assert isinstance(bad, Unavailable)
    assert await db.read(ids) == [1, 2]


async def test_a_read_that_takes_too_long_is_interrupted(db: Database) -> None:
    async def endless(tx: Tx) -> object:
        return await tx.scalar("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n")

    with pytest.raises(Unavailable):
        await db.read(endless, deadline=0.05)
    assert await db.read(ids) == []


async def test_a_read_is_one_snapshot_and_cannot_write(db: Database) -> None:
    await db.write(insert(1))
    between, written = threading.Event(), threading.Event()

    async def two_looks(tx: Tx) -> tuple[list[int], list[int]]:
        first = await ids(tx)
        between.set()
        written.wait(5)
        return first, await ids(tx)

    reading = asyncio.create_task(db.read(two_looks))
    await asyncio.to_thread(between.wait, 5)
    await db.write(insert(2))
    written.set()
    assert await reading == ([1], [1])
    with pytest.raises(OperationalError, match="readonly"):
        await db.read(insert(3))


async def test_a_full_queue_refuses(tmp_path: Path) -> None:
    database = await Database.open(url_of(tmp_path), max_waiting=3)
    entered, gate = threading.Event(), threading.Event()

    async def hold(tx: Tx) -> None:
        entered.set()
        gate.wait(5)

    try:
        await database.write(create_items)
        blocker = asyncio.create_task(database.write(hold))
        await asyncio.to_thread(entered.wait, 5)
        waiting = [asyncio.create_task(database.write(insert(n))) for n in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="too many"):
            await database.write(insert(99))
        gate.set()
        await asyncio.gather(blocker, *waiting)
        assert await database.read(ids) == [0, 1, 2]
    finally:
        gate.set()
        await database.close()


async def test_a_unit_may_only_await_its_transaction(db: Database) -> None:
    async def waits(tx: Tx) -> None:
        await asyncio.sleep(0)

    with pytest.raises(TypeError, match="awaits something"):
        await db.write(waits)


async def test_a_lock_held_by_another_process_is_unavailable(tmp_path: Path) -> None:
    database = await Database.open(url_of(tmp_path), deadline=0.1)
    other = sqlite3.connect(tmp_path / "test.db", isolation_level=None)
    try:
        await database.write(create_items)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable):
            await database.write(insert(1))
        other.execute("ROLLBACK")
        await database.write(insert(2), deadline=5)
    finally:
        other.close()
        await database.close()


async def test_the_upsert_of_the_dialect(db: Database) -> None:
    async def upsert(tx: Tx) -> None:
        for name in ("a", "b"):
            statement = tx.insert(ITEMS).values(id=1, name=name)
            await tx.execute(statement.on_conflict_do_update(index_elements=["id"], set_={"name": name}))

    await db.write(upsert)
    assert await db.read(lambda tx: tx.scalar(select(ITEMS.c.name))) == "b"


async def test_close_finishes_what_is_queued(tmp_path: Path) -> None:
    database = await Database.open(url_of(tmp_path))
    await database.write(create_items)
    writes = [asyncio.create_task(database.write(insert(n))) for n in range(10)]
    await asyncio.sleep(0)
    await database.close()
    assert await asyncio.gather(*writes) == list(range(10))
    with pytest.raises(Unavailable, match="closed"):
        await database.write(insert(11))
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("test.db-")]
    for thread in threads:
        await asyncio.to_thread(thread.join, 5)
    assert not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize("url", ["sqlite+aiosqlite:///:memory:", "sqlite+aiosqlite://", "mysql+aiomysql://h/d"])
async def test_an_unusable_url_is_a_clear_error(url: str) -> None:
    with pytest.raises(ValueError, match=r"must name a file|no database backend"):
        await Database.open(url)


# --- migrations ---


def write_migrations(folder: Path, **files: str) -> Path:
    schema = folder / "schema"
    schema.mkdir(exist_ok=True)
    for name, content in files.items():
        (schema / f"{name.removeprefix('m')}.sql").write_text(content)
    return schema


FIRST = """
-- A comment; with a semicolon and a 'quote.
CREATE TABLE a (id INTEGER PRIMARY KEY, t TEXT DEFAULT 'x;y');
CREATE TRIGGER a_insert AFTER INSERT ON a BEGIN
  UPDATE a SET t = t || ';' WHERE id = NEW.id;
  UPDATE a SET t = t || '!' WHERE id = NEW.id;
END;
/* the end; */
"""


async def test_migrations_are_applied_in_order_and_once(tmp_path: Path) -> None:
    schema = write_migrations(tmp_path, m001_first=FIRST, m002_second="INSERT INTO a (id) VALUES (1);\n")
    assert await migrate(url_of(tmp_path), schema) == ["001_first", "002_second"]
    assert await migrate(url_of(tmp_path), schema) == []
    with sqlite3.connect(tmp_path / "test.db") as raw:
        assert raw.execute("SELECT t FROM a").fetchall() == [("x;y;!",)]
        assert raw.execute("SELECT number, name FROM schema_migrations").fetchall() == [
            (1, "001_first"),
            (2, "002_second"),
        ]


async def test_two_processes_migrate_at_once(tmp_path: Path) -> None:
    files = {f"m{n:03}_step": f"CREATE TABLE t{n} (id INTEGER PRIMARY KEY);\n" for n in range(1, 61)}
    schema = write_migrations(tmp_path, **files)
    code = (
        "import asyncio, sys; from pathlib import Path; from mesh.db.migrations import migrate\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "print(len(asyncio.run(migrate(sys.argv[1], Path(sys.argv[2])))))"
    )
    processes = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", code, url_of(tmp_path), str(schema)),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        for _ in range(2)
    ]
    async with asyncio.timeout(20):
        with closing(sqlite3.connect(tmp_path / "test.db", isolation_level=None)) as gate:
            gate.execute("PRAGMA journal_mode = WAL")
            gate.execute("BEGIN IMMEDIATE")  # both processes come as far as their lock, and wait there
            for process in processes:
                assert process.stdout is not None
                assert await process.stdout.readline() == b"ready\n"
            outputs = asyncio.gather(*(process.communicate(b"go\n") for process in processes))
            await asyncio.sleep(0.05)
            gate.execute("COMMIT")
        counts = [int(output) for output, _ in await outputs]
    assert [process.returncode for process in processes] == [0, 0]
    assert sum(counts) == 60


async def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    schema = write_migrations(tmp_path, m001_first=FIRST)
    await migrate(url_of(tmp_path), schema)
    write_migrations(tmp_path, m001_first=FIRST + "-- more\n")
    with pytest.raises(MigrationError, match="001_first was changed"):
        await migrate(url_of(tmp_path), schema)


async def test_a_missing_or_late_file_is_refused(tmp_path: Path) -> None:
    schema = write_migrations(tmp_path, m001_first=FIRST, m003_third="CREATE TABLE c (id INTEGER);\n")
    await migrate(url_of(tmp_path), schema)
    write_migrations(tmp_path, m002_second="CREATE TABLE b (id INTEGER);\n")
    with pytest.raises(MigrationError, match="002_second is numbered below"):
        await migrate(url_of(tmp_path), schema)
    (schema / "002_second.sql").unlink()
    (schema / "001_first.sql").unlink()
    with pytest.raises(MigrationError, match="001_first was applied and is missing"):
        await migrate(url_of(tmp_path), schema)


async def test_an_older_release_runs_on_a_newer_schema(tmp_path: Path) -> None:
    schema = write_migrations(tmp_path, m001_first=FIRST, m002_second="CREATE TABLE b (id INTEGER);\n")
    await migrate(url_of(tmp_path), schema)
    (schema / "002_second.sql").unlink()
    assert await migrate(url_of(tmp_path), schema) == []


async def test_a_failing_migration_leaves_nothing(tmp_path: Path) -> None:
    schema = write_migrations(tmp_path, m001_first="CREATE TABLE b (id INTEGER);\nCREATE TABLE b (id INTEGER);\n")
    with pytest.raises(MigrationError, match="001_first"):
        await migrate(url_of(tmp_path), schema)
    write_migrations(tmp_path, m001_first="CREATE TABLE b (id INTEGER);\n")
    assert await migrate(url_of(tmp_path), schema) == ["001_first"]


@pytest.mark.parametrize("statement", ["COMMIT;", "ROLLBACK;"])
async def test_a_migration_cannot_end_its_transaction(tmp_path: Path, statement: str) -> None:
    schema = write_migrations(tmp_path, m001_first=f"{statement}\nCREATE TABLE b (id INTEGER);\n")
    with pytest.raises(MigrationError, match="must not end"):
        await migrate(url_of(tmp_path), schema)


def test_a_script_without_a_last_semicolon_is_refused() -> None:
    with pytest.raises(MigrationError, match="semicolon"):
        split_sqlite("SELECT 1; SELECT 2")
    assert split_sqlite("SELECT ';'; SELECT 2; -- end") == ["SELECT ';';", "SELECT 2;"]


async def test_what_is_deleted_is_overwritten_in_the_file(tmp_path: Path) -> None:
    """Once the database was closed, and with it its write-ahead log."""
    path = tmp_path / "secure.db"
    secret = "a sentence that nobody is to read again"
    db = await Database.open(f"sqlite+aiosqlite:///{path}")
    await db.write(lambda tx: tx.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT)"))

    async def fill(tx: Tx) -> None:
        for n in range(200):
            await tx.execute("INSERT INTO notes (id, body) VALUES (:n, :body)", {"n": n, "body": f"{n} {secret}" * 9})

    await db.write(fill)
    await db.close()
    assert secret.encode() in path.read_bytes()
    db = await Database.open(f"sqlite+aiosqlite:///{path}")
    await db.write(lambda tx: tx.execute("DELETE FROM notes WHERE id > 3"))
    await db.write(lambda tx: tx.execute("UPDATE notes SET body = ''"))
    await db.close()
    assert secret.encode() not in path.read_bytes()
