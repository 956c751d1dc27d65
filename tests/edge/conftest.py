"""One edge and its toy services for the whole folder; a test that needs other limits starts an edge of its own."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from cli.edge import EdgeConfig
from tests.edge.harness import CLUSTERS, Edge, Tokens, Toys, keys_fetched, running_edge


@pytest.fixture(scope="session")
def tokens() -> Tokens:
    """The keys that the toy user service publishes."""
    return Tokens()


@pytest.fixture(scope="session")
def sockets() -> Iterator[Path]:
    """A folder with a short path: that of a unix socket has at most 107 bytes, and pytest's own are long."""
    with tempfile.TemporaryDirectory(prefix="edge-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def config(sockets: Path) -> EdgeConfig:
    """The embedded profile's edge, on free ports."""
    return EdgeConfig(
        targets={cluster: f"unix://{sockets / cluster}.sock" for cluster in CLUSTERS},
        admin_port=0,
        port=0,
        access_log=sockets / "access.log",
    )


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def all_toys(sockets: Path, tokens: Tokens) -> AsyncIterator[Toys]:
    """The services, started once."""
    toys = Toys(sockets, [tokens.key])
    await toys.start()
    yield toys
    await toys.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def edge(config: EdgeConfig, all_toys: Toys, sockets: Path) -> AsyncIterator[Edge]:
    """Envoy, with the keys fetched."""
    async with running_edge(config, sockets) as running:
        await keys_fetched(running)
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def toys(all_toys: Toys) -> AsyncIterator[Toys]:
    """The services, without anything of the test before."""
    all_toys.reset()
    yield all_toys
    all_toys.reset()


@pytest_asyncio.fixture(loop_scope="session")
async def client(edge: Edge) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP/1.1 client of the edge. `verify` here and elsewhere: to read all authorities for nothing takes 20 ms."""
    async with httpx.AsyncClient(base_url=edge.url, timeout=10, verify=False) as found:
        yield found
