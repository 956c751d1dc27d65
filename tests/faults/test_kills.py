"""Each process of the mesh is killed, or restarted in an orderly way, under load."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager

import httpx
import pytest
import redis.asyncio as redis
from rookery.user.v1.user_mesh_pb2_grpc import UserMeshServiceStub

from cli.state import running_state
from cli.supervisor import Mesh
from mesh.client import Destination
from tests.clients import client_of
from tests.e2e.harness import appointed, case_of, register
from tests.faults.crowd import PASSWORD, Crowd
from tests.faults.oracle import check_pages, converge

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("faults-kills"),
    pytest.mark.timeout(110),
]

PROCESSES = ("user", "graph", "tweet", "timeline", "fanout", "moderation", "ratelimit", "envoy")
OPTIONAL = frozenset({"fanout", "moderation", "ratelimit"})
"""Behind the scenes: while one is away nobody's request fails."""
RECOVERY_S = 3.0
"""From a process's readiness to the last failed try: the slowest reconnection in the mesh is a second."""


async def _each(mesh: Mesh, crowd: Crowd, what: str, hurt: Callable[[str], Awaitable[None]]) -> None:
    """Hurts one process after the other, always under load, and checks after each that the mesh is well again."""
    record = crowd.record
    began = time.monotonic()
    problems: list[str] = []
    async with crowd.load():
        await crowd.posted(20)
        for name in PROCESSES:
            trouble = time.monotonic()
            await hurt(name)
            back = time.monotonic()
            await crowd.posted(12)  # about a second of everybody's posts
            print(record.report(f"{what} {name}, away {back - trouble:.2f} s", trouble, trouble, back))
            allowed = set() if name in OPTIONAL else {"503", "504"}
            if name == "envoy":
                # What the client's transport (tests/clients.py) calls connections that are refused or cut off.
                allowed |= {"ConnectError", "ConnectTimeout", "ReadError"}
            failures = [f"{one.kind} {one.outcome}" for one in record.failures(trouble)]
            # An account may be there although its maker was killed before it said so.
            failed = [one for one in failures if one.split()[1] not in allowed and one != "register 409"]
            late = [one for one in record.failures(trouble) if one.ended > back + RECOVERY_S]
            if failed or late:
                problems.append(f"{name}: {record.outcomes(trouble)}, late: {late}")
    settled = await converge(mesh, crowd)
    print(f"report: {what}: all as it must be {settled:.1f} s after the end of load")
    assert not problems, problems
    assert not record.given_up and not record.refused
    assert check_pages(crowd, began, time.monotonic(), at_once=False) > 100


async def test_kill_9_of_each_process(mesh: Mesh, crowd: Crowd) -> None:
    async def kill(name: str) -> None:
        await mesh.kill(name)
        await mesh.wait_ready(name)

    await _each(mesh, crowd, "kill -9", kill)


async def test_orderly_restart_of_each_process(mesh: Mesh, crowd: Crowd) -> None:
    async def restart(name: str) -> None:
        await mesh.stop(name)
        await mesh.start(name)
        await mesh.wait_ready(name)

    await _each(mesh, crowd, "restart", restart)


async def test_what_is_in_flight_at_sigterm_is_answered(mesh: Mesh, crowd: Crowd) -> None:
    """Passwords take 20 ms of a core each, two at a time: the service has work for longer than it takes to stop it."""
    record = crowd.record
    began = time.monotonic()
    logins = [
        asyncio.create_task(
            crowd.send("login", "POST", "/v1/auth/login", json={"username": person.username, "password": PASSWORD})
        )
        for person in crowd.people
        for _ in range(6)
    ]
    async with asyncio.timeout(10):
        # The service tells only who asks.
        while await _active(mesh, "user") + sum(one.done() for one in logins) < len(logins):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    under_way = sum(not login.done() for login in logins)
    await mesh.stop("user")
    answers = await asyncio.gather(*logins)
    await mesh.start("user")
    await mesh.wait_ready("user")
    print(f"report: SIGTERM with {under_way} sign-ins in flight: {record.outcomes(began) or 'all answered'}")
    assert under_way > 0, "everything was over before the stop"
    assert [answer and answer.status_code for answer in answers] == [200] * len(logins)


async def _active(mesh: Mesh, service: str) -> int:
    """Calls that a service has begun and not answered, by its metrics."""
    url = f"http://{mesh.environment(service)['ROOKERY_METRICS_LISTEN']}/metrics"
    async with httpx.AsyncClient(trust_env=False, timeout=5, verify=False) as client:
        lines = (await client.get(url)).text.splitlines()
    return next(int(float(line.split()[1])) for line in lines if line.startswith("rpc_server_active_requests "))


async def test_fanout_killed_over_and_over(mesh: Mesh, crowd: Crowd) -> None:
    """Five deaths in a row, each with events in hand that are not acknowledged: some not handled, some handled already.

    A moment that lasts a millisecond is not hit by chance. So `graph`, whom a handler asks first, is held still until
    events pile up in `fanout`, which dies with them. Every other time `graph` goes on while Valkey, which a handler
    writes to last, is held still: `fanout` dies when its writes are sent, are yet to be carried out, and no
    acknowledgement can follow them.
    """
    record = crowd.record
    began = time.monotonic()
    restarts = mesh.restarts("fanout")
    unacknowledged = []
    async with crowd.load():
        await crowd.posted(10)
        for death in range(5):
            with ExitStack() as held:
                graph = held.enter_context(_still(mesh.pid("graph")))
                await crowd.posted(4)
                if death % 2:
                    held.enter_context(_still(mesh.pid("valkey")))
                    graph.set()
                    await asyncio.sleep(0.05)  # graph answers, fanout writes: both processes' own business
                await mesh.kill("fanout")
            unacknowledged.append(await _unacknowledged(mesh))
            await mesh.wait_ready("fanout")
        ended = time.monotonic()
    settled = await converge(mesh, crowd)
    print(record.report(f"fanout killed 5 times in {ended - began:.1f} s", began, began, ended))
    print(f"report: fanout: died with {unacknowledged} events in hand; all as it must be {settled:.1f} s after")
    assert mesh.restarts("fanout") == restarts + 5
    assert all(unacknowledged), "it died with nothing in hand: nothing was tested"
    assert record.failures(began) == [], "fan-out is behind the scenes: nobody may notice"


@pytest.mark.parametrize("how", ["gone", "hangs"])
async def test_what_is_posted_while_moderation_is_away_is_published_and_waits_for_review(mesh: Mesh, how: str) -> None:
    async with client_of(mesh.url) as edge, AsyncExitStack() as held:
        operator = Destination("user", running_state(mesh.data)["processes"]["user"]["target"], UserMeshServiceStub)
        held.push_async_callback(operator.close)
        alice, moderator = await register(edge), await appointed(await register(edge), operator)
        if how == "gone":
            await mesh.stop("moderation")
            held.push_async_callback(mesh.start, "moderation")
        else:
            held.enter_context(_still(mesh.pid("moderation")))
        posted = await asyncio.gather(*(alice.tweet(f"{how}, {number}") for number in range(5)))
        assert sorted(await alice.pages(f"/2/users/{alice.id}/tweets")) == sorted(posted)
        await held.aclose()
        await mesh.wait_ready("moderation")
        for tweet in posted:
            assert (await case_of(tweet, moderator))["reasons"] == ["unchecked"]


@contextmanager
def _still(pid: int) -> Iterator[threading.Event]:
    """Holds a process still inside the block, or until the event is set, which a thread waits for."""
    go_on = threading.Event()

    def wait() -> None:
        go_on.wait(timeout=5)  # no test holds anything for longer
        os.kill(pid, signal.SIGCONT)

    os.kill(pid, signal.SIGSTOP)
    waiting = threading.Thread(target=wait)
    waiting.start()
    try:
        yield go_on
    finally:
        go_on.set()
        waiting.join()


async def _unacknowledged(mesh: Mesh) -> int:
    """Tweets' events that fan-out was given and has not acknowledged."""
    async with redis.Redis.from_url(mesh.environment("fanout")["ROOKERY_BUS_URL"], socket_timeout=5) as client:
        streams = [key async for key in client.scan_iter(match="bus:{tweets:*}", count=1000, _type="stream")]
        pending = [await client.xpending(stream, "fanout") for stream in streams]
        return sum(one["pending"] for one in pending)
