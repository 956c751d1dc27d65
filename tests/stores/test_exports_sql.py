"""The SQL adapter of ExportStore on SQLite, and the worker that makes archives on it."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from rookery.events.v1.user_events_pb2 import UserErased

from mesh.errors import NotFound, Unavailable
from mesh.objects import Objects
from services.user.exporter import LIFETIME_MS, Exporter, Read, object_key
from services.user.store.exports import FAILED, READY, WAITING

from .sql_adapters import export_stores
from .sqlite_stores import sqlite
from .suites.exports import ADA, NOW, ExportStores, ExportStoreSuite


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[ExportStores]:
    """Stores on a new file."""
    async with sqlite("user", folder) as sql:
        yield export_stores(sql)


class TestSqlExportStore(ExportStoreSuite):
    """All of the suite."""

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncIterator[ExportStores]:
        """See ExportStoreSuite."""
        async with opened(folder) as stores:
            yield stores


@dataclass
class World:
    """A worker's surroundings, in which time stands still unless it is moved."""

    stores: ExportStores
    objects: Objects
    now: int = NOW

    def worker(self, readers: Mapping[str, Read]) -> Exporter:
        """A replica's worker."""
        return Exporter(self.stores.exports, self.objects, readers, now_ms=lambda: self.now)

    async def archive(self, export_id: int) -> dict[str, object]:
        """The documents of an archive."""
        content = b"".join([piece async for piece in self.objects.get(object_key(export_id))])
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return {Path(name).stem: json.loads(archive.read(name)) for name in archive.namelist()}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with opened(tmp_path) as stores:
        await stores.person(ADA, "ada")
        await stores.exports.begin(10, ADA, finished_after_ms=0)
        yield World(stores, Objects.open(f"file://{tmp_path}/objects"))


async def thousand(user_id: int, after: int) -> tuple[list[bytes], int]:
    """A section of ten pages."""
    page = [json.dumps({"n": n}).encode() for n in range(after, after + 100)]
    return page, after + 100 if after < 900 else 0


async def nothing(user_id: int, after: int) -> tuple[list[bytes], int]:
    """An empty section."""
    return [], 0


async def gone(user_id: int, after: int) -> tuple[list[bytes], int]:
    """A section whose owner is away."""
    raise Unavailable("away")


async def defect(user_id: int, after: int) -> tuple[list[bytes], int]:
    """A section that cannot be read."""
    raise KeyError("a defect")


async def test_a_worker_makes_what_waits_page_by_page(world: World) -> None:
    worker = world.worker({"things": thousand, "nothing": nothing})
    assert await worker.make_one()
    assert not await worker.make_one()
    export = await world.stores.exports.by_id(10)
    assert export is not None
    assert (export.status, export.progress, export.expires_ms) == (READY, 100, NOW + LIFETIME_MS)
    assert (await world.objects.head(object_key(10))).size == export.size
    files = await world.archive(10)
    assert files["things"] == [{"n": n} for n in range(1000)]
    assert files["nothing"] == []
    assert set(files) == {"profile", "sessions", "clients", "things", "nothing", "manifest"}


async def test_another_replica_begins_anew_when_one_died(world: World) -> None:
    reached = asyncio.Event()

    async def stuck(user_id: int, after: int) -> tuple[list[bytes], int]:
        reached.set()
        await asyncio.Event().wait()
        raise AssertionError

    died = asyncio.create_task(world.worker({"things": stuck}).make_one())
    await reached.wait()
    died.cancel()
    await asyncio.wait([died])
    other = world.worker({"things": thousand})
    assert not await other.make_one()  # the claim holds still
    world.now += 30_001
    assert await other.make_one()
    assert len((await world.archive(10))["things"]) == 1000  # type: ignore[arg-type]


async def test_an_archive_waits_as_long_as_it_takes_for_a_service_that_is_away(world: World) -> None:
    for _ in range(9):
        assert await world.worker({"things": gone}).make_one()
        world.now += 10_000
    export = await world.stores.exports.by_id(10)
    assert export is not None
    assert (export.status, export.attempts) == (WAITING, 0)
    assert await world.worker({"things": thousand}).make_one()
    assert (await world.stores.exports.by_id(10)).status == READY  # type: ignore[union-attr]


async def test_an_archive_that_cannot_be_made_is_given_up(world: World) -> None:
    for _ in range(5):
        assert await world.worker({"things": defect}).make_one()
        world.now += 1_000_000
    export = await world.stores.exports.by_id(10)
    assert export is not None
    assert export.status == FAILED
    assert not await world.worker({"things": thousand}).make_one()
    assert await world.objects.list("exports") == []


async def test_nothing_is_left_of_an_archive_whose_person_is_erased_meanwhile(world: World) -> None:
    async def erased_meanwhile(user_id: int, after: int) -> tuple[list[bytes], int]:
        await world.stores.exports.erase(ADA, UserErased(user_id=ADA), until_ms=NOW)
        return [b"{}"], 0

    assert await world.worker({"things": erased_meanwhile}).make_one()
    assert await world.stores.exports.by_id(10) is None
    assert await world.objects.list("exports") == []


async def test_archives_go_when_their_time_is_over_and_objects_that_no_export_has(world: World) -> None:
    worker = world.worker({"things": thousand})
    await worker.make_one()
    await world.objects.put(object_key(99), b"of nobody")
    await worker.tidy()
    assert [one.key for one in await world.objects.list("exports")] == [object_key(10)]
    world.now += LIFETIME_MS
    await worker.tidy()
    assert await world.objects.list("exports") == []
    assert await world.stores.exports.by_id(10) is None
    with pytest.raises(NotFound):
        await world.objects.head(object_key(10))
