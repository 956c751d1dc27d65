"""Who may call a public RPC, and sessions that end, as callers on a real socket meet them (hostile.md, 4 and 5)."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from pathlib import Path

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from prometheus_client import CollectorRegistry
from rookery.options.v1.access_pb2 import Access as Rule

from mesh.context import current
from mesh.errors import PROBLEM_KEY, Unavailable
from mesh.interceptors.base import Rpc
from mesh.interceptors.viewer import require_reader
from mesh.server import Server, Service
from mesh.sessions import Ended, EndedPage, EndedSessions
from mesh.settings import ServerSettings
from tests.unit.toys import SERVICE, Toy

SESSION = "ab" * 16
RULES = {
    "Open": Rule(open=True),
    "Read": Rule(scopes=["thing.read"], clients=True),
    "Write": Rule(scopes=["thing.read", "thing.write"]),
    "Judge": Rule(scopes=["thing.read"], roles=["judge", "clerk"]),
    "Leave": Rule(scopes=["account"], ended_sessions=True),
    "Inside": None,
}


class Owner:
    """Tells which sessions have ended."""

    def __init__(self) -> None:
        self.ended: list[Ended] = []
        self.asked: list[tuple[int, bytes]] = []
        self.away = False
        self.page = 100

    async def read(self, after_ms: int, after_id: bytes) -> EndedPage:
        """See mesh.sessions.Read."""
        if self.away:
            raise Unavailable("nobody")
        self.asked.append((after_ms, after_id))
        found = sorted(
            (one for one in self.ended if (one.ended_ms, one.session) > (after_ms, after_id)),
            key=lambda one: (one.ended_ms, one.session),
        )
        return EndedPage(found[: self.page], 60_000, len(found) > self.page)

    def end(self, session: str, ended_ms: int = 0) -> None:
        """Ends one."""
        self.ended.append(Ended(bytes.fromhex(session), ended_ms or time.time_ns() // 1_000_000))


@pytest.fixture
def owner() -> Owner:
    return Owner()


@pytest.fixture
def ended(owner: Owner) -> EndedSessions:
    return EndedSessions(owner.read, every_s=0.02)


async def _answer(_: StringValue) -> StringValue:
    call = current()
    return StringValue(value=f"{call.viewer_id} {call.client}")


async def _reader(_: StringValue) -> StringValue:
    return StringValue(value=str(require_reader()))


async def _stream(_: StringValue) -> AsyncGenerator[StringValue, None]:
    yield StringValue(value="first")
    await asyncio.Event().wait()


@pytest.fixture
async def toy(ended: EndedSessions) -> AsyncIterator[Toy]:
    handlers = {"Read": _reader}
    rpcs = [Rpc(SERVICE, name, StringValue, handlers.get(name, _answer), access=rule) for name, rule in RULES.items()]
    rpcs.append(Rpc(SERVICE, "Watch", StringValue, _stream, streams=True, access=RULES["Read"]))
    registry = CollectorRegistry()
    with tempfile.TemporaryDirectory(prefix="toy") as folder:
        target = f"unix://{Path(folder) / 's'}"
        settings = ServerSettings(target, "", "info", 100, 5)
        server = Server(Service("toy", rpcs, ended=ended), settings, registry=registry)
        await server.start()
        toy = Toy(server, target, registry)
        yield toy
        await toy.channel.close()
        await server.stop()


def said(scope: str = "*", viewer: str = "7", role: str = "", session: str = SESSION) -> Sequence[tuple[str, str]]:
    """What the edge says of a token."""
    pairs = {"x-user-id": viewer, "x-scope": scope, "x-role": role, "x-session-id": session}
    return [(name, value) for name, value in pairs.items() if value]


async def refused(toy: Toy, name: str, metadata: Sequence[tuple[str, str]]) -> tuple[grpc.StatusCode, str, str]:
    """Code, title and WWW-Authenticate of a refusal."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await toy.call(name, metadata=metadata)
    trailing = dict(raised.value.trailing_metadata() or ())
    return raised.value.code(), json.loads(trailing[PROBLEM_KEY])["title"], str(trailing.get("www-authenticate", ""))


async def known(ended: EndedSessions, session: str = SESSION) -> None:
    """Waits until a session is known to have ended."""
    async with asyncio.timeout(5):
        while session not in ended:  # noqa: ASYNC110 -- it is asked for, and tells nobody
            await asyncio.sleep(0.005)


async def test_each_scope_that_a_contract_names_is_needed(toy: Toy) -> None:
    denied = grpc.StatusCode.PERMISSION_DENIED
    assert await toy.call("Write", metadata=said("thing.write other thing.read")) == "7 "
    assert await toy.call("Write", metadata=said("*")) == "7 "
    needs = 'Bearer error="insufficient_scope", scope="thing.read thing.write"'
    for scope in ("thing.read", "thing.write", "", "thing.readthing.write", "thing", "* thing.read", "THING.READ"):
        assert await refused(toy, "Write", said(scope)) == (denied, "Forbidden", needs), scope


async def test_one_of_the_roles_that_a_contract_names_is_needed(toy: Toy) -> None:
    for role in ("judge", "clerk", "other judge"):
        assert await toy.call("Judge", metadata=said("thing.read", role=role)) == "7 "
    for role in ("", "other", "judges"):
        assert (await refused(toy, "Judge", said(role=role)))[0] is grpc.StatusCode.PERMISSION_DENIED


async def test_nobody_gets_to_what_is_not_open(toy: Toy) -> None:
    assert await toy.call("Open") == "0 "
    for name in ("Read", "Write", "Judge", "Leave"):
        assert (await refused(toy, name, said(viewer="")))[0] is grpc.StatusCode.UNAUTHENTICATED, name


async def test_a_client_in_its_own_name_gets_to_what_is_for_clients(toy: Toy) -> None:
    client = said("thing.read", viewer="client:a_client-1")
    assert await toy.call("Read", metadata=client) == "0"
    assert await toy.call("Inside", metadata=client) == "0 a_client-1"
    assert (await refused(toy, "Write", client))[1] == "Unsupported Authentication"
    for strange in ("client:", "client:a b", "client:" + "x" * 65, "clients:a"):
        assert (await refused(toy, "Read", said(viewer=strange)))[0] is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("twice", ["x-user-id", "x-scope", "x-role", "x-session-id"])
async def test_what_is_said_twice_is_believed_by_nobody(toy: Toy, twice: str) -> None:
    value = "8" if twice == "x-user-id" else "account"
    metadata = [*said("thing.read", role="judge"), (twice, value)]
    assert (await refused(toy, "Read", metadata))[0] is grpc.StatusCode.UNAUTHENTICATED


async def test_rpcs_of_the_mesh_ask_for_nothing(toy: Toy, owner: Owner, ended: EndedSessions) -> None:
    owner.end(SESSION)
    await known(ended)
    assert await toy.call("Inside") == "0 "
    assert await toy.call("Inside", metadata=[("x-user-id", "7")]) == "7 "


async def test_a_session_that_has_ended_is_refused_but_for_who_asks_for_a_password(
    toy: Toy, owner: Owner, ended: EndedSessions
) -> None:
    assert await toy.call("Read", metadata=said()) == "7"
    owner.end(SESSION)
    await known(ended)
    invalid = (grpc.StatusCode.UNAUTHENTICATED, "Unauthorized", 'Bearer error="invalid_token"')
    for name in ("Read", "Write", "Judge"):
        assert await refused(toy, name, said()) == invalid
    assert await toy.call("Leave", metadata=said()) == "7 "
    assert await toy.call("Open", metadata=said()) == "0 ", "whoever that was is nobody"
    assert await toy.call("Read", metadata=said(session="cd" * 16)) == "7"


async def test_a_stream_ends_within_moments_of_its_session(toy: Toy, owner: Owner) -> None:
    method = toy.channel.unary_stream(
        f"/{SERVICE}/Watch",
        request_serializer=StringValue.SerializeToString,
        response_deserializer=StringValue.FromString,
    )
    mine = method(StringValue(), metadata=tuple(said()), timeout=30)
    other = method(StringValue(), metadata=tuple(said(session="cd" * 16)), timeout=30)
    for call in (mine, other):
        assert (await call.read()).value == "first"
    owner.end(SESSION)
    began = time.monotonic()
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await mine.read()
    assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert time.monotonic() - began < 5
    assert not other.done()
    other.cancel()


async def test_a_service_with_public_rpcs_must_know_which_sessions_have_ended() -> None:
    service = Service("toy", [Rpc(SERVICE, "Read", StringValue, _answer, access=RULES["Read"])])
    with pytest.raises(ValueError, match="must know"):
        Server(service, ServerSettings("unix:///nowhere/s", "", "info", 100, 5), registry=CollectorRegistry())


# --- what is known of sessions


async def test_what_was_committed_late_is_seen_and_nothing_is_read_twice_for_ever(owner: Owner) -> None:
    ended = EndedSessions(owner.read, now_ms=lambda: 200_000)
    owner.end("aa", 150_000)
    await ended.catch_up()
    owner.end("bb", 149_000)  # by a clock that is behind, or a commit that took its time
    await ended.catch_up()
    assert "aa" in ended and "bb" in ended
    assert owner.asked == [(0, b""), (120_000, b"")]


async def test_all_pages_are_read(owner: Owner) -> None:
    ended = EndedSessions(owner.read, now_ms=lambda: 0)
    owner.page = 3
    for number in range(10):
        owner.end(f"{number:02x}", 1000 + number // 4)
    await ended.catch_up()
    assert len(ended) == 10


async def test_a_session_is_forgotten_when_its_last_token_is_over(owner: Owner) -> None:
    now = 10_000
    ended = EndedSessions(owner.read, now_ms=lambda: now)
    owner.end("aa", 10_000)
    owner.end("bb", 20_000)
    await ended.catch_up()
    owner.ended.clear()
    now = 69_999
    await ended.catch_up()
    assert "aa" in ended
    now = 70_000
    await ended.catch_up()
    assert "aa" not in ended and "bb" in ended


async def test_of_too_many_the_oldest_are_forgotten(owner: Owner) -> None:
    ended = EndedSessions(owner.read, most=5, now_ms=lambda: 0)
    for number in range(8):
        owner.end(f"{number:02x}", 1000 + number)
    await ended.catch_up()
    assert [f"{number:02x}" in ended for number in range(8)] == [False] * 3 + [True] * 5


async def test_while_the_owner_is_away_what_is_known_counts(owner: Owner) -> None:
    ended = EndedSessions(owner.read, every_s=0.005)
    owner.end("aa")
    task = asyncio.create_task(ended.run())
    await known(ended, "aa")
    owner.away = True
    owner.end("bb")
    await asyncio.sleep(0.02)
    assert "aa" in ended and "bb" not in ended
    owner.away = False
    await known(ended, "bb")
    task.cancel()
