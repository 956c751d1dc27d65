"""`rookery keys`: the certificates that services show each other."""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Callable
from pathlib import Path

import click

from cli.certificates import LIFETIME, Authority
from cli.errors import OperatorError
from cli.options import data_option
from cli.profile import IDENTITIES
from cli.state import make

_hours = click.option(
    "--hours",
    type=click.IntRange(1, 24 * 400),
    default=int(LIFETIME.total_seconds() // 3600),
    show_default=True,
    help="How long certificates are good.",
)


@click.group()
def keys() -> None:
    """Certificates of the services, for mutual TLS inside (rookery up --mtls).

    They are in DATA/keys, a folder for each service. `up --mtls` makes what is missing, and renews what has less than
    half of a day left while it runs.
    """


@keys.command()
@data_option
@_hours
def init(data: Path, hours: int) -> None:
    """Make an authority, and a certificate for each service, the edge and the operator."""

    def make_all(authority: Authority) -> None:
        authority.create()
        for name in IDENTITIES:
            authority.issue(name, dt.timedelta(hours=hours))

    _run(data, make_all)


@keys.command()
@data_option
@_hours
def rotate(data: Path, hours: int) -> None:
    """Replace every certificate and its key by new ones. A mesh that runs takes them without a restart."""

    def issue_all(authority: Authority) -> None:
        for name in sorted({*IDENTITIES, *authority.issued()}):
            authority.issue(name, dt.timedelta(hours=hours))

    _run(data, issue_all)


@keys.command(name="list")
@data_option
def show(data: Path) -> None:
    """Print who has a certificate, and until when."""
    _run(data, lambda _: None)


def _run(data: Path, work: Callable[[Authority], None]) -> None:
    try:
        authority = Authority(make(data) / "keys")
        work(authority)
        for name, ends in authority.issued().items():
            click.echo(f"{name:<11}until {ends:%Y-%m-%d %H:%M} UTC   {authority.folder / name}")
    except OperatorError as error:
        click.echo(f"rookery: {error}", err=True)
        sys.exit(1)
