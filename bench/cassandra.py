"""What a tweet's write and a batch of 40 reads cost on Cassandra, next to the bare driver doing the same statements.

Three processes take turns. `recorded` writes and reads tweets through the adapter in a keyspace of its own, unmeasured,
and keeps the statements of each. `floor` (bench/floor/cassandra.py) sends these by the driver, asynchronously, on its
fastest event loop, into another keyspace, where every condition holds as it did. `rookery` does the same work through
the adapter in a third one. CPU is that of the process; Cassandra's is not counted.
"""

from __future__ import annotations

import asyncio
import tempfile
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.cpu import spent
from bench.errors import BenchError
from bench.figures import Outcome, Ratio, Spread
from bench.worker import Worker, worker
from cli.profile import PROJECT
from mesh.db.migrations import migrate
from scripts.engines.base import EngineError
from scripts.engines.catalogue import ENGINES
from scripts.engines.control import Control

TARGET = 1.5
"""CPU over the bare driver's, at most (acceptance of the benchmark)."""
BATCH = 40
"""Tweets of one batch of reads."""
LANES = 8
"""What runs at a time: authors who write, or batches that are read."""
STEPS = ("write", "read")
_SCHEMA = PROJECT / "services" / "tweet" / "schema" / "cassandra"
_STEP_S = 120.0


@dataclass(frozen=True, slots=True)
class Options:
    """How much is measured."""

    rounds: int = 7
    """Of each; their order changes from round to round."""
    tweets: int = 1_000
    """Written in a round, and half as many batches read."""


async def bench_cassandra(options: Options, folder: Path, say: Callable[[str], None]) -> Outcome:
    """Runs it on the engine in a folder, which is started if it does not run, and then stopped.

    Raises:
        BenchError: Cassandra cannot be started, or statements failed.
    """
    control = Control(ENGINES["cassandra"], folder)
    try:
        begun = await asyncio.to_thread(control.up)
    except EngineError as error:
        raise BenchError(str(error)) from None
    names = {name: f"bench_{uuid.uuid4().hex[:8]}" for name in ("recorded", "floor", "rookery")}
    try:
        urls = {name: control.engine.apart(control.place(), names[name])["ROOKERY_TWEETS_URL"] for name in names}
        for url in urls.values():
            await migrate(url, _SCHEMA)
        found = await _measure(options, urls, say)
    finally:
        for name in names.values():
            await asyncio.to_thread(control.engine.drop, control.place(), name)
        if begun:
            await asyncio.to_thread(control.down)
    costs = {
        name: {step: Spread.of(one[step] for one in rounds) for step in rounds[0]} for name, rounds in found.items()
    }
    ratios = []
    for step in STEPS:
        pairs = zip(found["rookery"], found["floor"], strict=True)
        spread = Spread.of(ours[step] / floor[step] for ours, floor in pairs)
        ratios.append(Ratio(f"{step} over the bare driver", spread, TARGET))
    return Outcome(
        bench="cassandra",
        setup={"rounds": options.rounds, "tweets_a_round": options.tweets, "tweets_a_batch": BATCH},
        unit="us of CPU a tweet written, a batch read",
        costs=costs,
        ratios=ratios,
    )


async def _measure(
    options: Options, urls: Mapping[str, str], say: Callable[[str], None]
) -> dict[str, list[dict[str, float]]]:
    with tempfile.TemporaryDirectory() as folder:
        async with (
            worker("bench.cassandra_worker", urls["recorded"], folder) as recorded,
            worker("bench.floor.cassandra", urls["floor"], folder) as floor,
            worker("bench.cassandra_worker", urls["rookery"], "") as ours,
        ):
            ways: Mapping[str, Worker] = {"floor": floor, "rookery": ours}
            found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
            for turn in range(options.rounds + 1):  # the first warms up
                rows: dict[str, dict[str, float]] = {name: {} for name in ways}
                for step in STEPS:
                    count = options.tweets if step == "write" else options.tweets // 2
                    await recorded.ask(_STEP_S, step=step, turn=turn, count=count)
                    for name in list(ways) if turn % 2 else reversed(list(ways)):
                        with spent({"client": ways[name].pid}) as taken:
                            answer = await ways[name].ask(_STEP_S, step=step, turn=turn, count=count)
                        if answer["done"] != count:
                            raise BenchError(f"{name}: {step}: {answer['done']} of {count}")
                        rows[name][step] = taken.us["client"] / count
                if turn:
                    for name, row in rows.items():
                        found[name].append(row)
                    last = ", ".join(f"{name} {row['write']:,.0f} and {row['read']:,.0f}" for name, row in rows.items())
                    say(f"round {turn} of {options.rounds}: us a write and a batch: {last}")
            return found
