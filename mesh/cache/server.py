"""The cache store as one server, behind a breaker: when it is gone, callers know within microseconds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import redis.asyncio as redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from mesh.cache.store import TIMEOUT_S, Answer, CacheGone, CacheStore, Command, Script
from mesh.errors import Unavailable
from mesh.resilience.breaker import Breaker
from mesh.resp import Connections, packed

T = TypeVar("T")


class Server(CacheStore):
    """One server: `unix:///path?db=0`, `redis://host:port/0`.

    Args:
        url: where it is.
        connections: at once, at most.
    """

    def __init__(self, url: str, *, connections: int = 64) -> None:
        pool = redis.BlockingConnectionPool.from_url(
            url,
            max_connections=connections,
            timeout=TIMEOUT_S,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            protocol=2,
        )
        self._client = redis.Redis(connection_pool=pool)
        self._connections = Connections(url, most=connections, connect_s=TIMEOUT_S)
        self._breaker = Breaker("cache", threshold=5, open_s=0.2, max_open_s=1.0)

    @property
    def client(self) -> redis.Redis:
        """See CacheStore."""
        return self._client

    async def exchange(self, commands: Sequence[Command]) -> list[Answer]:
        """See CacheStore."""
        if not commands:
            return []
        whole = packed(commands)
        try:
            return await self._guarded(lambda: self._trip(whole, len(commands)))
        except NoScriptError:
            scripts = {Script.by_digest[str(command[1])] for command in commands if command[0] == "EVALSHA"}
            loads: list[Command] = [("SCRIPT", "LOAD", script.text) for script in scripts]
            answers = await self._guarded(lambda: self._trip(packed(loads) + whole, len(loads) + len(commands)))
            return answers[len(loads) :]

    async def close(self) -> None:
        """See CacheStore."""
        await self._client.aclose()
        await self._client.connection_pool.disconnect()
        await self._connections.close()

    async def _guarded(self, trip: Callable[[], Awaitable[T]]) -> T:
        """Makes one trip. Raises CacheGone when the server does not answer, or did not a moment ago."""
        try:
            self._breaker.before()
        except Unavailable:
            raise CacheGone("The cache does not answer.") from None
        try:
            answer = await trip()
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

    async def _trip(self, whole: bytes, count: int) -> list[Answer]:
        async with asyncio.timeout(TIMEOUT_S):
            try:
                answers = await self._connections.trip(whole, count)
            except RedisConnectionError:  # once more on a connection that the server closed meanwhile
                answers = await self._connections.trip(whole, count)
        for answer in answers:
            if isinstance(answer, ResponseError):
                raise answer
        return answers
