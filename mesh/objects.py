"""Objects: bytes under a key, too large for a database, chosen by URL.

`file:///folder` keeps them in a folder of the machine. obstore speaks to S3 and its like by the same calls; no URL but
`file:` is let in until tests run against one of those.

A key is a path of plain segments, `parts/12.zip`. It is made by the program and never by a caller; one that could leave
the folder is a defect, and refused before the store sees it. An object is written whole or not at all: readers never
see a part. Objects in a folder are not flushed to the disk one by one, so what must outlive a loss of power is not kept
here alone.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore

from mesh.errors import NotFound, Unavailable

T = TypeVar("T")
CHUNK = 256 << 10
"""Bytes of one piece that `get` gives, save the last."""
_PART = 5 << 20  # bytes of one part of an upload: the least that S3 takes
_PARTS_AT_ONCE = 2
_MAX_KEY = 512
_MAX_LIST = 1_000
_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
_UNFINISHED = re.compile(r".*#\d+")  # what obstore calls a file before it is whole


@dataclass(frozen=True, slots=True)
class Stored:
    """An object, without its bytes."""

    key: str
    """Where it is."""
    size: int
    """Bytes."""
    modified_ms: int
    """When it was written, Unix milliseconds."""


class Objects:
    """Objects of one store. Open it with `Objects.open`."""

    def __init__(self, store: LocalStore, folder: Path, *, deadline_s: float) -> None:
        self._store = store
        self._folder = folder
        self._deadline_s = deadline_s

    @classmethod
    def open(cls, url: str, *, deadline_s: float = 10.0) -> Objects:
        """The store behind a URL; a folder is made if it is missing, for its owner only.

        Args:
            url: `file:///folder`.
            deadline_s: seconds for one operation, and for each piece of a stream.

        Raises:
            ValueError: a URL of another kind, or without an absolute path.
            Unavailable: the folder cannot be made.
        """
        parsed = urlsplit(url)
        folder = Path(unquote(parsed.path))
        if parsed.scheme != "file" or parsed.netloc or not folder.is_absolute() or parsed.query or parsed.fragment:
            raise ValueError("objects are kept at a URL like file:///folder")
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return cls(LocalStore(folder), folder, deadline_s=deadline_s)
        except (OSError, BaseError) as error:
            raise Unavailable("the folder of objects cannot be used") from error

    async def put(self, key: str, content: bytes | AsyncIterable[bytes], *, deadline_s: float | None = None) -> None:
        """Writes an object, in place of one that was there. A stream is never in memory as a whole.

        Args:
            key: see the module.
            content: all of it, or its pieces in order.
            deadline_s: seconds for all of it; by default those of one operation.

        Raises:
            Unavailable: the store did not take it in time; the object is as it was before.
        """
        _checked(key)
        written = obstore.put_async(
            self._store,
            key,
            content if isinstance(content, bytes) else aiter(content),
            chunk_size=_PART,
            max_concurrency=_PARTS_AT_ONCE,
        )
        await self._bounded(key, written, deadline_s)

    async def head(self, key: str) -> Stored:
        """What there is under a key. Raises NotFound, Unavailable."""
        found = await self._bounded(_checked(key), obstore.head_async(self._store, key))
        return Stored(found["path"], found["size"], int(found["last_modified"].timestamp() * 1000))

    async def get(self, key: str, *, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """The bytes from `start` up to `end`, exclusive, or to the object's end, piece by piece.

        Raises:
            NotFound: there is no such object, or nothing of it within the bounds.
            Unavailable: a piece did not come in time.
        """
        _checked(key)
        if start < 0 or (end is not None and end <= start):
            raise ValueError("a range begins at 0 or later and is not empty")
        size = (await self.head(key)).size
        if start >= size:
            if start == 0:
                return  # an empty object, which no store has a range of
            raise NotFound("There is nothing within these bounds.")
        found = await self._bounded(
            key, obstore.get_async(self._store, key, options={"range": (start, min(size, end or size))})
        )
        pieces = found.stream(min_chunk_size=CHUNK).__aiter__()
        while True:
            piece = await self._bounded(key, _next(pieces))
            if piece is None:
                return
            for at in range(0, len(piece), CHUNK):
                yield piece[at : at + CHUNK]

    async def delete(self, key: str) -> None:
        """Deletes an object; one that is not there is no error. Raises Unavailable."""
        try:
            await self._bounded(_checked(key), obstore.delete_async(self._store, key))
        except NotFound:
            return

    async def list(self, prefix: str, *, limit: int = _MAX_LIST) -> list[Stored]:
        """Up to `limit` (1,000 at most) objects whose keys begin with the segments `prefix`, in any order.

        Raises Unavailable.
        """
        _checked(prefix)
        if not 0 < limit <= _MAX_LIST:
            raise ValueError(f"a list has 1 to {_MAX_LIST} objects")

        async def some() -> list[Stored]:
            found: list[Stored] = []
            async for page in obstore.list(self._store, prefix, chunk_size=limit):
                for one in page[: limit - len(found)]:
                    found.append(Stored(one["path"], one["size"], int(one["last_modified"].timestamp() * 1000)))
                if len(found) >= limit:
                    break
            return found

        return await self._bounded(prefix, some())

    async def forget_unfinished(self, *, older_s: float) -> int:
        """Deletes up to 1,000 files that writers which died left behind, begun that long ago; gives how many.

        In a folder only: other stores have rules of their own for it.
        """

        def sweep() -> int:
            gone = 0
            for path in self._folder.rglob("*#*"):
                if _UNFINISHED.fullmatch(path.name) and path.stat().st_mtime < time.time() - older_s:
                    path.unlink(missing_ok=True)
                    gone += 1
                if gone >= _MAX_LIST:
                    break
            return gone

        try:
            return await asyncio.to_thread(sweep)
        except OSError as error:
            raise Unavailable("the store of objects does not answer") from error

    async def _bounded(self, key: str, work: Awaitable[T], deadline_s: float | None = None) -> T:
        try:
            async with asyncio.timeout(self._deadline_s if deadline_s is None else deadline_s):
                return await work
        except FileNotFoundError:
            raise NotFound(f"There is no object {key}.") from None
        except (TimeoutError, OSError, BaseError) as error:
            raise Unavailable("the store of objects does not answer") from error


async def _next(pieces: AsyncIterator[object]) -> bytes | None:
    try:
        return bytes(await anext(pieces))  # type: ignore[call-overload,no-any-return]  # obstore's own buffer
    except StopAsyncIteration:
        return None


def _checked(key: str) -> str:
    if len(key) > _MAX_KEY or not _KEY.fullmatch(key):
        raise ValueError(f"{key[:_MAX_KEY]!r} is no key of an object")
    return key
