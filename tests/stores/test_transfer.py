"""Copies between stores on SQLite, and what every copy does."""

from __future__ import annotations

import asyncio
import importlib
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from mesh.db.leases import SqlLeases
from mesh.db.migrations import MigrationError, migrate
from mesh.outbox.sql import SqlRows
from mesh.transfer.base import EVENTS, Holder, Kind, Transfer, TransferError, Type
from mesh.transfer.comparing import compare
from mesh.transfer.copying import copy, wait_until_unused
from mesh.transfer.sql import SqlTransfer
from services.graph.store.transfer import open_transfer as open_graph
from services.moderation.store.sql import SqlModerationStore
from services.moderation.store.transfer import open_transfer as open_moderation
from services.tweet.store.erasure import SqlRemains
from services.tweet.store.sql import SqlTweetStore
from services.tweet.store.transfer import open_transfer as open_tweets
from services.user.store.transfer import open_transfer as open_users

from .filled import fill_graph, fill_moderation, fill_tweets, fill_users
from .sql_adapters import credential_stores, export_stores, graph_stores, list_stores, tweet_stores, user_stores
from .sqlite_stores import ROOT, Sql, sqlite
from .suites.transfer import Edited, Killed, Silent, TransferSuite, Unfinished, Wrapped, records_of

SERVICES = {"users": "user", "graph": "graph", "tweets": "tweet", "moderation": "moderation"}
OPENERS = {"users": open_users, "graph": open_graph, "tweets": open_tweets, "moderation": open_moderation}


_made: dict[str, tempfile.TemporaryDirectory[str]] = {}
"""Filled once: copying a file is quicker."""


async def fill(port: str, sql: Sql) -> None:
    """Something of every kind, some of it published."""
    if port == "users":
        await fill_users(user_stores(sql), export_stores(sql), credential_stores(sql))
    elif port == "graph":
        await fill_graph(graph_stores(sql), list_stores(sql))
    elif port == "moderation":
        await fill_moderation(SqlModerationStore(sql.db, sql.outbox))
    else:
        store = SqlTweetStore(sql.db, sql.outbox)
        await fill_tweets(tweet_stores(sql), SqlRemains(sql.db, sql.outbox, store.counts))
    await sql.db.write(lambda tx: tx.execute("UPDATE outbox SET published_ms = 1 WHERE id % 3 = 0"))


@asynccontextmanager
async def filled(port: str, folder: Path) -> AsyncIterator[Transfer]:
    """A source on SQLite with something of every kind."""
    name = f"{SERVICES[port]}.db"
    if port not in _made:
        kept = tempfile.TemporaryDirectory(prefix="filled-")
        async with sqlite(SERVICES[port], Path(kept.name)) as sql:
            await fill(port, sql)
        _made[port] = kept
    with closing(sqlite3.connect(Path(_made[port].name) / name)) as made, closing(sqlite3.connect(folder / name)) as db:
        made.backup(db)  # with what a log beside it has
    store = await OPENERS[port](address(port, folder), target=False)
    yield store
    await store.close()


@asynccontextmanager
async def embedded(port: str, folder: Path) -> AsyncIterator[Transfer]:
    """An empty target on SQLite."""
    store = await OPENERS[port](address(port, folder), target=True)
    yield store
    await store.close()


def address(port: str, folder: Path) -> str:
    """The URL of a port's database in a folder."""
    return f"sqlite+aiosqlite:///{folder}/{SERVICES[port]}.db"


class TestSqlite(TransferSuite):
    """All of the suite."""

    ports = tuple(SERVICES)
    filled = staticmethod(filled)
    empty = staticmethod(embedded)
    embedded = staticmethod(embedded)


@pytest.fixture
async def ends(tmp_path: Path) -> AsyncIterator[tuple[Transfer, Transfer]]:
    """Tweets, and an empty store for them."""
    for name in ("source", "target"):
        (tmp_path / name).mkdir()
    async with filled("tweets", tmp_path / "source") as source, embedded("tweets", tmp_path / "target") as target:
        yield source, target


def rows(folder: Path, query: str) -> list[Any]:
    """What a query finds in the tweets of a folder."""
    with closing(sqlite3.connect(folder / "tweet.db")) as db, db:
        return db.execute(query).fetchall()


async def test_changes_of_counts_are_added_up_before_and_every_event_waits_after(
    ends: tuple[Transfer, Transfer], tmp_path: Path
) -> None:
    assert rows(tmp_path / "source", "SELECT 1 FROM count_changes"), "there is nothing to add up"
    left = "SELECT 1 FROM tweets t WHERE deleted AND (EXISTS (SELECT 1 FROM likes WHERE tweet_id = t.id)"
    left += " OR EXISTS (SELECT 1 FROM polls WHERE tweet_id = t.id))"
    assert rows(tmp_path / "source", left), "there is nothing to purge"
    assert rows(tmp_path / "source", "SELECT 1 FROM outbox WHERE published_ms IS NOT NULL")
    await copy(*ends, origin="a", watcher=Silent())
    assert rows(tmp_path / "source", "SELECT 1 FROM count_changes") == []
    assert rows(tmp_path / "target", left) == []
    wrong = (
        "SELECT id, like_count FROM tweets t WHERE NOT deleted AND"
        " like_count <> (SELECT COUNT(*) FROM likes WHERE tweet_id = t.id)"
    )
    assert rows(tmp_path / "target", wrong) == []
    assert rows(tmp_path / "target", "SELECT SUM(impression_count) FROM tweets")[0][0] > 0
    events = "SELECT topic, key, type, event_id, payload FROM outbox ORDER BY id"
    assert rows(tmp_path / "target", events) == rows(tmp_path / "source", events)
    assert rows(tmp_path / "target", "SELECT 1 FROM outbox WHERE published_ms IS NOT NULL") == []


async def test_no_service_starts_on_a_part_of_a_copy(ends: tuple[Transfer, Transfer], tmp_path: Path) -> None:
    source, target = ends
    url, schema = address("tweets", tmp_path / "target"), ROOT / "services" / "tweet" / "schema" / "sql"
    with pytest.raises(Killed):
        await copy(source, Unfinished(target), origin="a", watcher=Silent())
    with pytest.raises(MigrationError, match="a copy to it is under way"):
        await migrate(url, schema)
    again = await open_tweets(url, target=True)  # the copy itself may
    await again.close()
    await copy(source, target, origin="a", watcher=Silent())
    assert await migrate(url, schema) == []


async def test_a_record_that_the_target_cannot_hold_is_named(ends: tuple[Transfer, Transfer]) -> None:
    source, target = ends
    likes = next(kind for kind in source.kinds if kind.name == "likes")
    [*_, last] = await records_of(source, likes)
    broken = Edited(source, "likes", lambda record: ((*record[:2], None) if record == last else record,))
    with pytest.raises(TransferError, match=f"likes user_id {last[0]}, tweet_id {last[1]} cannot be stored: NOT NULL"):
        await copy(broken, target, origin="a", watcher=Silent())


async def test_many_differences_are_counted_and_some_of_them_named(ends: tuple[Transfer, Transfer]) -> None:
    source, target = ends
    likes = next(kind for kind in source.kinds if kind.name == "likes")
    _, told = await compare(source, target, likes, lambda _: None, 100)
    assert len(told) == 22
    assert str(told[0]).startswith("likes: ") and "at the source, 0 at the target" in str(told[0])
    assert all(one.what == "missing at the target" for one in told[1:-1])
    assert "and others" in str(told[-1])


async def eventually(look: Callable[[], object], wanted: object) -> None:
    """Waits until that is seen."""
    async with asyncio.timeout(10):
        while look() != wanted:  # noqa: ASYNC110 -- nothing tells
            await asyncio.sleep(0.01)


class _Clock:
    """Seconds that pass as somebody looks."""

    def __init__(self, step: float) -> None:
        self._now, self._step = 0.0, step

    def __call__(self) -> float:
        self._now += self._step
        return self._now


async def test_a_store_is_used_as_long_as_its_leases_are_renewed(tmp_path: Path) -> None:
    async with sqlite("tweet", tmp_path) as sql:
        store = SqlTransfer(sql.db, ())
        await wait_until_unused(store)
        leases = SqlLeases(sql.db)
        lease = await leases.acquire("tweet-1", 60_000)
        said: list[str] = []
        waiting = asyncio.create_task(wait_until_unused(store, waiting=said.append))
        await eventually(lambda: said, ["tweet-1"])
        await leases.renew("tweet-1", lease.worker, 70_000)
        with pytest.raises(TransferError, match="tweet-1 has just renewed its lease"):
            await waiting
        with pytest.raises(TransferError, match="a service runs on it"):  # a clock that is far ahead, say
            await wait_until_unused(store, clock=_Clock(100.0))
        waiting = asyncio.create_task(wait_until_unused(store, waiting=said.append))
        await eventually(lambda: said, ["tweet-1"] * 2)
        await leases.renew("tweet-1", lease.worker, -1)  # it ends, as that of a process that was killed
        await waiting
        other = await leases.acquire("tweet-2", 60_000)
        await leases.release("tweet-2", other.worker)
        await wait_until_unused(store)


async def test_who_relays_uses_the_store_too(tmp_path: Path) -> None:
    async with sqlite("tweet", tmp_path) as sql:
        await SqlRows(sql.db).take("tweet-relay", 0, 2**53, None)
        assert [holder.name for holder in await SqlTransfer(sql.db, ()).holders()] == ["tweet-relay"]


async def test_a_service_that_starts_during_a_copy_is_noticed(ends: tuple[Transfer, Transfer]) -> None:
    class Used(Wrapped):
        async def holders(self) -> Sequence[Holder]:
            return [Holder("tweet-1", 2**53)]

    with pytest.raises(TransferError, match="began to use the source meanwhile: tweet-1"):
        await copy(Used(ends[0]), ends[1], origin="a", watcher=Silent())
    assert await ends[1].progress()


async def test_a_source_of_another_release_is_refused(tmp_path: Path) -> None:
    async with sqlite("tweet", tmp_path) as sql:
        await sql.db.write(lambda tx: tx.execute("DELETE FROM schema_migrations WHERE number > 5"))
    with pytest.raises(TransferError, match="older than this release"):
        await open_tweets(address("tweets", tmp_path), target=False)
    async with sqlite("user", tmp_path) as sql:
        await sql.db.write(lambda tx: tx.execute("INSERT INTO schema_migrations VALUES (900, '900_later', 'x', 1)"))
    with pytest.raises(TransferError, match="not that of this release"):
        await open_users(address("users", tmp_path), target=False)


@pytest.mark.parametrize("port", SERVICES)
async def test_every_table_is_a_kind_with_all_its_columns_or_says_why_not(port: str, tmp_path: Path) -> None:
    """A new table or column is forgotten by no copy."""
    service = SERVICES[port]
    module = importlib.import_module(f"services.{service}.store.transfer")
    kinds = {kind.name: kind for kind in module.KINDS}
    async with sqlite(service, tmp_path):
        pass
    with closing(sqlite3.connect(tmp_path / f"{service}.db")) as db:
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        tables = {name for name in tables if not name.startswith(("sqlite_", "schema_"))}
        assert tables == kinds.keys() | module.LEFT_OUT.keys()
        types = {Type.INTEGER: ("BIGINT", "SMALLINT"), Type.TEXT: ("TEXT",), Type.BYTES: ("BYTEA",)}
        for name, kind in kinds.items():
            columns = db.execute(f"PRAGMA table_info({name})").fetchall()
            assert {column[1] for column in columns} == set(kind.fields), name
            assert {column[1] for column in columns if column[5]} == set(kind.key), name
            for _, column, type_, required, _, part_of_key in columns:
                assert type_ in types.get(kind.fields[column], ("BOOLEAN",)), f"{name}.{column}"
                assert (column in kind.nullable) == (not required and not part_of_key), f"{name}.{column}"
        columns = {column[1] for column in db.execute("PRAGMA table_info(outbox)")}
        assert columns - {"id", "published_ms", "created_ms"} == set(EVENTS.fields)


def test_a_kind_whose_key_is_no_field_is_refused() -> None:
    with pytest.raises(ValueError, match="not among its fields"):
        Kind("things", ("id",), {"name": Type.TEXT})
