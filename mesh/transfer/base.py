"""The port: a store as kinds of records, read and written page by page, the same on every adapter.

A service declares the kinds of its store once. Each adapter reads and writes them, so that with N adapters there are N
ways in and out, and any two of them can be the ends of a copy (copying.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeAlias

Value: TypeAlias = int | str | bytes | bool | None
Record: TypeAlias = tuple[Value, ...]
"""One value for each field of its kind, in their order."""


class Type(StrEnum):
    """What a field holds. The same thing is the same value on every adapter, or copies could not be compared."""

    INTEGER = "integer"
    """64 bits, signed."""
    TEXT = "text"
    BYTES = "bytes"
    BOOLEAN = "boolean"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of record.

    Raises ValueError when a part of the key is no field.
    """

    name: str
    """In SQL, the table."""
    key: tuple[str, ...]
    """Fields that tell a record from the others."""
    fields: Mapping[str, Type]
    """All fields, the key's too; in SQL, the columns."""
    nullable: frozenset[str] = frozenset()
    """Fields that may be None."""

    def __post_init__(self) -> None:
        if not self.key or not {*self.key, *self.nullable} <= self.fields.keys():
            raise ValueError(f"the key of {self.name} is not among its fields")

    def key_of(self, record: Record) -> tuple[Value, ...]:
        """What tells this record from others."""
        named = dict(zip(self.fields, record, strict=True))
        return tuple(named[name] for name in self.key)


EVENTS = Kind(
    "events",
    ("event_id",),
    {
        "event_id": Type.TEXT,
        "topic": Type.TEXT,
        "key": Type.BYTES,
        "type": Type.TEXT,
        "payload": Type.BYTES,
        "traceparent": Type.TEXT,
    },
    frozenset({"traceparent"}),
)
"""What an outbox holds, published or not, in the order of commits. All of it waits at the target: its bus may be
another, and has seen none of it. Consumers bear to see an event twice."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some records of a kind."""

    records: Sequence[Record]
    """In the order of the adapter's own choice, the same each time."""
    after: str
    """Where the next page begins; empty when this was the last."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that says that it uses the store."""

    name: str
    """As it calls itself."""
    until_ms: int
    """Unix time at which that ends unless it says so again."""


class TransferError(Exception):
    """A copy that cannot begin, or go on. The message is for whoever asked for it."""


def check_schema(there: Sequence[str], here: Sequence[str]) -> None:
    """Raises TransferError when the steps that a store has are not those of this release."""
    if there == here:
        return
    if here[: len(there)] == there:
        raise TransferError("its schema is older than this release: bring it up to date first, with `rookery migrate`")
    raise TransferError("its schema is not that of this release")


class Transfer(Protocol):
    """A store as an end of a copy. All methods raise Unavailable when it does not answer."""

    @property
    def kinds(self) -> Sequence[Kind]:
        """In an order in which they can be written: what others refer to comes first. EVENTS, where there is an
        outbox, is the last."""
        ...

    async def holders(self) -> Sequence[Holder]:
        """Processes whose leases have not ended."""
        ...

    async def settle(self) -> None:
        """Carries through what the service does in the background and what has no kind of its own: such as changes of
        counts that are not added up. Only at the source, which no service uses; safe to repeat."""
        ...

    async def count(self, kind: Kind) -> int | None:
        """How many records there are; None when it would take too long to know."""
        ...

    async def read(self, kind: Kind, after: str, limit: int) -> Page:
        """Up to `limit` records from a page's `after` on; empty for the beginning. The last page may be empty."""
        ...

    async def write(self, kind: Kind, records: Sequence[Record]) -> None:
        """Adds records, in place of those with the same keys. Twice is as once.

        Raises TransferError when the store cannot hold one of them; the message names it.
        """
        ...

    async def progress(self) -> str:
        """What `save` was given last; empty when no copy to this store is under way."""
        ...

    async def save(self, progress: str) -> None:
        """Stores how far the copy is. From now on, until `finish`, no service's schema is brought up to date here, so
        that nobody takes a part for the whole."""
        ...

    async def finish(self) -> None:
        """Ends the copy to this store: it is a service's from now on."""
        ...

    async def clear(self) -> None:
        """Deletes all records of all kinds."""
        ...

    async def close(self) -> None:
        """Ends connections. Safe to call twice."""
        ...
