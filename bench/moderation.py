"""What the check before publishing costs, and how long it takes at 50 posts a second.

The mesh is a whole one, so everything else that it does is there too. `CheckPost` is called as `tweet` calls it, at
fixed times: a call that is late does not delay the next, and its wait counts.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rookery.moderation.v1.moderation_mesh_pb2 import CheckPostRequest
from rookery.moderation.v1.moderation_mesh_pb2_grpc import ModerationMeshServiceStub

from bench.cpu import spent
from bench.errors import BenchError
from bench.figures import Outcome, Ratio, Spread
from cli.samples import tweet_text
from cli.state import running_state
from cli.supervisor import running_mesh
from mesh.client import Destination
from mesh.ids import id_of_ms

if TYPE_CHECKING:
    from rookery.moderation.v1.moderation_mesh_pb2_grpc import ModerationMeshServiceAsyncStub

TARGET_MS = 150.0
"""Of the 99th percentile (acceptance of moderation)."""
POSTS_S = 50.0
_AUTHORS = 200
_WARM_UP = 100
_CALL_S = 5.0


@dataclass(frozen=True, slots=True)
class Options:
    """How much is measured."""

    rounds: int = 5
    posts: int = 1_000
    """In a round."""


async def bench_moderation(options: Options, say: Callable[[str], None]) -> Outcome:
    """Starts a mesh, measures, takes it away. Raises BenchError when a check fails."""
    costs: dict[str, list[float]] = {"moderation": [], "valkey": []}
    idle: dict[str, list[float]] = {"moderation": [], "valkey": []}
    waits: dict[str, list[float]] = {"median": [], "p99": []}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        async with running_mesh(Path(folder)) as mesh:
            target = running_state(mesh.data)["processes"]["moderation"]["target"]
            moderation = Destination("moderation", target, ModerationMeshServiceStub, timeout_s=_CALL_S, limit=1_000)
            try:
                await _posts(moderation, _WARM_UP, 0)
                pids: Mapping[str, int] = {name: mesh.pid(name) for name in costs}
                for turn in range(1, options.rounds + 1):
                    with spent(pids) as taken:
                        found = sorted(await _posts(moderation, options.posts, turn))
                    with spent(pids) as resting:
                        await asyncio.sleep(options.posts / POSTS_S)
                    for name in costs:
                        costs[name].append(taken.us[name] / options.posts)
                        idle[name].append(resting.us[name] / options.posts)
                    waits["median"].append(found[len(found) // 2])
                    waits["p99"].append(found[int(0.99 * len(found))])
                    last = f"median {waits['median'][-1]:.1f} ms, p99 {waits['p99'][-1]:.1f} ms"
                    say(f"round {turn} of {options.rounds}: {last}")
            finally:
                await moderation.close()
    return Outcome(
        bench="moderation",
        setup={"rounds": options.rounds, "posts_a_round": options.posts, "posts_a_second": int(POSTS_S)},
        unit="us of CPU a post",
        costs={
            "check": {name: Spread.of(values) for name, values in costs.items()},
            "as long without posts": {name: Spread.of(values) for name, values in idle.items()},
        },
        ratios=[
            Ratio("median of the check, ms", Spread.of(waits["median"])),
            Ratio("99th percentile of the check, ms", Spread.of(waits["p99"]), TARGET_MS),
        ],
    )


async def _posts(moderation: Destination[ModerationMeshServiceAsyncStub], count: int, seed: int) -> list[float]:
    """Milliseconds that each took, from when it was due."""
    chance = random.Random(seed)
    began = time.perf_counter()

    async def one(number: int) -> float:
        due = began + number / POSTS_S
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        author = id_of_ms(time.time_ns() // 1_000_000 - 3_600_000) + chance.randrange(_AUTHORS)
        request = CheckPostRequest(author_id=author, text=tweet_text(chance, _AUTHORS))
        answer = await moderation.call(moderation.stub.CheckPost, request)
        if "unchecked" in answer.reasons:
            raise BenchError("a check failed")
        return (time.perf_counter() - due) * 1_000

    return list(await asyncio.gather(*(one(number) for number in range(count))))
