"""What certificates inside the mesh cost: a page of the home timeline through the edge, with and without them.

Two whole meshes with the same people and tweets, one whose processes talk over Unix sockets, as they do by default, and
one with `--mtls`. Both edges speak plain HTTP to the client, so that only what is inside differs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.cpu import spent
from bench.figures import Outcome, Ratio, Spread
from bench.home import CONNECTIONS, ENVIRONMENT, ROUND_S, WARM_UP, fill_home, home_path
from bench.worker import worker
from cli.supervisor import Mesh, running_mesh

PLAIN, MTLS = "sockets", "mutual TLS"


@dataclass(frozen=True, slots=True)
class Options:
    """How much is measured."""

    rounds: int = 9
    """Of each of the two, in turns."""
    requests: int = 2_000
    """In a round."""


@dataclass(frozen=True, slots=True)
class _Subject:
    """One mesh with its reader."""

    name: str
    mesh: Mesh
    viewer: int
    token: str

    @property
    def pids(self) -> Mapping[str, int]:
        """Who works for a page."""
        return {name: self.mesh.pid(name) for name in ("envoy", "timeline", "valkey")}


async def bench_mtls(options: Options, say: Callable[[str], None]) -> Outcome:
    """Runs it in folders of its own.

    Raises:
        OperatorError: a mesh does not come up, or something else was answered than was to be measured.
    """
    async with AsyncExitStack() as stack:
        subjects = []
        for name, more in ((PLAIN, {}), (MTLS, {"ROOKERY_MTLS": "true"})):
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="rookery-bench-"))
            say(f"starting a mesh of its own: {name}")
            environment = {**ENVIRONMENT, **more}
            mesh = await stack.enter_async_context(running_mesh(Path(folder), env=environment))
            viewer, token = await fill_home(mesh)
            subjects.append(_Subject(name, mesh, viewer, token))
        load = await stack.enter_async_context(worker("bench.load"))

        async def drive(subject: _Subject, requests: int) -> None:
            await load.ask(
                ROUND_S,
                port=int(subject.mesh.url.rpartition(":")[2]),
                path=home_path(subject.viewer),
                token=subject.token,
                requests=requests,
                connections=CONNECTIONS,
            )

        for subject in subjects:
            await drive(subject, WARM_UP)
        costs: dict[str, list[dict[str, float]]] = {subject.name: [] for subject in subjects}
        for number in range(options.rounds):
            for subject in subjects if number % 2 else reversed(subjects):
                with spent(subject.pids) as found:
                    await drive(subject, options.requests)
                costs[subject.name].append({name: us / options.requests for name, us in found.us.items()})
            whole = ", ".join(f"{name} {sum(rows[-1].values()):.0f}" for name, rows in costs.items())
            say(f"round {number + 1} of {options.rounds}: us of CPU a request: {whole}")
    pairs = list(zip(costs[MTLS], costs[PLAIN], strict=True))
    return Outcome(
        bench="mtls",
        setup={"rounds": options.rounds, "requests_a_round": options.requests, "connections": CONNECTIONS},
        unit="us of CPU a request",
        costs={
            name: {process: Spread.of(row[process] for row in rows) for process in rows[0]}
            for name, rows in costs.items()
        },
        ratios=[
            Ratio(
                "CPU of all three with mutual TLS over that on sockets",
                Spread.of(sum(mtls.values()) / sum(plain.values()) for mtls, plain in pairs),
            )
        ],
    )
