"""`rookery status`: what the supervisor wrote, and what each process answers now."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from cli.errors import OperatorError
from cli.options import data_option
from cli.probe import Probe, ProbeKind, ask
from cli.profile import kinds
from cli.state import MeshState, ProcessState, holder, read_state

_PROBE_S = 2.0
_KINDS: dict[str, ProbeKind] = {"grpc": "grpc", "envoy": "envoy", "valkey": "valkey"}


@dataclass(frozen=True, slots=True)
class Health:
    """One process."""

    name: str
    state: str
    """As the supervisor sees it."""
    healthy: bool
    """It is ready, and said so just now."""
    detail: str
    """Why not, or how it ended last."""
    pid: int | None
    restarts: int
    since: float
    """Seconds since 1970 at which the state changed."""
    target: str
    """Where it was asked."""


@click.command()
@data_option
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def status(data: Path, as_json: bool) -> None:
    """Show each process and ask it how it is. Exit status 0 only if all is well."""
    root = data.resolve()
    try:
        state = read_state(root)
    except OperatorError as error:
        click.echo(f"rookery: {error}", err=True)
        sys.exit(1)
    who = holder(root)
    running = who is not None and state is not None and state["pid"] == who.pid
    if state is None or not running:
        sys.exit(_absent(root, state, as_json))
    processes = asyncio.run(_look(state))
    well = state["ready"] and all(process.healthy for process in processes)
    if as_json:
        click.echo(json.dumps(_document(state, processes, well), indent=1))
    else:
        _print(state, processes)
    sys.exit(0 if well else 1)


async def _look(state: MeshState) -> list[Health]:
    return await asyncio.gather(*(_health(name, process) for name, process in state["processes"].items()))


async def _health(name: str, process: ProcessState) -> Health:
    why = None
    if process["state"] == "ready":
        identity = Path(process["identity"]) if process["identity"] else None
        why = await ask(Probe(_KINDS[process["probe"]], process["target"], identity, name), _PROBE_S)
    return Health(
        name=name,
        state=process["state"],
        healthy=process["state"] == "ready" and why is None,
        detail=why or process["detail"],
        pid=process["pid"],
        restarts=process["restarts"],
        since=process["since"],
        target=process["target"],
    )


def _absent(root: Path, state: MeshState | None, as_json: bool) -> int:
    killed = f"; its supervisor, process {state['pid']}, was killed" if state is not None else ""
    if as_json:
        click.echo(json.dumps({"running": False, "healthy": False, "data": str(root), "processes": []}, indent=1))
    else:
        click.echo(f"Rookery does not run on {root}{killed}.")
    return 1


def _document(state: MeshState, processes: list[Health], well: bool) -> dict[str, object]:
    return {
        "running": True,
        "healthy": well,
        "url": state["url"],
        "data": state["data"],
        "profile": state["profile"],
        "stores": _stores(state),
        "pid": state["pid"],
        "since": state["since"],
        "processes": [asdict(process) for process in processes],
    }


def _stores(state: MeshState) -> dict[str, str]:
    """What each store is, by its name."""
    return kinds(process["environment"] for process in state["processes"].values())


def _print(state: MeshState, processes: list[Health]) -> None:
    verb = "listens on" if state["ready"] else "is starting or stopping on"
    click.echo(f"Rookery {verb} {state['url']}   supervisor {state['pid']}   data {state['data']}")
    click.echo(f"Profile {state['profile']}: {', '.join(f'{name} on {kind}' for name, kind in _stores(state).items())}")
    click.echo(f"{'process':<11}{'state':<12}{'pid':<9}{'restarts':<10}{'for':<9}")
    for process in processes:
        colour = "green" if process.healthy else "red"
        word = process.state if process.healthy or process.state != "ready" else "ill"
        click.echo(
            f"{process.name:<11}{click.style(f'{word:<12}', fg=colour)}{process.pid or '-':<9}"
            f"{process.restarts:<10}{_span(time.time() - process.since):<9}{process.detail}".rstrip()
        )


def _span(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
