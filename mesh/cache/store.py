"""The connection to the cache store, behind a breaker: when it is gone, callers know within microseconds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from mesh.errors import Unavailable
from mesh.resilience.breaker import Breaker

T = TypeVar("T")
_TIMEOUT_S = 0.5  # a trip takes under a millisecond; one that takes this long will not come back


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

    async def close(self) -> None:
        """Ends all connections."""
        await self.client.aclose()
        await self.client.connection_pool.disconnect()
