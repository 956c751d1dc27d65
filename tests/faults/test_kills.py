"""Each process of the mesh is killed, or restarted in an orderly way, under load."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from cli.supervisor import Mesh
from tests.faults.crowd import PASSWORD, Crowd
from tests.faults.oracle import check_pages, converge

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("faults-kills"),
    pytest.mark.timeout(110),
]

PROCESSES = ("user", "graph", "tweet", "timeline", "fanout", "envoy")
PUBLIC = frozenset({"user", "graph", "tweet", "timeline"})
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
            await crowd.posted(24)  # about a second of everybody's posts
            print(record.report(f"{what} {name}, away {back - trouble:.2f} s", trouble, trouble, back))
            allowed = {"503", "504"}
            if name == "envoy":
                allowed |= {"ConnectError", "ReadError", "RemoteProtocolError", "WriteError"}
            failed = [one for one in record.failures(trouble) if one.outcome not in allowed]
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
    """Passwords take 20 ms of a core each, two at a time: twelve of them are under way for longer than it takes to
    begin to stop."""
    record = crowd.record
    began = time.monotonic()
    logins = [
        asyncio.create_task(
            crowd.send("login", "POST", "/v1/auth/login", json={"username": person.username, "password": PASSWORD})
        )
        for person in crowd.people
    ]
    # When the first is answered all have reached the service.
    await asyncio.wait(logins, timeout=5, return_when=asyncio.FIRST_COMPLETED)
    under_way = sum(not login.done() for login in logins)
    await mesh.stop("user")
    answers = await asyncio.gather(*logins)
    await mesh.start("user")
    await mesh.wait_ready("user")
    print(f"report: SIGTERM with {under_way} sign-ins in flight: {record.outcomes(began) or 'all answered'}")
    assert under_way > 0, "everything was over before the stop"
    assert [answer.status_code for answer in answers if answer is not None] == [200] * len(logins)


async def test_fanout_killed_over_and_over(mesh: Mesh, crowd: Crowd) -> None:
    """Between handling an event and acknowledging it, before, after: five deaths in a row hit all of it."""
    record = crowd.record
    began = time.monotonic()
    restarts = mesh.restarts("fanout")
    async with crowd.load():
        await crowd.posted(10)
        for _ in range(5):
            await mesh.kill("fanout")
            await mesh.wait_ready("fanout")
            await crowd.posted(2)  # it has work in hand when it is hit again
        ended = time.monotonic()
    settled = await converge(mesh, crowd)
    print(record.report(f"fanout killed 5 times in {ended - began:.1f} s", began, began, ended))
    print(f"report: fanout: all as it must be {settled:.1f} s after the end of load")
    assert mesh.restarts("fanout") == restarts + 5
    assert record.failures(began) == [], "fan-out is behind the scenes: nobody may notice"
