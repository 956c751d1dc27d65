"""Copies between the embedded stores and real engines, there and back."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mesh.db.migrations import MigrationError, migrate
from mesh.objects import Objects
from mesh.transfer.base import Record, Transfer
from mesh.transfer.copying import copy
from mesh.transfer.objects import OBJECTS, ObjectTransfer
from tests.stores.suites.objects import LARGE, pieces, read
from tests.stores.suites.transfer import Killed, Silent, TransferSuite, Unfinished, records_of
from tests.stores.test_transfer import OPENERS, SERVICES, embedded, filled

from . import neo4j_stores
from .cassandra_stores import SCHEMA
from .engines import control, new_database, schema

pytestmark = pytest.mark.timeout(300)  # engines of several kinds run side by side


@pytest.mark.usefixtures("postgresql")
class TestPostgresql(TransferSuite):
    """All of the suite."""

    ports = tuple(SERVICES)
    filled = staticmethod(filled)
    embedded = staticmethod(embedded)
    page = 40

    @asynccontextmanager
    async def empty(self, port: str, folder: Path) -> AsyncIterator[Transfer]:
        """See TransferSuite."""
        del folder
        async with new_database() as url:
            store = await OPENERS[port](url, target=True)
            yield store
            await store.close()

    async def test_no_service_starts_on_a_part_of_a_copy(self, tmp_path: Path) -> None:
        async with new_database() as url:
            store = await OPENERS["users"](url, target=True)
            async with filled("users", tmp_path) as source:
                with pytest.raises(Killed):
                    await copy(source, Unfinished(store), origin="a", watcher=Silent())
                with pytest.raises(MigrationError, match="a copy to it is under way"):
                    await migrate(url, schema("user"))
                await copy(source, store, origin="a", watcher=Silent())
                assert await migrate(url, schema("user")) == []
            await store.close()


class TestCassandra(TransferSuite):
    """All of the suite."""

    ports = ("tweets",)
    filled = staticmethod(filled)
    embedded = staticmethod(embedded)
    page = 40

    @pytest.fixture(autouse=True)
    def keyspace(self, tweets_keyspace: str) -> None:
        """Where copies go."""
        self.url = tweets_keyspace

    @asynccontextmanager
    async def empty(self, port: str, folder: Path) -> AsyncIterator[Transfer]:
        """See TransferSuite."""
        del folder
        store = await OPENERS[port](self.url, target=True)
        await store.clear()
        await store.finish()
        yield store
        await store.close()

    async def test_no_service_starts_on_a_part_of_a_copy(self, tmp_path: Path) -> None:
        async with self.ends("tweets", tmp_path) as (source, target):
            with pytest.raises(Killed):
                await copy(source, Unfinished(target), origin="a", watcher=Silent())
            with pytest.raises(MigrationError, match="a copy to it is under way"):
                await migrate(self.url, SCHEMA)
            await copy(source, target, origin="a", watcher=Silent())
            assert await migrate(self.url, SCHEMA) == []

    async def test_reading_goes_on_from_any_place(self, tmp_path: Path) -> None:
        """As after a kill: whoever goes on knows the place alone."""
        async with self.ends("tweets", tmp_path) as (source, target):
            await copy(source, target, origin="a", watcher=Silent())
            for kind in target.kinds:
                found: list[Record] = []
                after = ""
                while True:
                    store = await OPENERS["tweets"](self.url, target=False)
                    page = await store.read(kind, after, 30)
                    await store.close()
                    found += page.records
                    after = page.after
                    if not after:
                        break
                assert sorted(found, key=repr) == sorted(await records_of(target, kind), key=repr), kind.name


@pytest.mark.usefixtures("neo4j")
class TestNeo4j(TransferSuite):
    """All of the suite."""

    ports = ("graph",)
    filled = staticmethod(filled)
    embedded = staticmethod(embedded)
    page = 40

    @asynccontextmanager
    async def empty(self, port: str, folder: Path) -> AsyncIterator[Transfer]:
        """See TransferSuite."""
        del folder
        store = await OPENERS[port](neo4j_stores.address(), target=True)
        await store.clear()
        await store.finish()
        yield store
        await store.close()

    async def test_no_service_starts_on_a_part_of_a_copy(self, tmp_path: Path) -> None:
        async with self.ends("graph", tmp_path) as (source, target):
            with pytest.raises(Killed):
                await copy(source, Unfinished(target), origin="a", watcher=Silent())
            with pytest.raises(MigrationError, match="a copy to it is under way"):
                await migrate(neo4j_stores.address(), neo4j_stores.SCHEMA)
            await copy(source, target, origin="a", watcher=Silent())
            assert await migrate(neo4j_stores.address(), neo4j_stores.SCHEMA) == []


async def test_objects_move_from_a_folder_to_a_bucket_and_back(s3: object, tmp_path: Path) -> None:
    del s3
    whole = control("s3").urls()["ROOKERY_OBJECTS_URL"]
    one, other = (f"{tmp_path}/{name}" for name in ("one", "other"))
    folder, back = Objects.open(f"file://{one}"), Objects.open(f"file://{other}")
    bucket = Objects.open(whole.replace("?", f"/{uuid.uuid4().hex}?", 1))
    for number in range(20):
        await folder.put(f"exports/{number}.zip", bytes([number]) * number)
    await folder.put("large", pieces(LARGE * b"1"))
    for source, target in ((folder, bucket), (bucket, back)):
        moved = await copy(ObjectTransfer(source), ObjectTransfer(target, source), origin="a", watcher=Silent())
        assert list(moved.differences) == []
        assert [one.records for one in moved.summaries] == [21]
    assert await read(back, "large") == LARGE * b"1"
    assert await read(back, "exports/19.zip") == bytes([19]) * 19
    first = await bucket.page("", 10)
    second = await bucket.page(first[-1].key, 10)
    assert [one.key for one in [*first, *second]] == sorted(one.key for one in await back.page("", 20))
    assert (await ObjectTransfer(bucket).read(OBJECTS, "", 1)).after
    await ObjectTransfer(bucket).clear()
    assert await bucket.page("", 10) == []
