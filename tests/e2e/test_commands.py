"""`rookery seed` and `rookery check timelines`, as an operator runs them against a mesh."""

from __future__ import annotations

import asyncio
import os
import random
import re
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
import redis.asyncio as redis

from cli.profile import PROJECT
from cli.samples import username
from cli.settle import settle
from cli.state import running_state
from cli.stores import Stores, open_stores
from cli.supervisor import Mesh, running_mesh
from mesh.cache.open import open_cache
from mesh.cache.store import CacheStore
from mesh.db.sql import Tx
from tests.clients import client_of
from tests.conftest import CELEBRITY_FOLLOWERS, UNLIMITED
from tests.e2e.harness import Account, home_members, register_many
from views.lists import home_lists

pytestmark = pytest.mark.asyncio(loop_scope="session")
Settled = Callable[[], Awaitable[None]]


# A mesh of this module's own: it is tampered with, and every check reads the timelines of all its people.
@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def mesh() -> AsyncIterator[Mesh]:
    """As the shared one."""
    with tempfile.TemporaryDirectory(prefix="mesh-", dir="/tmp") as folder:
        settings = {"ROOKERY_CELEBRITY_FOLLOWERS": str(CELEBRITY_FOLLOWERS)} | UNLIMITED
        async with running_mesh(Path(folder), env=settings) as running:
            yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def edge(mesh: Mesh) -> AsyncIterator[httpx.AsyncClient]:
    """A client of its edge."""
    async with client_of(mesh.url) as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stores(mesh: Mesh) -> AsyncIterator[Stores]:
    """Its stores."""
    async with open_stores(running_state(mesh.data), {}) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def cache(stores: Stores) -> AsyncIterator[CacheStore]:
    """Its cache store."""
    store = open_cache(stores.cache_url)
    yield store
    await store.close()


@pytest.fixture(scope="module")
def settled(stores: Stores) -> Settled:
    """Waits until everything written to it has reached lists, counts and read models."""
    return lambda: settle(stores, 15.0)


async def _rookery(*arguments: str, env: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Runs the command: its exit status and what it printed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ROOKERY_")}
    environment["PYTHONPATH"] = os.pathsep.join((str(PROJECT), str(PROJECT / "gen")))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli.main", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment | dict(env or {}),
    )
    try:
        async with asyncio.timeout(60):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, output.decode()


async def _check(mesh: Mesh, *more: str) -> tuple[int, str]:
    return await _rookery("check", "timelines", "--data", str(mesh.data), *more)


async def test_seed_makes_a_graph_and_a_second_run_changes_nothing(
    mesh: Mesh, stores: Stores, settled: Settled, tmp_path: Path
) -> None:
    # A hub that is followed by everybody, so a celebrity here, and a ring; with what edge lists have besides edges.
    ring = [f"{number} {number % 20 + 1}" for number in range(1, 21)]
    graph = tmp_path / "graph.edges"
    graph.write_text("\n".join(["# a wheel", *(f"0 {number}" for number in range(1, 21)), "", *ring, "1 0", "% end"]))
    seed = ("seed", "--data", str(mesh.data), "--graph", str(graph), "--tweets", "150", "--concurrency", "8")
    status, output = await _rookery(*seed)
    assert status == 0, output
    assert "21 accounts (21 new), 80 follows (80 new), 150 tweets" in output
    first = await _seeded(stores)
    assert first == (21, 80, 150)
    assert output.count("accounts  21 of 21") == 1  # lines, not a bar, where there is no terminal

    status, output = await _rookery(*seed)
    assert status == 0, output
    assert "21 accounts (0 new), 80 follows (0 new), 150 tweets" in output
    assert await _seeded(stores) == first

    found = re.search(r"^curl -s -H '(authorization: Bearer [^']+)' '([^']+)'$", output, re.MULTILINE)
    assert found is not None
    name, value = found[1].split(": ")
    async with httpx.AsyncClient(trust_env=False, verify=False) as client:
        page = (await client.get(found[2], headers={name: value})).json()
        assert page["meta"]["result_count"] == 10
        signed = re.search(r"username (\w+), password (\S+)", output)
        assert signed is not None and signed[1] == username(0)  # the hub: whose timeline has most
        login = {"username": signed[1], "password": signed[2]}
        assert (await client.post(f"{mesh.url}/v1/auth/login", json=login)).status_code == 200
    await settled()
    status, output = await _check(mesh)
    assert status == 0, output


async def _seeded(stores: Stores) -> tuple[int, int, int]:
    """The sample's accounts, follows between them and tweets by them."""
    names = {username(number) for number in range(21)}

    async def accounts(tx: Tx) -> set[int]:
        return {row.id for row in (await tx.execute("SELECT id, username FROM users")).all() if row.username in names}

    people = await stores.users.read(accounts)

    async def follows(tx: Tx) -> int:
        rows = await tx.execute("SELECT follower_id, followee_id FROM follows")
        return sum(row.follower_id in people and row.followee_id in people for row in rows.all())

    async def tweets(tx: Tx) -> int:
        return sum(row.author_id in people for row in (await tx.execute("SELECT author_id FROM tweets")).all())

    return len(people), await stores.graph.read(follows), await stores.tweets.read(tweets)


async def test_check_finds_nothing_wrong_with_lists_cold_and_warm(mesh: Mesh, edge: httpx.AsyncClient) -> None:
    people = await register_many(edge, 3)
    for one in people:
        for other in people:
            if other is not one:
                await one.follow(other)
        await one.tweets(5)
    assert (await _check(mesh))[0] == 0  # lists of people who never read are filled by this
    await people[0].tweets(5)
    status, output = await _check(mesh)  # now they have been written to
    assert status == 0, output
    assert re.fullmatch(r"([\d,]+) of \1 home timelines are right \([\d,]+ tweets in all, [\d.]+ s\)\.\n", output)
    status, output = await _check(mesh, "--sample", "2")
    assert status == 0 and output.startswith("2 of 2 home timelines are right")


async def test_check_finds_a_tweet_that_is_missing_from_a_list(
    mesh: Mesh, alice: Account, bob: Account, cache: CacheStore, settled: Settled
) -> None:
    await alice.follow(bob)
    await alice.home()
    tweets = await bob.tweets(3)
    await settled()
    key = home_lists(cache).key(alice.id)
    member = (await home_members(cache, alice.id))[tweets[1]]
    await cache.client.zrem(key, member)
    try:
        status, output = await _check(mesh)
    finally:
        await cache.client.zadd(key, {member: 0})
    assert status == 1
    assert f"{alice.username} ({alice.id}): 1 missing ({tweets[1]})" in output
    assert (await _check(mesh))[0] == 0


async def test_check_finds_a_tweet_that_shows_and_must_not(
    mesh: Mesh, alice: Account, bob: Account, stores: Stores, settled: Settled
) -> None:
    await alice.follow(bob)
    tweet = await bob.tweet("unfollowed behind everybody's back")
    await settled()  # the follow's event drops the set of those whom she follows; what is read next loads it
    for _ in range(2):
        await alice.home_is([tweet])  # twice from a list: one that is only filled by the check would be right

    def follows(changed: str) -> Callable[[Tx], Awaitable[object]]:
        statement = f"UPDATE follows SET followee_id = {changed} WHERE follower_id = :id"
        return lambda tx: tx.execute(statement, {"id": alice.id})

    await stores.graph.write(follows("-followee_id"))
    try:
        status, output = await _check(mesh)
    finally:
        await stores.graph.write(follows("-followee_id"))
    assert status == 1
    assert f"{alice.username} ({alice.id}): 1 extra ({tweet})" in output
    assert (await _check(mesh))[0] == 0


async def test_check_knows_of_blocks_mutes_and_protected_people(
    mesh: Mesh, edge: httpx.AsyncClient, stores: Stores, settled: Settled
) -> None:
    """A crowd in which everybody does something to everybody, repeats a tweet of each they see, and reads."""
    dice = random.Random(3)
    people = await register_many(edge, 8)

    async def do(one: Account, method: str, path: str, allowed: tuple[int, ...] = (200,), **body: object) -> None:
        answer = await one.request(method, path, **({"json": body} if method != "DELETE" else {}))
        assert answer.status_code in allowed, answer.text

    async def relate(one: Account, rounds: int) -> None:
        for _ in range(rounds):
            other = dice.choice([person for person in people if person is not one])
            what = dice.choice(("following", "muting", "blocking"))
            path = f"/2/users/{one.id}/{what}"
            if dice.random() < 0.3:
                await do(one, "DELETE", f"{path}/{other.id}")
            else:
                await do(one, "POST", path, (200, 403) if what == "following" else (200,), target_user_id=str(other.id))

    for one in people:
        for other in people:
            if other is not one:
                await one.follow(other)
    tweets = [await one.tweet("hello") for one in people for _ in range(2)]
    for one in people:
        for tweet in dice.sample(tweets, 4):
            await do(one, "POST", f"/2/users/{one.id}/retweets", tweet_id=str(tweet))
        assert await one.home()
    for one in people[:3]:
        await do(one, "PATCH", "/v1/users/me", protected=True)
    for _ in range(3):
        await asyncio.gather(*(relate(one, 3) for one in people))
        status, output = await _check(mesh)
        assert status == 0, output

    # It finds what hides behind the tables' back.
    alice, bob = await register_many(edge, 2)
    await alice.follow(bob)
    tweet = await bob.tweet("muted")
    await alice.home_is([tweet])
    await do(alice, "POST", f"/2/users/{alice.id}/muting", target_user_id=str(bob.id))
    assert await alice.home() == []
    await settled()
    await stores.graph.write(lambda tx: tx.execute("DELETE FROM mutes WHERE muter_id = :id", {"id": alice.id}))
    status, output = await _check(mesh)
    assert status == 1
    assert f"{alice.username} ({alice.id}): 1 missing ({tweet})" in output
    await do(alice, "DELETE", f"/2/users/{alice.id}/muting/{bob.id}")
    assert (await _check(mesh))[0] == 0


async def test_check_waits_for_what_is_under_way_and_says_what_is_left(mesh: Mesh, stores: Stores) -> None:
    """A topic of its own, with a group that nobody runs, stands in for a consumer that is slow."""
    stream, group = "bus:{slow:0}", "sleepers"
    async with redis.Redis.from_url(stores.bus_url, protocol=2) as bus:
        await bus.xgroup_create(stream, group, id="0", mkstream=True)
        try:
            assert (await _check(mesh, "--settle", "0.3", "--sample", "1"))[0] == 0
            await bus.xadd(stream, {"p": b"unread"})
            unread = await _check(mesh, "--settle", "0.3")
            await bus.xreadgroup(group, "owner", {stream: ">"})
            unhandled = await _check(mesh, "--settle", "0.3")
        finally:
            await bus.delete(stream)
    for status, output in (unread, unhandled):
        assert status == 1
        assert f"not settled after 0.3 s: group {group} has not handled all of partition 0 of topic slow" in output


@pytest.mark.parametrize("command", [("seed",), ("check", "timelines")], ids=" ".join)
async def test_without_a_mesh_there_is_one_clear_line(tmp_path: Path, command: tuple[str, ...]) -> None:
    status, output = await _rookery(*command, "--data", str(tmp_path))
    assert status == 1
    assert output == f"rookery: no mesh runs on {tmp_path}: `rookery up --data {tmp_path}` starts one\n"


async def test_seed_names_the_line_that_is_no_edge(mesh: Mesh, tmp_path: Path) -> None:
    graph = tmp_path / "graph.edges"
    graph.write_text("1 2\n\n# three words\n1 2 3\n")
    status, output = await _rookery("seed", "--data", str(mesh.data), "--graph", str(graph))
    assert status == 1
    assert output == f"rookery: {graph}, line 4: expected two names, `u v`, not 3\n"
    status, output = await _rookery("seed", "--graph", str(graph), "--people", "5")
    assert status == 2 and "--people" in output
