"""What tests of every folder may use."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Generator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from tests.called import CALLED

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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """A test that is marked as the proof of operations has called each of them, itself and with a good answer."""
    CALLED.forget()
    outcome = yield
    claimed = [name for mark in item.iter_markers("proves") for name in mark.args]
    if missing := CALLED.missing(claimed):
        pytest.fail(f"marked as the proof of {', '.join(missing)}, which it has not called with a good answer")
    return outcome
