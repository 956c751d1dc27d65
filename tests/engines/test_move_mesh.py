"""A small site grows: it is stopped, its stores are moved to the engines of the cluster, and it is started there.

With GRAPH_FILE the site is as large as that graph, and the test takes some minutes more.
"""

from __future__ import annotations

import shutil
import uuid
from collections import Counter
from pathlib import Path

import httpx
import pytest

from cli.move import run
from cli.settle import settle
from cli.state import running_state
from cli.stores import open_stores
from cli.supervisor import Mesh, running_mesh
from scripts.engines.control import Control

from . import neo4j_stores
from .engines import control, new_database
from .life import Life, live, sample

pytestmark = [pytest.mark.timeout(2400), pytest.mark.usefixtures("postgresql", "s3")]
PEOPLE, LINKS, TWEETS = 40, 4, 250
LINE = {"ROOKERY_CELEBRITY_FOLLOWERS": "12"}
ANSWERS = 1_000
STORES = {
    "ROOKERY_USERS_URL": "sqlite+aiosqlite:///{}/user.db",
    "ROOKERY_GRAPH_URL": "sqlite+aiosqlite:///{}/graph.db",
    "ROOKERY_TWEETS_URL": "sqlite+aiosqlite:///{}/tweet.db",
    "ROOKERY_OBJECTS_URL": "file://{}/objects",
}


async def settled(mesh: Mesh, urls: dict[str, str]) -> None:
    """Waits until nothing is under way."""
    async with open_stores(running_state(mesh.data), urls) as stores:
        await settle(stores, 300.0)  # a new bus gets all events of the last minutes


def clients(mesh: Mesh) -> httpx.AsyncClient:
    """A client of the edge."""
    return httpx.AsyncClient(base_url=mesh.url, timeout=60, trust_env=False)


async def test_a_mesh_that_moved_to_the_clusters_engines_answers_as_before(
    cassandra: Control, neo4j: Control, tmp_path: Path
) -> None:
    del neo4j
    small, large = tmp_path / "small", tmp_path / "large"
    async with running_mesh(small, env=LINE) as mesh, clients(mesh) as edge:
        life: Life = await live(running_state(mesh.data), edge, sample(PEOPLE, LINKS, TWEETS), viewers=12, acts=14 * 15)
        await settled(mesh, {})
        questions = life.questions(ANSWERS)
        before = await life.answers(questions)
        assert await life.answers(questions) == before, "the answers differ from time to time"
    statuses = Counter(status for status, _ in before)
    assert statuses[200] > 0.9 * ANSWERS, statuses
    assert len(set(before)) > ANSWERS / 4, "there is little to see"

    keyspace = f"moved_{uuid.uuid4().hex[:24]}"
    [tweets_url] = cassandra.engine.apart(cassandra.place(), keyspace).values()
    await neo4j_stores.empty(neo4j_stores.address())
    bucket = control("s3").urls()["ROOKERY_OBJECTS_URL"].replace("?", f"/{uuid.uuid4().hex}?", 1)
    try:
        async with new_database() as users_url:
            urls = {
                "ROOKERY_USERS_URL": users_url,
                "ROOKERY_GRAPH_URL": neo4j_stores.address(),
                "ROOKERY_TWEETS_URL": tweets_url,
                "ROOKERY_OBJECTS_URL": bucket,
            }
            for name, source in STORES.items():
                _, outcome = await run(source.format(small), urls[name])
                assert list(outcome.differences) == []
                assert name == "ROOKERY_OBJECTS_URL" or outcome.copied > 100
            large.mkdir()
            (large / ".rookery").touch()
            shutil.copy(small / "cursor.key", large)
            async with running_mesh(large, env=LINE | urls) as mesh, clients(mesh) as edge:
                await settled(mesh, urls)
                moved = life.at(edge)
                after = await moved.answers(questions)
                wrong = [(questions[n], before[n], after[n]) for n in range(ANSWERS) if before[n] != after[n]]
                assert wrong == [], f"{len(wrong)} answers differ"
                # It goes on: with ids that are newer, and with what was there.
                viewer = moved.viewers[0]
                newest = await viewer.tweet("we moved")
                assert newest > max(life.tweets)
                await viewer.delete(newest)
    finally:
        cassandra.engine.drop(cassandra.place(), keyspace)
