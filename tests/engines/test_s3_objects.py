"""Objects in a bucket of a real S3 server."""

from __future__ import annotations

import asyncio
import shutil
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mesh.errors import NotFound, Unavailable
from mesh.objects import Objects
from scripts.engines.control import Control
from scripts.engines.s3 import S3
from tests.stores.suites.objects import LARGE, ObjectsSuite, pieces, read

from .engines import ROOT, control

pytestmark = pytest.mark.usefixtures("s3")


def url() -> str:
    """A place of its own in the bucket."""
    whole = control("s3").urls()["ROOKERY_OBJECTS_URL"]
    return whole.replace("?", f"/{uuid.uuid4().hex}?", 1)


class TestObjectsInABucket(ObjectsSuite):
    """All of the suite."""

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncIterator[Objects]:
        """See ObjectsSuite."""
        yield Objects.open(url())


async def test_two_prefixes_of_a_bucket_know_nothing_of_each_other() -> None:
    one, other = Objects.open(url()), Objects.open(url())
    await one.put("a/b", b"1")
    assert [found.key for found in await one.list("a")] == ["a/b"]
    assert await other.list("a") == []
    with pytest.raises(NotFound):
        await other.head("a/b")


async def test_of_writers_of_one_object_one_wins_as_a_whole() -> None:
    objects = Objects.open(url())
    contents = [bytes([n]) * LARGE for n in range(3)]
    await asyncio.gather(*(objects.put("a", pieces(content)) for content in contents))
    assert await read(objects, "a") in contents


async def test_a_wrong_secret_or_bucket_is_said_to_be_unavailable_and_shown_to_nobody() -> None:
    right = url()
    secret = right.partition("://")[2].partition("@")[0].partition(":")[2]
    for wrong in (right.replace(secret, "f" * 32), right.replace("@rookery", "@no-such-bucket")):
        with pytest.raises(Unavailable) as refused:
            await Objects.open(wrong).put("a", b"1")
        told: BaseException | None = refused.value
        while told is not None:
            assert secret not in str(told) and "f" * 32 not in str(told)
            told = told.__cause__


@pytest.fixture
def own_server(s3: Control) -> Iterator[Control]:
    """A server that the test may kill."""
    del s3
    server = Control(S3(), ROOT / ".engines" / "killed-s3")
    server.up(fresh=True)
    yield server
    server.down()
    shutil.rmtree(server.folder.parent)


async def test_without_the_server_callers_are_told_in_time_and_with_it_objects_are_there(own_server: Control) -> None:
    objects = Objects.open(own_server.urls()["ROOKERY_OBJECTS_URL"], deadline_s=2.0)
    await objects.put("a", b"kept")
    await asyncio.to_thread(own_server.kill, "s3-1")
    async with asyncio.timeout(8):
        for attempt in (
            objects.put("b", b"1"),
            objects.head("a"),
            read(objects, "a"),
            objects.delete("a"),
            objects.list("a"),
        ):
            with pytest.raises(Unavailable):
                await attempt
    await asyncio.to_thread(own_server.up)
    assert await read(objects, "a") == b"kept"
    with pytest.raises(NotFound):
        await objects.head("b")
