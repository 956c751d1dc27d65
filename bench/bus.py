"""What an event costs that is published to Kafka and handled, next to the bare client doing the same.

Two processes take turns with the same events: `floor` (bench/floor/bus.py) sends records by the client and reads them
in a group of its own, committing after each read; `rookery` publishes by `KafkaBus` in batches of the outbox's size and
handles by a subscription with its lanes, metrics and commits. CPU is that of the process; the broker's is not counted.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.cpu import spent
from bench.errors import BenchError
from bench.figures import Outcome, Ratio, Spread
from bench.worker import Worker, worker
from mesh.bus.kafka import KafkaBus
from scripts.engines.base import EngineError
from scripts.engines.catalogue import ENGINES
from scripts.engines.control import Control

TARGET = 2.0
"""CPU per event over the bare client's, at most (acceptance of the benchmark)."""
_STEP_S = 120.0


@dataclass(frozen=True, slots=True)
class Options:
    """How much is measured."""

    rounds: int = 7
    """Of each; their order changes from round to round."""
    events: int = 10_000
    """In a round."""


async def bench_bus(options: Options, folder: Path, say: Callable[[str], None]) -> Outcome:
    """Runs it on the engine in a folder, which is started if it does not run, and then stopped.

    Raises:
        BenchError: Kafka cannot be started, or events got lost.
    """
    control = Control(ENGINES["kafka"], folder)
    try:
        begun = await asyncio.to_thread(control.up)
    except EngineError as error:
        raise BenchError(str(error)) from None
    try:
        url = control.engine.apart(control.place(), f"bench_{uuid.uuid4().hex[:8]}")["ROOKERY_BUS_URL"]
        found = await _measure(options, url, say)
    finally:
        if begun:
            await asyncio.to_thread(control.down)
    costs = {
        name: {step: Spread.of(one[step] for one in rounds) for step in rounds[0]} for name, rounds in found.items()
    }
    ratios = []
    for step in ("publish", "handle", "both"):
        pairs = zip(found["rookery"], found["floor"], strict=True)
        spread = Spread.of(ours[step] / floor[step] for ours, floor in pairs)
        ratios.append(Ratio(f"{step} over the bare client", spread, TARGET if step == "both" else None))
    return Outcome(
        bench="bus",
        setup={"rounds": options.rounds, "events_a_round": options.events},
        unit="us of CPU an event",
        costs=costs,
        ratios=ratios,
    )


async def _measure(options: Options, url: str, say: Callable[[str], None]) -> dict[str, list[dict[str, float]]]:
    async with worker("bench.floor.bus", url) as floor, worker("bench.bus_worker", url) as ours:
        ways: Mapping[str, Worker] = {"floor": floor, "rookery": ours}
        found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
        for turn in range(options.rounds + 1):  # the first warms up
            for name in list(ways) if turn % 2 else reversed(list(ways)):
                topic = f"{name}-{turn}"
                bus = KafkaBus(url)
                await bus.prepare(topic)  # making topics is measured for neither
                await bus.close()
                row: dict[str, float] = {}
                for step in ("publish", "handle"):
                    with spent({"client": ways[name].pid}) as taken:
                        answer = await ways[name].ask(_STEP_S, step=step, topic=topic, events=options.events)
                    if answer["events"] != options.events:
                        raise BenchError(f"{name}: {step}: {answer['events']} of {options.events} events")
                    row[step] = taken.us["client"] / options.events
                row["both"] = sum(row.values())
                if turn:
                    found[name].append(row)
            if turn:
                last = ", ".join(f"{name} {rows[-1]['both']:.1f}" for name, rows in found.items())
                say(f"round {turn} of {options.rounds}: us an event: {last}")
        return found


def events(count: int) -> list[tuple[bytes, str, bytes, str, str]]:
    """Key, type, payload, event id and trace context of a round's events, about as large as those of likes."""
    return [
        (
            b"%d" % (1 << 60 | number % 500),
            "rookery.events.v1.TweetLiked",
            b"x" * 80,
            f"tweet-{number:032x}",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        )
        for number in range(count)
    ]
