"""What a page of 1,000 followers costs that is read from Neo4j, next to the bare driver with the same statement.

Two processes take turns with the same pages of a person with many followers: `floor` (bench/floor/neo4j.py) asks by the
driver alone, `rookery` by the graph's store. CPU is that of the process; the server's is not counted.
"""

from __future__ import annotations

import asyncio
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from neo4j import AsyncGraphDatabase

from bench.cpu import spent
from bench.errors import BenchError
from bench.figures import Outcome, Ratio, Spread
from bench.worker import worker
from mesh.db.migrations import MigrationError, migrate
from mesh.db.neo4j import Address
from mesh.errors import Unavailable
from scripts.engines.base import EngineError
from scripts.engines.catalogue import ENGINES
from scripts.engines.control import Control

TARGET = 1.5
"""CPU per page over the bare driver's, at most (acceptance of the benchmark)."""
PAGE = 1_000
AUTHOR = 1 << 60
"""Whose followers are read; ids are as long as real ones."""
FIRST_FOLLOW = 1 << 61
_STEP_S = 120.0
_AT_ONCE = 5_000
_SCHEMA = Path(__file__).resolve().parents[1] / "services" / "graph" / "schema" / "neo4j"
_PEOPLE = (
    "UNWIND range($first, $last) AS n CREATE (:Person {id: $author + n, followers_count: 0, following_count: 1,"
    " listed_count: 0, version: 1, reach: 0, seen_ms: 0})"
)
_FOLLOWS = (
    "MATCH (b:Person {id: $author}) UNWIND range($first, $last) AS n MATCH (a:Person {id: $author + n})"
    " CREATE (a)-[:FOLLOWS {from_id: a.id, to_id: b.id, edge_id: $edge + n}]->(b)"
)


@dataclass(frozen=True, slots=True)
class Options:
    """How much is measured."""

    rounds: int = 7
    """Of each; their order changes from round to round."""
    followers: int = 100_000
    """Of the person whose followers are read."""
    pages: int = 300
    """In a round; from the newest follower on, again from there at the end."""


async def bench_neo4j(options: Options, folder: Path, say: Callable[[str], None]) -> Outcome:
    """Runs it on a server of its own in a folder of engines, which is deleted afterwards.

    Raises:
        BenchError: Neo4j cannot be started or filled, or pages lack followers.
    """
    root = folder / f"bench-{uuid.uuid4().hex[:8]}"
    control = Control(ENGINES["neo4j"], root)
    try:
        await asyncio.to_thread(control.up)
        url = control.urls()["ROOKERY_GRAPH_URL"]
        await migrate(url, _SCHEMA)
        await _fill(url, options.followers)
        found = await _measure(options, url, say)
    except (EngineError, MigrationError, Unavailable) as error:
        raise BenchError(str(error)) from None
    finally:
        await asyncio.to_thread(control.down)
        shutil.rmtree(root, ignore_errors=True)
    pairs = zip(found["rookery"], found["floor"], strict=True)
    return Outcome(
        bench="neo4j",
        setup={"rounds": options.rounds, "pages_a_round": options.pages, "followers": options.followers},
        unit=f"us of CPU a page of {PAGE}",
        costs={name: {"page": Spread.of(rounds)} for name, rounds in found.items()},
        ratios=[Ratio("a page over the bare driver", Spread.of(ours / floor for ours, floor in pairs), TARGET)],
    )


async def _fill(url: str, followers: int) -> None:
    """Makes the followers and their follows."""
    where = Address.parse(url)
    async with AsyncGraphDatabase.driver(where.uri, auth=where.auth) as driver, driver.session() as session:
        for query, first in ((_PEOPLE, 0), (_FOLLOWS, 1)):
            for start in range(first, followers + 1, _AT_ONCE):
                last = min(start + _AT_ONCE - 1, followers)
                params = {"author": AUTHOR, "edge": FIRST_FOLLOW, "first": start, "last": last}
                await (await session.run(query, params)).consume()


async def _measure(options: Options, url: str, say: Callable[[str], None]) -> dict[str, list[float]]:
    arguments = (url, str(options.followers))
    async with (
        worker("bench.floor.neo4j", *arguments) as floor,
        worker("bench.neo4j_worker", *arguments) as ours,
    ):
        ways = {"floor": floor, "rookery": ours}
        found: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(options.rounds + 1):  # the first warms up
            for name in list(ways) if turn % 2 else reversed(list(ways)):
                with spent({"client": ways[name].pid}) as taken:
                    answer = await ways[name].ask(_STEP_S, pages=options.pages)
                if answer["edges"] != options.pages * PAGE:
                    raise BenchError(f"{name}: {answer['edges']} of {options.pages * PAGE} followers")
                if turn:
                    found[name].append(taken.us["client"] / options.pages)
            if turn:
                last_round = ", ".join(f"{name} {costs[-1]:.0f}" for name, costs in found.items())
                say(f"round {turn} of {options.rounds}: us a page: {last_round}")
        return found


def bounds(followers: int, pages: int) -> list[int]:
    """The follow id below which each page begins, so that all pages are full."""
    starts = [FIRST_FOLLOW + 1 + followers - start for start in range(0, followers - PAGE + 1, PAGE)]
    return [starts[number % len(starts)] for number in range(pages)]
