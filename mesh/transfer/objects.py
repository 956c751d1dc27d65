"""A store of objects as an end of a copy: a record is an object's key, its size and a digest of its bytes."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence

from mesh.errors import NotFound
from mesh.objects import Objects
from mesh.transfer.base import Holder, Kind, Page, Record, TransferError, Type

OBJECTS = Kind("objects", ("key",), {"key": Type.TEXT, "size": Type.INTEGER, "sha256": Type.TEXT})
"""All that there is."""
_PROGRESS = "unfinished_copy"
_AT_ONCE = 16  # each is read to its end for its digest
_PUT_S = 600.0


class ObjectTransfer:
    """mesh.transfer.base.Transfer of objects.

    Args:
        objects: the store.
        origin: where bytes come from that are written here; None for a source.
    """

    def __init__(self, objects: Objects, origin: Objects | None = None) -> None:
        self._objects = objects
        self._origin = origin

    @property
    def kinds(self) -> Sequence[Kind]:
        """See Transfer."""
        return (OBJECTS,)

    async def holders(self) -> Sequence[Holder]:
        """See Transfer. Nobody says here that they use it; the store of the service that does knows."""
        return ()

    async def settle(self) -> None:
        """See Transfer. There is nothing to do."""

    async def count(self, kind: Kind) -> int | None:
        """See Transfer. Only listing them all would tell."""
        del kind
        return None

    async def read(self, kind: Kind, after: str, limit: int) -> Page:
        """See Transfer."""
        del kind
        limit = min(limit, _AT_ONCE)
        found = await self._objects.page(after, limit)
        records: list[Record] = []
        for one in found:
            if one.key == _PROGRESS:
                continue
            digest = hashlib.sha256()
            size = 0
            async for piece in self._objects.get(one.key):
                digest.update(piece)
                size += len(piece)
            records.append((one.key, size, digest.hexdigest()))
        return Page(records, found[-1].key if len(found) == limit else "")

    async def write(self, kind: Kind, records: Sequence[Record]) -> None:
        """See Transfer. An object that is there with the same size is taken to be whole, as none is ever written in
        part; the comparison looks into it."""
        del kind
        if self._origin is None:
            raise ValueError("a source is not written to")
        for key, size, sha256 in records:
            if not isinstance(key, str):
                raise TypeError("a key is a text")
            try:
                if (await self._objects.head(key)).size == size:
                    continue
            except NotFound:
                pass
            digest = hashlib.sha256()
            await self._objects.put(key, _noted(self._origin.get(key), digest), deadline_s=_PUT_S)
            if digest.hexdigest() != sha256:
                raise TransferError(f"object {key} was changed meanwhile: a service uses the source")

    async def progress(self) -> str:
        """See Transfer."""
        try:
            return b"".join([piece async for piece in self._objects.get(_PROGRESS)]).decode()
        except NotFound:
            return ""

    async def save(self, progress: str) -> None:
        """See Transfer."""
        await self._objects.put(_PROGRESS, progress.encode())

    async def finish(self) -> None:
        """See Transfer."""
        await self._objects.delete(_PROGRESS)

    async def clear(self) -> None:
        """See Transfer."""
        after = ""
        while found := await self._objects.page(after, 1_000):
            for one in found:
                if one.key != _PROGRESS:
                    await self._objects.delete(one.key)
            after = found[-1].key

    async def close(self) -> None:
        """See Transfer. Nothing stays open."""


async def _noted(pieces: AsyncIterator[bytes], digest: hashlib._Hash) -> AsyncIterator[bytes]:
    async for piece in pieces:
        digest.update(piece)
        yield piece
