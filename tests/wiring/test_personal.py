"""Nothing that is somebody's is forgotten: every table of every schema says what it keeps of people, in which section
of the archive that is, and how it goes when they are erased. That it does go is in tests/stores/test_remains.py.
"""

from __future__ import annotations

import importlib
import re
import sqlite3
from collections.abc import Mapping
from pathlib import Path

import pytest

from mesh.db.migrations import migrate
from mesh.db.personal import Table
from services.user.exporter import GRAPH_SECTIONS, MODERATION_SECTIONS, TWEET_SECTIONS

ROOT = Path(__file__).resolve().parents[2]
SERVICES = sorted(path.parents[1].name for path in ROOT.glob("services/*/schema/sql"))
OWN_SECTIONS = {"profile", "sessions", "clients"}
"""What `user` writes into the archive itself."""
SECTIONS = {
    "user": OWN_SECTIONS,
    "graph": set(GRAPH_SECTIONS),
    "tweet": set(TWEET_SECTIONS),
    "moderation": set(MODERATION_SECTIONS),
}


async def schema(service: str, folder: Path) -> dict[str, list[str]]:
    """Columns of each table, as the migrations make them."""
    await migrate(f"sqlite+aiosqlite:///{folder}/{service}.db", ROOT / "services" / service / "schema" / "sql")
    with sqlite3.connect(folder / f"{service}.db") as db:
        names = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        made = {name: [row[1] for row in db.execute(f"PRAGMA table_info({name})")] for name in names}
    db.close()
    return {name: columns for name, columns in made.items() if not re.match(r"sqlite_|schema_", name)}


def declared(service: str) -> Mapping[str, Table]:
    """What a service says of its tables."""
    tables: Mapping[str, Table] = importlib.import_module(f"services.{service}.personal").TABLES
    return tables


@pytest.mark.parametrize("service", SERVICES)
async def test_every_table_says_what_it_keeps_of_people(service: str, tmp_path: Path) -> None:
    tables = await schema(service, tmp_path)
    assert tables.keys() == declared(service).keys()
    for name, columns in tables.items():
        said = declared(service)[name]
        known = {*said.people, *said.others}
        assert known <= set(columns), name
        unsaid = {one for one in columns if re.search(r"(^|_)k?id$", one)} - known
        assert unsaid == set(), f"{name} does not say whose ids these are"


@pytest.mark.parametrize("service", SERVICES)
def test_every_section_is_filled_and_every_table_is_in_one_of_them_or_says_why_not(service: str) -> None:
    said = {section for table in declared(service).values() for section in table.sections}
    assert said == SECTIONS[service]


CASSANDRA = sorted(path.parents[1].name for path in ROOT.glob("services/*/schema/cassandra"))
_TABLE = re.compile(r"CREATE TABLE IF NOT EXISTS (\w+) \((.*?)\n\)", re.DOTALL)
_COLUMN = re.compile(r"^\s*(\w+) [a-z]", re.MULTILINE)


def cassandra_schema(service: str) -> dict[str, list[str]]:
    """Columns of each table, as the files make them."""
    text = "".join(
        path.read_text() for path in sorted((ROOT / "services" / service / "schema" / "cassandra").iterdir())
    )
    text = re.sub(r"--[^\n]*", "", text)
    return {name: _COLUMN.findall(columns) for name, columns in _TABLE.findall(text)}


@pytest.mark.parametrize("service", CASSANDRA)
def test_every_table_on_cassandra_says_what_it_keeps_of_people(service: str) -> None:
    module = importlib.import_module(f"services.{service}.personal")
    said: Mapping[str, Table] = module.CASSANDRA_TABLES
    tables = cassandra_schema(service)
    assert tables.keys() == said.keys()
    for name, columns in tables.items():
        known = {*said[name].people, *said[name].others}
        assert known <= set(columns), name
        assert {one for one in columns if re.search(r"(^|_)id$", one)} - known == set(), name
    sections = {section for table in said.values() for section in table.sections}
    assert sections == {section for table in declared(service).values() for section in table.sections}


def test_a_table_that_says_too_little_is_refused() -> None:
    with pytest.raises(ValueError, match="exported"):
        Table(("user_id",), erased="at once")
    with pytest.raises(ValueError, match="go"):
        Table(("user_id",), sections=("things",))
