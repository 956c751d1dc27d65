"""The cluster profile takes its stores from the operator or from engines, and starts nothing when it lacks one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cli.cluster import Cluster
from cli.errors import ProfileError
from cli.profile import SERVICES, STORES, Place, kinds

ELSEWHERE = {
    "ROOKERY_USERS_URL": "postgresql+asyncpg://me:secret@one/users",
    "ROOKERY_GRAPH_URL": "neo4j://me:secret@two",
    "ROOKERY_TWEETS_URL": "cassandra://three,four/rookery",
    "ROOKERY_MODERATION_URL": "postgresql+asyncpg://me:secret@one/moderation",
    "ROOKERY_BUS_URL": "kafka://five:9092",
    "ROOKERY_CACHE_URL": "redis+cluster://six:6379",
    "ROOKERY_OBJECTS_URL": "s3://bucket/prefix",
}


def place(folder: Path, operator: dict[str, str]) -> Place:
    for name in ("run", "logs"):
        (folder / name).mkdir()
    return Place(folder, folder / "run", folder / "run", folder / "logs", 8080, {**os.environ, **operator}, lambda: 1)


def test_it_runs_the_services_on_the_operators_stores_and_keeps_nothing_itself(tmp_path: Path) -> None:
    specs = Cluster(None).processes(place(tmp_path, ELSEWHERE))
    assert [spec.name for spec in specs] == [*SERVICES, "envoy"]
    environments = [spec.environment for spec in specs]
    for variable, url in ELSEWHERE.items():
        assert {environment[variable] for environment in environments if variable in environment} == {url}
    assert list(kinds(environments).values()) == [
        "postgresql",
        "neo4j",
        "cassandra",
        "postgresql",
        "kafka",
        "redis+cluster",
        "s3",
    ]


def test_each_store_has_the_schema_of_its_kind(tmp_path: Path) -> None:
    found = {one.service: one.folder.name for one in Cluster(None).migrations(tmp_path, ELSEWHERE)}
    assert found == {"user": "postgresql", "graph": "neo4j", "tweet": "cassandra", "moderation": "postgresql"}


def test_everything_that_is_missing_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ProfileError) as refused:
        Cluster(tmp_path / "engines").complete({**ELSEWHERE, "ROOKERY_BUS_URL": "", "ROOKERY_USERS_URL": ""})
    missing = [store for store, variable in STORES.items() if variable in str(refused.value)]
    assert missing == ["users", "bus"]
    assert "the engine kafka does not run" in str(refused.value)
    assert not (tmp_path / "engines").exists()


@pytest.mark.parametrize(
    ("variable", "url"),
    [
        ("ROOKERY_USERS_URL", "sqlite+aiosqlite:///data/user.db"),
        ("ROOKERY_CACHE_URL", "unix:///data/valkey.sock"),
        ("ROOKERY_OBJECTS_URL", "file:///data/objects"),
    ],
)
def test_stores_of_one_machine_are_refused(variable: str, url: str) -> None:
    with pytest.raises(ProfileError, match="a store of one machine") as refused:
        Cluster(None).complete({**ELSEWHERE, variable: url})
    assert url not in str(refused.value), "it may hold a password"


def test_the_kinds_of_the_embedded_stores_are_said_without_their_drivers() -> None:
    assert kinds([{"ROOKERY_USERS_URL": "sqlite+aiosqlite:///a", "ROOKERY_CACHE_URL": "unix:///b"}]) == {
        "users": "sqlite",
        "cache": "unix",
    }
