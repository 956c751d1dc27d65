"""The sets that say what a person sees: what is loaded, and that every change's event drops them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
from rookery.graph.v1.graph_mesh_pb2 import GetStandingRequest, GetStandingResponse

from mesh.bus.base import Bus, Message
from mesh.cache.open import open_cache
from mesh.cache.sets import OVERFLOW, PRESENT, GuardedSets
from mesh.cache.store import CacheStore
from mesh.db.sql import Tx
from services.graph.consumers import subscriptions
from services.graph.domain import MAX_BLOCKED_SET, SETS
from services.graph.erasure import Erasure
from services.graph.readmodel import ReadModel
from services.graph.rpc.get_standing import GetStanding
from services.graph.store.erasure import SqlRemains
from services.graph.store.sql import SqlGraphStore
from services.graph.store.sql_lists import SqlListStore

from .conftest import Valkey
from .sqlite_stores import Sql, sqlite
from .suites.graph import LINE

ME, FRIEND, FOE, HATER, BORE = 1, 2, 3, 4, 5
HandleBatch = Callable[[Sequence[Message]], Awaitable[None]]


class Recorder:
    """Keeps the handler that a service gives to the bus, so that a test may deliver to it."""

    def __init__(self) -> None:
        self.handle: HandleBatch | None = None

    def subscribe_batch(self, group: str, topics: Sequence[str], handle: HandleBatch) -> None:
        """See mesh.bus.base.Bus."""
        assert (group, list(topics)) == ("graph-sets", ["social"])
        self.handle = handle

    def subscribe(self, group: str, topics: Sequence[str], handle: object) -> None:
        """See mesh.bus.base.Bus."""
        assert group == "graph-erasure"


@dataclass(frozen=True, slots=True)
class World:
    """The graph's store, its sets, and its reader of events."""

    sql: Sql
    store: SqlGraphStore
    cache: CacheStore
    readmodel: ReadModel
    bus: Recorder

    async def kept(self, name: str, owner: int = ME) -> set[int] | None:
        """What readers see of a set, without the mark; None when it is not loaded."""
        members = {int(one) for one in await self.cache.client.smembers(GuardedSets.key(name, owner))}
        return members - {int(PRESENT)} if members else None

    async def deliver(self, count: int) -> None:
        """Hands the newest events to the service."""
        assert self.bus.handle is not None
        await self.bus.handle(
            [
                Message(
                    event.topic,
                    event.key.encode(),
                    event.message.DESCRIPTOR.full_name,
                    event.message.SerializeToString(),
                    "1-1",
                    "an event",
                    None,
                    1,
                )
                for event in (await self.sql.events())[-count:]
            ]
        )


@pytest.fixture
async def world(tmp_path: Path, valkey: Valkey) -> AsyncIterator[World]:
    """Everything empty."""
    async with sqlite("graph", tmp_path) as sql:
        cache = open_cache(valkey.url)
        await cache.client.flushdb()
        store = SqlGraphStore(sql.db, sql.outbox, LINE)
        readmodel = ReadModel(store, GuardedSets(cache, SETS))
        bus = Recorder()
        erasure = Erasure(store, SqlListStore(sql.db, sql.outbox), SqlRemains(sql.db), readmodel)
        subscriptions(cast("Bus", bus), readmodel, erasure)
        yield World(sql, store, cache, readmodel, bus)
        await cache.close()


async def relate(store: SqlGraphStore) -> None:
    """One relation of each kind."""
    await store.follow(ME, FRIEND, 100)
    await store.block(ME, FOE, 101)
    await store.block(HATER, ME, 102)
    await store.mute(ME, BORE, 103)


async def test_all_sets_are_loaded_together(world: World) -> None:
    await relate(world.store)
    await world.readmodel.load(ME)
    assert {name: await world.kept(name) for name in SETS} == {
        "following": {FRIEND},
        "pulled": set(),
        "blocked": {FOE, HATER},
        "muted": {BORE},
    }
    assert await world.kept("blocked", FOE) is None, "each person's are loaded for themself"
    await world.readmodel.load(FOE)
    assert await world.kept("blocked", FOE) == {ME}, "a block is in both people's sets"


async def test_a_set_of_too_many_tells_to_ask_and_the_question_is_answered(world: World) -> None:
    answer = GetStanding(world.store, world.readmodel)
    await world.store.block(ME, FOE, 101)

    async def unit(tx: Tx) -> None:
        await tx.execute(
            "INSERT INTO blocks (blocker_id, blocked_id, block_id) VALUES (:id, 1, :id)",
            [{"id": 1000 + n} for n in range(MAX_BLOCKED_SET)],
        )

    await world.sql.db.write(unit)
    wanted = GetStandingResponse(blocked_ids=[FOE, 1000])
    for loaded in (False, True):
        found = await answer(GetStandingRequest(viewer_id=ME, user_ids=[FOE, 1000, FRIEND], loaded=loaded))
        assert sorted(found.blocked_ids) == sorted(wanted.blocked_ids)
        assert await world.kept("blocked") == {int(OVERFLOW)}
    assert await world.kept("following") == set()


async def test_a_question_about_loaded_sets_loads_nothing(world: World) -> None:
    await relate(world.store)
    answer = GetStanding(world.store, world.readmodel)
    asked = GetStandingRequest(viewer_id=ME, user_ids=[FRIEND, FOE, HATER, BORE, 9], loaded=True)
    found = await answer(asked)
    assert (list(found.following_ids), sorted(found.blocked_ids), list(found.muted_ids)) == (
        [FRIEND],
        [FOE, HATER],
        [BORE],
    )
    assert await world.kept("blocked") is None
    asked.loaded = False
    assert await answer(asked) == found
    assert await world.kept("blocked") == {FOE, HATER}


@pytest.mark.parametrize(
    ("change", "events", "dropped"),
    [
        (lambda store: store.follow(ME, 9, 200), 1, {ME}),
        (lambda store: store.unfollow(ME, FRIEND), 1, {ME}),
        (lambda store: store.block(ME, FRIEND, 200), 2, {ME, FRIEND}),
        (lambda store: store.block(FRIEND, ME, 200), 2, {ME, FRIEND}),
        (lambda store: store.unblock(ME, FOE), 1, {ME, FOE}),
        (lambda store: store.unblock(HATER, ME), 1, {ME, HATER}),
        (lambda store: store.mute(ME, FRIEND, 200), 1, {ME}),
        (lambda store: store.unmute(ME, BORE), 1, {ME}),
        (lambda store: store.request(ME, 9, 200), 1, set[int]()),
    ],
)
async def test_the_event_of_a_change_drops_the_sets_that_it_made_wrong(
    world: World, change: Callable[[SqlGraphStore], Awaitable[object]], events: int, dropped: set[int]
) -> None:
    """The process that made the change has died before it could."""
    await relate(world.store)
    before = len(await world.sql.events())
    people = (ME, FRIEND, FOE, HATER, BORE)
    for person in people:
        await world.readmodel.load(person)
    await change(world.store)
    assert len(await world.sql.events()) - before == events
    await world.deliver(events)
    for person in people:
        for name in SETS:
            assert (await world.kept(name, person) is None) == (person in dropped), (name, person)
