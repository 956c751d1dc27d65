"""Units of work, leases and migrations on a real Neo4j, and what becomes of them when it goes."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from neo4j.exceptions import ConstraintError, CypherSyntaxError

from mesh.db.migrations import MigrationError, migrate
from mesh.db.neo4j import Address, Neo4jDatabase, Neo4jTx
from mesh.db.neo4j_leases import Neo4jLeases
from mesh.db.neo4j_migrations import split_cypher
from mesh.errors import Unavailable
from mesh.ids import WORKERS, LeaseStore
from scripts.engines.control import Control
from scripts.engines.neo4j import Neo4j
from tests.stores.suites.leases import LeaseSuite
from tests.stores.suites.outbox import eventually

from .engines import ROOT
from .neo4j_stores import SCHEMA, address, empty, neo4j_store, run

pytestmark = pytest.mark.usefixtures("neo4j")


@asynccontextmanager
async def opened(url: str | None = None, *, deadline: float = 10.0) -> AsyncIterator[Neo4jDatabase]:
    """The empty database."""
    if url is None:
        await empty(address())
    db = await Neo4jDatabase.open(url or address(), deadline=deadline)
    try:
        yield db
    finally:
        await db.close()


async def things(tx: Neo4jTx) -> list[int]:
    """Ids of all there are."""
    return [one[0] for one in await tx.run("MATCH (t:Thing) RETURN t.id ORDER BY t.id")]


def make(number: int) -> str:
    """A query that makes a thing."""
    return f"CREATE (t:Thing {{id: {number}}}) RETURN t.id"


# --- units


async def test_a_unit_that_fails_leaves_nothing_and_calls_nobody() -> None:
    called: list[int] = []

    async def unit(tx: Neo4jTx) -> None:
        await tx.run(make(1))
        tx.on_commit(lambda: called.append(1))
        raise LookupError

    async def good(tx: Neo4jTx) -> None:
        async def last(tx: Neo4jTx) -> None:
            assert await things(tx) == [2]
            called.append(2)

        tx.before_commit(last)
        await tx.run(make(2))
        tx.on_commit(lambda: called.append(3))

    async with opened() as db:
        with pytest.raises(LookupError):
            await db.write(unit)
        await db.write(good)
        assert await db.read(things) == [2]
    assert called == [2, 3]


async def test_a_unit_that_reads_must_not_write() -> None:
    async with opened() as db:
        with pytest.raises(TypeError, match="has written"):
            await db.read(lambda tx: tx.run(make(1)))


async def test_who_locks_first_and_looks_then_loses_no_change() -> None:
    """A lock is a property that is set to what it is; a property set by what was read before it is none."""
    query = "MATCH (t:Thing {id: 1}) SET t.locked = true WITH t, t.n AS n SET t.n = n + 1"
    async with opened() as db:
        await db.write(lambda tx: tx.run("CREATE (:Thing {id: 1, n: 0})"))
        await asyncio.gather(*(db.write(lambda tx: tx.run(query)) for _ in range(40)))
        assert (await db.read(lambda tx: tx.run("MATCH (t:Thing) RETURN t.n")))[0][0] == 40


async def test_of_units_that_wait_for_each_other_both_end_well() -> None:
    """They lock two things in opposite orders, and each is held until the other has its first."""
    meeting = asyncio.Barrier(2)
    runs = 0

    async def swap(db: Neo4jDatabase, first: int, second: int) -> None:
        attempts = 0

        async def unit(tx: Neo4jTx) -> None:
            nonlocal attempts, runs
            attempts += 1
            runs += 1
            await tx.run("MATCH (t:Thing {id: $id}) SET t.n = t.n + 1", {"id": first})
            if attempts == 1:
                await meeting.wait()
            await tx.run("MATCH (t:Thing {id: $id}) SET t.n = t.n + 1", {"id": second})

        await db.write(unit)

    async with opened() as db:
        await db.write(lambda tx: tx.run("UNWIND [1, 2] AS id CREATE (:Thing {id: id, n: 0})"))
        await asyncio.gather(swap(db, 1, 2), swap(db, 2, 1))
        assert [one[0] for one in await db.read(lambda tx: tx.run("MATCH (t:Thing) RETURN t.n"))] == [2, 2]
    assert runs >= 3, "one of them lost, and ran again"


async def test_what_is_wrong_with_a_query_is_its_own_error_and_not_the_stores() -> None:
    async with neo4j_store() as graph:
        with pytest.raises(CypherSyntaxError):
            await graph.db.read(lambda tx: tx.run("MATCH"))
        person = "CREATE (:Person {id: 1})"
        await graph.db.write(lambda tx: tx.run(person))
        with pytest.raises(ConstraintError):
            await graph.db.write(lambda tx: tx.run(person))


async def test_a_query_that_takes_too_long_is_given_up_by_the_caller_and_by_the_server() -> None:
    forever = "UNWIND range(1, 1000000000) AS a UNWIND range(1, 1000) AS b WITH a * b AS c WHERE c < 0 RETURN count(c)"
    busy = (
        "SHOW TRANSACTIONS YIELD currentQuery AS query"
        " WHERE query CONTAINS 'range(1, 1000000000)' AND NOT query CONTAINS 'SHOW' RETURN 1"
    )
    async with opened(deadline=1.0) as db:
        for attempt in (db.read, db.write):
            started = asyncio.get_running_loop().time()
            with pytest.raises(Unavailable):
                await attempt(lambda tx: tx.run(forever))
            assert asyncio.get_running_loop().time() - started < 5.0

    async def given_up() -> bool:  # the server looks at its clock now and then
        return not await run(address(), busy)

    await eventually(given_up, seconds=20.0)


async def test_too_many_that_wait_are_refused_and_a_closed_database_answers_nobody() -> None:
    db = await Neo4jDatabase.open(address(), pool_size=1, deadline=5.0, max_waiting=2)
    outcomes = await asyncio.gather(*(db.read(things) for _ in range(6)), return_exceptions=True)
    assert [type(one) for one in outcomes].count(Unavailable) == 4
    await db.close()
    await db.close()
    for attempt in (db.read(things), db.write(things)):
        with pytest.raises(Unavailable):
            await attempt


def test_urls_are_read_as_they_are_meant() -> None:
    assert Address.parse("neo4j://neo4j:a%2Fb%40c@host:1234/graph") == Address(
        "neo4j://host:1234", ("neo4j", "a/b@c"), "graph"
    )
    assert Address.parse("bolt+s://[::1]") == Address("bolt+s://[::1]:7687", None, None)
    for wrong in ("http://neo4j:secret@host", "neo4j://", "neo4j://:secret@", "neo4j://u:secret@host?x=1"):
        with pytest.raises(ValueError, match="neo4j://name") as refused:
            Address.parse(wrong)
        assert "secret" not in str(refused.value)


# --- leases


class TestLeases(LeaseSuite):
    """All of the suite."""

    @pytest.fixture
    async def opened(self) -> AsyncIterator[Callable[[Callable[[], int]], LeaseStore]]:  # type: ignore[override]
        """See LeaseSuite."""
        async with neo4j_store() as graph:
            yield lambda clock: Neo4jLeases(graph.db, now_ms=clock)

    async def fill(self, store: LeaseStore, expires_ms: int) -> None:
        """See LeaseSuite."""
        made = f"CREATE (:WorkerLease {{worker: n, holder: 'x', expires_ms: {expires_ms}}})"
        await run(address(), f"UNWIND range(0, {WORKERS - 1}) AS n {made}")


# --- the server


@pytest.fixture
def own_server(neo4j: Control) -> Iterator[Control]:
    """A server that the test may kill."""
    control = Control(Neo4j(), neo4j.folder.parent / "killed")
    control.up(fresh=True)
    yield control
    control.down()
    shutil.rmtree(control.folder.parent)


@pytest.mark.timeout(400)
async def test_without_the_server_callers_are_told_and_with_it_they_are_served_again(own_server: Control) -> None:
    async with opened(own_server.urls()["ROOKERY_GRAPH_URL"]) as db:
        await db.write(lambda tx: tx.run(make(0)))  # the first one is planned

        async def write(number: int) -> int:
            await db.write(lambda tx: tx.run(make(number)))
            return number

        accepted = await asyncio.gather(*(write(n) for n in range(1, 20)))
        writing = [asyncio.create_task(write(n)) for n in range(20, 300)]
        await asyncio.wait(writing, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.to_thread(own_server.kill, "neo4j-1")
        outcomes = await asyncio.gather(*writing, return_exceptions=True)
        accepted += [one for one in outcomes if isinstance(one, int)]
        assert not [one for one in outcomes if not isinstance(one, int | Unavailable)]
        started = asyncio.get_running_loop().time()
        with pytest.raises(Unavailable):
            await db.read(things)
        assert asyncio.get_running_loop().time() - started < 5.0
        await asyncio.to_thread(own_server.up)

        async def serves() -> bool:  # one of them asks now and then
            try:
                return bool(await db.read(things, deadline=30.0))
            except Unavailable:
                return False

        await eventually(serves, seconds=60.0)
        there = await db.read(things, deadline=60.0)
        assert set(accepted) <= set(there), "what was answered is on disk"
        assert len(there) == len(set(there)), "and nothing is there twice"


# --- migrations


async def test_two_processes_migrate_at_once_and_each_step_is_taken_once(tmp_path: Path) -> None:
    await run(address(), "MATCH (m:SchemaMigration) DELETE m")
    program = (
        "import asyncio, sys; from pathlib import Path; from mesh.db.migrations import migrate;"
        " print(*asyncio.run(migrate(sys.argv[1], Path(sys.argv[2]))))"
    )
    processes = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", program, address(), str(SCHEMA)), cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
        for _ in range(3)
    ]
    out = [(await process.communicate())[0].decode().split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sorted(name for one in out for name in one) == sorted(path.stem for path in SCHEMA.glob("*.cypher"))
    assert await migrate(address(), SCHEMA) == []
    there = {one["name"] for one in await run(address(), "SHOW INDEXES YIELD name, state WHERE state = 'ONLINE'")}
    assert {"person", "follows_pair", "follows_by_followee", "follows_for_fanout", "outbox_waiting"} <= there
    (tmp_path / "001_people.cypher").write_text("MERGE (:Thing);")
    with pytest.raises(MigrationError, match="001_people was changed"):
        await migrate(address(), tmp_path)


async def test_a_step_that_fails_is_named_and_what_follows_is_not_taken(tmp_path: Path) -> None:
    await run(address(), "MATCH (m:SchemaMigration) DELETE m")
    try:
        (tmp_path / "001_good.cypher").write_text("MERGE (:Thing {id: 1}); // one; thing\nMERGE (:Thing {id: ';'});")
        (tmp_path / "002_bad.cypher").write_text("MERGE (:Thing {id: 2});\nCREATE nothing;")
        (tmp_path / "003_next.cypher").write_text("MERGE (:Thing {id: 3});")
        with pytest.raises(MigrationError, match="002_bad"):
            await migrate(address(), tmp_path)
        (tmp_path / "002_bad.cypher").write_text("MERGE (:Thing {id: 2});")
        assert await migrate(address(), tmp_path) == ["002_bad", "003_next"]
        rows = await run(address(), "MATCH (t:Thing) RETURN t.id AS id")
        assert {row["id"] for row in rows} == {1, 2, 3, ";"}
    finally:
        await run(address(), "MATCH (n:SchemaMigration|Thing) DELETE n")


def test_statements_can_be_done_again_and_end_where_they_end() -> None:
    script = "/* a; b */ MERGE (:A {b: 'x;\\'y'}); // c;\nCREATE INDEX i IF NOT EXISTS FOR (a:`A;`) ON (a.b);\n"
    assert split_cypher(script) == ["MERGE (:A {b: 'x;\\'y'})", "CREATE INDEX i IF NOT EXISTS FOR (a:`A;`) ON (a.b)"]
    for wrong in ("MERGE (:A)", "CREATE CONSTRAINT c FOR (a:A) REQUIRE a.b IS UNIQUE;", "DROP INDEX i;"):
        with pytest.raises(MigrationError):
            split_cypher(wrong)


async def test_a_server_that_refuses_or_is_not_there_is_said_to_be_unavailable(tmp_path: Path) -> None:
    right = Address.parse(address())
    assert right.auth is not None
    wrong = address().replace(right.auth[1], "wrong-password")
    for url in (wrong, "neo4j://neo4j:x@127.0.0.1:1"):
        with pytest.raises(Unavailable):
            await migrate(url, tmp_path)
        async with opened(url, deadline=5.0) as db:
            with pytest.raises(Unavailable):
                await db.read(things)
