"""`rookery migrate`: bring the stores' schemas up to date, without starting anything."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from cli.errors import OperatorError, StoreError
from cli.options import data_option, profile_option
from cli.profile import PROFILES, Migration
from cli.state import make

_DEADLINE_S = (
    300.0  # of one store: it waits for another process's, builds indexes, and asks three nodes to agree on each table
)


async def apply(migrations: Sequence[Migration]) -> list[tuple[str, list[str]]]:
    """Applies them one after the other: (service, names applied now).

    Raises:
        StoreError: one could not be applied; it names the service. Those before it are applied.
    """
    if not migrations:
        return []
    from mesh.db.migrations import MigrationError
    from mesh.db.migrations import migrate as migrate_store
    from mesh.errors import Unavailable

    done = []
    for each in migrations:
        try:
            async with asyncio.timeout(_DEADLINE_S):
                done.append((each.service, await migrate_store(each.url, each.folder)))
        except (MigrationError, Unavailable, ValueError) as error:  # ValueError: a URL that names no database
            raise StoreError(f"the store of {each.service} cannot be migrated: {error}") from error
        except TimeoutError:
            raise StoreError(f"the store of {each.service} was not migrated within {_DEADLINE_S:g} s") from None
    return done


@click.command()
@data_option
@profile_option
def migrate(data: Path, profile: str) -> None:
    """Bring every store's schema up to date; safe while Rookery runs, and to repeat.

    Stores are those of `up`: ROOKERY_USERS_URL and its like choose others.
    """
    try:
        root = make(data)
        done = asyncio.run(apply(PROFILES[profile]().migrations(root, os.environ)))
    except OperatorError as error:
        click.echo(f"rookery: {error}", err=True)
        sys.exit(1)
    for service, applied in done:
        click.echo(f"{service:<10}{', '.join(applied) or 'up to date'}")
