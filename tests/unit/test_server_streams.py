"""RPCs whose answer is a stream, as a caller on a real socket meets them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from mesh.context import current
from mesh.errors import NotFound
from tests.unit.toys import Toy, toy_server


async def three(_: StringValue) -> AsyncGenerator[StringValue, None]:
    current().response_metadata.append(("x-title", "numbers"))
    for number in range(3):
        yield StringValue(value=str(number))


async def nothing(_: StringValue) -> AsyncGenerator[StringValue, None]:
    for number in range(0):
        yield StringValue(value=str(number))


async def missing(_: StringValue) -> AsyncGenerator[StringValue, None]:
    raise NotFound("There is no such thing.")
    yield StringValue()


async def breaks_off(_: StringValue) -> AsyncGenerator[StringValue, None]:
    yield StringValue(value="first")
    raise KeyError("password=hunter2")


async def parts(toy: Toy, name: str) -> list[str]:
    return [part.value async for part in toy.stream(name)]


async def test_parts_come_in_order_after_the_metadata() -> None:
    async with toy_server({}, streams={"Three": three}) as toy:
        call = toy.stream("Three")
        assert dict(await call.initial_metadata())["x-title"] == "numbers"
        assert [part.value async for part in call] == ["0", "1", "2"]


async def test_a_stream_may_be_empty() -> None:
    async with toy_server({}, streams={"Nothing": nothing}) as toy:
        assert await parts(toy, "Nothing") == []


async def test_an_error_before_the_first_part_is_a_status_and_a_problem() -> None:
    async with toy_server({}, streams={"Missing": missing}) as toy:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await parts(toy, "Missing")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert "x-problem-json" in dict(caught.value.trailing_metadata() or ())


async def test_an_error_after_a_part_ends_the_stream_and_shows_nothing_internal() -> None:
    async with toy_server({}, streams={"BreaksOff": breaks_off}) as toy:
        got: list[str] = []
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for part in toy.stream("BreaksOff"):
                got.append(part.value)
        assert got == ["first"]
        assert caught.value.code() is grpc.StatusCode.INTERNAL
        assert "hunter2" not in str(caught.value)


async def test_a_caller_that_leaves_ends_the_handler() -> None:
    ended = asyncio.Event()

    async def endless(_: StringValue) -> AsyncGenerator[StringValue, None]:
        try:
            while True:
                yield StringValue(value="x")
                await asyncio.sleep(0)
        finally:
            ended.set()

    async with toy_server({}, streams={"Endless": endless}) as toy:
        call = toy.stream("Endless")
        assert (await call.read()).value == "x"
        call.cancel()
        async with asyncio.timeout(5):
            await ended.wait()


async def test_a_stream_ends_at_its_own_limit() -> None:
    never = asyncio.Event()

    async def still(_: StringValue) -> AsyncGenerator[StringValue, None]:
        yield StringValue(value="first")
        await never.wait()

    async with toy_server({}, streams={"Still": still}, limit_s=0.1) as toy:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await parts(toy, "Still")
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
