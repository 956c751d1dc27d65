"""Done, but the caller was told that it timed out: the suite on SQLite."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.stores.sql_adapters import told
from tests.stores.sqlite_stores import sqlite
from tests.stores.suites.told_it_timed_out import (
    Told,
    ToldGraphSuite,
    ToldItTimedOutSuite,
    ToldModerationSuite,
    ToldTweetsSuite,
    ToldUsersSuite,
    test_every_method_has_a_case,
)

__all__ = ["test_every_method_has_a_case"]


class _OnSqlite(ToldItTimedOutSuite):
    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncIterator[Told]:
        """See ToldItTimedOutSuite."""
        with tempfile.TemporaryDirectory(dir=folder) as own:
            async with sqlite(self.service, Path(own)) as sql:
                yield told(sql, self.service)


class TestUsers(_OnSqlite, ToldUsersSuite):
    """All of the suite."""


class TestGraph(_OnSqlite, ToldGraphSuite):
    """All of the suite."""


class TestTweets(_OnSqlite, ToldTweetsSuite):
    """All of the suite."""


class TestModeration(_OnSqlite, ToldModerationSuite):
    """All of the suite."""
