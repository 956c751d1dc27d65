"""The graph's store on Neo4j in a process of its own, and nothing else.

usage: python -m bench.neo4j_worker GRAPH_URL FOLLOWERS
"""

from __future__ import annotations

import sys

import structlog
import uvloop

from bench.neo4j import AUTHOR, PAGE, bounds
from bench.worker import Message, work
from mesh.bus.redis_streams import RedisStreamsBus
from services.graph.domain import Line
from services.graph.store.open import open_stores


async def _main(url: str, followers: int) -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # answers go out on the other
    bus = RedisStreamsBus("unix:///nowhere/s?db=0")  # is not asked for anything
    stores = await open_stores(url, bus, Line(10_000))

    async def carry_out(command: Message) -> Message:
        edges = 0
        for before in bounds(followers, int(command["pages"])):
            edges += len(await stores.graph.followers(AUTHOR, before=before, after=0, limit=PAGE))
        return {"edges": edges}

    try:
        await work(carry_out)
    finally:
        await stores.close()
        await bus.close()


if __name__ == "__main__":
    uvloop.run(_main(sys.argv[1], int(sys.argv[2])))
