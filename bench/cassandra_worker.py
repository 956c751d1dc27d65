"""The tweets store on Cassandra in a process of its own.

usage: python -m bench.cassandra_worker URL FOLDER

With a FOLDER it keeps there the statements of each thing that it does, for bench/floor/cassandra.py.
"""

from __future__ import annotations

import asyncio
import contextvars
import pickle
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import structlog
import uvloop

from bench.cassandra import BATCH, LANES
from bench.worker import Message, work
from mesh.bus.redis_streams import RedisStreamsBus
from mesh.db.cassandra import Cassandra, Decision, Params, Row, Statement
from mesh.outbox.cassandra import CassandraOutbox
from services.tweet.domain import StoredTweet
from services.tweet.store.base import TweetStore
from services.tweet.store.cassandra.stores import on_cassandra

Step: TypeAlias = tuple[str, list[Statement]]
"""What is asked of the database at once: `one`, `condition`, `batch` or `many`, and the statements."""
_TEXT = "Good morning, everybody who is up already and reads this. The kettle is on, #rookery"
_steps: contextvars.ContextVar[list[Step] | None] = contextvars.ContextVar("steps", default=None)


def _note(kind: str, statements: Sequence[Statement]) -> None:
    steps = _steps.get()
    if steps is not None:
        steps.append((kind, [(cql, tuple(params)) for cql, params in statements]))


class _Recording(Cassandra):
    """Notes what is asked of it. Its signatures are Cassandra's."""

    async def rows(self, cql: str, params: Params = (), **more: Any) -> list[Row]:
        _note("one", [(cql, params)])
        return await super().rows(cql, params, **more)

    async def execute(self, cql: str, params: Params = (), **more: Any) -> None:
        _note("one", [(cql, params)])
        await super().execute(cql, params, **more)

    async def many(self, statements: Sequence[Statement], **more: Any) -> list[list[Row]]:
        _note("many", statements)
        return await super().many(statements, **more)

    async def batch(self, statements: Sequence[Statement], **more: Any) -> None:
        _note("batch", statements)
        await super().batch(statements, **more)

    async def conditional(self, cql: str, params: Params = (), **more: Any) -> Decision:
        _note("condition", [(cql, params)])
        return await super().conditional(cql, params, **more)


async def lanes(count: int, do: Callable[[int], Awaitable[None]]) -> None:
    """Does so many things, `LANES` at a time; a lane does every so manyth, one after the other."""

    async def lane(first: int) -> None:
        for number in range(first, count, LANES):
            await do(number)

    await asyncio.gather(*(lane(first) for first in range(LANES)))


def _id(turn: int, number: int) -> int:
    return (1 << 60) + (turn << 30) + (number << 12)


async def _write(tweets: TweetStore, turn: int, number: int) -> None:
    tweet_id = _id(turn, number)
    await tweets.create(
        StoredTweet(tweet_id, (1 << 50) + number % LANES, f"{_TEXT} {number}", lang="en", conversation_id=tweet_id), ""
    )


async def _read(tweets: TweetStore, turn: int, number: int, count: int) -> None:
    """Tweets of this round, a different choice in each batch."""
    found = await tweets.by_ids([_id(turn, (number * 7 + each) % count) for each in range(BATCH)])
    if len(found) != BATCH:
        raise RuntimeError(f"{len(found)} of {BATCH} tweets")


async def _main(url: str, folder: str) -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # answers go out on the other
    db = await (_Recording if folder else Cassandra).open(url, deadline=20.0)
    bus = RedisStreamsBus("unix:///nowhere/s?db=0")  # nothing is published
    stores = on_cassandra(db, CassandraOutbox(db, bus, "tweet"))

    async def carry_out(command: Message) -> Message:
        step, turn, count = str(command["step"]), int(command["turn"]), int(command["count"])
        kept: list[list[Step]] = [[] for _ in range(count)]

        async def one(number: int) -> None:
            if folder:
                _steps.set(kept[number])
            if step == "write":
                await _write(stores.tweets, turn, number)
            else:
                await _read(stores.tweets, turn, number, count * 2)

        await lanes(count, one)
        if folder:
            (Path(folder) / f"{step}-{turn}").write_bytes(pickle.dumps(kept))
        return {"done": count}

    try:
        await work(carry_out)
    finally:
        await stores.close()
        await bus.close()


if __name__ == "__main__":
    uvloop.run(_main(sys.argv[1], sys.argv[2]))
