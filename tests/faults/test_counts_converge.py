"""Ten thousand changes at once, and deaths in the middle: when all is quiet, every count is the number of its rows."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli.settle import settle
from cli.state import running_state
from cli.stores import open_stores
from cli.supervisor import Mesh
from tests.e2e.harness import eventually
from tests.faults.crowd import Crowd, Person

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("faults-counts"),
    pytest.mark.timeout(900),
]

ACTIONS = 10_000
DEATHS = 5
AT_ONCE = 32
TWEETS = 16
"""So few that everybody is at the same ones all the time."""
_ANSWERED = 200

Action = tuple[Person, str, str, dict[str, str]]
"""Who, method, path, body."""


def _actions(people: list[Person], tweets: list[int], chance: random.Random) -> Iterator[Action]:
    for _ in range(ACTIONS):
        who = chance.choice(people)
        undo = chance.random() < 0.45
        what, body, name = chance.choice(("likes", "retweets", "following")), "tweet_id", str(chance.choice(tweets))
        if what == "following":
            body, name = "target_user_id", str(chance.choice([other.id for other in people if other is not who]))
        path = f"/2/users/{who.id}/{what}"
        yield (who, "DELETE", f"{path}/{name}", {}) if undo else (who, "POST", path, {body: name})


async def test_counts_equal_rows_after_ten_thousand_changes_and_deaths(mesh: Mesh, crowd: Crowd) -> None:
    chance = random.Random(10_000)
    tweets = [await _posted(crowd, person) for person in (crowd.people * 2)[:TWEETS]]
    actions = _actions(crowd.people, tweets, chance)
    due = asyncio.Semaphore(0)
    done = 0

    async def client() -> None:
        nonlocal done
        for who, method, path, body in actions:
            answer, _ = await crowd.insist("count", method, path, person=who, **({"json": body} if body else {}))
            assert answer is not None and answer.status_code == _ANSWERED, answer and answer.text
            done += 1
            if done % (ACTIONS // (DEATHS + 1)) == 0:
                due.release()

    async def deaths() -> None:
        for _ in range(DEATHS):
            await due.acquire()
            await mesh.kill("tweet")
            await mesh.wait_ready("tweet")

    began = time.monotonic()
    restarts = mesh.restarts("tweet")
    async with asyncio.TaskGroup() as group:
        group.create_task(deaths())
        for _ in range(AT_ONCE):
            group.create_task(client())
    took = time.monotonic() - began
    assert mesh.restarts("tweet") == restarts + DEATHS
    assert crowd.record.failures(began), "it died with nothing in flight: nothing was tested"
    async with open_stores(running_state(mesh.data), {}) as stores:
        await settle(stores, 30)

    async def exact() -> None:
        rows = await asyncio.to_thread(_rows, mesh.data, tweets)
        shown = await _shown(crowd, tweets)
        assert {key: (counts, rows[key]) for key, counts in shown.items() if counts != rows[key]} == {}

    settled = time.monotonic()
    await eventually(exact)
    print(
        f"report: counts: {ACTIONS} changes in {took:.1f} s, {crowd.record.outcomes(began)};"
        f" exact {time.monotonic() - settled:.2f} s after the mesh settled"
    )
    assert await _mended(mesh) == 0, "counts were wrong, and somebody mended them"


async def _posted(crowd: Crowd, person: Person) -> int:
    await crowd.post_once(person)
    return crowd.record.accepted[-1].id


def _rows(data: Path, tweets: list[int]) -> dict[tuple[str, int], dict[str, int]]:
    """What the tables hold, counted here: by tweet and by person."""

    def read(file: str, query: str) -> Counter[int]:
        with closing(sqlite3.connect(f"file:{data / file}?mode=ro", uri=True, timeout=5)) as database:
            return Counter(dict(database.execute(query).fetchall()))

    likes = read("tweet.db", "SELECT tweet_id, COUNT(*) FROM likes GROUP BY tweet_id")
    retweets = read(
        "tweet.db", "SELECT retweeted_id, COUNT(*) FROM tweets WHERE retweeted_id <> 0 AND NOT deleted GROUP BY 1"
    )
    found = {("tweet", i): {"like_count": likes[i], "retweet_count": retweets[i]} for i in tweets}
    liking = read("tweet.db", "SELECT user_id, COUNT(*) FROM likes GROUP BY user_id")
    written = read("tweet.db", "SELECT author_id, COUNT(*) FROM tweets WHERE NOT deleted GROUP BY author_id")
    followers = read("graph.db", "SELECT followee_id, COUNT(*) FROM follows GROUP BY followee_id")
    following = read("graph.db", "SELECT follower_id, COUNT(*) FROM follows GROUP BY follower_id")
    for person in read("user.db", "SELECT id, 1 FROM users"):
        found["user", person] = {
            "like_count": liking[person],
            "tweet_count": written[person],
            "followers_count": followers[person],
            "following_count": following[person],
        }
    return found


async def _shown(crowd: Crowd, tweets: list[int]) -> dict[tuple[str, int], dict[str, int]]:
    """The same counts as anybody reads them."""
    params = {"ids": ",".join(map(str, tweets)), "tweet.fields": "public_metrics"}
    answer, _ = await crowd.insist("check", "GET", "/2/tweets", person=crowd.people[0], params=params)
    assert answer is not None and answer.status_code == _ANSWERED, answer and answer.text
    found = {("tweet", int(one["id"])): _some(one, "like_count", "retweet_count") for one in answer.json()["data"]}
    assert len(found) == len(tweets)
    names = ("like_count", "tweet_count", "followers_count", "following_count")
    for person, metrics in (await crowd.profiles()).items():
        found["user", person] = {name: metrics[name] for name in names}
    return found


def _some(tweet: dict[str, Any], *names: str) -> dict[str, int]:
    return {name: tweet["public_metrics"][name] for name in names}


async def _mended(mesh: Mesh) -> int:
    """Counts that the reconciler found wrong since the service died."""
    url = f"http://{mesh.environment('tweet')['ROOKERY_METRICS_LISTEN']}/metrics"
    async with httpx.AsyncClient(trust_env=False, timeout=5, verify=False) as client:
        lines = (await client.get(url)).text.splitlines()
    return sum(int(float(line.split()[-1])) for line in lines if line.startswith("tweet_counts_mended_total"))
