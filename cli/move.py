"""`rookery move`: copies what a port's store keeps to another one, so that an installation can grow, or go back."""

from __future__ import annotations

import asyncio
import importlib
import logging
import sys
import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

import click
import structlog
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from cli.errors import OperatorError
from cli.phases import Phases
from cli.state import DataFolder, make
from mesh.db.migrations import MigrationError
from mesh.errors import Unavailable
from mesh.objects import Objects
from mesh.transfer.base import Transfer, TransferError
from mesh.transfer.copying import Outcome, copy, wait_until_unused
from mesh.transfer.objects import ObjectTransfer
from mesh.transfer.sql import applied_steps

_OBJECTS = ("file", "s3")
_SQL = ("sqlite", "postgresql")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Port:
    """A store that a service owns."""

    service: str
    """The owner; its `store/transfer.py` opens the store."""
    engines: tuple[str, ...]
    """Schemes of URLs besides those of SQL."""
    first_step: str
    """Of its SQL schema: tells it from others."""


_PORTS: Mapping[str, _Port] = {
    "users": _Port("user", (), "001_users"),
    "graph": _Port("graph", ("neo4j", "bolt"), "001_graph"),
    "tweets": _Port("tweet", ("cassandra",), "001_tweets"),
    "moderation": _Port("moderation", (), "001_moderation"),
}


class MoveError(OperatorError):
    """A move cannot begin, or go on. The message names the end that it is about."""


@click.command()
@click.option("--from", "origin", metavar="URL", envvar="ROOKERY_MOVE_FROM", required=True, help="The store to copy.")
@click.option("--to", "target", metavar="URL", envvar="ROOKERY_MOVE_TO", required=True, help="An empty one.")
@click.option(
    "--again", is_flag=True, help="Begin anew with a copy that was not finished: delete what it wrote so far."
)
def move(origin: str, target: str, again: bool) -> None:
    """Copy users, the graph, tweets, moderation or objects from one store to another, then compare both.

    Which of them it is follows from the source. URLs are those of ROOKERY_USERS_URL, ROOKERY_GRAPH_URL,
    ROOKERY_TWEETS_URL, ROOKERY_MODERATION_URL and ROOKERY_OBJECTS_URL; one with a password is better given by
    ROOKERY_MOVE_FROM and ROOKERY_MOVE_TO, as others can read command lines.

    Nothing may run on either: stop Rookery first. A copy that was killed goes on when it is started again. The source
    keeps everything. No service starts on the target before both are the same. Exit status 0 only if they are.
    """
    # What `mesh` logs is for services' logs: slow queries over whole tables are as they must be.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    started = time.monotonic()
    # twitter-text-parser, which comes with the tweets' domain, imports it.
    warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
    try:
        port, outcome = asyncio.run(run(origin, target, again=again))
    except OperatorError as error:
        click.echo(f"rookery: {error}", err=True)
        sys.exit(1)
    width = max(len(one.kind) for one in outcome.summaries)
    for one in outcome.summaries:
        click.echo(f"{one.kind:<{width}}  {one.records:>14,}  {one.digest}")
    total = sum(one.records for one in outcome.summaries)
    took = f"{outcome.copied:,} of {total:,} records were copied by this run, {time.monotonic() - started:.1f} s"
    if outcome.differences:
        for difference in outcome.differences:
            click.echo(str(difference))
        click.echo(f"rookery: {port}: the target is not the same ({took}). --again begins anew.", err=True)
        sys.exit(1)
    click.echo(f"{port}: source and target are the same ({took}).")


async def run(origin: str, target: str, *, again: bool = False, phases: Phases | None = None) -> tuple[str, Outcome]:
    """Copies and compares.

    Args:
        origin: URL of the source.
        target: URL of the target.
        again: begin anew with a copy that was not finished.
        phases: shows how far it is.

    Returns:
        Which port it was, and what came of it.

    Raises:
        OperatorError: it cannot begin or go on.
    """
    if _place(origin) == _place(target):
        raise MoveError("source and target are the same store")
    phases = phases or Phases(width=24)
    async with AsyncExitStack() as opened:
        for folder in dict.fromkeys(filter(None, (_data_folder(origin, made=False), _data_folder(target, made=True)))):
            claimed = await DataFolder.claim(folder)  # no mesh starts on it meanwhile, and none runs
            opened.callback(claimed.release)
        port = await _told("source", _port_of(origin))
        if port == "objects":
            there = _objects("source", origin)
            source: Transfer = ObjectTransfer(there)
            goal: Transfer = ObjectTransfer(_objects("target", target), there)
        else:
            source = await opened.enter_async_context(_opened("source", port, origin, target=False))
            goal = await opened.enter_async_context(_opened("target", port, target, target=True))
        for end, store in (("source", source), ("target", goal)):
            await _told(end, wait_until_unused(store, waiting=partial(_say_waiting, end)))
        with phases.live():
            outcome = await _told("", copy(source, goal, origin=_place(origin), watcher=phases, again=again))
    return port, outcome


@asynccontextmanager
async def _opened(end: str, port: str, url: str, *, target: bool) -> AsyncIterator[Transfer]:
    known = _PORTS[port]
    if _scheme(url) not in (*_SQL, *known.engines):
        raise MoveError(f"the {end} cannot keep {port}: use {', '.join((*_SQL, *known.engines))}")
    # By name, so that what only one engine needs is imported for that engine alone.
    opener: Callable[..., Awaitable[Transfer]] = importlib.import_module(
        f"services.{known.service}.store.transfer"
    ).open_transfer
    store = await _told(end, opener(url, target=target))
    try:
        yield store
    finally:
        await store.close()


async def _port_of(url: str) -> str:
    """What a source keeps. Raises MoveError for what is no store of Rookery's."""
    scheme = _scheme(url)
    if scheme in _OBJECTS:
        return "objects"
    for name, port in _PORTS.items():
        if scheme in port.engines:
            return name
    if scheme not in _SQL:
        raise MoveError(f"there are no stores at URLs that begin with {scheme}:")
    if scheme == "sqlite":
        _check_there(url)
    steps = await applied_steps(url)
    for name, port in _PORTS.items():
        if port.first_step in steps[:1]:
            return name
    raise MoveError("the source is no store of Rookery's")


def _check_there(url: str) -> None:
    """Raises MoveError when there is no such file: opening it would make one."""
    if not Path(make_url(url).database or "").is_file():
        raise MoveError("the source is not there")


def _objects(end: str, url: str) -> Objects:
    if _scheme(url) not in _OBJECTS:
        raise MoveError(f"the {end} cannot keep objects: use file:///folder or s3://KEY:SECRET@bucket?endpoint=URL")
    try:
        return Objects.open(url)
    except (ValueError, Unavailable) as error:
        raise MoveError(f"the {end}: {error}") from error


async def _told(end: str, work: Awaitable[T]) -> T:
    """Awaits; what goes wrong is said in a line that names the end."""
    about = f"the {end}: " if end else ""
    try:
        return await work
    except (TransferError, MigrationError, ValueError, ArgumentError) as error:
        raise MoveError(f"{about}{error}") from error
    except (Unavailable, DBAPIError, OSError) as error:
        cause = error.__cause__ or error
        raise MoveError(f"{about}does not answer ({type(cause).__name__}); the same command goes on") from error


def _say_waiting(end: str, name: str) -> None:
    click.echo(f"{name} has a lease in the {end}; if it was killed, that ends within a minute.")


def _scheme(url: str) -> str:
    return url.partition(":")[0].partition("+")[0]


def _place(url: str) -> str:
    """A URL without who asks: what tells one store from others."""
    if _scheme(url) == "sqlite":
        return f"sqlite:{Path(make_url(url).database or '').resolve()}"
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _data_folder(url: str, *, made: bool) -> Path | None:
    """The data folder that a store is in, if it is in one. For a target it is made where there is nothing yet."""
    if _scheme(url) == "sqlite":
        folder = Path(make_url(url).database or "").resolve().parent
    elif _scheme(url) == "file":
        folder = Path(unquote(urlsplit(url).path)).resolve().parent
    else:
        return None
    if made and (not folder.exists() or not any(folder.iterdir())):
        return make(folder)
    return folder if (folder / ".rookery").is_file() else None
