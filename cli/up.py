"""`rookery up`: a thin shell over `cli.supervisor.Mesh`, for a terminal, for a log, and for the background."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import click

from cli.errors import OperatorError
from cli.options import data_option, profile_option
from cli.profile import PROFILES, PROJECT, kinds
from cli.screen import Screen
from cli.state import make, read_state
from cli.supervisor import Mesh

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_DETACHED_END_S = 30.0  # for a background supervisor that failed to stop what it had started


@click.command()
@data_option
@click.option("--fresh", is_flag=True, help="Delete the data folder's content first, if it is Rookery's.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 chooses a free one.")
@profile_option
@click.option("--mtls", is_flag=True, help="Calls inside go over mutual TLS. The same as ROOKERY_MTLS=true.")
@click.option("--tls-cert", type=_FILE, help="The edge's certificate with its chain, PEM. ROOKERY_EDGE_TLS_CERT.")
@click.option("--tls-key", type=_FILE, help="Its key, PEM. ROOKERY_EDGE_TLS_KEY.")
@click.option("--http3", is_flag=True, help="The edge speaks HTTP/3 too. ROOKERY_EDGE_QUIC=true.")
@click.option("--detach", is_flag=True, help="Return when everything is ready, and leave it running.")
@click.option("--detached", is_flag=True, hidden=True)  # what --detach starts
def up(
    data: Path,
    fresh: bool,
    port: int,
    profile: str,
    mtls: bool,
    tls_cert: Path | None,
    tls_key: Path | None,
    http3: bool,
    detach: bool,
    detached: bool,
) -> None:
    """Start everything, and watch over it until Ctrl-C.

    ROOKERY_* variables override what each service gets: ROOKERY_USERS_URL, ROOKERY_GRAPH_URL and ROOKERY_TWEETS_URL
    choose stores; ROOKERY_CACHE_URL together with ROOKERY_BUS_URL replace the bundled Valkey. The profile `cluster`
    keeps nothing on this machine: its stores are those that such variables name, or else the engines that run
    (rookery engines up).
    """
    if fresh and profile != "embedded":
        raise click.UsageError("--fresh deletes the data folder, and this profile keeps no store there")
    # Options stand for variables, so that there is one way in, whoever starts a mesh.
    options = {
        "ROOKERY_MTLS": "true" if mtls else "",
        "ROOKERY_EDGE_TLS_CERT": str(tls_cert.absolute()) if tls_cert else "",
        "ROOKERY_EDGE_TLS_KEY": str(tls_key.absolute()) if tls_key else "",
        "ROOKERY_EDGE_QUIC": "true" if http3 else "",
    }
    os.environ.update({name: value for name, value in options.items() if value})
    if detach:
        arguments = ["--data", str(data.absolute()), "--port", str(port), "--profile", profile]
        sys.exit(_detach(data, [*arguments, *(["--fresh"] if fresh else [])]))
    sys.exit(asyncio.run(_up(data, fresh=fresh, port=port, profile=profile, detached=detached)))


async def _up(data: Path, *, fresh: bool, port: int, profile: str, detached: bool) -> int:
    screen = Screen()
    mesh = Mesh(data, port=port, profile=PROFILES[profile](), fresh=fresh, report=screen.report)
    stopping = _stop_on_signals(mesh, screen)
    starting = asyncio.create_task(mesh.up())
    stop = asyncio.create_task(stopping.wait())
    try:
        with screen.live():
            await asyncio.wait({starting, stop}, return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                starting.cancel()  # it stops what it had started
                await asyncio.wait({starting})
        if starting.cancelled():
            screen.say("Rookery is stopped.")
            return 0
        starting.result()
    except OperatorError as error:
        screen.say(f"rookery: {error}", error=True)
        return 1
    finally:
        stop.cancel()
    screen.say(f"Rookery listens on {mesh.url}")
    if profile != "embedded":
        stores = kinds(mesh.environment(name) for name in mesh.names)
        screen.say(f"Stores: {', '.join(f'{store} on {kind}' for store, kind in stores.items())}")
    screen.say(f"Data: {mesh.data}   Logs: rookery logs SERVICE   Stop: {'rookery down' if detached else 'Ctrl-C'}")
    if detached:
        _log_instead(mesh.data / "logs" / "supervisor.log")
    await stopping.wait()
    await mesh.down()
    screen.say("Rookery is stopped.")
    return 0


def _stop_on_signals(mesh: Mesh, screen: Screen) -> asyncio.Event:
    """An event that the first SIGINT, SIGTERM or SIGHUP sets; the second kills what is left."""
    stopping = asyncio.Event()

    def stop() -> None:
        if stopping.is_set():
            mesh.hurry()
            return
        stopping.set()
        screen.say("Stopping. Once more kills what is left.")

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # as `nohup` leaves it
            loop.add_signal_handler(number, stop)
    return stopping


def _log_instead(log: Path) -> None:
    """Lets go of whoever waits for this process's output; what it says from now on is in a log."""
    sys.stdout.flush()
    sys.stderr.flush()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def _detach(data: Path, arguments: list[str]) -> int:
    """Starts a supervisor in a session of its own, shows what it says until it is ready, and leaves it."""
    packages = os.pathsep.join(filter(None, (str(PROJECT), os.environ.get("PYTHONPATH", ""))))
    supervisor = subprocess.Popen(  # noqa: S603 -- this program itself
        [sys.executable, "-m", "cli.main", "up", "--detached", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": packages},
        start_new_session=True,
        text=True,
    )
    if supervisor.stdout is None:
        raise RuntimeError("a pipe was asked for")
    while True:
        try:
            for line in supervisor.stdout:
                click.echo(line, nl=False)
            break
        except KeyboardInterrupt:
            supervisor.terminate()
    try:
        state = read_state(make(data))
        if state is not None and state["ready"] and state["pid"] == supervisor.pid:
            return 0
        return supervisor.wait(_DETACHED_END_S)
    except OperatorError as error:
        click.echo(f"rookery: {error}", err=True)
        return 1
    except subprocess.TimeoutExpired:
        click.echo(f"rookery: the supervisor, process {supervisor.pid}, is neither ready nor gone", err=True)
        return 1
