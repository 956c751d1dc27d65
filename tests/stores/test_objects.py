"""Objects in a folder."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mesh.objects import Objects

from .suites.objects import ObjectsSuite


class TestObjectsInAFolder(ObjectsSuite):
    """All of the suite."""

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncIterator[Objects]:
        """See ObjectsSuite."""
        yield Objects.open(f"file://{folder}/objects")


async def test_only_the_folders_owner_may_look_into_it(tmp_path: Path) -> None:
    Objects.open(f"file://{tmp_path}/objects")
    assert (tmp_path / "objects").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("url", ["", "objects", "file:objects", "file://host/a", "file:///a?b=1", "gs://bucket", "/a"])
async def test_a_url_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="file:///folder"):
        Objects.open(url)


@pytest.mark.parametrize(
    "url",
    [
        *("s3:", "s3:bucket", "s3:///bucket", "s3://UPPER_case", "s3://bucket:80", "s3://bucket#a", "s3://bucket:x"),
        *(
            "s3://key@bucket",
            "s3://bucket?endpoint=",
            "s3://bucket?endpoint=ftp://a",
            "s3://bucket?endpoint=http://a/b",
        ),
        *("s3://bucket?regoin=a", "s3://bucket?endpoint", "s3://bucket/../a", "s3://key:hushhush@bucket?a=b"),
    ],
)
async def test_a_url_of_a_bucket_that_makes_no_sense_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match="s3://KEY:SECRET@bucket") as refused:
        Objects.open(url)
    assert "hushhush" not in str(refused.value)


async def test_what_a_writer_that_died_left_is_deleted_once_it_is_old(tmp_path: Path) -> None:
    objects = Objects.open(f"file://{tmp_path}")
    await objects.put("a/1.zip", b"whole")
    left = tmp_path / "a" / "2.zip#1"
    left.write_bytes(b"part")
    assert await objects.list("a") == await objects.list("a", limit=1)
    assert await objects.forget_unfinished(older_s=3600) == 0
    os.utime(left, (0, 0))
    os.utime(tmp_path / "a" / "1.zip", (0, 0))
    assert await objects.forget_unfinished(older_s=3600) == 1
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["1.zip"]
