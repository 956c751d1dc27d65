"""Counts of tweets while the process that counts is killed: every like is counted once, in table and answer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from cli.settle import settle
from cli.state import running_state
from cli.stores import Stores, open_stores
from cli.supervisor import Mesh
from mesh.db.sql import Tx
from tests.clients import client_of
from tests.e2e.harness import Account, register_many

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("faults-counts"),
    pytest.mark.timeout(110),
]
TRIES = 200


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stores(mesh: Mesh) -> AsyncIterator[Stores]:
    """The mesh's stores."""
    async with open_stores(running_state(mesh.data), {}) as opened:
        yield opened


async def insist(person: Account, method: str, path: str, **more: object) -> None:
    """Sends a request until it is answered, as a client would that is told to try again."""
    for _ in range(TRIES):
        try:
            answer = await person.request(method, path, **more)
        except httpx.TransportError:
            continue
        if answer.status_code not in (502, 503, 504):
            assert answer.status_code == 200, answer.text
            return
        await asyncio.sleep(0.05)  # as the API asks a client to
    raise AssertionError(f"{method} {path} is never answered")


async def test_counts_are_exact_after_kill_9_in_the_middle(mesh: Mesh, stores: Stores) -> None:
    """Twelve people like and unlike three tweets for as long as it takes to kill `tweet` five times."""
    async with client_of(mesh.url, timeout=10) as edge:
        people = await register_many(edge, 12)
        tweets = [await people[0].tweet(f"number {number}") for number in range(3)]
        killed = asyncio.Event()
        done = [0]

        async def likes(person: Account) -> None:
            dice = random.Random(person.id)
            while not killed.is_set():
                tweet = dice.choice(tweets)
                if dice.random() < 0.6:
                    await insist(person, "POST", f"/2/users/{person.id}/likes", json={"tweet_id": str(tweet)})
                else:
                    await insist(person, "DELETE", f"/2/users/{person.id}/likes/{tweet}")
                done[0] += 1

        async def kills() -> None:
            for _ in range(5):
                before = done[0]
                async with asyncio.timeout(30):
                    while done[0] < before + 30:  # noqa: ASYNC110 - each death comes in the middle of work
                        await asyncio.sleep(0.01)
                await mesh.kill("tweet")
                await mesh.wait_ready("tweet")
            killed.set()

        await asyncio.gather(kills(), *map(likes, people))
        await settle(stores, 30.0)

        async def rows(tx: Tx) -> dict[int, tuple[int, int]]:
            found = await tx.execute(
                "SELECT id, like_count, (SELECT COUNT(*) FROM likes WHERE tweet_id = tweets.id) AS likers FROM tweets"
            )
            return {row.id: (row.like_count, row.likers) for row in found.all()}

        counted = await stores.tweets.read(rows)
        assert all(count == likers for count, likers in counted.values()), counted
        ids = ",".join(map(str, tweets))
        shown = await people[0].get("/2/tweets", ids=ids, tweet__fields="public_metrics")
        assert {int(one["id"]): one["public_metrics"]["like_count"] for one in shown["data"]} == {
            tweet: counted[tweet][1] for tweet in tweets
        }
        found = await people[0].get(
            "/2/users", ids=",".join(str(one.id) for one in people), user__fields="public_metrics"
        )
        assert sum(one["public_metrics"]["like_count"] for one in found["data"]) == sum(n for _, n in counted.values())
