"""`rookery logs`: the end of a process's log, and what is added to it."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path
from typing import BinaryIO

import click

from cli.options import data_option

_BLOCK = 1 << 16
_PIECE = 1 << 20
_LOOK_S = 0.2  # a file's growth is no event that the standard library can wait for


@click.command()
@click.argument("service")
@data_option
@click.option("-f", "--follow", is_flag=True, help="Go on with what is added, until Ctrl-C.")
@click.option("-n", "--lines", type=click.IntRange(min=0), default=100, show_default=True, help="Lines to begin with.")
def logs(service: str, data: Path, follow: bool, lines: int) -> None:
    """Print the log of SERVICE: a service's name, valkey, envoy, or supervisor (after `up --detach`)."""
    folder = data.resolve() / "logs"
    known = sorted(log.stem for log in folder.glob("*.log") if not log.stem.endswith(".1"))
    if service not in known:
        hint = f"there are {', '.join(known)}" if known else f"{folder} has none yet"
        raise click.ClickException(f"no log of {service!r}: {hint}")
    log = folder / f"{service}.log"
    output = sys.stdout.buffer
    try:
        with log.open("rb") as file:
            seek_to_last(file, lines)
            shutil.copyfileobj(file, output)
            output.flush()
            seen = file.tell()
        while follow:
            time.sleep(_LOOK_S)
            piece, seen = added(log, seen)
            output.write(piece)
            output.flush()
    except KeyboardInterrupt:
        return


def added(log: Path, seen: int) -> tuple[bytes, int]:
    """What a log has after its first `seen` bytes, 1 MiB at most, and how much was seen then.

    A log that is shorter than that was cut, or begun anew, and is read from its beginning; a missing one is empty.
    """
    try:
        with log.open("rb") as file:
            if file.seek(0, os.SEEK_END) < seen:
                seen = 0
            file.seek(seen)
            piece = file.read(_PIECE)
    except FileNotFoundError:
        return b"", 0
    return piece, seen + len(piece)


def seek_to_last(file: BinaryIO, lines: int) -> None:
    """Moves to the beginning of the last `lines` lines, reading from the end."""
    position = file.seek(0, os.SEEK_END)
    if lines == 0:
        return
    wanted = lines
    first = True
    while position > 0:
        size = min(_BLOCK, position)
        position -= size
        file.seek(position)
        block = file.read(size)
        end = len(block)
        if first and block.endswith(b"\n"):  # it ends the last line and begins none
            end -= 1
        first = False
        while (found := block.rfind(b"\n", 0, end)) >= 0:
            wanted -= 1
            if wanted == 0:
                file.seek(position + found + 1)
                return
            end = found
    file.seek(0)
