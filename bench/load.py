"""A client that costs little: one GET again and again over keep-alive connections of HTTP/1.1, one in flight on each.

It does nothing with an answer but to check that it is 200 and as long as the first. It runs as a process of its own
(`bench.worker`), so that what it costs is not taken for the cost of what it asks.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import cast

import uvloop

from bench.errors import BenchError
from bench.worker import Message, work

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)
_HEAD_BYTES = 16_384
_ROUND_S = 60.0


class _Round:
    """Requests that are still to be made, and what came of the others."""

    def __init__(self, count: int, request: bytes) -> None:
        self.request = request
        self.left = count
        self.unanswered = count
        self.length = -1
        self.took: list[float] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def fail(self, why: str) -> None:
        if not self.done.done():
            self.done.set_exception(BenchError(why))


class _Connection(asyncio.Protocol):
    """One connection: sends, counts the answer's bytes, sends again."""

    def __init__(self, round_: _Round) -> None:
        self._round = round_
        self._head = b""
        self._body_left = 0
        self._sent = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # of uvloop's own class

    def go(self) -> None:
        """Sends the next request, if there is one left."""
        if self._round.left and self._transport is not None:
            self._round.left -= 1
            self._sent = time.perf_counter()
            self._transport.write(self._round.request)

    def data_received(self, data: bytes) -> None:
        if self._body_left:
            self._body_left -= len(data)
        else:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                if len(self._head) > _HEAD_BYTES:
                    self._round.fail("an answer's head does not end")
                return
            length = _LENGTH.search(self._head, 0, end + 2)
            if length is None or not self._head.startswith(b"HTTP/1.1 200 "):
                self._round.fail(f"an answer was not as expected: {self._head[:400]!r}")
                return
            size = int(length[1])
            if self._round.length == -1:
                self._round.length = size
            # Counts in it grow while it is read.
            if abs(size - self._round.length) > self._round.length // 50:
                self._round.fail(f"an answer had {size} bytes, the others {self._round.length}")
                return
            self._body_left = size - (len(self._head) - end - 4)
            self._head = b""
        if self._body_left == 0:
            self._answered()
        elif self._body_left < 0:
            self._round.fail("an answer was longer than it said")

    def _answered(self) -> None:
        self._round.took.append(time.perf_counter() - self._sent)
        self._round.unanswered -= 1
        if self._round.unanswered:
            self.go()
        elif not self._round.done.done():
            self._round.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._round.fail("the edge closed a connection")


async def drive(command: Message) -> Message:
    """One round: `requests` GETs of `path` with `token` at `port` of this machine, over `connections` connections.

    Gives the seconds it took, the bytes of one answer's body, and the median and the 99th percentile of the time to an
    answer in milliseconds. Raises BenchError for any answer but 200.
    """
    request = (
        f"GET {command['path']} HTTP/1.1\r\nhost: rookery\r\nauthorization: Bearer {command['token']}\r\n\r\n"
    ).encode()
    loop = asyncio.get_running_loop()
    round_ = _Round(int(command["requests"]), request)
    connections: list[_Connection] = []
    transports: list[asyncio.BaseTransport] = []
    try:
        for _ in range(int(command["connections"])):
            opened = await loop.create_connection(lambda: _Connection(round_), "127.0.0.1", int(command["port"]))
            transports.append(opened[0])
            connections.append(opened[1])
        started = time.perf_counter()
        for connection in connections:
            connection.go()
        async with asyncio.timeout(_ROUND_S):
            await round_.done
        seconds = time.perf_counter() - started
    finally:
        for transport in transports:
            transport.close()
    took = sorted(round_.took)
    return {
        "seconds": seconds,
        "bytes": round_.length,
        "p50_ms": took[len(took) // 2] * 1000,
        "p99_ms": took[len(took) * 99 // 100] * 1000,
    }


if __name__ == "__main__":
    uvloop.run(work(drive))
