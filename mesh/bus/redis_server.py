"""What the Redis adapter of the bus stands on: options, one way to talk to the server, names of keys, entries."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import structlog
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from mesh.bus.base import Message
from mesh.bus.outage import Outage
from mesh.errors import Unavailable
from mesh.resp import Connections, packed

INCARNATION_KEY = "bus:incarnation"

Command: TypeAlias = Sequence[str | bytes | int | float]

_log = structlog.stdlib.get_logger("mesh.bus")

# Errors that speak of the server's state; any other answer is a defect of ours.
_DOWN = (
    RedisConnectionError,  # BusyLoadingError too: it reads its files
    RedisTimeoutError,
    BusyLoadingError,
    OutOfMemoryError,
    ReadOnlyError,
    ClusterDownError,
    MasterDownError,
    TryAgainError,
    OSError,
    TimeoutError,
)


@dataclass(frozen=True, slots=True)
class RedisStreamsOptions:
    """How the bus uses its server. Every process has the same `partitions` and `lease`.

    Raises:
        ValueError: a value that is not positive.
    """

    partitions: int = 4
    """Streams of a topic: the most replicas of a group that work at the same time."""
    max_backlog: int = 1_000_000
    """Entries of a stream that some group has not acknowledged (or that are not trimmed yet); a publisher is refused
    above it."""
    deadline: float = 2.0
    """Seconds for one exchange with the server."""
    block: float = 1.0
    """Seconds that a read waits for messages on the server."""
    lease: float = 3.0
    """Seconds until the partitions of a consumer that died go to others; renewed three times in each."""
    trim_age: float = 10.0
    """Seconds that an acknowledged entry is kept at least: time for every group to be made anew on a server that came
    back empty, before the first reader trims."""
    reconnect_cap: float = 1.0
    """Seconds between tries to reach the server, at most."""
    max_connections: int = 16
    """Connections for publishing, acknowledging and leases; each subscription has one more, to read."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive")


class Server:
    """Commands with a deadline, raw answers (RESP2, bytes), and `Unavailable` for all that is the server's state.

    Args:
        url: `redis://host:port/db`, `rediss://...` or `unix:///path?db=0`.
        connections: at once; with 1, a single connection that tells when it was lost, for one caller at a time.
        deadline: seconds for one exchange.
        outage: is told of each exchange that worked or did not.
    """

    def __init__(self, url: str, *, connections: int, deadline: float, outage: Outage) -> None:
        self._deadline = deadline
        self._outage = outage
        self._connections = Connections(url, most=connections, connect_s=deadline)
        self._single = self._connections.one() if connections == 1 else None

    async def call(self, *command: str | bytes | int | float) -> Any:
        """One command.

        Raises:
            Unavailable: no answer in time, or the server cannot do it now.
            redis.exceptions.ResponseError: the server refuses the command.
        """
        [answer] = await self.calls([command])
        if isinstance(answer, ResponseError):
            raise answer
        return answer

    async def calls(self, commands: Sequence[Command]) -> list[Any]:
        """Several commands in one trip, not a transaction; an answer may be a `ResponseError`.

        Raises:
            Unavailable: no answer in time, or the server cannot do one of them now.
        """
        if not commands:
            return []
        whole = packed(commands)
        try:
            async with asyncio.timeout(self._deadline):
                answers = await (self._single or self._connections).trip(whole, len(commands))
        except (*_DOWN, AuthenticationError) as error:
            raise self._unavailable(error) from error
        for answer in answers:
            if isinstance(answer, _DOWN):
                raise self._unavailable(answer) from answer
        self._outage.ended()
        return answers

    def _unavailable(self, error: BaseException) -> Unavailable:
        self._outage.began(error)
        return Unavailable("the bus is unavailable")

    async def close(self) -> None:
        try:
            async with asyncio.timeout(self._deadline):
                if self._single is not None:
                    await self._single.close()
                await self._connections.close()
        except (RedisError, OSError, TimeoutError) as error:
            _log.warning("closing a connection failed", error=f"{type(error).__name__}: {error}")


def stream_key(topic: str, partition: int) -> str:
    """The stream of a partition."""
    return f"bus:{{{topic}:{partition}}}"


def dead_key(topic: str, group: str) -> str:
    """The stream of a group's dead letters."""
    return f"bus:{{{topic}}}:dead:{group}"


def entry_fields(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    """An entry's fields, from the server's flat list."""
    return dict(zip(flat[::2], flat[1::2], strict=False))


def to_message(topic: str, entry_id: bytes, fields: dict[bytes, bytes], attempt: int) -> Message:
    """An entry as a message.

    Raises:
        ValueError: somebody else wrote this entry.
    """
    try:
        return Message(
            topic=topic,
            key=fields[b"k"],
            type=fields[b"t"].decode(),
            payload=fields[b"p"],
            id=entry_id.decode(),
            event_id=fields[b"e"].decode(),
            traceparent=fields[b"c"].decode() or None,
            attempt=attempt,
        )
    except KeyError as error:
        raise ValueError(f"entry {entry_id!r} is not a message: it has no field {error}") from error
