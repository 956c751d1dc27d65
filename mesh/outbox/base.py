"""The port of an outbox's rows: what the relay asks of a database."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

from mesh.bus.base import Incarnation, Outgoing


@dataclass(frozen=True, slots=True)
class Waiting:
    """An event that is not published yet."""

    row: Hashable
    """Names it to the rows that gave it."""
    event: Outgoing
    """What is to be published."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What a relay knows about the bus."""

    bus: Incarnation
    """Which it was when it was last looked at."""
    at_ms: int
    """Unix time of that look."""


@dataclass(frozen=True, slots=True)
class Lease:
    """Who relays."""

    holder: str
    """The replica."""
    expires_ms: int
    """Unix time from which another one may."""
    contended_ms: int
    """Unix time at which another one last said that it commits events too; 0 for never."""
    checked: Checked
    """What the last holder knew about the bus."""


class OutboxRows(Protocol):
    """Events of one service and the lease of their relay. All raise Unavailable.

    Two calls of one holder never run at the same time; several holders' may, around the end of a lease.
    """

    async def waiting(self, limit: int, without: Collection[str]) -> list[Waiting]:
        """The events that wait longest, of all topics but `without`; a key's in the order of their commits."""
        ...

    async def mark(self, published: Sequence[Waiting], now_ms: int) -> None:
        """They no longer wait."""
        ...

    async def rewind(self, since_ms: int) -> tuple[int, bool]:
        """Some that were published since then wait again: how many, and whether there may be more."""
        ...

    async def prune(self, before_ms: int) -> bool:
        """Forgets some that were published before then; whether there may be more."""
        ...

    async def lease(self) -> Lease | None:
        """As it is; None before it was first taken."""
        ...

    async def take(self, holder: str, now_ms: int, expires_ms: int, checked: Checked | None) -> Lease:
        """Takes or renews the lease unless another has it, and tells what is known about the bus; as it is then."""
        ...

    async def check(self, holder: str, checked: Checked) -> None:
        """Stores what is known about the bus, if the lease is the holder's."""
        ...

    async def contend(self, holder: str, now_ms: int) -> None:
        """Marks another's lease as contended."""
        ...

    async def free(self, holder: str) -> None:
        """Ends a lease of one's own."""
        ...
