"""The server and its interceptors, as a caller on a real socket meets them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from rookery.tweet.v1.tweet_mesh_pb2 import ListRecentTweetsRequest
from rookery.tweet.v1.tweet_service_pb2 import CreateTweetRequest
from rookery.user.v1 import user_mesh_pb2
from rookery.user.v1.user_service_pb2 import RegisterRequest
from structlog.testing import capture_logs

from mesh.client import Destination
from mesh.context import CallContext, current, enter
from mesh.errors import DETAILS_KEY, PROBLEM_KEY, InvalidArgument, NotFound, ResourceExhausted, Violation
from mesh.interceptors.base import Answer, Priority, Rpc
from mesh.interceptors.deadline import Deadline
from mesh.interceptors.viewer import require_self, require_viewer
from mesh.server import rpcs
from tests.unit.toys import SERVICE, Toy, ToyStub, toy_server

ROOT = Path(__file__).parents[2]
TRACE = "0af7651916cd43dd8448eb211c80319c"
Raw = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
REQUESTS = {"Register": RegisterRequest, "Tweet": CreateTweetRequest, "Recent": ListRecentTweetsRequest}
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def who(_: StringValue) -> StringValue:
    return StringValue(value=str(require_viewer()))


async def echo(request: StringValue) -> StringValue:
    return request


async def trace(_: StringValue) -> StringValue:
    return StringValue(value=current().traceparent)


async def broken(_: StringValue) -> StringValue:
    raise KeyError("password=hunter2 at /srv/secret")


async def missing(_: StringValue) -> StringValue:
    raise NotFound("There is no such thing.", reason="NO_SUCH_THING")


async def limited(_: StringValue) -> StringValue:
    raise ResourceExhausted("Too many.")


async def wrong(request: StringValue) -> StringValue:
    long = [Violation(f"field{n}", "x" * 700) for n in range(int(request.value))]
    raise InvalidArgument("Bad. \u00e9\n\U0001f600", violations=long)


async def too_long(_: StringValue) -> StringValue:
    raise TimeoutError


async def raw(_: StringValue) -> bytes:
    return b"\xff\xfe not a message"


async def created(_: StringValue) -> StringValue:
    current().response_metadata.append(("x-http-status", "201"))
    return StringValue()


@pytest.fixture(scope="module")
def handlers() -> dict[str, object]:
    return {
        "Who": who,
        "Echo": echo,
        "Trace": trace,
        "Broken": broken,
        "Missing": missing,
        "Limited": limited,
        "Wrong": wrong,
        "TooLong": too_long,
        "Raw": raw,
        "Created": created,
        "Register": echo,
        "Tweet": echo,
        "Recent": created,
    }


@pytest.fixture
async def toy(handlers) -> AsyncIterator[Toy]:  # type: ignore[no-untyped-def]
    async with toy_server(handlers, requests=REQUESTS) as running:
        yield running


async def failure(awaitable: object) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await awaitable  # type: ignore[misc]
    return raised.value


def trailing(error: grpc.aio.AioRpcError) -> dict[str, str | bytes]:
    return dict(error.trailing_metadata() or ())


# --- errors


async def test_an_error_is_a_status_a_problem_and_error_info(toy: Toy) -> None:
    error = await failure(toy.call("Missing"))
    assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "There is no such thing.")
    problem = json.loads(trailing(error)[PROBLEM_KEY])
    assert (problem["status"], problem["detail"]) == (404, "There is no such thing.")
    packed = trailing(error)[DETAILS_KEY]
    assert isinstance(packed, bytes)
    info = error_details_pb2.ErrorInfo()
    assert status_pb2.Status.FromString(packed).details[0].Unpack(info)
    assert (info.reason, info.domain) == ("NO_SUCH_THING", "rookery")


async def test_a_defect_gives_an_id_that_is_in_the_log_too_and_nothing_else(toy: Toy) -> None:
    with capture_logs() as logs:
        error = await failure(toy.call("Broken"))
    assert error.code() is grpc.StatusCode.INTERNAL
    found = re.search(r"incident is ([0-9a-f]{16})", error.details() or "")
    assert found
    (entry,) = [log for log in logs if log["event"] == "unexpected error"]
    assert entry["incident"] == found.group(1)
    assert isinstance(entry["exc_info"], KeyError)
    seen = f"{error.details()} {trailing(error)}"
    for secret in ("hunter2", "secret", "KeyError", "Traceback", ".py"):
        assert secret not in seen


@pytest.mark.parametrize("violations", [0, 1, 10, 200])
async def test_an_error_arrives_whole_however_much_was_wrong(toy: Toy, violations: int) -> None:
    """gRPC turns metadata of more than 8 KiB into another error (grpc.max_metadata_size), so an answer stays below."""
    for _ in range(5):  # between the soft and the hard limit it would do so at random
        error = await failure(toy.call("Wrong", StringValue(value=str(violations))))
        assert (error.code(), error.details()) == (grpc.StatusCode.INVALID_ARGUMENT, "Bad. \u00e9\n\U0001f600")
    problem = json.loads(trailing(error)[PROBLEM_KEY])
    assert problem["status"] == 400
    if violations:
        assert problem["errors"][0]["parameters"] == {"field0": []}


async def test_running_out_of_time_inside_is_deadline_exceeded_and_counted_as_that(toy: Toy) -> None:
    error = await failure(toy.call("TooLong"))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    labels = {"rpc_service": SERVICE, "rpc_method": "TooLong"}
    assert toy.metric("rpc_server_failures_total", code="DEADLINE_EXCEEDED", **labels) == 1
    assert toy.metric("rpc_server_failures_total", code="INTERNAL", **labels) == 0


async def test_calls_and_failures_are_counted_by_method_and_code(toy: Toy) -> None:
    await toy.call("Echo")
    await failure(toy.call("Missing"))
    await failure(toy.call("Broken"))
    await failure(toy.call("Who"))
    for method, code in (("Missing", "NOT_FOUND"), ("Broken", "INTERNAL"), ("Who", "UNAUTHENTICATED")):
        labels = {"rpc_service": SERVICE, "rpc_method": method}
        assert toy.metric("rpc_server_failures_total", code=code, **labels) == 1
        assert toy.metric("rpc_server_duration_seconds_count", **labels) == 1
    assert toy.metric("rpc_server_duration_seconds_count", rpc_service=SERVICE, rpc_method="Echo") == 1


async def test_an_unknown_method_is_unimplemented(toy: Toy) -> None:
    assert (await failure(toy.call("Nothing"))).code() is grpc.StatusCode.UNIMPLEMENTED


# --- validation


async def test_each_member_that_breaks_a_rule_of_the_contract_is_named(toy: Toy) -> None:
    request = RegisterRequest(username="a b", email="ada@example.org", password="short", name="x" * 51)
    error = await failure(toy.call("Register", request))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    problem = json.loads(trailing(error)[PROBLEM_KEY])
    assert sorted(name for item in problem["errors"] for name in item["parameters"]) == ["name", "password", "username"]
    assert "short" not in str(problem)  # what a person typed is not repeated


async def test_a_valid_request_reaches_the_handler(toy: Toy) -> None:
    request = RegisterRequest(username="ada", email="ada@example.org", password="long enough")
    assert await toy.call("Register", request) == "ada"  # member 1 of both messages


async def test_a_text_with_a_nul_is_refused_wherever_in_a_request_it_is(toy: Toy) -> None:
    poll = {"options": ["yes", "n\0"], "duration_minutes": 5}
    request = CreateTweetRequest(text="fine", request_id="a\0b", poll=poll)
    error = await failure(toy.call("Tweet", request))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    problem = json.loads(trailing(error)[PROBLEM_KEY])
    assert sorted(name for item in problem["errors"] for name in item["parameters"]) == ["poll.options", "request_id"]


async def test_bytes_of_other_members_may_be_zero(toy: Toy) -> None:
    request = ListRecentTweetsRequest(author_ids=[1, 0x100], limit=1)
    request.MergeFromString(b"\x08\x00")  # one more author, with the id zero
    assert b"\0" in request.SerializeToString()
    await toy.call("Recent", request)


async def test_bytes_that_are_no_request_never_reach_a_handler(toy: Toy) -> None:
    call: Raw = toy.channel.unary_unary(f"/{SERVICE}/Echo")
    error = await failure(call(b"\xff\xff\xff", timeout=5))
    assert error.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INVALID_ARGUMENT)
    assert await toy.call("Echo", StringValue(value="still here")) == "still here"


# --- who asks


async def test_the_viewer_is_who_the_header_says(toy: Toy) -> None:
    assert await toy.call("Who", metadata=[("x-user-id", "42")]) == "42"
    assert await toy.call("Who", metadata=[("x-user-id", str(2**63 - 1))]) == str(2**63 - 1)
    assert (await failure(toy.call("Who"))).code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize(
    "values",
    [
        ["1", "2"],
        ["1", "1"],
        ["0"],
        ["-1"],
        ["+1"],
        [""],
        ["1,2"],
        ["1 "],
        ["1.0"],
        ["0x1"],
        ["1_0"],
        ["abc"],
        [str(2**63)],
        ["9" * 5_000],
    ],
)
async def test_an_identity_that_cannot_be_read_is_nobody_even_where_nobody_may_ask(toy: Toy, values: list[str]) -> None:
    error = await failure(toy.call("Echo", metadata=[("x-user-id", value) for value in values]))
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_calls_at_once_do_not_mix_their_viewers(toy: Toy) -> None:
    asked = [str(n) for n in range(1, 60)]
    answers = await asyncio.gather(*(toy.call("Who", metadata=[("x-user-id", n)]) for n in asked))
    assert answers == asked


def test_only_oneself_is_oneself() -> None:
    enter(CallContext(viewer_id=7))
    assert require_self(7) == 7
    with pytest.raises(Exception, match="yourself"):
        require_self(8)
    enter(CallContext())
    with pytest.raises(Exception, match="token"):
        require_self(0)


# --- the trace


async def test_a_trace_is_taken_as_it_came_or_made_of_the_request_id(toy: Toy) -> None:
    parent = f"00-{TRACE}-b7ad6b7169203331-01"
    assert await toy.call("Trace", metadata=[("traceparent", parent)]) == parent
    both = [("x-request-id", "6ba7b810-9dad-11d1-80b4-00c04fd430c8"), ("traceparent", parent)]
    assert await toy.call("Trace", metadata=both) == parent
    made = await toy.call("Trace", metadata=both[:1])
    assert made == "00-6ba7b8109dad11d180b400c04fd430c8-6ba7b8109dad11d1-00"


@pytest.mark.parametrize("request_id", ["x" * 32, "short", "6ba7b810-9dad-11d1-80b4-00c04fd430cg", "0" * 64])
async def test_a_request_id_that_is_no_uuid_makes_no_trace(toy: Toy, request_id: str) -> None:
    """A trace id is 32 hex digits (W3C Trace Context, 3.2.2.3); anything else would break what reads it later."""
    assert await toy.call("Trace", metadata=[("x-request-id", request_id)]) == ""


# --- answers


async def test_bytes_go_out_as_the_handler_gave_them(toy: Toy) -> None:
    call: Raw = toy.channel.unary_unary(f"/{SERVICE}/Raw")
    assert await call(b"", timeout=5) == b"\xff\xfe not a message"


async def test_a_handler_may_add_metadata_to_its_answer_and_none_stays_for_the_next(toy: Toy) -> None:
    for name, expected in (("Created", "201"), ("Echo", None), ("Created", "201")):
        call = toy.method(name)(StringValue(), timeout=5)
        await call
        found = {str(key): value for key, value in await call.initial_metadata()}
        assert found.get("x-http-status") == expected


# --- time


async def test_the_time_left_shrinks_from_hop_to_hop() -> None:
    seen: list[float | None] = []

    async def last(_: StringValue) -> StringValue:
        seen.append(current().remaining())
        return StringValue()

    async with toy_server({"Last": last}) as second:
        destination = Destination("second", second.target, ToyStub, timeout_s=30)

        async def first(request: StringValue) -> Answer:
            seen.append(current().remaining())
            return await destination.call(destination.stub.method("Last"), request)

        async with toy_server({"First": first}) as toy:
            await toy.call("First", timeout_s=3.0)
        await destination.close()
    at_first, at_last = seen
    assert at_first is not None
    assert at_last is not None
    assert 2.0 < at_last <= at_first - 0.01 < 3.0  # 20 ms less, and the wire rounds up by a few


async def test_a_handler_is_cancelled_when_its_caller_stops_waiting() -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def slow(_: StringValue) -> StringValue:
        begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return StringValue()

    async with toy_server({"Slow": slow}) as toy:
        error = await failure(toy.call("Slow", timeout_s=0.2))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await asyncio.wait_for(cancelled.wait(), 5)
        begun.clear()
        cancelled.clear()
        call = toy.method("Slow")(StringValue(), timeout=30)
        waiting = asyncio.ensure_future(call)
        await asyncio.wait_for(begun.wait(), 5)
        call.cancel()  # the caller went away
        await asyncio.wait_for(cancelled.wait(), 5)
        await asyncio.wait([waiting])
        assert toy.metric("rpc_server_active_requests") == 0


@pytest.mark.parametrize("caller", [None, 3600.0])
async def test_a_call_without_an_end_or_with_a_far_one_ends_all_the_same(caller: float | None) -> None:
    async def slow(request: object, context: object) -> StringValue:
        left = current().remaining()
        assert left is not None
        assert left <= 0.05
        await asyncio.get_running_loop().create_future()
        return StringValue()

    async def unused(_: StringValue) -> StringValue:
        raise AssertionError

    handle = Deadline().wrap(Rpc(SERVICE, "Slow", StringValue, unused, limit_s=0.05), slow)
    loop = asyncio.get_running_loop()
    enter(CallContext(deadline=None if caller is None else loop.time() + caller))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(handle(StringValue(), None), 5)  # type: ignore[arg-type]


# --- load


async def test_the_least_important_are_refused_first() -> None:
    inside = 0
    entered = asyncio.Condition()
    gate = asyncio.Event()

    async def hold(_: StringValue) -> StringValue:
        nonlocal inside
        async with entered:
            inside += 1
            entered.notify_all()
        await gate.wait()
        return StringValue(value="served")

    priorities = {"Background": Priority.BACKGROUND, "Normal": Priority.NORMAL, "Critical": Priority.CRITICAL}
    async with toy_server(dict.fromkeys(priorities, hold), priorities=priorities, max_concurrent=10) as toy:
        held: list[asyncio.Task[str]] = []

        async def fill(name: str, until: int) -> None:
            held.extend(asyncio.create_task(toy.call(name)) for _ in range(until - inside))
            async with asyncio.timeout(5), entered:
                await entered.wait_for(lambda: inside == until)

        async def refused(name: str) -> bool:
            error = await failure(toy.call(name))
            packed = trailing(error)[DETAILS_KEY]
            return error.code() is grpc.StatusCode.UNAVAILABLE and isinstance(packed, bytes) and b"OVERLOADED" in packed

        await fill("Background", 6)  # 60 % of 10
        assert await refused("Background")
        await fill("Normal", 9)  # 90 %
        assert await refused("Normal")
        assert await refused("Background")
        await fill("Critical", 10)
        assert await refused("Critical")
        assert toy.metric("rpc_server_active_requests") == 10
        assert [
            toy.metric("rpc_server_refused_total", priority=name) for name in ("background", "normal", "critical")
        ] == [2, 1, 1]
        gate.set()
        assert await asyncio.gather(*held) == ["served"] * 10
        assert await toy.call("Background") == "served"  # room again
        assert toy.metric("rpc_server_active_requests") == 0


# --- health, reflection


async def test_health_says_alive_and_ready_for_the_whole_and_each_service(toy: Toy) -> None:
    stub: Any = health_pb2_grpc.HealthStub(toy.channel)  # its types know no aio
    for name in ("", SERVICE, "liveness"):
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)
        assert answer.status == _SERVING
    error = await failure(stub.Check(health_pb2.HealthCheckRequest(service="other"), timeout=5))
    assert error.code() is grpc.StatusCode.NOT_FOUND


async def test_reflection_lists_what_is_served(toy: Toy) -> None:
    channel: Any = toy.channel  # the stub's types know no aio
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    call = stub.ServerReflectionInfo(timeout=5)
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    await call.done_writing()
    answer = await call.read()
    assert {service.name for service in answer.list_services_response.service} == {
        SERVICE,
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }


async def test_stopping_says_so_first_then_finishes_what_is_in_flight() -> None:
    entered, gate = asyncio.Event(), asyncio.Event()

    async def hold(_: StringValue) -> StringValue:
        entered.set()
        await gate.wait()
        return StringValue(value="finished")

    async with toy_server({"Hold": hold}) as toy:
        health: Any = health_pb2_grpc.HealthStub(toy.channel)
        watch = health.Watch(health_pb2.HealthCheckRequest(), timeout=10)
        assert (await watch.read()).status == _SERVING
        in_flight = asyncio.create_task(toy.call("Hold"))
        await asyncio.wait_for(entered.wait(), 5)
        stopping = asyncio.create_task(toy.server.stop())
        assert (await watch.read()).status == _NOT_SERVING
        assert not in_flight.done()
        assert not stopping.done()
        gate.set()
        assert await in_flight == "finished"
        watch.cancel()
        await asyncio.wait_for(stopping, 5)
        assert (await failure(toy.call("Hold", timeout_s=1.0))).code() in (
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.DEADLINE_EXCEEDED,
        )


def test_handlers_and_contract_must_have_the_same_methods() -> None:
    contract = user_mesh_pb2.DESCRIPTOR.services_by_name["UserMeshService"]
    handlers = dict.fromkeys(contract.methods_by_name, echo)
    with pytest.raises(ValueError, match="ResolveUsernames"):
        rpcs(contract, {name: handler for name, handler in handlers.items() if name != "ResolveUsernames"})
    with pytest.raises(ValueError, match="Invented"):
        rpcs(contract, {**handlers, "Invented": echo})
    made = rpcs(
        contract,
        handlers,
        priority=Priority.CRITICAL,
        priorities={"ResolveUsernames": Priority.BACKGROUND},
    )
    assert {rpc.path: rpc.priority for rpc in made} == {
        f"/rookery.user.v1.UserMeshService/{name}": Priority.CRITICAL for name in handlers
    } | {"/rookery.user.v1.UserMeshService/ResolveUsernames": Priority.BACKGROUND}


# --- a whole process

_PROGRAM = """
import asyncio, sys
from google.protobuf.wrappers_pb2 import StringValue
from mesh.interceptors.base import Rpc
from mesh.server import Service, main

async def build(env):
    gate = asyncio.Event()
    async def hold(request):
        print("entered", flush=True)
        asyncio.get_running_loop().call_later(0.2, gate.set)
        await gate.wait()
        return StringValue(value="finished")
    async def closed():
        print("closed", flush=True)
    return Service("toy", [Rpc("toy.v1.ToyService", "Hold", StringValue, hold)], stop=[closed])

main(build)
"""


def _start(environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


async def test_sigterm_lets_the_call_in_flight_finish_and_the_process_ends_cleanly() -> None:
    with tempfile.TemporaryDirectory(prefix="toy") as folder:
        target = f"unix://{folder}/s"
        process = _start({"ROOKERY_LISTEN": target})
        try:
            assert process.stdout
            assert '"ready"' in await asyncio.to_thread(process.stdout.readline)
            async with grpc.aio.insecure_channel(target) as channel:
                in_flight = asyncio.ensure_future(ToyStub(channel).method("Hold")(StringValue(), timeout=10))
                assert await asyncio.to_thread(process.stdout.readline) == "entered\n"
                process.send_signal(signal.SIGTERM)
                assert (await in_flight).value == "finished"
            rest, errors = await asyncio.to_thread(process.communicate, None, 10)
        finally:
            process.kill()
            process.wait()
    events = [json.loads(line)["event"] if line.startswith("{") else line for line in rest.splitlines()]
    assert events == ["draining", "closed", "stopped"]
    assert (process.returncode, errors) == (0, "")


async def test_a_wrong_setting_ends_the_process_with_status_2_and_one_line_that_names_it() -> None:
    process = _start({})
    output, errors = await asyncio.to_thread(process.communicate, None, 30)
    assert (process.returncode, output, errors) == (2, "", "ROOKERY_LISTEN is not set\n")
