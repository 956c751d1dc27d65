"""Loads that several calls share are made in nobody's name: the first caller's deadline and viewer are its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from mesh.cache.loading import SingleFlight
from mesh.cache.open import open_cache
from mesh.cache.records import Records
from mesh.client import Destination
from mesh.context import CallContext, current, enter
from mesh.errors import DeadlineExceeded
from views.hydrate import Hydrator

TRACE = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-00"


def call_of(viewer_id: int, left_s: float) -> CallContext:
    return CallContext("/x/Y", viewer_id=viewer_id, deadline=time.monotonic() + left_s, traceparent=TRACE)


async def test_a_single_flight_has_neither_the_viewer_nor_the_deadline_of_who_came_first() -> None:
    flight: SingleFlight[str, CallContext] = SingleFlight()
    gate = asyncio.Event()

    async def load() -> CallContext:
        await gate.wait()
        return current()

    async def caller(viewer_id: int, left_s: float) -> CallContext:
        enter(call_of(viewer_id, left_s))
        seen = await flight.do("key", load)
        assert current().viewer_id == viewer_id  # the caller's own is as it was
        return seen

    callers = [asyncio.create_task(caller(7, 0.001)), asyncio.create_task(caller(8, 60.0))]
    await asyncio.sleep(0)
    gate.set()
    first, second = await asyncio.gather(*callers)
    assert first is second
    assert (first.viewer_id, first.deadline, first.traceparent) == (0, None, TRACE)


async def test_a_record_that_many_want_is_asked_for_in_nobodys_name(tmp_path: Path) -> None:
    asked: list[CallContext] = []

    async def fetch(ids: Sequence[int]) -> Sequence[bytes]:
        asked.append(current())
        return [b"%d" % i for i in ids]

    gone = open_cache(f"unix://{tmp_path}/nobody")
    hydrator = Hydrator(Records(gone, "x:"), fetch)
    enter(call_of(7, 0.001))
    assert await hydrator.get([1, 2]) == [b"1", b"2"]
    assert [(call.viewer_id, call.deadline) for call in asked] == [(0, None)]
    await gone.close()


class Answers:
    """Answers after `Answers.gate`, or at once when it is set."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()


class Stub:
    """What a generated stub would be."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.say: grpc.aio.UnaryUnaryMultiCallable[StringValue, StringValue] = channel.unary_unary(
            "/slow.Slow/Say",
            request_serializer=StringValue.SerializeToString,
            response_deserializer=StringValue.FromString,
        )


@asynccontextmanager
async def slow_server(folder: Path) -> AsyncIterator[tuple[Answers, Destination[Stub]]]:
    answers = Answers()

    async def say(request: StringValue, context: object) -> StringValue:
        await answers.gate.wait()
        return request

    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(
        say, request_deserializer=StringValue.FromString, response_serializer=StringValue.SerializeToString
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("slow.Slow", {"Say": handler}),))
    server.add_insecure_port(f"unix://{folder}/s")
    await server.start()
    destination = Destination("slow", f"unix://{folder}/s", Stub)
    try:
        yield answers, destination
    finally:
        await destination.close()
        await server.stop(0)


async def test_callers_in_a_hurry_do_not_open_the_breaker_for_the_others(tmp_path: Path) -> None:
    """A client chooses its deadline (grpc-timeout): ten that wait 30 ms are no sign that the destination is ill."""
    async with slow_server(tmp_path) as (answers, destination):

        async def hurried() -> None:
            enter(call_of(7, 0.05))
            await destination.call(destination.stub.say, StringValue(value="x"))

        for _ in range(12):
            with pytest.raises(DeadlineExceeded):
                await asyncio.create_task(hurried())
        answers.gate.set()
        assert (await destination.call(destination.stub.say, StringValue(value="x"))).value == "x"


async def test_a_destination_that_is_too_late_for_its_own_deadline_opens_the_breaker(tmp_path: Path) -> None:
    async with slow_server(tmp_path) as (_, destination):
        for _ in range(10):
            with pytest.raises(DeadlineExceeded):
                await destination.call(destination.stub.say, StringValue(value="x"), timeout_s=0.03)
        assert not destination._breaker.closed


async def test_waiting_for_a_place_is_part_of_the_time_that_a_call_has(tmp_path: Path) -> None:
    async with slow_server(tmp_path) as (_, _unused):
        narrow = Destination("narrow", f"unix://{tmp_path}/s", Stub, limit=1)
        started = time.monotonic()
        outcomes = await asyncio.gather(
            *(narrow.call(narrow.stub.say, StringValue(value="x"), timeout_s=0.2) for _ in range(3)),
            return_exceptions=True,
        )
        assert [type(outcome) for outcome in outcomes] == [DeadlineExceeded] * 3
        assert time.monotonic() - started < 0.5  # three in a row would take 0.6 s
        await narrow.close()
