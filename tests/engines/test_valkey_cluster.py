"""A Valkey Cluster with replicas: trips over several nodes, slots that move under load, masters that are killed."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
import redis.asyncio as redis
from redis.exceptions import ResponseError

from mesh.cache.cluster import Cluster
from mesh.cache.keys import bucket, slot
from mesh.cache.lists import NewestLists
from mesh.cache.open import open_cache
from mesh.cache.records import VERSION_BYTES, Records
from mesh.cache.sets import GuardedSets
from mesh.cache.store import CacheGone
from scripts.engines.control import Control
from scripts.engines.valkey import Valkey
from tests.stores.suites.outbox import eventually

IDS = range(1, 301)
"""Things with keys on all nodes."""
OWNERS = range(1, 121)
"""Likewise."""


@pytest.fixture(scope="module")
def control() -> Iterator[Control]:
    """A cluster of the module's own: three masters, each with a replica."""
    with tempfile.TemporaryDirectory(prefix="vk") as folder:
        one = Control(Valkey(), Path(folder) / "engines")
        one.up()
        yield one
        one.down()


@pytest_asyncio.fixture
async def store(control: Control) -> AsyncIterator[Cluster]:
    """The store, empty."""
    await asyncio.to_thread(control.up)
    made = open_cache(control.urls()["ROOKERY_CACHE_URL"])
    assert isinstance(made, Cluster)
    await made.client.flushall()
    yield made
    await made.close()


@pytest_asyncio.fixture
async def admin(control: Control) -> AsyncIterator[Callable[[int], redis.Redis]]:
    """`admin(port)` is a client of one node alone."""
    word = control.place().secret("password")
    clients: dict[int, redis.Redis] = {}

    def of(port: int) -> redis.Redis:
        if port not in clients:
            clients[port] = redis.Redis(host="127.0.0.1", port=port, password=word, protocol=2, socket_timeout=5)
        return clients[port]

    yield of
    for client in clients.values():
        await client.aclose()


def record(version: int) -> bytes:
    return version.to_bytes(VERSION_BYTES, "big") + b"content"


def version(found: bytes) -> int:
    return int.from_bytes(found[:VERSION_BYTES], "big")


def program_of(control: Control, port: int) -> str:
    """The program that listens on a port."""
    place = control.place()
    return next(f"valkey-{n}" for n in range(1, place.nodes + 1) if place.port(f"node-{n}") == port)


# --- trips


async def test_one_trip_reads_from_all_nodes_in_the_order_asked(store: Cluster) -> None:
    await store.exchange([("SET", f"k{n}", n) for n in IDS])
    whole, one, some = await store.exchange(
        [("MGET", *(f"k{n}" for n in IDS)), ("GET", "k7"), ("MGET", "none", "k3", "k3")]
    )
    assert whole == [b"%d" % n for n in IDS]
    assert (one, some) == (b"7", [None, b"3", b"3"])
    assert len({store._owners[slot(f"k{n}")] for n in IDS}) == 3
    assert await store.exchange([]) == []


async def test_a_refused_command_is_raised_when_all_others_are_carried_out(store: Cluster) -> None:
    await store.exchange([("SET", f"k{n}", n) for n in IDS])
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await store.exchange([("SET", "k1", "a"), ("SMEMBERS", "k2"), *(("SET", f"k{n}", "b") for n in range(3, 30))])
    assert (await store.exchange([("MGET", "k1", "k29")]))[0] == [b"a", b"b"]
    with pytest.raises(ResponseError, match="CROSSSLOT"):
        await store.exchange([("DEL", "a", "b")])
    await store.exchange([("SADD", "s", "x")])
    assert await store.exchange([("MGET", "k1", "s")]) == [[b"a", None]], "as one server has it"


async def test_after_a_cancelled_trip_the_next_reads_its_own_answers(store: Cluster) -> None:
    await store.exchange([("SET", f"k{n}", n) for n in IDS])
    for turns in range(8):
        trip = asyncio.create_task(store.exchange([("MGET", *(f"k{n}" for n in IDS))]))
        for _ in range(turns):
            await asyncio.sleep(0)
        trip.cancel()
        assert await store.exchange([("GET", "k5")]) == [b"5"]
        await asyncio.gather(trip, return_exceptions=True)


async def test_trips_share_connections_and_none_takes_anothers_answers(store: Cluster) -> None:
    await store.exchange([("SET", f"k{n}", n) for n in IDS])

    async def read(first: int) -> None:
        ids = [(first + n) % len(IDS) + 1 for n in range(20)]
        [found] = await store.exchange([("MGET", *(f"k{n}" for n in ids))])
        assert found == [b"%d" % n for n in ids]

    await asyncio.gather(*(read(first) for first in IDS))
    assert sum(c is not None for node in store._nodes.values() for c in node._connections) <= 3 * 5


async def test_scripts_that_a_server_forgot_are_given_to_it_again(
    store: Cluster, control: Control, admin: Callable[[int], redis.Redis]
) -> None:
    lists = NewestLists(store, "list:", limit=4, ttl_s=100)
    for forgets in range(2):
        for port in {node.port for node in store._owners if node is not None}:
            await admin(port).script_flush()
        tokens = await asyncio.gather(*(lists.begin(owner) for owner in OWNERS))
        assert (None in tokens) == bool(forgets)


async def test_a_node_that_hangs_takes_nothing_from_the_others(store: Cluster, control: Control) -> None:
    records = Records(store, "thing:")
    await records.put({n: record(n) for n in IDS})
    victim = store._owners[slot(records.key(1))]
    assert victim is not None
    theirs = [n for n in IDS if store._owners[slot(records.key(n))] is not victim]
    pid = control.pids()[program_of(control, victim.port)]
    os.kill(pid, signal.SIGSTOP)
    try:
        longest = 0.0
        for _ in range(10):
            began = time.perf_counter()
            found = await records.get(IDS)
            longest = max(longest, time.perf_counter() - began)
            assert [found[n - 1] for n in theirs] == [record(n) for n in theirs]
        began = time.perf_counter()
        assert await records.get(theirs) == [record(n) for n in theirs]
        assert time.perf_counter() - began < 0.4, "they do not wait for it"
        print(f"a hanging node: longest trip {longest:.2f} s")
    finally:
        os.kill(pid, signal.SIGCONT)
    await asyncio.to_thread(control.up)


# --- load


class Load:
    """Writers and readers of records, lists and sets, who know what must be seen.

    Each writer owns its things. Whatever was answered must be seen by every reader from then on; what was not
    answered is tried again until it is, as handlers of events do.
    """

    def __init__(self, store: Cluster) -> None:
        self.store = store
        self.records = Records(store, "thing:")
        self.lists = NewestLists(store, "list:", limit=50, ttl_s=1000)
        self.sets = GuardedSets(store, ("joined",))
        self.versions = dict.fromkeys(IDS, 0)
        """What was accepted of each thing."""
        self.members: dict[int, int] = dict.fromkeys(OWNERS, 0)
        """The newest that was accepted into each list."""
        self.rounds = 0
        self.refused = 0
        self.missed = 0
        """Records that were not to be had."""
        self.read = 0
        self.wrong: list[str] = []
        self.stalls: dict[int, float] = {}
        """The longest that one thing could not be written, by slot's master at the time of the start."""
        self._stopped = False

    async def prepare(self) -> None:
        """Lists that exist."""
        for owner in OWNERS:
            token = await self.lists.begin(owner)
            assert token is not None
            assert await self.lists.finish(owner, token, [(1).to_bytes(8, "big")], complete=True)

    async def _insist(self, key: str, write: Callable[[], object]) -> None:
        began = time.perf_counter()
        while True:
            try:
                await write()  # type: ignore[misc]
                break
            except CacheGone:
                self.refused += 1
                await asyncio.sleep(0.02)
        if key:  # lists are written together, so they wait together
            self.stalls[slot(key)] = max(self.stalls.get(slot(key), 0.0), time.perf_counter() - began)

    async def write(self, part: int, parts: int) -> None:
        """One of several writers."""
        number = 1
        while not self._stopped:
            number += 1
            for n in list(IDS)[part::parts]:
                await self._insist(self.records.key(n), lambda n=n, v=number: self.records.put({n: record(v)}))  # type: ignore[misc]
                self.versions[n] = number
                if self._stopped:
                    return
            owners = list(OWNERS)[part::parts]
            member = number.to_bytes(8, "big")
            await self._insist("", lambda m=member, o=owners: self.lists.add(o, m))  # type: ignore[misc]
            for owner in owners:
                self.members[owner] = number
            self.rounds += 1

    async def look(self) -> None:
        """A reader: nothing that it sees is older than what was accepted before it asked."""
        while not self._stopped:
            least = dict(self.versions)
            try:
                found = await self.records.get(IDS)
            except CacheGone:
                found = [None] * len(IDS)
            self.read += len(IDS)
            for n, one in zip(IDS, found, strict=True):
                if one is None:
                    self.missed += bool(least[n])
                elif version(one) < least[n]:
                    self.wrong.append(f"thing {n}: {version(one)} after {least[n]}")
            await asyncio.sleep(0.005)

    async def look_at_lists(self) -> None:
        """Likewise, for lists: complete down to the lowest member that they show."""
        while not self._stopped:
            for owner in OWNERS:
                least = self.members[owner]
                try:
                    top = (await self.store.exchange([("ZRANGE", self.lists.key(owner), 0, 0, "REV")]))[0]
                except CacheGone:
                    continue
                if top and int.from_bytes(top[0][:8], "big") < least:
                    self.wrong.append(f"list {owner}: {int.from_bytes(top[0][:8], 'big')} after {least}")
                if not top:
                    self.wrong.append(f"list {owner} is gone")
            await asyncio.sleep(0.005)

    async def more(self, rounds: int = 2) -> None:
        """Waits until so many more rounds were written by somebody."""
        wanted = self.rounds + rounds
        async with asyncio.timeout(60):
            while self.rounds < wanted:  # noqa: ASYNC110 - what is waited for is a load, not an event
                await asyncio.sleep(0.02)

    async def run(self, harm: Callable[[], object]) -> None:
        """Runs while `harm` does."""
        await self.prepare()
        work = [asyncio.create_task(self.write(part, 4)) for part in range(4)]
        work += [asyncio.create_task(self.look()), asyncio.create_task(self.look_at_lists())]
        try:
            await self.more()
            await harm()  # type: ignore[misc]
            await self.more(8)
        finally:
            self._stopped = True
            done = await asyncio.gather(*work, return_exceptions=True)
        assert [one for one in done if isinstance(one, BaseException)] == []
        assert self.wrong == []
        final = await self.records.get(IDS)
        for n, one in zip(IDS, final, strict=True):
            assert one is not None and version(one) >= self.versions[n], n


@pytest.mark.timeout(240)
async def test_each_master_is_killed_and_nothing_that_was_accepted_is_unseen(store: Cluster, control: Control) -> None:
    load = Load(store)

    async def harm() -> None:
        for number in range(3):
            masters = sorted({node.port for node in store._owners if node is not None})
            port = masters[number % len(masters)]
            mine = {at for at, node in enumerate(store._owners) if node is not None and node.port == port}
            load.stalls.clear()
            load.refused = load.missed = load.read = 0
            began = time.perf_counter()
            await asyncio.to_thread(control.kill, program_of(control, port))

            async def taken_over(mine: set[int] = mine, port: int = port) -> bool:
                owners = [store._owners[at] for at in mine]
                return all(owner is not None and owner.port != port for owner in owners)

            await eventually(taken_over, seconds=20.0)
            took = time.perf_counter() - began
            await load.more(4)
            theirs = max((s for at, s in load.stalls.items() if at in mine), default=0.0)
            others = max((s for at, s in load.stalls.items() if at not in mine), default=0.0)
            print(
                f"killed {port}: another has its slots after {took:.1f} s; longest wait of a write {theirs:.1f} s on"
                f" its slots, {others:.2f} s on others; {load.refused} writes tried again;"
                f" {load.missed} of {load.read} records not to be had"
            )
            assert load.missed < load.read * 0.6, "only its own slots are gone"
            await asyncio.to_thread(control.up)
            await load.more(2)

    await load.run(harm)


@pytest.mark.timeout(240)
async def test_a_slot_that_moves_key_by_key_under_load_loses_and_refuses_nothing(
    store: Cluster, control: Control, admin: Callable[[int], redis.Redis]
) -> None:
    """As every version can (CLUSTER SETSLOT, MIGRATE), with a pause when half are there."""
    load = Load(store)

    async def harm() -> None:
        move = await Move.of(load, admin)
        await move.begin()
        keys = await move.keys()
        word = control.place().secret("password")
        for at, key in enumerate(keys):
            if at == len(keys) // 2:
                await load.more(3)
            await move.source.execute_command(  # type: ignore[no-untyped-call]
                "MIGRATE", "127.0.0.1", move.target_port, key, 0, 5_000, "AUTH", word
            )
        await load.more(3)
        for one in (move.target, move.source):
            await one.execute_command("CLUSTER SETSLOT", move.slot, "NODE", move.ids[1])  # type: ignore[no-untyped-call]
        await load.more(3)
        await move.check()

    await load.run(harm)
    assert (load.refused, load.missed) == (0, 0)


@pytest.mark.timeout(240)
async def test_slots_that_move_at_once_under_load_lose_and_refuse_nothing(
    store: Cluster, admin: Callable[[int], redis.Redis]
) -> None:
    """CLUSTER MIGRATESLOTS, which Valkey 9 has."""
    load = Load(store)

    async def harm() -> None:
        move = await Move.of(load, admin)
        await move.source.execute_command(  # type: ignore[no-untyped-call]
            "CLUSTER MIGRATESLOTS", "SLOTSRANGE", move.slot, move.slot, "NODE", move.ids[1]
        )

        await eventually(move.known, seconds=20.0)
        await load.more(3)
        await move.check()

    await load.run(harm)
    assert (load.refused, load.missed) == (0, 0)


class Move:
    """A slot with a list and some records, and the masters from and to which it moves."""

    def __init__(self, load: Load, admin: Callable[[int], redis.Redis]) -> None:
        self._load = load
        self.slot = slot(load.lists.key(OWNERS[0]))
        owners = load.store._owners
        before = owners[self.slot]
        assert before is not None
        self.target_port = next(node.port for node in owners if node is not None and node.port != before.port)
        self.source, self.target = admin(before.port), admin(self.target_port)
        self.ids: list[str] = []
        self._records = [n for n in range(IDS[-1] + 1, 50_000) if slot(load.records.key(n)) == self.slot]

    @classmethod
    async def of(cls, load: Load, admin: Callable[[int], redis.Redis]) -> Move:
        """With its records there."""
        made = cls(load, admin)
        for one in (made.source, made.target):
            made.ids.append((await one.execute_command("CLUSTER MYID")).decode())  # type: ignore[no-untyped-call]
        await load.records.put({n: record(10**6) for n in made._records})
        assert len(await made.keys()) > 2
        return made

    async def keys(self) -> list[bytes]:
        """Of the slot, at its source."""
        return list(await self.source.execute_command("CLUSTER GETKEYSINSLOT", self.slot, 1_000))  # type: ignore[no-untyped-call]

    async def begin(self) -> None:
        """From now on keys may be on either side."""
        await self.target.execute_command("CLUSTER SETSLOT", self.slot, "IMPORTING", self.ids[0])  # type: ignore[no-untyped-call]
        await self.source.execute_command("CLUSTER SETSLOT", self.slot, "MIGRATING", self.ids[1])  # type: ignore[no-untyped-call]

    async def known(self) -> bool:
        """Whether the client has been told where it is."""
        owner = self._load.store._owners[self.slot]
        return owner is not None and owner.port == self.target_port

    async def check(self) -> None:
        """It is where it should be, with all that it had. Clients hear of it at their next call about it."""
        await eventually(self.known, seconds=20.0)
        found = await self._load.records.get(self._records)
        assert [version(one or b"") for one in found] == [10**6] * len(self._records)


@pytest.mark.timeout(240)
async def test_lists_whose_slot_is_half_moved_are_written_one_by_one(
    store: Cluster, control: Control, admin: Callable[[int], redis.Redis]
) -> None:
    """A call on keys of which some have moved is refused for as long as the move takes."""
    lists = NewestLists(store, "list:", limit=50, ttl_s=1000)
    owners = [one for one in range(1, 40_000) if bucket(one) == 3]
    present = owners[::2]  # the others have no list: those are asked for on the other side
    for owner in present:
        token = await lists.begin(owner)
        assert token is not None and await lists.finish(owner, token, [(1).to_bytes(8, "big")], complete=True)
    moving = slot(lists.key(owners[0]))
    source = store._owners[moving]
    assert source is not None
    target = next(node for node in store._owners if node is not None and node.port != source.port)
    from_, to = admin(source.port), admin(target.port)
    ids = [(await one.execute_command("CLUSTER MYID")).decode() for one in (from_, to)]  # type: ignore[no-untyped-call]
    await to.execute_command("CLUSTER SETSLOT", moving, "IMPORTING", ids[0])  # type: ignore[no-untyped-call]
    await from_.execute_command("CLUSTER SETSLOT", moving, "MIGRATING", ids[1])  # type: ignore[no-untyped-call]
    word = control.place().secret("password")
    for owner in present[: len(present) // 2]:
        await from_.execute_command(  # type: ignore[no-untyped-call]
            "MIGRATE", "127.0.0.1", target.port, lists.key(owner), 0, 5_000, "AUTH", word
        )
    assert await lists.add(owners, (2).to_bytes(8, "big")) == len(present)
    assert await lists.add(owners, (2).to_bytes(8, "big")) == 0, "it was added to each"
    assert await lists.remove(owners, (2).to_bytes(8, "big")) == len(present)
    assert await lists.existing(owners) == present
    for one in (to, from_):
        await one.execute_command("CLUSTER SETSLOT", moving, "STABLE")  # type: ignore[no-untyped-call]
    await to.execute_command("FLUSHALL")  # type: ignore[no-untyped-call]


async def test_without_replicas_writes_are_not_held_up(store: Cluster, control: Control) -> None:
    """Each waits for its replica for 50 ms at first, and then for a second not at all."""
    records = Records(store, "thing:")
    await records.put({1: record(1)})
    replicas = set(control.pids()) - {program_of(control, node.port) for node in store._owners if node is not None}
    for name in replicas:
        await asyncio.to_thread(control.kill, name)
    began = time.perf_counter()
    for number in range(2, 42):
        await records.put({1: record(number)})
    took = time.perf_counter() - began
    print(f"40 writes without a replica: {took:.2f} s")
    assert took < 40 * 0.05
    assert await records.get([1]) == [record(41)]
