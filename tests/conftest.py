"""What tests of every folder may use."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest_asyncio

if TYPE_CHECKING:
    from cli.supervisor import Mesh

CELEBRITY_FOLLOWERS = 12
"""From this many followers on, authors of the shared mesh are pulled: few enough to have in a test."""


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def mesh() -> AsyncIterator[Mesh]:
    """One running mesh, with real stores and a real edge, for all tests of a worker that do not harm it.

    Tests share it, so each works with people of its own; one that kills, stops or reconfigures something starts
    another with `cli.supervisor.running_mesh`.
    """
    from cli.supervisor import running_mesh  # not for those who never ask for a mesh

    with tempfile.TemporaryDirectory(prefix="mesh-", dir="/tmp") as folder:
        settings = {"ROOKERY_CELEBRITY_FOLLOWERS": str(CELEBRITY_FOLLOWERS)}
        async with running_mesh(Path(folder), env=settings) as running:
            yield running
