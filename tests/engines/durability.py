"""Acknowledged means durable: a server is killed amid writes, and what it acknowledged is there when it is back."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable

from mesh.errors import Unavailable
from scripts.engines.control import Control

_WRITERS = 8
_BEFORE = 300
"""Writes that are acknowledged before it dies."""
_BACK_S = 60.0


async def survive(
    server: Control,
    program: str,
    write: Callable[[int], Awaitable[object]],
    there: Callable[[], Awaitable[set[int]]],
    *,
    before: int = _BEFORE,
    back_s: float = _BACK_S,
) -> str:
    """Kills a program of a server that numbers are written to, starts it again, and compares.

    Args:
        server: it runs.
        program: which of its programs is killed.
        write: writes a number; raises Unavailable when that is not known to be done.
        there: all numbers that are kept; raises Unavailable while it cannot tell.
        before: writes that are acknowledged before.
        back_s: seconds in which it dies, and in which it can tell when it is back.

    Returns:
        What happened, in a line.
    """
    numbers = itertools.count()
    acknowledged: set[int] = set()
    unknown: set[int] = set()
    enough, killed = asyncio.Event(), asyncio.Event()

    async def writer() -> None:
        while not (killed.is_set() and unknown):  # some were under way when it died
            number = next(numbers)
            try:
                await write(number)
            except Unavailable:
                unknown.add(number)
                await asyncio.sleep(0.05)
                continue
            acknowledged.add(number)
            if len(acknowledged) >= before:
                enough.set()

    async with asyncio.timeout(back_s), asyncio.TaskGroup() as writing:
        for _ in range(_WRITERS):
            writing.create_task(writer())
        await enough.wait()
        await asyncio.to_thread(server.kill, program)
        killed.set()
    await asyncio.to_thread(server.up)
    async with asyncio.timeout(back_s):
        while True:
            try:
                kept = await there()
                break
            except Unavailable:
                await asyncio.sleep(0.1)
    assert acknowledged <= kept, f"{len(acknowledged - kept)} of {len(acknowledged)} acknowledged writes are gone"
    assert kept <= acknowledged | unknown, "what nobody wrote is there"
    return f"{len(acknowledged)} acknowledged, all there; of {len(unknown)} under way {len(kept - acknowledged)}"
