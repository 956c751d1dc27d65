"""One mesh a module: starting one takes seconds, and a mesh that was hurt before is the harder case."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from cli.process import Patience
from cli.supervisor import Mesh, running_mesh
from tests.conftest import UNLIMITED
from tests.faults.crowd import Crowd

QUICK = Patience(backoff_s=0.05, longest_backoff_s=0.2)
"""Restarts without growing pauses: these tests kill more often than anything else does."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    """The embedded profile, as `rookery up` runs it."""
    async with running_mesh(tmp_path_factory.mktemp("mesh"), env=UNLIMITED, patience=QUICK) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def crowd(mesh: Mesh) -> AsyncIterator[Crowd]:
    """People who know each other, on that mesh."""
    made = Crowd(mesh.url)
    await made.gather()
    yield made
    await made.close()
