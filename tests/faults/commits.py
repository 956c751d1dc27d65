"""Commits rows to a SQLite file and says so after each: `python -m tests.faults.commits FILE HOW`.

HOW is `adapter`, the way services do it (mesh.db.sql), or a value for `PRAGMA synchronous` on a plain connection in WAL
mode. It goes on until it is killed.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys

from mesh.db.sql import Database, Tx


async def by_adapter(file: str) -> None:
    """Through the adapter, four writers at a time, as requests come."""
    database = await Database.open(f"sqlite+aiosqlite:///{file}")
    numbers = iter(range(1_000_000))

    async def writer() -> None:
        for number in numbers:

            async def unit(tx: Tx, number: int = number) -> None:
                await tx.execute("INSERT INTO kept (number) VALUES (:number)", {"number": number})

            await database.write(unit)
            print(number, flush=True)

    await asyncio.gather(*(writer() for _ in range(4)))


def plainly(file: str, synchronous: str) -> None:
    """Through the standard library."""
    with sqlite3.connect(file, isolation_level=None) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute(f"PRAGMA synchronous = {synchronous}")
        for number in range(1_000_000):
            database.execute("INSERT INTO kept (number) VALUES (?)", (number,))
            print(number, flush=True)


if __name__ == "__main__":
    if sys.argv[2] == "adapter":
        asyncio.run(by_adapter(sys.argv[1]))
    else:
        plainly(sys.argv[1], sys.argv[2])
