"""The connection to the cache store, behind a breaker: when it is gone, callers know within microseconds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

import redis.asyncio as redis
from hiredis import pack_command
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from mesh.errors import Unavailable
from mesh.resilience.breaker import Breaker

T = TypeVar("T")
_TIMEOUT_S = 0.5  # a trip takes under a millisecond; one that takes this long will not come back


Command: TypeAlias = tuple[str | bytes | int, ...]
"""A command and its arguments."""
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


class CacheGone(Unavailable):
    """The cache store does not answer. Catch it where the database can answer instead."""

    reason = "CACHE_GONE"


class CacheStore:
    """One cache store, chosen by URL: `unix:///path?db=0`, `redis://host:port/0`."""

    def __init__(self, url: str, *, connections: int = 64) -> None:
        pool = redis.BlockingConnectionPool.from_url(
            url,
            max_connections=connections,
            timeout=_TIMEOUT_S,
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=_TIMEOUT_S,
            # Once more on a connection that the server closed; a trip that came too late once would do so twice.
            retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
            protocol=2,
        )
        self.client = redis.Redis(connection_pool=pool)
        self._breaker = Breaker("cache", threshold=5, open_s=0.2, max_open_s=1.0)

    async def run(self, trip: Callable[[redis.Redis], Awaitable[T]]) -> T:
        """Makes one trip. Raises CacheGone when the store does not answer, or did not a moment ago."""
        try:
            self._breaker.before()
        except Unavailable:
            raise CacheGone("The cache does not answer.") from None
        try:
            answer = await trip(self.client)
        except ResponseError as error:
            if str(error).startswith(("LOADING", "MASTERDOWN", "CLUSTERDOWN", "READONLY", "OOM")):
                self._breaker.failure()
                raise CacheGone("The cache cannot answer yet.") from error
            self._breaker.success()
            raise
        except (RedisConnectionError, RedisTimeoutError, OSError) as error:
            self._breaker.failure()
            raise CacheGone("The cache does not answer.") from error
        except RedisError:
            self._breaker.failure()
            raise
        except BaseException:  # cancelled, or a defect of the trip's own: nothing was learnt
            self._breaker.abandoned()
            raise
        self._breaker.success()
        return answer

    async def exchange(self, commands: Sequence[Command]) -> list[Answer]:
        """Sends commands together, not as a transaction; gives their answers as RESP2 has them, in order.

        It is for what is read at each request: over the same connections as `run`, with the same deadlines and retry,
        but without the client's pipeline, which takes more CPU than all else that such a request does
        (docs/benchmarks.md). All commands must be fit to be sent twice.

        Raises CacheGone, and ResponseError for the first command that the store refused.
        """
        packed = b"".join([pack_command(command) for command in commands])  # type: ignore[arg-type]  # its stub is of 1-tuples
        return await self.run(lambda client: _exchange(client, packed, len(commands)))

    async def close(self) -> None:
        """Ends all connections."""
        await self.client.aclose()
        await self.client.connection_pool.disconnect()


async def _exchange(client: redis.Redis, packed: bytes, count: int) -> list[Answer]:
    pool = client.connection_pool
    connection: AbstractConnection = await pool.get_connection()  # type: ignore[no-untyped-call]
    try:
        return await connection.retry.call_with_retry(
            lambda: _round_trip(connection, packed, count), lambda _: connection.disconnect()
        )
    finally:
        await pool.release(connection)


async def _round_trip(connection: AbstractConnection, packed: bytes, count: int) -> list[Answer]:
    """Reads every answer, also behind a refused command: what is left unread would be the next trip's.

    A trip that ends early otherwise, by a time-out or because it is cancelled, ends its connection: both methods do.
    """
    await connection.send_packed_command(packed)
    answers: list[Answer] = []
    refused: ResponseError | None = None
    for _ in range(count):
        try:
            answers.append(await connection.read_response())
        except ResponseError as error:
            refused = refused or error
    if refused is not None:
        raise refused
    return answers
