"""Real engines for the tests: those that a test needs are started before it, and stopped at the end if they were."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from scripts.engines.control import Control
from tests.stores.conftest import start_valkey, valkey, valkey_socket

from .engines import control, forget
from .neo4j_stores import server

__all__ = ["cassandra", "engine", "neo4j", "postgresql", "s3", "start_valkey", "valkey", "valkey_socket"]


@pytest.fixture(scope="session")
def engine() -> Iterator[Callable[[str], Control]]:
    """`engine(name)` is an engine that runs. One that cannot be started fails the test, and never skips it.

    What ran before goes on afterwards; so does what one of several workers started, as others may use it.
    """
    with ExitStack() as started:

        def ready(name: str) -> Control:
            one = control(name)
            if one.up() and "PYTEST_XDIST_WORKER" not in os.environ:
                started.callback(one.down)
            return one

        yield ready


@pytest.fixture(scope="session")
def postgresql(engine: Callable[[str], Control]) -> Iterator[Control]:
    """A PostgreSQL that runs."""
    yield engine("postgresql")
    forget()


@pytest.fixture(scope="session")
def neo4j() -> Iterator[Control]:
    """A Neo4j of this worker's own, which has one database, and which is stopped at the end."""
    one = server()
    one.up()
    yield one
    one.down()


@pytest.fixture(scope="session")
def s3(engine: Callable[[str], Control]) -> Control:
    """An S3 server that runs."""
    return engine("s3")


@pytest.fixture(scope="session")
def cassandra(engine: Callable[[str], Control]) -> Control:
    """A Cassandra that runs."""
    return engine("cassandra")


@pytest.fixture(scope="session")
def tweets_keyspace(cassandra: Control) -> Iterator[str]:
    """The URL of a keyspace with the schema of `tweet`, for all tests: making it takes seconds. Each empties it."""
    from .cassandra_stores import new_keyspace

    with new_keyspace(cassandra) as url:
        yield url
