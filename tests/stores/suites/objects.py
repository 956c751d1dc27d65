"""What every store of objects does."""

from __future__ import annotations

import asyncio
import secrets
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from mesh.errors import NotFound, Unavailable
from mesh.objects import CHUNK, Objects

LARGE = 12 << 20
"""Bytes of an object of several parts, and of many pieces."""


async def pieces(content: bytes, size: int = 100_000) -> AsyncIterator[bytes]:
    """A content in pieces that fit no part."""
    for at in range(0, len(content), size):
        yield content[at : at + size]


async def read(objects: Objects, key: str, *, start: int = 0, end: int | None = None) -> bytes:
    """An object as a whole."""
    return b"".join([piece async for piece in objects.get(key, start=start, end=end)])


class ObjectsSuite(ABC):
    """Tests of a store that `opened` makes."""

    @abstractmethod
    def opened(self, folder: Path) -> AbstractAsyncContextManager[Objects]:
        """An empty store, which may use `folder`."""

    async def test_what_was_put_is_got(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as objects:
            await objects.put("a/b.txt", b"content")
            assert await read(objects, "a/b.txt") == b"content"
            assert (await objects.head("a/b.txt")).size == 7

    async def test_putting_again_replaces_it(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as objects:
            await objects.put("a", b"a longer content")
            await objects.put("a", b"short")
            assert await read(objects, "a") == b"short"

    async def test_an_empty_object_is_an_object(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as objects:
            await objects.put("a", b"")
            assert await read(objects, "a") == b""
            assert (await objects.head("a")).size == 0

    async def test_a_stream_is_put_and_got_in_pieces(self, tmp_path: Path) -> None:
        content = secrets.token_bytes(LARGE)
        async with self.opened(tmp_path) as objects:
            await objects.put("large", pieces(content))
            got = [piece async for piece in objects.get("large")]
            assert b"".join(got) == content
            assert max(map(len, got)) <= CHUNK
            assert (await objects.head("large")).size == LARGE

    async def test_a_range_ends_before_its_end_and_at_the_objects(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as objects:
            await objects.put("a", b"0123456789")
            assert await read(objects, "a", start=2, end=5) == b"234"
            assert await read(objects, "a", start=7) == b"789"
            assert await read(objects, "a", start=7, end=99) == b"789"
            with pytest.raises(NotFound):
                await read(objects, "a", start=10)
            with pytest.raises(ValueError, match="range"):
                await read(objects, "a", start=5, end=5)

    async def test_what_is_not_there_is_not_found(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as objects:
            for attempt in (objects.head("nothing"), read(objects, "nothing"), read(objects, "no/thing", start=3)):
                with pytest.raises(NotFound):
                    await attempt

    async def test_deleting_twice_is_no_error(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as objects:
            await objects.put("a", b"1")
            await objects.delete("a")
            await objects.delete("a")
            with pytest.raises(NotFound):
                await objects.head("a")

    async def test_a_list_has_what_is_under_the_prefix_and_no_more_than_asked(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as objects:
            assert await objects.list("parts") == []
            for n in range(7):
                await objects.put(f"parts/{n}.zip", b"x" * n)
            await objects.put("partsother/1.zip", b"")
            found = {one.key: one.size for one in await objects.list("parts")}
            assert found == {f"parts/{n}.zip": n for n in range(7)}
            assert len(await objects.list("parts", limit=3)) == 3
            with pytest.raises(ValueError, match="1000"):
                await objects.list("parts", limit=1001)

    async def test_a_stream_that_breaks_off_leaves_what_was_there(self, tmp_path: Path) -> None:
        async def broken() -> AsyncIterator[bytes]:
            yield b"x" * LARGE
            raise OSError("gone")

        async with self.opened(tmp_path) as objects:
            await objects.put("a", b"before")
            with pytest.raises(Unavailable):
                await objects.put("a", broken())
            assert await read(objects, "a") == b"before"

    async def test_a_stream_that_never_ends_is_cut_off_at_the_deadline(self, tmp_path: Path) -> None:
        never = asyncio.Event()

        async def endless() -> AsyncIterator[bytes]:
            yield b"x"
            await never.wait()

        async with self.opened(tmp_path) as objects:
            with pytest.raises(Unavailable):
                await objects.put("a", endless(), deadline_s=0.2)
            with pytest.raises(NotFound):
                await objects.head("a")

    @pytest.mark.parametrize(
        "key", ["", "/", "/etc/passwd", "../a", "a/../b", "a//b", "a/", "./a", "a/.b", "a\\b", "a\0", "a#1", "x" * 600]
    )
    async def test_a_key_that_could_leave_the_store_is_refused(self, tmp_path: Path, key: str) -> None:
        async with self.opened(tmp_path) as objects:
            for attempt in (objects.put(key, b""), objects.head(key), objects.delete(key), read(objects, key)):
                with pytest.raises(ValueError, match="no key"):
                    await attempt
