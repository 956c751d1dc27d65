"""Objects: bytes under a key, too large for a database, chosen by URL.

`file:///folder` keeps them in a folder of the machine, `s3://KEY:SECRET@bucket/prefix?endpoint=URL&region=NAME` in a
bucket of S3 or of a server that speaks as it does. Both by obstore, by the same calls.

A key is a path of plain segments, `parts/12.zip`. It is made by the program and never by a caller; one that could leave
the folder is a defect, and refused before the store sees it. An object is written whole or not at all: readers never
see a part. Objects in a folder are not flushed to the disk one by one, so what must outlive a loss of power is not kept
here alone. What S3 said it has, it has.
"""

from __future__ import annotations

import asyncio
import heapq
import re
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from mesh.errors import NotFound, Unavailable
from mesh.resilience.breaker import Breaker

if TYPE_CHECKING:
    from obstore import GetOptions
    from obstore.store import S3Config

T = TypeVar("T")
CHUNK = 256 << 10
"""Bytes of one piece that `get` gives, save the last."""
_PART = 5 << 20  # bytes of one part of an upload: the least that S3 takes
_PARTS_AT_ONCE = 2
_FAILURES = 5  # in a row, before the store is left alone for a while
_CONNECT = timedelta(seconds=3)
_RETRY = timedelta(seconds=10)  # what fails for longer is the caller's to repeat
_MAX_KEY = 512
_MAX_LIST = 1_000
_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
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

    def __init__(self, store: LocalStore | S3Store, folder: Path | None, *, deadline_s: float) -> None:
        self._store = store
        self._folder = folder
        self._deadline_s = deadline_s
        self._breaker = Breaker("objects", threshold=_FAILURES, open_s=0.5, max_open_s=5.0)

    @classmethod
    def open(cls, url: str, *, deadline_s: float = 10.0) -> Objects:
        """The store behind a URL; a folder is made if it is missing, for its owner only. A bucket is not.

        Args:
            url: `file:///folder`, or `s3://KEY:SECRET@bucket/prefix?endpoint=URL&region=NAME`, of which only the bucket
                is needed: without a key the usual variables of AWS say who asks, or the machine's own role, and
                without an endpoint it is S3 itself. Characters that URLs give a meaning are percent-encoded.
            deadline_s: seconds for one operation, and for each piece of a stream.

        Raises:
            ValueError: a URL of another kind, or one that makes no sense. The message has nothing of it.
            Unavailable: the folder cannot be made.
        """
        place = _parse(url)
        if isinstance(place, _Bucket):
            return cls(place.store(), None, deadline_s=deadline_s)
        folder = place
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

        def write() -> Awaitable[object]:
            pieces = content if isinstance(content, bytes) else aiter(content)
            return obstore.put_async(self._store, key, pieces, chunk_size=_PART, max_concurrency=_PARTS_AT_ONCE)

        try:
            await self._bounded(key, write, deadline_s)
        except NotFound as error:  # not the object, which is new: its bucket
            raise Unavailable("there is no place for objects") from error

    async def head(self, key: str) -> Stored:
        """What there is under a key. Raises NotFound, Unavailable."""
        found = await self._bounded(_checked(key), lambda: obstore.head_async(self._store, key))
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
        wanted: GetOptions = {"range": (start, min(size, end or size))}
        found = await self._bounded(key, lambda: obstore.get_async(self._store, key, options=wanted))
        pieces = found.stream(min_chunk_size=CHUNK).__aiter__()
        while True:
            piece = await self._bounded(key, lambda: _next(pieces))
            if piece is None:
                return
            for at in range(0, len(piece), CHUNK):
                yield piece[at : at + CHUNK]

    async def delete(self, key: str) -> None:
        """Deletes an object; one that is not there is no error. Raises Unavailable."""
        try:
            await self._bounded(_checked(key), lambda: obstore.delete_async(self._store, key))
        except NotFound:
            return

    async def page(self, after: str, limit: int) -> list[Stored]:
        """The first `limit` (1,000 at most) of all objects with keys after `after` (empty for none), in their order.

        Raises Unavailable.
        """
        if not 0 < limit <= _MAX_LIST:
            raise ValueError(f"a page has 1 to {_MAX_LIST} objects")
        folder = self._folder
        if folder is None:  # a bucket's lists are in order
            return await self._bounded(after, lambda: self._listed(None, after, limit))

        def first() -> list[Stored]:
            paths = (path for path in folder.rglob("*") if not _UNFINISHED.fullmatch(path.name) and path.is_file())
            keys = (path.relative_to(folder).as_posix() for path in paths)
            found = []
            for key in heapq.nsmallest(limit, (key for key in keys if key > after)):
                known = (folder / key).stat()
                found.append(Stored(key, known.st_size, int(known.st_mtime * 1000)))
            return found

        try:
            return await asyncio.to_thread(first)
        except OSError as error:
            raise Unavailable("the store of objects does not answer") from error

    async def _listed(self, prefix: str | None, after: str | None, limit: int) -> list[Stored]:
        found: list[Stored] = []
        async for page in obstore.list(self._store, prefix, offset=after or None, chunk_size=limit):
            for one in page[: limit - len(found)]:
                found.append(Stored(one["path"], one["size"], int(one["last_modified"].timestamp() * 1000)))
            if len(found) >= limit:
                break
        return found

    async def list(self, prefix: str, *, limit: int = _MAX_LIST) -> list[Stored]:
        """Up to `limit` (1,000 at most) objects whose keys begin with the segments `prefix`, in any order.

        Raises Unavailable.
        """
        _checked(prefix)
        if not 0 < limit <= _MAX_LIST:
            raise ValueError(f"a list has 1 to {_MAX_LIST} objects")
        return await self._bounded(prefix, lambda: self._listed(prefix, None, limit))

    async def forget_unfinished(self, *, older_s: float) -> int:
        """Deletes up to 1,000 files that writers which died left behind, begun that long ago; gives how many.

        In a folder only: a bucket has a rule for it (AbortIncompleteMultipartUpload).
        """
        folder = self._folder
        if folder is None:
            return 0

        def sweep() -> int:
            gone = 0
            for path in folder.rglob("*#*"):
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

    async def _bounded(self, key: str, begin: Callable[[], Awaitable[T]], deadline_s: float | None = None) -> T:
        """Does something within a deadline, unless the store failed each time lately: then it is refused at once."""
        self._breaker.before()
        try:
            async with asyncio.timeout(self._deadline_s if deadline_s is None else deadline_s):
                answer = await begin()
        except FileNotFoundError:
            self._breaker.success()
            raise NotFound(f"There is no object {key}.") from None
        except (TimeoutError, OSError, BaseError) as error:
            self._breaker.failure()
            raise Unavailable("the store of objects does not answer") from error
        except BaseException:  # cancelled, or a defect: nothing was learnt
            self._breaker.abandoned()
            raise
        self._breaker.success()
        return answer


def check_url(url: str) -> None:
    """Raises ValueError for a URL that Objects.open would refuse. Nothing is opened."""
    _parse(url)


@dataclass(frozen=True, slots=True)
class _Bucket:
    """What a URL says of a bucket."""

    name: str
    prefix: str
    key: str
    secret: str = field(repr=False)
    endpoint: str
    region: str

    def store(self) -> S3Store:
        config: S3Config = {"region": self.region}
        if self.key:
            config |= {"access_key_id": self.key, "secret_access_key": self.secret}
        if self.endpoint:
            config["endpoint"] = self.endpoint
        # Elsewhere a bucket is a folder of its server; S3 itself gives each a host of its own.
        config["virtual_hosted_style_request"] = not self.endpoint
        return S3Store(
            self.name,
            prefix=self.prefix or None,
            config=config,
            client_options={"allow_http": self.endpoint.startswith("http:"), "connect_timeout": _CONNECT},
            retry_config={"max_retries": 3, "retry_timeout": _RETRY},
        )


def _parse(url: str) -> Path | _Bucket:
    """See Objects.open."""
    if url.startswith("s3:"):
        return _parse_bucket(url)
    parsed = urlsplit(url)
    folder = Path(unquote(parsed.path))
    if parsed.scheme != "file" or parsed.netloc or not folder.is_absolute() or parsed.query or parsed.fragment:
        raise ValueError("objects are kept at a URL like file:///folder or s3://bucket")
    return folder


def _parse_bucket(url: str) -> _Bucket:
    try:
        parsed = urlsplit(url)
        asked = dict(parse_qsl(parsed.query, keep_blank_values=True, strict_parsing=bool(parsed.query)))
        who, _, bucket = parsed.netloc.rpartition("@")
        key, _, secret = who.partition(":")
        prefix = unquote(parsed.path).strip("/")
        endpoint = asked.get("endpoint", "https://")
        at = urlsplit(endpoint)
        sound = (
            _BUCKET.fullmatch(bucket)
            and (not prefix or _KEY.fullmatch(prefix))
            and bool(key) == bool(secret)
            and not parsed.fragment
            and asked.keys() <= {"endpoint", "region"}
            and at.scheme in ("http", "https")
            and bool(at.hostname) == ("endpoint" in asked)
            and not at.path.strip("/")
        )
    except ValueError:
        sound = False
    if not sound:
        raise ValueError("objects in a bucket are kept at a URL like s3://KEY:SECRET@bucket?endpoint=URL")
    region = asked.get("region", "us-east-1")
    return _Bucket(bucket, prefix, unquote(key), unquote(secret), asked.get("endpoint", ""), region)


async def _next(pieces: AsyncIterator[object]) -> bytes | None:
    try:
        return bytes(await anext(pieces))  # type: ignore[call-overload,no-any-return]  # obstore's own buffer
    except StopAsyncIteration:
        return None


def _checked(key: str) -> str:
    if len(key) > _MAX_KEY or not _KEY.fullmatch(key):
        raise ValueError(f"{key[:_MAX_KEY]!r} is no key of an object")
    return key
