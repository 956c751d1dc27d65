"""`rookery bench`: what requests cost in CPU, next to the least that the same work can cost (docs/benchmarks.md)."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cli.errors import OperatorError
from cli.profile import PROJECT

if TYPE_CHECKING:
    from bench.figures import Outcome

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _options(command: _Command) -> _Command:
    rounds = click.option(
        "--rounds", type=click.IntRange(1, 1_000), metavar="N", help="Rounds of each thing that is compared."
    )
    quick = click.option("--quick", is_flag=True, help="Fewer and smaller rounds: a look, no figures to quote.")
    as_json = click.option("--json", "as_json", is_flag=True, help="One JSON document, for machines.")
    return rounds(quick(as_json(command)))


_folder = click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=PROJECT / ".engines",
    show_default="./.engines",
    metavar="DIR",
    help="What engines keep (rookery engines).",
)


@click.group()
def bench() -> None:
    """Measure CPU next to the floor. Each benchmark starts a mesh of its own and leaves nothing behind.

    Exit status 0 when it ran, whatever it found: the figures are for people and for machines to judge.
    """


@bench.command()
@_options
def home(rounds: int | None, quick: bool, as_json: bool) -> None:
    """A page of the home timeline, 40 tweets of 20 authors, through the edge: CPU per request and process."""
    from bench.home import Options, bench_home

    options = Options(rounds=rounds or (3 if quick else 9), requests=200 if quick else 2_000)
    _run(bench_home(options, _say), as_json, digits=0)


@bench.command()
@_options
def mtls(rounds: int | None, quick: bool, as_json: bool) -> None:
    """The same page with certificates inside the mesh, and without: CPU per request and process."""
    from bench.mtls import Options, bench_mtls

    options = Options(rounds=rounds or (3 if quick else 9), requests=800 if quick else 2_000)
    _run(bench_mtls(options, _say), as_json, digits=0)


@bench.command()
@_options
def limits(rounds: int | None, quick: bool, as_json: bool) -> None:
    """The same page through an edge with rate limits and one without: CPU per request and process."""
    from bench.limits import Options, bench_limits

    options = Options(rounds=rounds or (3 if quick else 9), requests=800 if quick else 2_000)
    _run(bench_limits(options, _say), as_json, digits=0)


@bench.command()
@_options
@click.option("--cluster", is_flag=True, help="With the lists in a Valkey Cluster, too.")
@_folder
def fanout(rounds: int | None, quick: bool, as_json: bool, cluster: bool, folder: Path) -> None:
    """One tweet to many followers' lists: CPU per follower, of the writer and of Valkey."""
    from bench.fanout import Options, bench_fanout

    options = Options(
        rounds=rounds or (3 if quick else 7),
        followers=2_000 if quick else 10_000,
        cluster=folder if cluster else None,
    )
    _run(bench_fanout(options, _say), as_json, digits=2)


@bench.command()
@_options
@_folder
def bus(rounds: int | None, quick: bool, as_json: bool, folder: Path) -> None:
    """10,000 events published to Kafka and handled: CPU per event, next to the bare client."""
    from bench.bus import Options, bench_bus

    options = Options(rounds=rounds or (3 if quick else 7), events=2_000 if quick else 10_000)
    _run(bench_bus(options, folder, _say), as_json, digits=1)


@bench.command()
@_options
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=PROJECT / ".engines",
    show_default="./.engines",
    metavar="DIR",
    help="Where the server is while it is measured (rookery engines).",
)
def neo4j(rounds: int | None, quick: bool, as_json: bool, folder: Path) -> None:
    """A page of 1,000 of 100,000 followers from Neo4j: CPU per page, next to the bare driver."""
    from bench.neo4j import Options, bench_neo4j

    options = Options(
        rounds=rounds or (3 if quick else 7), followers=5_000 if quick else 100_000, pages=50 if quick else 300
    )
    _run(bench_neo4j(options, folder, _say), as_json, digits=0)


@bench.command()
@_options
@_folder
def cassandra(rounds: int | None, quick: bool, as_json: bool, folder: Path) -> None:
    """A tweet written to Cassandra, and 40 read at once: CPU next to the bare driver's, with the same statements."""
    from bench.cassandra import Options, bench_cassandra

    options = Options(rounds=rounds or (3 if quick else 7), tweets=200 if quick else 1_000)
    _run(bench_cassandra(options, folder, _say), as_json, digits=0)


@bench.command()
@_options
def moderation(rounds: int | None, quick: bool, as_json: bool) -> None:
    """The check before publishing, at 50 posts a second: CPU per post, and how long it takes."""
    from bench.moderation import Options, bench_moderation

    options = Options(rounds=rounds or (2 if quick else 5), posts=200 if quick else 1_000)
    _run(bench_moderation(options, _say), as_json, digits=1)


def _say(line: str) -> None:
    click.echo(line, err=True)


def _run(work: Coroutine[None, None, Outcome], as_json: bool, digits: int) -> None:
    try:
        outcome = asyncio.run(work)
    except OperatorError as error:
        click.echo(f"rookery: {error}", err=True)
        sys.exit(1)
    click.echo(json.dumps(outcome.json(), indent=2) if as_json else f"\n{outcome.text(digits)}")
