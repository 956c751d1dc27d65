"""The cache store as a port: commands go out together, and who finds it gone knows at once.

Two kinds of server are behind it, chosen by URL (`mesh/cache/open.py`): one (`server.py`), and a cluster that shares
the keys out by slot (`cluster.py`).
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import redis.asyncio as redis

from mesh.errors import Unavailable

TIMEOUT_S = 0.5
"""Of a trip: it takes under a millisecond; one that takes this long will not come back."""
Command: TypeAlias = tuple[str | bytes | int, ...]
"""A command and its arguments. Its keys share a slot, save those of MGET."""
Answer: TypeAlias = Any
"""What RESP2 has for an answer: bytes, int, None, or a list of answers. Only who sent the command knows which."""


class Queue(Protocol):
    """Takes commands for one trip: `Commands`, or a pipeline of the client's."""

    def execute_command(self, *words: str | bytes | int) -> object:
        """Adds a command."""
        ...


class Commands:
    """Commands for `CacheStore.exchange`, in order."""

    def __init__(self) -> None:
        self.queued: list[Command] = []

    def execute_command(self, *words: str | bytes | int) -> None:
        """Adds a command."""
        self.queued.append(words)


class Script:
    """A Lua script, which a server gets once and then knows by its digest.

    Args:
        text: what it does.
        each: whether it does to each of its keys what it would do to that key alone, and answers with a sum.
    """

    by_digest: dict[str, Script] = {}  # noqa: RUF012 - all there are: a server may ask for any again
    """Those of this process."""

    def __init__(self, text: str, *, each: bool = False) -> None:
        self.text = text
        self.each = each
        self.digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        self.by_digest[self.digest] = self

    def on(self, keys: Sequence[str], *args: str | bytes | int) -> Command:
        """The command that runs it on keys of one slot."""
        return ("EVALSHA", self.digest, len(keys), *keys, *args)


class CacheGone(Unavailable):
    """The cache store, or the part of it that has the keys, does not answer. Catch it where the database can."""

    reason = "CACHE_GONE"


class CacheStore(ABC):
    """One cache store."""

    @abstractmethod
    async def exchange(self, commands: Sequence[Command]) -> list[Answer]:
        """Sends commands together, not as a transaction; gives their answers as RESP2 has them, in order.

        Commands on the same slot are carried out in order; any may be carried out twice, so all must be fit for it.
        MGET has None for a key also when the part of the store that has it is gone, unless all parts asked are.

        Raises CacheGone, and ResponseError for the first command that the store refused.
        """

    async def write(self, commands: Sequence[Command]) -> list[Answer]:
        """As `exchange`, for changes that must not be lost when a server dies that another one stands in for."""
        return await self.exchange(commands)

    def together(self, keys: Sequence[str]) -> list[Sequence[str]]:
        """The keys, in groups that one command may take; no group is empty."""
        return [keys] if keys else []

    @property
    @abstractmethod
    def client(self) -> redis.Redis:
        """The library's client of the same store, for tools and tests."""

    @abstractmethod
    async def close(self) -> None:
        """Ends all connections."""
