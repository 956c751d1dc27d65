"""Newest-first lists on a real Valkey: a model of the whole contract, and the races around filling one by one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from mesh.cache.lists import MARK, NewestLists, Slice, State
from mesh.cache.store import CacheGone, CacheStore

from .conftest import Valkey

T = TypeVar("T")
LIMIT = 5
OWNER = 7
GROUPS = 3
IDS = st.integers(1, 60)
BOUNDS = st.one_of(st.just(0), st.integers(1, 61), st.sampled_from([2**32, 2**62, 2**63 - 1]))


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
    async with store.client.pipeline(transaction=False) as pipe:
        answers = lists.queue_slice(pipe, owner, before_id=before, after_id=after, count=count)
        found = await pipe.execute()
    assert len(found) == answers
    return lists.read_slice(found, count, after_id=after)


async def filled(lists: NewestLists, rows: list[int], *, complete: bool, owner: int = OWNER) -> None:
    """Fills a missing list."""
    token = await lists.begin(owner)
    assert token is not None
    assert await lists.finish(owner, token, [member(row) for row in rows], complete=complete)


@pytest.fixture
async def store(valkey: Valkey) -> AsyncIterator[CacheStore]:
    one = CacheStore(valkey.url)
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

    One thing is not promised: a row that was removed after a builder had read it comes back with the builder's rows
    (`ghosts`). Readers know of removals from the rows themselves.
    """

    def __init__(self, socket: str) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.rows: set[int] = set()
        self.joined: set[int] = {1, 2, 3}
        self.builders: list[Builder] = []
        self.ghosts: set[int] = set()

        async def connect() -> CacheStore:
            store = CacheStore(f"unix://{socket}?db=0")
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
        self.ghosts.discard(row)

    @rule(group=st.integers(1, GROUPS))
    def leave(self, group: int) -> None:
        """All rows of a group go."""
        self.joined.discard(group)
        self.run(self.lists.remove_group(OWNER, group))
        self.ghosts -= {row for row in self.ghosts if group_of(row) == group}

    @rule(group=st.integers(1, GROUPS))
    def join(self, group: int) -> None:
        """The newest rows of a group come."""
        self.joined.add(group)
        newest = sorted((row for row in self.rows if group_of(row) == group), reverse=True)[:LIMIT]
        self.run(self.lists.merge(OWNER, [member(row) for row in newest]))

    @rule()
    def evict(self) -> None:
        """The cache may forget anything at any time."""
        self.run(self.lists.drop(OWNER))
        self.ghosts.clear()

    # how a list is filled

    @rule()
    def begin(self) -> None:
        missing = self.slice().state is State.MISSING
        token = self.run(self.lists.begin(OWNER))
        assert (token is not None) == missing
        if token is not None:
            assert self.slice().state is State.BUILDING
            self.builders.append(Builder(token))

    @precondition(lambda self: any(builder.rows is None for builder in self.builders))
    @rule(data=st.data())
    def read_the_database(self, data: st.DataObject) -> None:
        builder = data.draw(st.sampled_from([one for one in self.builders if one.rows is None]))
        builder.rows, builder.complete = self.truth[:LIMIT], len(self.truth) <= LIMIT

    @precondition(lambda self: any(builder.rows is not None for builder in self.builders))
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        """A builder whose list was evicted in between changes nothing, also when another fills it by then."""
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
            self.ghosts |= set(builder.rows) - set(self.truth)

    @rule()
    def fill_at_once(self) -> None:
        """As mostly happens: nothing in between."""
        if self.slice().state is not State.MISSING:
            return
        self.run(filled(self.lists, self.truth[:LIMIT], complete=len(self.truth) <= LIMIT))
        found = self.slice()
        assert rows_of(found.members) == self.truth[:LIMIT]
        assert found.complete == (len(self.truth) < LIMIT), "MARK takes a place"

    # what must hold

    @rule(before=BOUNDS, after=BOUNDS, count=st.integers(1, LIMIT + 1))
    def look(self, before: int, after: int, count: int) -> None:
        self.check(before, after, count)

    @invariant()
    def the_top_is_right(self) -> None:
        self.check(0, 0, 2)
        self.check(0, 0, 100)

    @invariant()
    def the_list_is_bounded(self) -> None:
        size = self.run(self.store.client.zcard(self.lists.key(OWNER)))
        assert size <= LIMIT + 1, "and one more while it is filled"

    def check(self, before: int, after: int, count: int) -> None:
        """Compares one slice with the truth."""
        found = self.slice(before, after, count)
        if found.state is not State.READY:
            assert (found.members, found.exhausted, found.complete) == ([], False, False)
            return
        truth = [row for row in self.truth if row > after and (not before or row < before)]
        shown = rows_of(found.members)
        assert shown == sorted(set(shown), reverse=True)
        assert len(shown) <= count
        assert all(row > after and (not before or row < before) for row in shown)
        assert set(shown) - set(truth) <= self.ghosts
        real = [row for row in shown if row in truth]
        if shown:
            assert real == [row for row in truth if row >= shown[-1]], "there is a gap"
        if not found.exhausted:
            assert len(shown) == count
        if found.complete:
            assert found.exhausted
            assert real == truth, "it is said to be complete, and is not"


@pytest.mark.timeout(60)
def test_a_list_shows_the_newest_of_the_truth_whatever_happens(valkey: Valkey) -> None:
    run_state_machine_as_test(
        lambda: Model(str(valkey.socket)),
        settings=settings(
            max_examples=60,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


# --- filling, step by step


async def test_what_is_pushed_out_while_a_list_is_filled_leaves_no_gap(store: CacheStore, lists: NewestLists) -> None:
    """The builder read old rows only; by its end the list has had more than it may hold."""
    token = await lists.begin(OWNER)
    assert token is not None
    for row in range(10, 15):
        await lists.add([OWNER], member(row))
    assert await lists.finish(OWNER, token, [member(row) for row in (5, 4, 3, 2, 1)], complete=True)
    found = await read(store, lists)
    assert rows_of(found.members) == list(range(14, 14 - len(found.members), -1))
    assert not found.complete


async def test_what_is_pushed_out_and_then_removed_while_a_list_is_filled_leaves_no_gap(
    store: CacheStore, lists: NewestLists
) -> None:
    token = await lists.begin(OWNER)
    assert token is not None
    for row in range(10, 16):
        await lists.add([OWNER], member(row))
    for row in range(12, 16):
        await lists.remove([OWNER], member(row))
    kept = await lists.finish(OWNER, token, [member(row) for row in (3, 2, 1)], complete=True)
    found = await read(store, lists)
    truth = [11, 10, 3, 2, 1]
    assert rows_of(found.members) == (truth[: len(found.members)] if kept else [])
    assert not found.complete
