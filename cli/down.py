"""`rookery down`: stop the supervisor of a data folder, and with it all that it started."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import click

from cli.options import data_option
from cli.state import ended, holder

_STOP_S = 45.0  # edge, services and store one after the other, each with its 12 s, and some
_KILL_S = 10.0


@click.command()
@data_option
def down(data: Path) -> None:
    """Stop what `up` started, and wait until it is gone. Exit status 0 also when nothing ran."""
    root = data.resolve()
    who = holder(root)
    if who is None:
        click.echo(f"Rookery does not run on {root}.")
        return
    for wait_s in (_STOP_S, _KILL_S):  # the second signal kills what is left
        try:
            os.kill(who.pid, signal.SIGTERM)
        except ProcessLookupError:
            pass
        except PermissionError:
            click.echo(f"rookery: process {who.pid} belongs to somebody else", err=True)
            sys.exit(1)
        if asyncio.run(ended(who, wait_s)):
            click.echo("Rookery is stopped.")
            return
    click.echo(f"rookery: the supervisor, process {who.pid}, does not stop", err=True)
    sys.exit(1)
