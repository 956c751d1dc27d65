"""One node of a cluster: a few connections, over which trips follow each other without waiting for answers.

Answers come in the order of commands, so a connection needs no pool and a trip no connection of its own. A cluster's
trip reads dozens of answers from each of several nodes; through the client's connections each of them costs more than
the command does.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

from hiredis import Reader

from mesh.cache.store import TIMEOUT_S, Answer, CacheGone, Command
from mesh.context import shared
from mesh.errors import Unavailable
from mesh.resilience.breaker import Breaker
from mesh.resp import packed

_WRITERS = 4  # connections for writes: each holds up the next write on it until a replica has it
_WAITING = 1_024  # trips on one connection; a node that is well has a few
_UNSENT_BYTES = 32 << 20


class Refusal(Exception):
    """An answer that is an error; its first word is a code."""

    @property
    def code(self) -> str:
        """MOVED, WRONGTYPE and so on."""
        return str(self).partition(" ")[0]


class Lost(Exception):
    """The connection ended before the answers came: the commands may have been carried out, or not."""


class Late(Exception):
    """The answers did not come in time; likewise."""


@dataclass(frozen=True, slots=True)
class Access:
    """How one gets into a cluster's nodes."""

    name: str = ""
    """Empty for the default one."""
    password: str = ""
    """Empty for none."""
    tls: ssl.SSLContext | None = None
    """None for plain TCP."""


class _Connection(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._reader = Reader(protocolError=Refusal, replyError=Refusal)
        self._waiting: deque[tuple[asyncio.Future[list[Answer]], int]] = deque()
        self._answers: list[Answer] = []
        self._transport: asyncio.Transport | None = None
        self.mourned = False
        """Whether its end was counted."""

    @property
    def open(self) -> bool:
        """Whether it can be used."""
        return self._transport is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, error: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._end()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._reader.feed(data)
        try:
            while self._waiting and (answer := self._reader.gets()) is not False:
                self._answers.append(answer)
                future, count = self._waiting[0]
                if len(self._answers) == count:
                    self._waiting.popleft()
                    answers, self._answers = self._answers, []
                    if not future.done():  # its caller may have gone
                        future.set_result(answers)
        except Refusal:  # what came is not RESP
            self.close()

    def send(self, whole: bytes, count: int) -> asyncio.Future[list[Answer]]:
        """Sends commands; gives what will have their answers. Raises CacheGone when too much waits."""
        if self._transport is None:
            raise Lost
        if len(self._waiting) >= _WAITING or self._transport.get_write_buffer_size() > _UNSENT_BYTES:
            raise CacheGone("The cache has too much to do.")
        future: asyncio.Future[list[Answer]] = asyncio.get_running_loop().create_future()
        self._waiting.append((future, count))
        self._transport.write(whole)
        return future

    async def enter(self, access: Access) -> None:
        """Says who this is. Raises CacheGone when that is not accepted, and Lost."""
        if access.password:
            who = (access.name,) if access.name else ()
            [answer] = await self.send(packed([("AUTH", *who, access.password)]), 1)
            if isinstance(answer, Refusal):
                raise CacheGone("The cache does not accept its password.")

    def close(self) -> None:
        """Ends it, and every trip that waits."""
        if self._transport is not None:
            self._transport.abort()
        self._end()

    def _end(self) -> None:
        self._transport = None
        for future, _ in self._waiting:
            if not future.done():
                future.set_exception(Lost())
                future.exception()  # its caller may have gone
        self._waiting.clear()


class Node:
    """One node: where it is, its connections, and a breaker of its own.

    Args:
        host: name or address.
        port: of clients.
        access: what it asks for.
    """

    def __init__(self, host: str, port: int, access: Access) -> None:
        self.host = host
        self.port = port
        self.replicas = 0
        """That stand in for it, as far as is known."""
        self.unbacked_until = 0.0
        """No replica took a write in time lately: until then (loop time) none is waited for."""
        self.breaker = Breaker(f"cache {host}:{port}", threshold=5, open_s=0.2, max_open_s=1.0)
        self._access = access
        # The first is for what does not wait for a replica, the others for what does.
        self._connections: list[_Connection | None] = [None] * (1 + _WRITERS)
        self._connecting: dict[int, asyncio.Task[_Connection]] = {}
        self._turn = 0

    def backed(self, now: float) -> bool:
        """Whether a replica is to be waited for.

        Args:
            now: loop time.
        """
        return self.replicas > 0 and now >= self.unbacked_until

    async def send(self, whole: bytes, count: int, *, writes: bool) -> Sent:
        """Sends commands, after connecting if need be.

        Raises:
            CacheGone: the node did not answer a moment ago, or has too much to do.
            OSError, TimeoutError, Lost: it cannot be reached.
        """
        try:
            self.breaker.before()
        except Unavailable:
            raise CacheGone("A part of the cache does not answer.") from None
        lane = 0
        if writes:
            self._turn = self._turn % _WRITERS + 1
            lane = self._turn
        try:
            connection = self._connections[lane]
            if connection is None or not connection.open:
                connection = await self._connect(lane)
            return Sent(self, connection, connection.send(whole, count))
        except (OSError, TimeoutError, Lost):
            self.breaker.failure()
            raise
        except BaseException:
            self.breaker.abandoned()
            raise

    def lost(self, connection: _Connection) -> None:
        """A trip was lost with its connection, which is one failure however many trips were on it."""
        if connection.mourned:
            self.breaker.abandoned()
        else:
            connection.mourned = True
            self.breaker.failure()

    def late(self, connection: _Connection) -> None:
        """An answer did not come in time: no other trip waits for that connection; those on it have their own time."""
        self.breaker.failure()
        if connection in self._connections:
            self._connections[self._connections.index(connection)] = None
            asyncio.get_running_loop().call_later(TIMEOUT_S, connection.close)

    async def ask(self, command: Command) -> Answer:
        """One command about the cluster. Raises CacheGone."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                sent = await self.send(packed([command]), 1, writes=False)
            [found] = await answers_of([sent])
        except (OSError, TimeoutError, Lost) as error:
            raise CacheGone("A part of the cache does not answer.") from error
        if isinstance(found, Lost | Late) or isinstance(found[0], Refusal):
            raise CacheGone("A part of the cache cannot answer.")
        return found[0]

    def close(self) -> None:
        """Ends its connections."""
        for task in self._connecting.values():
            task.cancel()
        for connection in self._connections:
            if connection is not None:
                connection.close()

    async def _connect(self, lane: int) -> _Connection:
        """A new connection; callers at the same time share it."""
        task = self._connecting.get(lane)
        if task is None:
            task = asyncio.create_task(self._open(lane), context=shared())
            self._connecting[lane] = task
            task.add_done_callback(lambda done: self._forget(lane, done))
        return await asyncio.shield(task)

    def _forget(self, lane: int, task: asyncio.Task[_Connection]) -> None:
        self._connecting.pop(lane, None)
        if not task.cancelled():
            task.exception()  # its callers may have gone

    async def _open(self, lane: int) -> _Connection:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(TIMEOUT_S):
            _, connection = await loop.create_connection(_Connection, self.host, self.port, ssl=self._access.tls)
            try:
                await connection.enter(self._access)
            except BaseException:
                connection.close()
                raise
        self._connections[lane] = connection
        return connection


class Sent(NamedTuple):
    """Commands that a node got."""

    node: Node
    connection: _Connection
    answers: asyncio.Future[list[Answer]]


async def answers_of(trips: Sequence[Sent]) -> list[list[Answer] | Lost | Late]:
    """What trips that were sent together brought, or why one brought nothing.

    Each node's breaker hears of it. A connection on which one took too long gets no more.
    """
    found: list[list[Answer] | Lost | Late] = [Late()] * len(trips)
    unheard = dict(enumerate(trips))
    try:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                for number, trip in enumerate(trips):
                    try:
                        found[number] = await trip.answers
                    except Lost as lost:
                        found[number] = lost
                        trip.node.lost(trip.connection)
                    else:
                        trip.node.breaker.success()
                    del unheard[number]
        except TimeoutError:
            for number, trip in unheard.items():
                future = trip.answers
                if future.done() and not future.cancelled() and future.exception() is None:
                    found[number] = future.result()
                    trip.node.breaker.success()
                else:
                    trip.node.late(trip.connection)
            unheard.clear()
    finally:
        for trip in unheard.values():  # the caller goes away: nothing was learnt
            trip.node.breaker.abandoned()
    return found
