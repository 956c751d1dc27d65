"""A client that asks an edge as fast as it can, over several connections, and notes when and what was answered."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.edge.harness import Edge

ANSWER_S = 20.0
"""How long one answer may take, on a machine that has much to do besides."""


@dataclass(frozen=True)
class Answered:
    """One answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    sent: float
    """`time.time()` before the request."""
    received: float
    """`time.time()` after the answer."""

    @property
    def problem(self) -> dict[str, object]:
        """The body of an answer that is a problem."""
        found = json.loads(self.body)
        assert isinstance(found, dict)
        return found


@dataclass(frozen=True)
class Request:
    """What is asked again and again."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, object] | None = None

    def encoded(self, more: Mapping[str, str]) -> bytes:
        """As HTTP/1.1 has it."""
        body = b"" if self.body is None else json.dumps(self.body).encode()
        kind = {"content-type": "application/json"} if body else {}
        headers = {"host": "edge", **self.headers, **kind, "content-length": str(len(body)), **more}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"{self.method} {self.path} HTTP/1.1\r\n{lines}\r\n".encode() + body


async def drive(
    edge: Edge,
    request: Request,
    *,
    times: int | None = None,
    enough: Callable[[Sequence[Answered]], bool] = lambda found: False,
    concurrency: int = 16,
    headers: Callable[[int], Mapping[str, str]] = lambda number: {},
) -> list[Answered]:
    """Asks `times` times, or until there is enough.

    Args:
        edge: whom.
        request: what.
        times: in all.
        enough: of what was answered so far; asked after each answer.
        concurrency: connections, each with one request at a time.
        headers: more of them, by the number of the request.
    """
    found: list[Answered] = []
    asked = 0

    async def ask() -> None:
        nonlocal asked
        reader, writer = await asyncio.open_connection(edge.host, edge.port)
        try:
            while (times is None or asked < times) and not enough(found):
                asked += 1
                sent = time.time()
                writer.write(request.encoded(headers(asked)))
                async with asyncio.timeout(ANSWER_S):
                    found.append(await _answer(reader, sent))
        finally:
            writer.close()

    await asyncio.gather(*(ask() for _ in range(concurrency)))
    return found


async def _answer(reader: asyncio.StreamReader, sent: float) -> Answered:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Answered(int(first.split()[1]), headers, body, sent, time.time())


def admitted(answers: Sequence[Answered]) -> list[Answered]:
    """Those that were not refused by a limit, in the order of their requests; everything must be 2xx or 429."""
    for each in answers:
        assert each.status == 429 or 200 <= each.status < 300, (each.status, each.body)
    return sorted((each for each in answers if each.status != 429), key=lambda each: each.sent)


def most_within(answers: Sequence[Answered], window_s: float) -> int:
    """The most answers certainly decided within one window: asked for after it began, there before its end."""
    most = 0
    for first in answers:
        end = first.sent + window_s
        most = max(most, sum(first.sent <= each.sent and each.received <= end for each in answers))
    return most
