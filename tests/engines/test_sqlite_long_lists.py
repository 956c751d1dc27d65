"""Long lists on SQLite, as long as on the engines; `make test` reads shorter ones (tests/stores/test_long_lists.py)."""

from __future__ import annotations

from tests.stores import test_long_lists as shorter

ROWS = 100_000


class TestTweets(shorter.TestTweets):
    """All of the suite."""

    rows = ROWS


class TestGraph(shorter.TestGraph):
    """All of the suite."""

    rows = ROWS


class TestLists(shorter.TestLists):
    """All of the suite."""

    rows = ROWS


class TestPeople(shorter.TestPeople):
    """All of the suite."""

    rows = ROWS
