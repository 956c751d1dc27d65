"""Cursors: opaque, authenticated, and bound to the request they were given for.

A cursor is `base64url(position || tag)`: the position packed by the caller, and the first 16 bytes of a BLAKE2b MAC
over the position and the request's binding (method, viewer, and every argument that must stay the same). So a cursor
that was altered, made up, or taken from another person's or another query's page is refused.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from struct import Struct
from typing import ClassVar, Generic, TypeVar

from mesh.errors import InvalidArgument, Violation

R = TypeVar("R")
_TAG = 16
_MAX_POSITION = 128


class Cursors:
    """Makes and reads cursors under one key, which all replicas of a service share."""

    def __init__(self, key: bytes) -> None:
        if len(key) < 16:
            raise ValueError("the cursor key must have at least 16 bytes")
        self._key = hashlib.blake2b(key, digest_size=32, person=b"rookery-cursor").digest()

    def _tag(self, position: bytes, binding: str) -> bytes:
        mac = hashlib.blake2b(key=self._key, digest_size=_TAG)
        mac.update(len(position).to_bytes(2, "big"))
        mac.update(position)
        mac.update(binding.encode())
        return mac.digest()

    def seal(self, position: bytes, binding: str) -> str:
        """The cursor for `position` (at most 128 bytes) of the request that `binding` describes."""
        return base64.urlsafe_b64encode(position + self._tag(position, binding)).rstrip(b"=").decode()

    def open(self, cursor: str, binding: str) -> bytes:
        """The position. Raises InvalidArgument for a cursor that was not made by `seal` for this binding."""
        try:
            raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        except (ValueError, binascii.Error):
            raw = b""
        position = raw[:-_TAG]
        # Sealed again, not the tags alone: base64 has several spellings of the same bytes.
        if not 0 < len(position) <= _MAX_POSITION or not hmac.compare_digest(self.seal(position, binding), cursor):
            raise InvalidArgument(
                "The pagination_token is not valid for this request.",
                violations=[Violation("pagination_token", "is not valid for this request")],
                reason="INVALID_CURSOR",
            )
        return position


@dataclass(frozen=True, slots=True)
class Position:
    """Where a page begins: beyond `key`, towards older or towards newer."""

    key: int
    """Key of the row next to the page; 0 for the newest end."""
    newer: bool = False
    """Whether the page is the one before `key`."""

    _LAYOUT: ClassVar[Struct] = Struct(">?q")

    def pack(self) -> bytes:
        """Its bytes, for `Cursors.seal`."""
        return self._LAYOUT.pack(self.newer, self.key)

    @classmethod
    def unpack(cls, raw: bytes) -> Position:
        """The position that `pack` wrote."""
        newer, key = cls._LAYOUT.unpack(raw)
        return cls(key, newer)


@dataclass(frozen=True, slots=True)
class Page(Generic[R]):
    """One page, the newest row first."""

    rows: list[R]
    """The rows."""
    next: Position | None
    """Where the older rows begin; None at the end."""
    previous: Position | None
    """Where the newer rows begin; None at the newest end."""


Fetch = Callable[[int, int, int], Awaitable[list[R]]]
"""Gives up to `limit` rows for (before, after, limit): those older than `before` (0 for no bound), the newest first;
or, when `after` is not 0, those newer than `after`, the oldest first."""

_MAX_ROUNDS = 20
_MAX_CHUNK = 800


async def keyset_page(
    fetch: Fetch[R],
    key: Callable[[R], int],
    position: Position,
    limit: int,
    keep: Callable[[list[R]], Awaitable[list[R]]] | None = None,
) -> Page[R]:
    """Reads one page by key, and reads on until it is full when some rows are not to be shown.

    Args:
        fetch: reads rows.
        key: a row's key; unique, greater for newer rows.
        position: where to begin.
        limit: rows at most.
        keep: gives those of some rows that are to be shown, in their order; all when None. When it drops thousands
            in a row the page may have fewer rows than `limit`, and a next one.
    """
    shown: list[R] = []
    edge, exhausted, chunk = position.key, False, limit + 1
    for _ in range(_MAX_ROUNDS):
        rows = await (fetch(0, edge, chunk) if position.newer else fetch(edge, 0, chunk))
        exhausted = len(rows) < chunk
        if rows:
            edge = key(rows[-1])
            shown += rows if keep is None else await keep(rows)
        if exhausted or len(shown) > limit:
            break
        chunk = min(2 * chunk, max(_MAX_CHUNK, limit + 1))
    more = len(shown) > limit
    del shown[limit:]
    # Beyond the last row of the page, or, when no more than that is known to show, beyond the last one looked at.
    beyond = key(shown[-1]) if more else None if exhausted else edge
    if position.newer:
        shown.reverse()
        return Page(
            shown,
            Position(key(shown[-1])) if shown else Position(position.key + 1),
            None if beyond is None else Position(beyond, newer=True),
        )
    return Page(
        shown,
        None if beyond is None else Position(beyond),
        # A page can be empty when its rows went meanwhile; what is above it is there still.
        Position(key(shown[0]) if shown else position.key - 1, newer=True) if position.key else None,
    )
