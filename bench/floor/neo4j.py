"""The floor of pages from Neo4j: the bare driver with the store's statement, whose answer is taken as it comes.

usage: python -m bench.floor.neo4j GRAPH_URL FOLLOWERS
"""

from __future__ import annotations

import sys

import uvloop
from neo4j import AsyncGraphDatabase

from bench.neo4j import AUTHOR, PAGE, bounds
from bench.worker import Message, work
from mesh.db.neo4j import Address
from services.graph.store.neo4j import FOLLOWS, page

_QUERY = page(FOLLOWS, "to_id", "from_id", newest=True)


async def _main(url: str, followers: int) -> None:
    where = Address.parse(url)
    async with AsyncGraphDatabase.driver(where.uri, auth=where.auth) as driver:

        async def carry_out(command: Message) -> Message:
            edges = 0
            for before in bounds(followers, int(command["pages"])):
                async with driver.session() as session:
                    result = await session.run(_QUERY, {"id": AUTHOR, "bound": before, "limit": PAGE})
                    record = await result.single(strict=True)
                    edges += len(record["edges"])
            return {"edges": edges}

        await work(carry_out)


if __name__ == "__main__":
    uvloop.run(_main(sys.argv[1], int(sys.argv[2])))
