"""Long lists on Neo4j."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.stores.suites.scale import GraphAtScale, GraphAtScaleSuite, ListsAtScale, ListsAtScaleSuite

from .neo4j_stores import graph_at_scale, lists_at_scale, neo4j_store

pytestmark = pytest.mark.usefixtures("neo4j")
ROWS = 100_000


class TestGraph(GraphAtScaleSuite):
    """All of the suite."""

    rows = ROWS

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncIterator[GraphAtScale]:
        """See GraphAtScaleSuite."""
        async with neo4j_store() as graph:
            yield graph_at_scale(graph)


class TestLists(ListsAtScaleSuite):
    """All of the suite."""

    rows = ROWS

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncIterator[ListsAtScale]:
        """See ListsAtScaleSuite."""
        async with neo4j_store() as graph:
            yield lists_at_scale(graph)
