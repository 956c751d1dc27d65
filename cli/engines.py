"""`rookery engines`: the real stores of the cluster profile on this machine, from packages, for tests and trials."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from scripts.engines.base import EngineError
from scripts.engines.catalogue import ENGINES
from scripts.engines.control import Control, chosen

_FOLDER = Path(__file__).resolve().parents[1] / ".engines"
_Command = TypeVar("_Command", bound=Callable[..., Any])


def _which(command: _Command) -> _Command:
    """`NAMES...` and `--folder`."""
    folder = click.option(
        "--folder",
        type=click.Path(file_okay=False, path_type=Path),
        default=_FOLDER,
        show_default="./.engines",
        metavar="DIR",
        help="What they keep.",
    )
    return click.argument("names", nargs=-1)(folder(command))


@contextmanager
def _said() -> Iterator[None]:
    """What went wrong is one message and exit status 1."""
    try:
        yield
    except EngineError as error:
        click.echo(f"rookery: {error}", err=True)
        sys.exit(1)


@click.group()
def engines() -> None:
    """Real stores from packages, for the cluster profile's tests. Without NAMES: all of them."""


@engines.command()
@_which
@click.option("--nodes", type=click.IntRange(1, 6), default=1, show_default=True, help="For those that can have more.")
@click.option("--fresh", is_flag=True, help="Delete what they kept first.")
def up(names: tuple[str, ...], folder: Path, nodes: int, fresh: bool) -> None:
    """Install and start engines, and wait until they are ready."""
    with _said():
        for control in chosen(names, ENGINES, folder):
            try:
                begun = control.up(nodes, fresh=fresh)
            except EngineError as error:
                raise EngineError(f"{control.engine.name}: {error}") from None
            click.echo(f"{control.engine.name:<14}{'started' if begun else 'ran already'}")


@engines.command()
@_which
def down(names: tuple[str, ...], folder: Path) -> None:
    """Stop engines; what they keep stays. Exit status 0 also when nothing ran."""
    with _said():
        for control in chosen(names, ENGINES, folder):
            if control.down():
                click.echo(f"{control.engine.name:<14}stopped")


@engines.command()
@_which
def status(names: tuple[str, ...], folder: Path) -> None:
    """Show which engines run. Exit status 0 only if all that were named are ready."""
    with _said():
        well = True
        for control in chosen(names, ENGINES, folder):
            why = control.why_not()
            well = well and why is None
            ids = " ".join(str(pid) for pid in control.pids().values())
            click.echo(f"{control.engine.name:<14}{why or 'ready':<24}{ids:<20}{control.engine.summary}".rstrip())
        sys.exit(0 if well else 1)


@engines.command()
@_which
def env(names: tuple[str, ...], folder: Path) -> None:
    """Print the variables that make Rookery use the engines that run, for `eval`. They hold passwords."""
    with _said():
        for name, value in variables(chosen(names, ENGINES, folder)).items():
            click.echo(f"export {name}='{value}'")


def variables(controls: list[Control]) -> Mapping[str, str]:
    """What makes Rookery use those of these engines that run."""
    return {name: value for control in controls if control.pids() for name, value in control.urls().items()}
