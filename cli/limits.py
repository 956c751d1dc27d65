"""`rookery limits`: the limits of the edge, before they are in force."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from services.ratelimit.limits_file import LimitsFileError, described, load


@click.group()
def limits() -> None:
    """Look at files of rate limits (services/ratelimit/README.md)."""


@limits.command()
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> None:
    """Check FILE: print its limits, or everything that is wrong with it, line by line.

    Exit status 0 if the service would take it over, 1 if it would keep the limits that it has.
    """
    try:
        found = load(file)
    except LimitsFileError as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    for line in described(found):
        click.echo(line)
