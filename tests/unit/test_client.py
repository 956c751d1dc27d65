"""Calls to other services: deadlines, retries and their budget, breaker, bulkhead, what travels along."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import pytest
from google.protobuf.wrappers_pb2 import StringValue
from prometheus_client import CollectorRegistry

from mesh import errors
from mesh.client import ClientMetrics, Destination
from mesh.context import CallContext, child_traceparent, current, enter
from mesh.errors import (
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    MeshError,
    NotFound,
    ResourceExhausted,
    Unavailable,
    Violation,
)
from mesh.resilience.breaker import Breaker
from mesh.resilience.bulkhead import Bulkhead
from tests.unit.toys import Call, Toy, ToyStub, toy_server

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Neighbour:
    """A service whose answers the test chooses: an RPC takes the name of an error to raise, or `hold`."""

    def __init__(self) -> None:
        self.attempts = 0
        self.seen: list[CallContext] = []
        self.gate = asyncio.Event()
        self.entered = asyncio.Semaphore(0)

    async def answer(self, request: StringValue) -> StringValue:
        self.attempts += 1
        self.seen.append(current())
        self.entered.release()
        if request.value == "hold":
            await self.gate.wait()
        elif request.value:
            raise cast("type[MeshError]", getattr(errors, request.value))("As the test asked.")
        return StringValue(value="fine")


@pytest.fixture
async def neighbour() -> Neighbour:
    enter(CallContext())
    return Neighbour()


@pytest.fixture
async def toy(neighbour: Neighbour) -> AsyncIterator[Toy]:
    async with toy_server({"Answer": neighbour.answer}) as running:
        yield running
        neighbour.gate.set()


@pytest.fixture
async def destination(toy: Toy) -> AsyncIterator[Destination[ToyStub]]:
    made = Destination("neighbour", toy.target, ToyStub)
    yield made
    await made.close()


async def ask(destination: Destination[ToyStub], value: str = "", *, timeout_s: float | None = None) -> str:
    answer = await destination.call(destination.stub.method("Answer"), StringValue(value=value), timeout_s=timeout_s)
    return answer.value


async def fails(destination: Destination[ToyStub], value: str, expected: type[MeshError]) -> MeshError:
    with pytest.raises(expected) as raised:
        await ask(destination, value)
    return raised.value


# --- what travels


async def test_viewer_and_trace_travel_and_each_hop_has_a_span_of_its_own(
    destination: Destination[ToyStub], neighbour: Neighbour
) -> None:
    enter(CallContext(viewer_id=42, traceparent=PARENT))
    await ask(destination)
    await ask(destination)
    one, other = (call.traceparent for call in neighbour.seen)
    assert [call.viewer_id for call in neighbour.seen] == [42, 42]
    assert one[:36] == other[:36] == PARENT[:36]
    assert one[-3:] == "-01"
    assert len({one, other, PARENT}) == 3


async def test_nobody_travels_as_nobody_with_a_new_trace(
    destination: Destination[ToyStub], neighbour: Neighbour
) -> None:
    await ask(destination)
    (call,) = neighbour.seen
    assert call.viewer_id == 0
    assert len(call.traceparent) == 55


@pytest.mark.parametrize("parent", ["", "x" * 55, PARENT[:-1], PARENT + "0", PARENT.replace("0af7", "zzzz"), "-" * 55])
def test_what_is_no_trace_begins_a_new_one(parent: str) -> None:
    made = child_traceparent(parent)
    assert child_traceparent(made)[:36] == made[:36]  # it is one itself
    assert parent[3:35] not in made or not parent[3:35]


# --- errors


async def test_the_destinations_error_is_the_callers(destination: Destination[ToyStub]) -> None:
    error = await fails(destination, "NotFound", NotFound)
    assert error.detail == "As the test asked."


async def test_an_error_keeps_reason_and_violations_over_the_wire() -> None:
    async def refuse(_: StringValue) -> StringValue:
        raise InvalidArgument("Bad.", violations=[Violation("id", "is none")], reason="BAD_ID")

    async with toy_server({"Answer": refuse}) as toy:
        destination = Destination("neighbour", toy.target, ToyStub)
        error = await fails(destination, "", InvalidArgument)
        await destination.close()
    assert (error.reason, error.violations) == ("BAD_ID", (Violation("id", "is none"),))


async def test_who_cannot_be_reached_is_unavailable() -> None:
    destination = Destination("nobody", "unix:///nonexistent/socket", ToyStub)
    await fails(destination, "", Unavailable)
    await destination.close()


async def test_calls_and_failures_of_the_destination_are_counted(toy: Toy) -> None:
    registry = CollectorRegistry()
    destination = Destination("neighbour", toy.target, ToyStub, metrics=ClientMetrics.create(registry))
    await ask(destination)
    await fails(destination, "NotFound", NotFound)
    await fails(destination, "Internal", Internal)
    await destination.close()

    def sample(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, {"destination": "neighbour", **labels})

    assert sample("rpc_client_duration_seconds_count") == 3
    assert sample("rpc_client_failures_total", code="INTERNAL") == 1
    assert sample("rpc_client_failures_total", code="NOT_FOUND") is None  # the caller's doing


# --- deadlines


async def test_a_call_without_a_deadline_gets_the_destinations(toy: Toy) -> None:
    destination = Destination("neighbour", toy.target, ToyStub, timeout_s=0.1)
    await fails(destination, "hold", DeadlineExceeded)
    await destination.close()


async def test_the_callers_deadline_wins_when_it_is_sooner_less_a_margin(
    destination: Destination[ToyStub], neighbour: Neighbour
) -> None:
    now = asyncio.get_running_loop().time()
    enter(CallContext(deadline=now + 0.5))
    await ask(destination, timeout_s=60)
    left = neighbour.seen[0].remaining()
    assert left is not None
    assert left < 0.49
    enter(CallContext(deadline=now + 60))
    await ask(destination, timeout_s=1.0)
    left = neighbour.seen[1].remaining()
    assert left is not None
    assert left < 1.01


@pytest.mark.parametrize("left_s", [0.015, 0.0, -1.0])
async def test_no_call_is_made_when_there_is_no_time_for_its_answer(
    destination: Destination[ToyStub], neighbour: Neighbour, left_s: float
) -> None:
    enter(CallContext(deadline=asyncio.get_running_loop().time() + left_s))
    await fails(destination, "", DeadlineExceeded)
    assert neighbour.attempts == 0


# --- retries


async def test_only_unavailable_is_tried_again_and_twice_at_most(
    destination: Destination[ToyStub], neighbour: Neighbour
) -> None:
    for name, expected, attempts in (
        ("Unavailable", Unavailable, 3),
        ("Internal", Internal, 1),
        ("ResourceExhausted", ResourceExhausted, 1),
        ("NotFound", NotFound, 1),
    ):
        neighbour.attempts = 0
        await fails(destination, name, expected)
        assert (name, neighbour.attempts) == (name, attempts)


async def test_a_second_try_that_works_is_the_answer() -> None:
    attempts = 0

    async def once(_: StringValue) -> StringValue:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise Unavailable("In a moment.")
        return StringValue(value="fine")

    async with toy_server({"Answer": once}) as toy:
        destination = Destination("neighbour", toy.target, ToyStub)
        assert await ask(destination) == "fine"
        await destination.close()


async def test_when_most_fail_nobody_tries_again(destination: Destination[ToyStub], neighbour: Neighbour) -> None:
    """The budget: each failure costs a token of 100, each success gives a tenth; below 50 there are no retries."""
    for _ in range(2):
        await asyncio.gather(*(fails(destination, "Unavailable", Unavailable) for _ in range(9)))
        await ask(destination)  # the breaker must not open meanwhile
    assert neighbour.attempts <= 2 + 18 * 3
    neighbour.attempts = 0
    await fails(destination, "Unavailable", Unavailable)
    assert neighbour.attempts == 1


# --- breaker


async def test_a_destination_that_fails_is_not_asked_for_a_while_and_then_by_one(
    neighbour: Neighbour, toy: Toy
) -> None:
    destination = Destination("neighbour", toy.target, ToyStub)
    for _ in range(10):
        await fails(destination, "Internal", Internal)
    neighbour.attempts = 0
    assert (await fails(destination, "", Unavailable)).reason == "BREAKER_OPEN"
    assert neighbour.attempts == 0
    destination._breaker._open_until = 0.0  # half a second later
    probe = asyncio.create_task(ask(destination, "hold"))
    for _ in range(11):
        await neighbour.entered.acquire()
    assert (await fails(destination, "", Unavailable)).reason == "BREAKER_OPEN"  # one probe at a time
    neighbour.gate.set()
    assert await probe == "fine"
    assert await ask(destination) == "fine"
    await destination.close()


@pytest.mark.parametrize("name", ["ResourceExhausted", "NotFound", "InvalidArgument", "PermissionDenied"])
async def test_what_is_refused_for_the_callers_sake_never_opens_the_breaker(
    destination: Destination[ToyStub], name: str
) -> None:
    expected = cast("type[MeshError]", getattr(errors, name))
    for _ in range(25):
        await fails(destination, name, expected)
    assert destination._breaker.closed


async def test_a_probe_that_could_not_be_sent_does_not_keep_the_breaker_open_for_ever(
    destination: Destination[ToyStub],
) -> None:
    def unsent(*_: object, **__: object) -> None:
        raise ValueError("not sent")

    for _ in range(10):
        await fails(destination, "Internal", Internal)
    destination._breaker._open_until = 0.0
    with pytest.raises(ValueError, match="not sent"):
        await destination.call(cast("Call", unsent), StringValue())
    assert await ask(destination) == "fine"


async def test_callers_who_are_short_of_time_do_not_open_the_breaker_for_the_others(
    destination: Destination[ToyStub], neighbour: Neighbour
) -> None:
    for _ in range(12):
        enter(CallContext(deadline=asyncio.get_running_loop().time() + 0.03))
        await fails(destination, "hold", DeadlineExceeded)
    enter(CallContext())
    assert await ask(destination) == "fine"
    assert neighbour.attempts > 1


async def test_a_destination_that_is_too_late_for_its_own_deadline_opens_the_breaker(toy: Toy) -> None:
    destination = Destination("neighbour", toy.target, ToyStub, timeout_s=0.4)
    await asyncio.gather(*(fails(destination, "hold", DeadlineExceeded) for _ in range(10)))
    assert (await fails(destination, "", Unavailable)).reason == "BREAKER_OPEN"
    await destination.close()


async def test_a_probe_whose_caller_goes_away_leaves_the_next_one_to_try(
    destination: Destination[ToyStub], neighbour: Neighbour
) -> None:
    for _ in range(10):
        await fails(destination, "Internal", Internal)
    destination._breaker._open_until = 0.0
    probe = asyncio.create_task(ask(destination, "hold"))
    for _ in range(11):
        await neighbour.entered.acquire()
    probe.cancel()
    await asyncio.wait([probe])
    assert await ask(destination) == "fine"


class Seconds:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def is_open(breaker: Breaker) -> bool:
    try:
        breaker.before()
    except Unavailable as error:
        assert error.reason == "BREAKER_OPEN"
        return True
    return False


def test_only_failures_in_a_row_open_the_breaker() -> None:
    breaker = Breaker("x", threshold=3, now=Seconds())
    for _ in range(5):
        breaker.failure()
        breaker.failure()
        assert not is_open(breaker)
        breaker.success()
    for _ in range(3):
        assert not is_open(breaker)
        breaker.failure()
    assert is_open(breaker)
    assert not breaker.closed


def test_each_probe_that_fails_doubles_the_wait_up_to_a_bound_and_a_success_resets_it() -> None:
    clock = Seconds()
    breaker = Breaker("x", threshold=1, open_s=1.0, max_open_s=4.0, now=clock)
    breaker.failure()
    for wait in (1.0, 2.0, 4.0, 4.0):
        clock.now += wait - 0.001
        assert is_open(breaker)
        clock.now += 0.002
        assert not is_open(breaker)  # the probe
        assert is_open(breaker)  # another must wait for it
        breaker.failure()
    clock.now += 4.001
    assert not is_open(breaker)
    breaker.success()
    assert breaker.closed
    breaker.failure()
    clock.now += 1.001
    assert not is_open(breaker)


# --- bulkhead


async def test_no_more_run_than_may_no_more_wait_than_may_and_the_rest_are_refused(
    toy: Toy, neighbour: Neighbour
) -> None:
    destination = Destination("neighbour", toy.target, ToyStub, limit=2)
    calls = [asyncio.create_task(ask(destination, "hold")) for _ in range(6)]  # 2 run, twice as many wait
    for _ in range(2):
        await neighbour.entered.acquire()
    assert (await fails(destination, "", Unavailable)).reason == "BULKHEAD_FULL"
    assert neighbour.attempts == 2
    neighbour.gate.set()
    assert await asyncio.gather(*calls) == ["fine"] * 6
    assert await ask(destination) == "fine"
    await destination.close()


async def test_waiting_for_a_place_takes_from_the_calls_own_time(toy: Toy, neighbour: Neighbour) -> None:
    destination = Destination("neighbour", toy.target, ToyStub, limit=1)
    first = asyncio.create_task(ask(destination, "hold", timeout_s=0.3))
    await neighbour.entered.acquire()
    with pytest.raises(DeadlineExceeded):
        await ask(destination, timeout_s=0.1)
    with pytest.raises(DeadlineExceeded):
        await first
    assert neighbour.attempts == 1  # the second one's time was over before it had a place
    assert destination._breaker.closed
    await destination.close()


async def test_who_leaves_the_queue_or_fails_inside_leaves_no_place_taken() -> None:
    bulkhead = Bulkhead(limit=1, queue=1)
    gate = asyncio.Event()

    async def hold() -> None:
        async with bulkhead:
            await gate.wait()
            raise ValueError

    for _ in range(3):
        gate.clear()
        inside, waiting = asyncio.create_task(hold()), asyncio.create_task(hold())
        await asyncio.sleep(0)
        with pytest.raises(Unavailable):
            async with bulkhead:
                pytest.fail("there was no place")
        waiting.cancel()
        await asyncio.wait([waiting])
        another = asyncio.create_task(hold())
        await asyncio.sleep(0)
        assert not another.done()  # it waits where the other one left
        gate.set()
        await asyncio.wait([inside, another])
        assert isinstance(inside.exception(), ValueError)
