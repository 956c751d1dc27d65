"""Newest-first lists on a real Valkey: a model of the whole contract, and the races around filling one by one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mesh.cache.lists import NewestLists, Slice, State
from mesh.cache.open import open_cache
from mesh.cache.store import Answer, CacheGone, CacheStore, Command, Commands

from .conftest import Valkey

T = TypeVar("T")
LIMIT = 4
OWNER = 7
GROUPS = 3
IDS = st.integers(1, 30)
BOUNDS = st.one_of(st.just(0), st.integers(1, 31), st.sampled_from([2**32, 2**62, 2**63 - 1]))


def group_of(row: int) -> int:
    """Each row belongs to one group for ever."""
    return row % GROUPS + 1


def member(row: int) -> bytes:
    """The member of a row: its id, its group, and something more."""
    return row.to_bytes(8, "big") + group_of(row).to_bytes(8, "big") + b"more"


def rows_of(members: list[bytes]) -> list[int]:
    """The ids of members, which must be whole."""
    rows = [int.from_bytes(one[:8], "big") for one in members]
    assert members == [member(row) for row in rows]
    return rows


def lists_of(store: CacheStore, *, limit: int = LIMIT) -> NewestLists:
    """Lists as a service has them, but short."""
    return NewestLists(store, "list:", limit=limit, ttl_s=1000)


async def read(
    store: CacheStore, lists: NewestLists, owner: int = OWNER, *, before: int = 0, after: int = 0, count: int = 100
) -> Slice:
    """One slice, in one trip."""
    commands = Commands()
    answers = lists.queue_slice(commands, owner, before_id=before, after_id=after, count=count)
    found = await store.exchange(commands.queued)
    assert len(found) == answers
    return lists.read_slice(found, count, after_id=after)


async def filled(lists: NewestLists, rows: list[int], *, complete: bool, owner: int = OWNER) -> None:
    """Fills a missing list."""
    token = await lists.begin(owner)
    assert token is not None
    assert await lists.finish(owner, token, [member(row) for row in rows], complete=complete)


@pytest.fixture
async def store(valkey: Valkey) -> AsyncIterator[CacheStore]:
    one = open_cache(valkey.url)
    await one.client.flushdb()
    yield one
    await one.close()


@pytest.fixture
def lists(store: CacheStore) -> NewestLists:
    return lists_of(store)


# --- the model


@dataclass
class Builder:
    """Somebody who fills the list, and may be slow about it."""

    token: bytes
    rows: list[int] | None = None
    """What the database gave them, once they asked."""
    complete: bool = False


class Model(RuleBasedStateMachine):
    """One list against the truth that it is a part of.

    The truth is what a database would hold: rows of several groups, of which the owner has joined some. Whatever is
    done, and however filling races with it, a slice that is READY shows exactly the newest rows of the truth within its
    bounds, with no gap down to the lowest one shown, so that going on below in the database gives everything.
    """

    def __init__(self, url: str) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.rows: set[int] = set()
        self.joined = set(range(1, GROUPS + 1))
        self.builders: list[Builder] = []

        async def connect() -> CacheStore:
            store = open_cache(url)
            await store.client.flushdb()
            return store

        self.store = self.run(connect())
        self.lists = lists_of(self.store)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Awaits something in the machine's own event loop."""
        return self.runner.run(work)

    def teardown(self) -> None:
        """Ends the connections and the loop."""
        self.run(self.store.close())
        self.runner.close()

    @property
    def truth(self) -> list[int]:
        """What the owner's list is a part of, the newest first."""
        return sorted((row for row in self.rows if group_of(row) in self.joined), reverse=True)

    def slice(self, before: int = 0, after: int = 0, count: int = 100) -> Slice:
        """Reads one."""
        return self.run(read(self.store, self.lists, before=before, after=after, count=count))

    @initialize(rows=st.sets(IDS, max_size=3 * LIMIT), fill=st.booleans())
    def history(self, rows: set[int], fill: bool) -> None:
        """What was before."""
        self.rows |= rows
        if fill:
            self.fill_at_once()

    # what happens to rows

    @rule(row=IDS)
    def write(self, row: int) -> None:
        """A row is committed, and then reaches the lists; it may be of any age, and this may happen twice."""
        self.rows.add(row)
        if group_of(row) in self.joined:
            self.run(self.lists.add([OWNER], member(row)))

    @rule(count=st.integers(1, LIMIT + 2))
    def write_the_newest(self, count: int) -> None:
        """As rows mostly come; so many that they push out what was there."""
        for _ in range(count):
            self.write(max(self.rows, default=0) + 1)

    @rule(row=IDS)
    def delete(self, row: int) -> None:
        """A row goes, which may never have been."""
        self.rows.discard(row)
        self.run(self.lists.remove([OWNER], member(row)))

    @rule(group=st.integers(1, GROUPS))
    def leave(self, group: int) -> None:
        """All rows of a group go."""
        self.joined.discard(group)
        self.run(self.lists.remove_group(OWNER, group))

    @rule(group=st.integers(1, GROUPS))
    def join(self, group: int) -> None:
        """The newest rows of a group come."""
        self.joined.add(group)
        newest = sorted((row for row in self.rows if group_of(row) == group), reverse=True)[:LIMIT]
        self.run(self.lists.merge(OWNER, [member(row) for row in newest]))

    @rule(often=st.integers(0, 3))
    def evict(self, often: int = 0) -> None:
        """The cache may forget anything at any time, but mostly does not."""
        if not often:
            self.run(self.lists.drop(OWNER))

    # how a list is filled

    @rule()
    def begin(self) -> None:
        """One builder at a time."""
        missing = self.slice().state is State.MISSING
        token = self.run(self.lists.begin(OWNER))
        assert (token is not None) == missing
        if token is not None:
            assert self.slice().state is State.BUILDING
            self.builders.append(Builder(token))

    @precondition(lambda self: any(builder.rows is None for builder in self.builders))
    @rule(data=st.data(), count=st.integers(1, LIMIT))
    def read_the_database(self, data: st.DataObject, count: int) -> None:
        """What a builder does next; it may ask for less than fits."""
        builder = data.draw(st.sampled_from([one for one in self.builders if one.rows is None]))
        builder.rows, builder.complete = self.truth[:count], len(self.truth) <= count

    @precondition(lambda self: any(builder.rows is not None for builder in self.builders))
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        """A builder whose list was dropped in between changes nothing, also when another fills it by then."""
        builder = data.draw(st.sampled_from([one for one in self.builders if one.rows is not None]))
        self.builders.remove(builder)
        assert builder.rows is not None
        was = self.slice().state
        kept = self.run(
            self.lists.finish(OWNER, builder.token, [member(row) for row in builder.rows], complete=builder.complete)
        )
        if kept:
            assert was is State.BUILDING
            assert self.slice().state is State.READY

    @rule()
    def fill_at_once(self) -> None:
        """As mostly happens: nothing in between."""
        if self.slice().state is not State.MISSING:
            return
        self.run(filled(self.lists, self.truth[:LIMIT], complete=len(self.truth) <= LIMIT))
        found = self.slice()
        assert rows_of(found.members) == self.truth[:LIMIT]
        assert found.complete == (len(self.truth) < LIMIT), "MARK takes a place"

    @rule(
        count=st.integers(1, LIMIT),
        during=st.lists(st.tuples(st.sampled_from(["write", "delete", "leave"]), IDS), max_size=3),
        burst=st.integers(0, LIMIT + 2),
    )
    def fill_under_load(self, count: int, during: list[tuple[str, int]], burst: int) -> None:
        """Rows of any age come and go, and many new ones come, while somebody fills the list."""
        if self.slice().state is not State.MISSING:
            return
        self.begin()
        builder = self.builders.pop()
        rows, complete = self.truth[:count], len(self.truth) <= count
        for what, row in during:
            if what == "write":
                self.write(row)
            elif what == "delete":
                self.delete(row)
            else:
                self.leave(group_of(row))
        for _ in range(burst):
            self.write(max(self.rows, default=0) + 1)
        self.run(self.lists.finish(OWNER, builder.token, [member(row) for row in rows], complete=complete))

    # what must hold

    @rule(before=BOUNDS, after=BOUNDS, count=st.integers(1, LIMIT + 1))
    def look(self, before: int, after: int, count: int) -> None:
        """Reads a page."""
        self.check(self.slice(before, after, count), before, after, count, ever=self.truth, always=self.truth)

    @rule(before=BOUNDS, after=BOUNDS, count=st.integers(1, LIMIT + 1), data=st.data())
    def look_slowly(self, before: int, after: int, count: int, data: st.DataObject) -> None:
        """Reads a page by commands between which others write: what was there all the time must show."""
        pipe = Commands()
        self.lists.queue_slice(pipe, OWNER, before_id=before, after_id=after, count=count)
        truths, answers = [set(self.truth)], []
        for at, command in enumerate(pipe.queued):
            if at:
                between = data.draw(st.sampled_from([self.write, self.delete, self.write_the_newest, self.evict]))
                if between == self.evict:
                    self.evict()
                else:
                    between(data.draw(st.integers(1, LIMIT + 2) if between == self.write_the_newest else IDS))
                truths.append(set(self.truth))
            answers.append(self.run(self.command(command)))
        found = self.lists.read_slice(answers, count, after_id=after)
        self.check(found, before, after, count, ever=set.union(*truths), always=set.intersection(*truths))

    async def command(self, command: Command) -> Answer:
        """Runs one command by itself."""
        return (await self.store.exchange([command]))[0]

    async def glance(self) -> tuple[Slice, Slice, int]:
        """A short page, the whole list and its size, in one trip."""
        commands = Commands()
        for count in (2, 100):
            self.lists.queue_slice(commands, OWNER, before_id=0, after_id=0, count=count)
        commands.execute_command("ZCARD", self.lists.key(OWNER))
        page, whole, size = await self.store.exchange(commands.queued)
        return (
            self.lists.read_slice([page], 2, after_id=0),
            self.lists.read_slice([whole], 100, after_id=0),
            size,
        )

    @invariant()
    def the_top_is_right(self) -> None:
        """After each step; and the list is bounded, a builder's token being one more."""
        page, whole, size = self.run(self.glance())
        self.check(page, 0, 0, 2, ever=self.truth, always=self.truth)
        self.check(whole, 0, 0, 100, ever=self.truth, always=self.truth)
        assert size <= LIMIT + 1

    @staticmethod
    def check(
        found: Slice, before: int, after: int, count: int, *, ever: Collection[int], always: Collection[int]
    ) -> None:
        """Compares a slice with the rows that were in the truth while it was read: at any time, and all the time."""
        if found.state is not State.READY:
            assert (found.members, found.exhausted, found.complete) == ([], False, False)
            return

        def within(row: int) -> bool:
            return row > after and (not before or row < before)

        shown = rows_of(found.members)
        assert shown == sorted(set(shown), reverse=True)
        assert len(shown) <= count
        assert all(map(within, shown))
        assert set(shown) <= set(ever)
        expected = {row for row in always if within(row)}
        if shown:
            assert {row for row in expected if row >= shown[-1]} <= set(shown), "there is a gap"
        if not found.exhausted:
            assert len(shown) == count
        if found.complete:
            assert found.exhausted
            assert expected <= set(shown), "it is said to be complete, and is not"


def test_a_list_shows_the_newest_of_the_truth_whatever_happens(valkey: Valkey) -> None:
    class OnThisValkey(Model):
        def __init__(self) -> None:
            super().__init__(valkey.url)

    run_state_machine_as_test(
        OnThisValkey,
        settings=settings(
            max_examples=120,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            database=None,
            # A failure is told as it was found: making it shorter takes minutes. Add Phase.shrink to look into one.
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )


# --- filling, step by step


async def test_one_of_many_fills_a_missing_list(store: CacheStore, lists: NewestLists) -> None:
    tokens = await asyncio.gather(*(lists.begin(OWNER) for _ in range(20)))
    assert len([token for token in tokens if token is not None]) == 1
    assert (await read(store, lists)).state is State.BUILDING
    assert (await read(store, lists, before=9, after=3)).state is State.BUILDING


async def test_a_list_that_nobody_reads_is_not_made_by_additions(store: CacheStore, lists: NewestLists) -> None:
    await filled(lists, [2, 1], complete=True, owner=1)
    await filled(lists, [], complete=True, owner=3)
    assert await lists.add([1, 2, 3], member(9)) == 2
    assert await lists.merge(2, [member(9), member(8)]) == 0
    assert await lists.remove([1, 2, 3], member(9)) == 2
    assert await lists.remove_group(2, group_of(9)) == 0
    assert await lists.existing([1, 2, 3]) == [1, 3]
    assert (await read(store, lists, 2)).state is State.MISSING


async def test_an_empty_list_that_is_complete_is_not_missing(store: CacheStore, lists: NewestLists) -> None:
    await filled(lists, [], complete=True)
    for bounds in ({}, {"before": 5}, {"after": 5}, {"before": 9, "after": 5}):
        assert await read(store, lists, **bounds) == Slice(State.READY, [], exhausted=True, complete=True)


async def test_a_page_that_takes_the_last_row_knows_that_it_is_the_last(store: CacheStore, lists: NewestLists) -> None:
    await filled(lists, [3, 2, 1], complete=True)
    for count, complete in ((2, False), (3, True), (4, True)):
        for bounds in ({}, {"before": 4}):
            found = await read(store, lists, count=count, **bounds)
            assert (rows_of(found.members), found.complete) == ([3, 2, 1][:count], complete)


async def test_what_is_pushed_out_while_a_list_is_filled_leaves_no_gap(store: CacheStore, lists: NewestLists) -> None:
    """The builder read old rows only; by its end the list has had more than it may hold."""
    token = await lists.begin(OWNER)
    assert token is not None
    for row in range(10, 15):
        await lists.add([OWNER], member(row))
    assert await lists.finish(OWNER, token, [member(row) for row in (5, 4, 3, 2, 1)], complete=True)
    found = await read(store, lists)
    assert rows_of(found.members) == list(range(14, 14 - len(found.members), -1))
    assert len(found.members) >= LIMIT - 1
    assert not found.complete


async def test_a_late_row_below_what_a_builder_read_leaves_no_gap(store: CacheStore, lists: NewestLists) -> None:
    """The database had more than the builder asked for, and the late row is in that part."""
    token = await lists.begin(OWNER)
    assert token is not None
    await lists.add([OWNER], member(1))
    assert await lists.finish(OWNER, token, [member(row) for row in (9, 8, 7)], complete=False)
    found = await read(store, lists)
    assert rows_of(found.members) == [9, 8, 7]
    assert not found.complete


@pytest.mark.parametrize("whole_group", [False, True])
async def test_what_is_removed_while_a_list_is_filled_does_not_come_back(
    store: CacheStore, lists: NewestLists, whole_group: bool
) -> None:
    token = await lists.begin(OWNER)
    assert token is not None
    read_before = [member(row) for row in (9, 8, 7)]
    if whole_group:
        await lists.remove_group(OWNER, group_of(8))
    else:
        await lists.remove([OWNER], member(8))
    await lists.finish(OWNER, token, read_before, complete=True)
    assert 8 not in rows_of((await read(store, lists)).members)


async def test_a_builder_that_comes_too_late_changes_nothing(store: CacheStore, lists: NewestLists) -> None:
    late = await lists.begin(OWNER)
    assert late is not None
    await lists.drop(OWNER)
    assert not await lists.finish(OWNER, late, [member(1)], complete=True)
    assert (await read(store, lists)).state is State.MISSING
    await filled(lists, [5, 4], complete=True)
    assert not await lists.finish(OWNER, late, [member(1)], complete=True)
    assert rows_of((await read(store, lists)).members) == [5, 4]


async def test_a_builder_that_died_blocks_nobody_for_long(store: CacheStore, lists: NewestLists) -> None:
    """Reading does not prolong what it left; a list that is filled lives for its full time from each touch."""
    await lists.begin(OWNER)
    await lists.touch(OWNER)
    assert 0 < await store.client.ttl(lists.key(OWNER)) <= 30
    await lists.drop(OWNER)
    await filled(lists, [1], complete=True)
    assert 900 < await store.client.ttl(lists.key(OWNER)) <= 1000
    await store.client.expire(lists.key(OWNER), 10)
    await lists.touch(OWNER)
    assert await store.client.ttl(lists.key(OWNER)) > 900
    await lists.touch(OWNER + 1)
    assert await lists.existing([OWNER + 1]) == []


async def test_large_lists_are_filled_merged_and_cleared_at_once(store: CacheStore) -> None:
    """Far more members than a Lua call takes as arguments (about 8,000)."""
    many = lists_of(store, limit=20_000)
    rows = list(range(30_000, 0, -1))
    await filled(many, rows[:10_000], complete=False)
    assert await many.merge(OWNER, [member(row) for row in range(30_001, 40_001)]) == 10_000
    found = await read(store, many, count=30_000)
    assert rows_of(found.members) == list(range(40_000, 20_000, -1))
    gone = [row for row in rows_of(found.members) if group_of(row) == 2]
    assert await many.remove_group(OWNER, 2) == len(gone)
    assert len((await read(store, many, count=30_000)).members) == 20_000 - len(gone)


async def test_ids_of_any_size_are_ordered_as_numbers(store: CacheStore, lists: NewestLists) -> None:
    """Also where a double, the only number that the store's Lua has, would mix them up."""
    rows = [2**63 - 1, 2**63 - 2, 2**53 + 1, 2**53, 256]
    await filled(lists, rows[1:4], complete=False)
    assert await lists.add([OWNER], member(2**53 - 1)) == 0, "it is below the lowest"
    assert await lists.add([OWNER], member(rows[0])) == 1
    assert rows_of((await read(store, lists)).members) == rows[:4]
    assert rows_of((await read(store, lists, before=rows[1], after=rows[3])).members) == [rows[2]]


async def test_without_the_store_callers_are_told_at_once(start_valkey: Callable[[bool], Valkey]) -> None:
    server = start_valkey(False)
    store = open_cache(server.url)
    lists = lists_of(store)
    await filled(lists, [1], complete=True)
    server.kill()
    for call in (
        lambda: lists.add([OWNER], member(2)),
        lambda: lists.remove([OWNER], member(2)),
        lambda: lists.merge(OWNER, [member(2)]),
        lambda: lists.begin(OWNER),
        lambda: lists.existing([OWNER]),
        lambda: lists.touch(OWNER),
        lambda: lists.drop(OWNER),
    ):
        async with asyncio.timeout(2):
            with pytest.raises(CacheGone):
                await call()
    server.start()
    async with asyncio.timeout(5):  # its breaker tries again within a second
        while not await answers(lists):  # noqa: ASYNC110 -- it only tells by answering
            await asyncio.sleep(0.02)
    await store.close()


async def answers(lists: NewestLists) -> bool:
    """Whether the store can be reached again."""
    try:
        await lists.existing([OWNER])
    except CacheGone:
        return False
    return True
