"""Hostile input 19: on Cassandra a row is written either by conditions or by none, and what was accepted is not undone
by a clock. All statements are read, as the code has them.

A plain write next to conditional ones may have a later time than the decision that follows it, and undo it. And of two
plain writes the one with the later time stays, whoever was first: so the time of what people do is that of their act,
greater than that of the act before (services/tweet/store/cassandra/journal.py), and not of some process's clock.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesh.db.cassandra_migrations import split_cql
from services.tweet.store.cassandra.writes import WRITES

ROOT = Path(__file__).parents[2]
_WRITE = re.compile(r"\s*(?:INSERT\s+INTO|UPDATE|DELETE\b.*?\bFROM)\s+\"?(\w+)\"?", re.S)
_CONDITION = re.compile(r"\bIF\b")
OWN_CLOCK = {
    "intents": "an intent is written once and deleted once; carried out again it changes nothing",
    "buckets": "a hint where to look: written with each intent, deleted when the bucket is long over",
    "outbox_published": "written once; deleted when it is old",
    "schema_migrations": "written once, under a lock",
}
"""Tables whose rows may have the time of the process that writes them, and why that does no harm."""


def sources() -> list[Path]:
    """The modules that speak to Cassandra."""
    found = [path for part in ("mesh", "services", "cli") for path in (ROOT / part).rglob("*.py")]
    return sorted(path for path in found if "cassandra" in str(path.relative_to(ROOT)))


def texts(tree: ast.Module) -> Iterator[str]:
    """The literals of a module, with what is filled in left out."""
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            yield node.value


def statements() -> dict[str, list[str]]:
    """Statements that write, by table."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for path in sources():
        module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
        whole = {value for value in vars(module).values() if isinstance(value, str)}
        tree = ast.parse(path.read_text())
        for text in texts(tree):
            for match in filter(None, (_WRITE.match(part) for part in text.split(";"))):
                if "{}" not in match.group(0) and not text.startswith(("INSERT INTO {}", "UPDATE {}")):
                    complete = next((one for one in whole if one == text), text)
                    found[match.group(1)].append(" ".join(complete.split()))
    for write in WRITES.values():
        match = _WRITE.match(write.cql)
        assert match is not None, write.cql
        found[match.group(1)].append(write.cql)
    return dict(found)


def test_statements_are_found() -> None:
    """Or the tests below say nothing."""
    found = statements()
    assert {"journals", "tweets", "marks", "votes_by_user", "worker_leases", "outbox_lease", "intents"} <= found.keys()
    tables = re.findall(
        r"CREATE TABLE IF NOT EXISTS (\w+)",
        "".join(path.read_text() for path in (ROOT / "services").glob("*/schema/cassandra/*.cql")),
    )
    assert set(tables) <= found.keys(), "a table that nobody writes"


def test_a_table_is_written_by_conditions_alone_or_by_none() -> None:
    mixed = {}
    for table, found in statements().items():
        conditional = {one for one in found if _CONDITION.search(one)}
        if conditional and conditional != set(found):
            mixed[table] = sorted(set(found))
    assert mixed == {}


def test_what_people_do_has_the_time_of_their_act() -> None:
    clocked = {
        table: one
        for table, found in statements().items()
        for one in found
        if not _CONDITION.search(one) and "USING TIMESTAMP ?" not in one
    }
    assert {table: one for table, one in clocked.items() if table not in OWN_CLOCK} == {}


def test_a_decision_is_read_as_it_was_made() -> None:
    """Rows that are written by conditions are read with `serial=True` by who decides: a plain read may miss one."""
    journal = (ROOT / "services/tweet/store/cassandra/journal.py").read_text()
    reads = [
        node
        for node in ast.walk(ast.parse(journal))
        if isinstance(node, ast.Call) and any(isinstance(one, ast.Name) and one.id == "_HEAD" for one in node.args)
    ]
    assert reads
    for read in reads:
        assert any(one.arg == "serial" for one in read.keywords), ast.unparse(read)


@pytest.mark.parametrize("script", sorted(ROOT.glob("services/*/schema/cassandra/*.cql")), ids=lambda path: path.name)
def test_a_schema_may_be_applied_again_after_a_crash(script: Path) -> None:
    assert split_cql(script.read_text())
