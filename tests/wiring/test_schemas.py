"""A service's schema is the same on every database: the same steps, tables and columns.

Here by the files' texts; tests/engines compares what the databases themselves say.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mesh.db.migrations import load_migrations

ROOT = Path(__file__).resolve().parents[2]
SERVICES = sorted(path.parents[1].name for path in ROOT.glob("services/*/schema/sql"))


def statements(service: str, dialect: str) -> list[tuple[str, list[str]]]:
    """Each step's name, and its statements without comments and line breaks, types in SQLite's words."""
    found = []
    for step in load_migrations(ROOT / "services" / service / "schema" / dialect):
        text = re.sub(r"--[^\n]*", "", step.sql)
        for here, there in (
            ("BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY", "INTEGER PRIMARY KEY AUTOINCREMENT"),
            ("BYTEA", "BLOB"),
            (' COLLATE "C"', ""),
            ("BIGINT", "INTEGER"),
        ):
            text = text.replace(here, there)
        text = re.sub(r"ALTER TABLE \w+ SET \([^)]*\);", "", text)
        found.append((step.name, [" ".join(one.split()) for one in text.split(";") if one.strip()]))
    return found


@pytest.mark.parametrize("service", SERVICES)
def test_every_step_for_sqlite_is_there_for_postgresql_and_does_the_same(service: str) -> None:
    """A new file NNN_name.sql in schema/sql needs its counterpart in schema/postgresql: BIGINT, BYTEA, IDENTITY there.

    What PostgreSQL needs alone is an `ALTER TABLE ... SET (...)`, which changes no table.
    """
    sqlite, postgresql = statements(service, "sql"), statements(service, "postgresql")
    assert [name for name, _ in postgresql] == [name for name, _ in sqlite], "a file is missing in schema/postgresql"
    for (name, theirs), (_, ours) in zip(sqlite, postgresql, strict=True):
        assert ours == theirs, name


@pytest.mark.parametrize("service", SERVICES)
def test_numbers_and_bytes_have_the_types_that_postgresql_needs(service: str) -> None:
    for step in load_migrations(ROOT / "services" / service / "schema" / "postgresql"):
        text = re.sub(r"--[^\n]*", "", step.sql)
        assert not re.search(r"\b(INTEGER|INT|BLOB|AUTOINCREMENT)\b", text), f"{step.name}: ids have 64 bits"
