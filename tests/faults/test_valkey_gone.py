"""Valkey (cache and bus) is killed under load, and comes back: with its data, empty, or after a long pause."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time

import pytest
import redis.asyncio as redis

from cli.supervisor import Mesh
from mesh.cache.sets import GuardedSets
from tests.faults.crowd import Crowd, percentile
from tests.faults.oracle import check_pages, converge

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("faults-valkey"),
    pytest.mark.timeout(110),
]

AWAY_S = 10.0
POST_S = 2.0
"""What 99 of 100 posts may take while the cache store and the bus are away."""


@pytest.mark.parametrize("empty", [False, True], ids=["with its data", "empty"])
async def test_valkey_killed_for_ten_seconds(mesh: Mesh, crowd: Crowd, empty: bool) -> None:
    record = crowd.record
    began = time.monotonic()
    async with crowd.load():
        await crowd.posted(30)
        await mesh.kill("valkey", restart=False)
        away = time.monotonic()
        await asyncio.sleep(AWAY_S)  # the outage itself
        if empty:
            folder = mesh.data / "valkey"
            assert any(folder.iterdir()), "there is nothing to lose"
            await asyncio.to_thread(shutil.rmtree, folder)
            folder.mkdir(mode=0o700)
        back = time.monotonic()
        await mesh.start("valkey")
        await mesh.wait_ready("valkey")
        ready = time.monotonic()
        await crowd.posted(30)
    settled = await converge(mesh, crowd)

    during = [one for one in record.accepted if away <= one.first_try <= back]
    p99 = percentile((one.seconds for one in during), 0.99)
    reads = [one for one in record.tries if one.kind == "read" and away <= one.began and one.ended <= back]
    pages = check_pages(crowd, away, back, at_once=True)
    check_pages(crowd, began, time.monotonic(), at_once=False)
    print(record.report(f"valkey away {AWAY_S:g} s, back {'empty' if empty else 'with its data'}", began, away, ready))
    print(
        f"report: while away {len(during)} posts, p99 {p99:.2f} s; {len(reads)} reads,"
        f" p99 {percentile((one.seconds for one in reads), 0.99):.2f} s; all as it must be {settled:.1f} s after"
    )
    assert len(during) > 50, "the load was too light to tell anything"
    assert not record.given_up and not record.refused
    assert [one for one in during if one.tries > 1] == [], "a post was refused while only the cache and bus were away"
    # On a machine that is busy with other things everything is slow: then by comparison with times without a fault.
    calm = percentile((one.seconds for one in record.accepted if one.at < away or one.first_try > ready), 0.99)
    assert p99 < max(POST_S, 4 * calm), (p99, calm)
    assert len(reads) > 50 and pages == len(reads), record.outcomes(away)
    assert record.failures(began) == []


async def test_valkey_that_hangs_is_as_good_as_gone(mesh: Mesh, crowd: Crowd) -> None:
    """It takes connections and never answers: worse than a dead one, for nothing tells but time."""
    record = crowd.record
    began = time.monotonic()
    async with crowd.load():
        await crowd.posted(20)
        os.kill(mesh.pid("valkey"), signal.SIGSTOP)
        try:
            away = time.monotonic()
            await asyncio.sleep(5.0)  # the outage itself
            back = time.monotonic()
        finally:
            os.kill(mesh.pid("valkey"), signal.SIGCONT)
        await crowd.posted(20)
    settled = await converge(mesh, crowd)
    during = [one for one in record.accepted if away <= one.first_try <= back]
    p99 = percentile((one.seconds for one in during), 0.99)
    print(record.report("valkey hangs 5 s", began, away, back))
    print(f"report: while it hung {len(during)} posts, p99 {p99:.2f} s; all as it must be {settled:.1f} s after")
    assert len(during) > 20
    assert not record.given_up and not record.refused
    assert {one.outcome for one in record.failures(began)} <= {"503", "504"}, record.outcomes(began)
    assert p99 < 3.0
    check_pages(crowd, away + 0.5, back, at_once=True)


SEEN_S = 3.0
"""From Valkey's return until an unfollow made meanwhile has dropped the read model that came back with it: the outbox
looks for the bus once a second, the breaker of the cache store as often."""


async def test_an_unfollow_while_valkey_is_away_is_seen_soon_after_its_return(mesh: Mesh, crowd: Crowd) -> None:
    """Valkey comes back with the read model that it had, where the person is followed still."""
    reader = crowd.people[0]
    author = crowd.people[1]
    path = f"/2/users/{reader.id}/following"
    await crowd.post_once(author)
    tweet = crowd.record.accepted[-1].id
    async with asyncio.timeout(10):
        while not crowd.record.pages or tweet not in crowd.record.pages[-1].ids:
            await crowd.read_once(reader)
    async with redis.Redis.from_url(mesh.environment("graph")["ROOKERY_CACHE_URL"], socket_timeout=5) as client:
        assert await client.smismember(GuardedSets.key("following", reader.id), [str(author.id)]) == [1], (
            "nothing to come back"
        )
    await mesh.kill("valkey", restart=False)
    gone, _ = await crowd.insist("follow", "DELETE", f"{path}/{author.id}", person=reader)
    assert gone is not None and gone.status_code == 200
    await crowd.read_once(reader)
    assert tweet not in crowd.record.pages[-1].ids, "the database knows at once"
    await mesh.start("valkey")
    await mesh.wait_ready("valkey")
    back, last_stale, stale = time.monotonic(), 0.0, 0
    while time.monotonic() < back + SEEN_S + 1.0:
        await crowd.read_once(reader)
        page = crowd.record.pages[-1]
        if tweet in page.ids:
            last_stale, stale = page.ended - back, stale + 1
        await asyncio.sleep(0.01)
    print(f"report: unfollowed while Valkey was away: {stale} stale reads, until {last_stale:.2f} s after its return")
    again, _ = await crowd.insist("follow", "POST", path, person=reader, json={"target_user_id": str(author.id)})
    assert again is not None and again.status_code == 200
    await converge(mesh, crowd)
    assert last_stale < SEEN_S
