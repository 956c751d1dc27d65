"""What limits cost: a page of the home timeline through an edge that has each request counted, and through another.

The mesh is a whole one, with a second edge that differs from its own in nothing but that it has nobody count. Services
and Valkey are the same processes for both sides; what each took in a round is added up.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import httpx

from bench.cpu import spent
from bench.errors import BenchError
from bench.figures import Outcome, Ratio, Spread
from bench.floor.home import AUTHORS, TWEETS
from bench.home import CALL_S, CONNECTIONS, ENVIRONMENT, ROUND_S, WARM_UP, fill_home, home_path
from bench.worker import Worker, worker
from cli.edge import EdgeConfig, render_edge
from cli.ports import LOOPBACK, Ports
from cli.probe import Probe
from cli.profile import SERVICES, Embedded, Place, ProcessSpec, drain_envoy, service_environment
from cli.supervisor import Mesh, running_mesh

TARGET = 1.35
"""CPU with limits over CPU without, at most (acceptance of the limits)."""
_ON, _OFF = "limits on", "limits off"
_OTHER = "envoy-unlimited"


@dataclass(frozen=True, slots=True)
class Options:
    """How much is measured."""

    rounds: int = 9
    """Of each side; which begins changes from round to round."""
    requests: int = 2_000
    """In a round."""


class _WithAnotherEdge(Embedded):
    """The embedded profile, and an edge without limits."""

    def __init__(self, ports: Ports) -> None:
        self.port = ports.reserve_exclusively(0)

    @property
    def name(self) -> str:
        """As in the state of the mesh."""
        return "bench"

    def processes(self, place: Place) -> Sequence[ProcessSpec]:
        """See Profile."""
        mesh = super().processes(place)
        edge = next(spec for spec in mesh if spec.name == "envoy")
        targets = {name: service_environment(name, place)[f"ROOKERY_{name.upper()}_TARGET"] for name in SERVICES}
        del targets["ratelimit"]
        admin = place.reserve_port()
        rendered = render_edge(
            EdgeConfig(
                targets=targets,
                port=self.port,
                admin_port=admin,
                jwks_listen=f"unix://{place.sockets}/jwks-unlimited.sock",
            )
        )
        config = place.run / "edge-unlimited.yaml"
        config.write_text(rendered)
        target = f"{LOOPBACK}:{admin}"
        return [
            *mesh,
            replace(
                edge,
                name=_OTHER,
                command=tuple(str(config) if part == str(place.run / "edge.yaml") else part for part in edge.command),
                probe=Probe("envoy", target),
                drain=lambda: drain_envoy(target),
            ),
        ]


async def bench_limits(options: Options, say: Callable[[str], None]) -> Outcome:
    """Runs it in a folder of its own.

    Raises:
        OperatorError: the mesh does not come up, or something else was answered than was to be measured.
    """
    ports = Ports()
    try:
        profile = _WithAnotherEdge(ports)
        with tempfile.TemporaryDirectory(prefix="rookery-bench-") as folder:
            say("starting a mesh of its own, with a second edge")
            async with running_mesh(Path(folder), profile=profile, env=ENVIRONMENT) as mesh:
                say(f"making {AUTHORS} authors with their tweets, and their reader")
                viewer, token = await fill_home(mesh)
                sides = {_ON: int(mesh.url.rpartition(":")[2]), _OFF: profile.port}
                await _check(sides, home_path(viewer), token)
                async with worker("bench.load") as load:
                    return await _measure(options, mesh, sides, load, home_path(viewer), token, say)
    finally:
        ports.release()


async def _check(sides: Mapping[str, int], path: str, token: str) -> None:
    """Makes sure that one side counts, and the other does not."""
    async with httpx.AsyncClient(timeout=CALL_S, trust_env=False) as client:
        for name, port in sides.items():
            answer = await client.get(f"http://{LOOPBACK}:{port}{path}", headers={"authorization": f"Bearer {token}"})
            counted = "x-rate-limit-remaining" in answer.headers
            if answer.status_code != 200 or counted != (name == _ON):
                raise BenchError(f"{name}: {answer.status_code} {dict(answer.headers)}")


async def _measure(
    options: Options,
    mesh: Mesh,
    sides: Mapping[str, int],
    load: Worker,
    path: str,
    token: str,
    say: Callable[[str], None],
) -> Outcome:
    pids = {
        side: {
            "envoy": mesh.pid(envoy),
            "ratelimit": mesh.pid("ratelimit"),
            "timeline": mesh.pid("timeline"),
            "valkey": mesh.pid("valkey"),
        }
        for side, envoy in ((_ON, "envoy"), (_OFF, _OTHER))
    }

    async def drive(side: str, requests: int) -> Mapping[str, int | float | str]:
        return await load.ask(
            ROUND_S, port=sides[side], path=path, token=token, requests=requests, connections=CONNECTIONS
        )

    for side in sides:
        await drive(side, min(WARM_UP, options.requests))
    costs: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    answer_bytes = 0
    for number in range(options.rounds):
        for side in (_ON, _OFF) if number % 2 else (_OFF, _ON):
            with spent(pids[side]) as found:
                answer = await drive(side, options.requests)
            answer_bytes = int(answer["bytes"])
            row = {name: us / options.requests for name, us in found.us.items()}
            costs[side].append({**row, "all": sum(row.values())})
        said = ", ".join(f"{side} {rows[-1]['all']:.0f}" for side, rows in costs.items())
        say(f"round {number + 1} of {options.rounds}: us of CPU a request: {said}")
    pairs = zip(costs[_ON], costs[_OFF], strict=True)
    return Outcome(
        bench="limits",
        setup={
            "rounds": options.rounds,
            "requests_a_round": options.requests,
            "connections": CONNECTIONS,
            "tweets": TWEETS,
            "authors": AUTHORS,
            "bytes_of_JSON": answer_bytes,
        },
        unit="us of CPU a request",
        costs={
            side: {process: Spread.of(row[process] for row in rows) for process in rows[0]}
            for side, rows in costs.items()
        },
        ratios=[
            Ratio("CPU with limits over CPU without", Spread.of(on["all"] / off["all"] for on, off in pairs), TARGET)
        ],
    )
