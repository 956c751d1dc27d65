"""Done, but the caller was told that it timed out: the suite on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.stores.sql_adapters import told
from tests.stores.suites.told_it_timed_out import (
    Told,
    ToldGraphSuite,
    ToldItTimedOutSuite,
    ToldModerationSuite,
    ToldTweetsSuite,
    ToldUsersSuite,
)

from .engines import emptied_store

pytestmark = pytest.mark.usefixtures("postgresql")


class _OnPostgreSQL(ToldItTimedOutSuite):
    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncIterator[Told]:
        """See ToldItTimedOutSuite."""
        async with emptied_store(self.service) as sql:
            yield told(sql, self.service)


class TestUsers(_OnPostgreSQL, ToldUsersSuite):
    """All of the suite."""


class TestGraph(_OnPostgreSQL, ToldGraphSuite):
    """All of the suite."""


class TestTweets(_OnPostgreSQL, ToldTweetsSuite):
    """All of the suite."""


class TestModeration(_OnPostgreSQL, ToldModerationSuite):
    """All of the suite."""
