"""Trips to a server that speaks RESP2 (Valkey, Redis): commands that were packed, and raw answers to all of them.

Connections are redis-py's, which knows how to make them. Its commands, pipelines and pools are not used: they took half
of the CPU of a process that handles events.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import redis.asyncio as redis
from hiredis import pack_command
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError


def packed(commands: Sequence[Sequence[str | bytes | int | float]]) -> bytes:
    """Commands as RESP has them."""
    return b"".join([pack_command(tuple(command)) for command in commands])  # type: ignore[arg-type]  # of 1-tuples


class Connection:
    """One connection, for one caller at a time. It is made at the first trip, and at the next after it was lost.

    Args:
        one: redis-py's, not connected yet.
    """

    def __init__(self, one: AbstractConnection) -> None:
        self._one = one

    async def trip(self, whole: bytes, count: int) -> list[Any]:
        """Sends and gives every answer, a `ResponseError` for a refused command. The caller sets the deadline.

        A trip that ends early, as it is late or cancelled, ends the connection: nobody reads another's answers.

        Raises:
            redis.exceptions.ConnectionError, OSError: the connection was lost, or there is none to be had.
        """
        await self._one.send_packed_command(whole)
        answers: list[Any] = []
        for _ in range(count):
            try:
                answers.append(await self._one.read_response())
            except ResponseError as error:
                answers.append(error)
        return answers

    async def is_stale(self) -> bool:
        """Whether it was used, and the server has closed it since."""
        try:
            return self._one.is_connected and await self._one.can_read()
        except RedisConnectionError:
            return True

    async def close(self) -> None:
        """Ends it."""
        await self._one.disconnect()


class Connections:
    """Connections to one server, the one that was used last first.

    Args:
        url: `unix:///path?db=0`, `redis://host:port/0` or `rediss://...`.
        most: at once; further trips wait.
        connect_s: for making one.
    """

    def __init__(self, url: str, *, most: int, connect_s: float) -> None:
        self._maker = redis.ConnectionPool.from_url(
            url,
            protocol=2,
            socket_timeout=None,  # a trip has a deadline; redis-py's are a task for each write, a timer for each answer
            socket_connect_timeout=connect_s,
            retry=Retry(NoBackoff(), 0),  # what a lost answer means, the caller knows
            driver_info=None,
        )
        self._room = asyncio.Semaphore(most)
        self._idle: list[Connection] = []

    def one(self) -> Connection:
        """A connection of one's own, which tells when it was lost; its maker closes it."""
        return Connection(self._maker.make_connection())  # type: ignore[no-untyped-call]

    async def trip(self, whole: bytes, count: int) -> list[Any]:
        """See Connection. A connection that the server closed while nobody used it is replaced."""
        async with self._room:
            connection = self._idle.pop() if self._idle else self.one()
            try:
                if await connection.is_stale():
                    await connection.close()
                return await connection.trip(whole, count)
            finally:
                self._idle.append(connection)

    async def close(self) -> None:
        """Ends those that nobody uses."""
        while self._idle:
            await self._idle.pop().close()
