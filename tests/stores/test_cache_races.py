"""Interleavings of readers, writers and loaders that once left a cached copy wrong, step by step on a real Valkey."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mesh.cache.lists import MARK, NewestLists, Slice, State
from mesh.cache.open import open_cache
from mesh.cache.server import Server
from mesh.cache.sets import PRESENT, GuardedSets
from mesh.cache.store import Answer, CacheGone, CacheStore, Commands
from tests.stores.conftest import Valkey

LIMIT = 5
GROUP = 7
_prefixes = itertools.count()


def member(member_id: int, group: int = GROUP) -> bytes:
    return member_id.to_bytes(8, "big") + group.to_bytes(8, "big")


def members(ids: Sequence[int]) -> list[bytes]:
    return [member(i) for i in ids]


def ids_of(found: Slice) -> list[int]:
    return [int.from_bytes(m[:8], "big") for m in found.members]


@pytest_asyncio.fixture
async def store(valkey: Valkey) -> AsyncIterator[CacheStore]:
    made = open_cache(valkey.url)
    yield made
    await made.close()


@pytest.fixture
def lists(store: CacheStore) -> NewestLists:
    return NewestLists(store, f"races:{next(_prefixes)}:", limit=LIMIT, ttl_s=60)


async def read(
    store: CacheStore, lists: NewestLists, *, before: int = 0, after: int = 0, count: int = 2 * LIMIT
) -> Slice:
    commands = Commands()
    size = lists.queue_slice(commands, 1, before_id=before, after_id=after, count=count)
    answers = await store.exchange(commands.queued)
    assert len(answers) == size
    return lists.read_slice(answers, count, after_id=after)


async def fill(lists: NewestLists, ids: Sequence[int], *, complete: bool) -> None:
    token = await lists.begin(1)
    assert token is not None
    assert await lists.finish(1, token, members(ids), complete=complete)


async def test_a_list_that_was_trimmed_while_it_was_filled_has_no_gap(store: CacheStore, lists: NewestLists) -> None:
    """The builder read rows 1 to 3; then more came than the list holds, late rows among them."""
    token = await lists.begin(1)
    assert token is not None
    for i in (10, 20, 30, 40, 50):
        await lists.add([1], member(i))
    assert await lists.finish(1, token, members([3, 2, 1]), complete=True)
    found = await read(store, lists)
    truth = [50, 40, 30, 20, 10, 3, 2, 1]
    assert ids_of(found) == truth[: len(found.members)]
    assert ids_of(found)
    assert not found.complete


async def test_a_merge_that_fills_the_list_while_it_is_built_leaves_no_gap(
    store: CacheStore, lists: NewestLists
) -> None:
    token = await lists.begin(1)
    assert token is not None
    await lists.merge(1, members([16, 15, 14, 13, 12]))
    assert await lists.finish(1, token, members([11]), complete=True)
    found = await read(store, lists)
    assert ids_of(found) == [16, 15, 14, 13, 12, 11][: len(found.members)]
    assert not found.complete


async def test_rows_below_what_an_unfinished_database_page_gave_are_left_out(
    store: CacheStore, lists: NewestLists
) -> None:
    """The database has more between row 2, which came late, and row 8, the page's last."""
    token = await lists.begin(1)
    assert token is not None
    await lists.merge(1, members([2]))
    assert await lists.finish(1, token, members([9, 8]), complete=False)
    found = await read(store, lists)
    assert ids_of(found) == [9, 8]
    assert not found.complete


async def test_a_database_page_with_nothing_but_more_below_makes_no_list(store: CacheStore, lists: NewestLists) -> None:
    token = await lists.begin(1)
    assert token is not None
    assert not await lists.finish(1, token, [], complete=False)
    assert (await read(store, lists)).state is State.MISSING


async def test_a_row_removed_while_the_list_was_filled_does_not_come_back(
    store: CacheStore, lists: NewestLists
) -> None:
    token = await lists.begin(1)
    assert token is not None
    rows = members([3, 2, 1])  # read from the database; then row 2 went
    await lists.remove([1], member(2))
    assert not await lists.finish(1, token, rows, complete=True)
    assert (await read(store, lists)).state is State.MISSING
    await fill(lists, [3, 1], complete=True)
    assert ids_of(await read(store, lists)) == [3, 1]


async def test_a_group_removed_while_the_list_was_filled_does_not_come_back(
    store: CacheStore, lists: NewestLists
) -> None:
    token = await lists.begin(1)
    assert token is not None
    assert await lists.remove_group(1, GROUP) == 0
    assert not await lists.finish(1, token, members([3, 2, 1]), complete=True)
    assert (await read(store, lists)).state is State.MISSING


async def test_a_removal_leaves_lists_that_are_filled_and_their_bottom(store: CacheStore, lists: NewestLists) -> None:
    await fill(lists, [3, 2, 1], complete=True)
    assert await lists.remove([1], member(2)) == 1
    found = await read(store, lists)
    assert (ids_of(found), found.complete) == ([3, 1], True)
    assert await lists.remove_group(1, GROUP) == 2
    found = await read(store, lists)
    assert (found.state, ids_of(found), found.complete) == (State.READY, [], True)


@pytest.mark.parametrize("before", [0, 9])
async def test_a_page_that_ends_just_at_the_bottom_needs_no_database(
    store: CacheStore, lists: NewestLists, before: int
) -> None:
    await fill(lists, [3, 2, 1], complete=True)
    found = await read(store, lists, before=before, count=3)
    assert (ids_of(found), found.exhausted, found.complete) == ([3, 2, 1], True, True)


@pytest.mark.parametrize("before", [0, 9])
async def test_a_page_that_ends_one_above_the_bottom_is_not_the_last(
    store: CacheStore, lists: NewestLists, before: int
) -> None:
    await fill(lists, [3, 2, 1], complete=True)
    found = await read(store, lists, before=before, count=2)
    assert (ids_of(found), found.exhausted, found.complete) == ([3, 2], False, False)


async def test_a_filling_that_ends_between_the_commands_of_one_read_is_not_taken_for_whole(
    store: CacheStore, lists: NewestLists
) -> None:
    """The commands of a bounded read, one at a time, with all of the builder's steps at each place between them."""

    async def one_by_one(step: int) -> Slice:
        await lists.drop(1)
        token = await lists.begin(1)
        assert token is not None
        await lists.add([1], member(8))
        commands = Commands()
        lists.queue_slice(commands, 1, before_id=9, after_id=0, count=LIMIT)
        answers: list[Answer] = []
        for place, command in enumerate(commands.queued):
            if place == step:
                assert await lists.finish(1, token, members([8, 7, 6]), complete=True)
            answers += await store.exchange([command])
        return lists.read_slice(answers, LIMIT, after_id=0)

    for step in range(3):
        found = await one_by_one(step)
        assert found.state is State.BUILDING if step else ids_of(found) == [8, 7, 6]


async def test_a_list_trimmed_between_the_commands_of_one_read_claims_no_more_than_it_has(
    store: CacheStore, lists: NewestLists
) -> None:
    for step in range(3):
        await lists.drop(1)
        await fill(lists, [14, 13, 12, 11], complete=True)
        commands = Commands()
        lists.queue_slice(commands, 1, before_id=100, after_id=0, count=2 * LIMIT)
        answers: list[Answer] = []
        for place, command in enumerate(commands.queued):
            if place == step:
                for i in range(15, 21):
                    await lists.add([1], member(i))
            answers += await store.exchange([command])
        found = lists.read_slice(answers, 2 * LIMIT, after_id=0)
        assert not found.complete or ids_of(found)[-1] == 11


class Table:
    """The database: what a builder reads of it is a moment's truth."""

    def __init__(self, rows: set[int]) -> None:
        self.rows = set(rows)

    def page(self) -> tuple[list[bytes], bool]:
        newest = sorted(self.rows, reverse=True)
        return members(newest[:LIMIT]), len(newest) < LIMIT


ID = st.integers(1, 9)
CHANGE = st.one_of(
    st.tuples(st.just("add"), ID.map(lambda i: [i])),
    st.tuples(st.just("remove"), ID.map(lambda i: [i])),
    st.tuples(st.just("merge"), st.lists(ID, max_size=8)),
)
CHANGES = st.lists(CHANGE, max_size=6)
BUILD = st.tuples(CHANGES, CHANGES, CHANGES)
"""What changes before the list is begun to be filled, between that and the look at the database, and before the end."""
Change = tuple[str, list[int]]


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.sets(ID), builds=st.lists(BUILD, min_size=1, max_size=3), before=st.integers(0, 10), after=ID | st.just(0)
)
def test_what_a_list_shows_is_the_truth_without_a_gap(
    valkey: Valkey,
    rows: set[int],
    builds: list[tuple[list[Change], list[Change], list[Change]]],
    before: int,
    after: int,
) -> None:
    """Any changes, with builders that read the database at any moment between beginning and ending."""
    asyncio.run(_play(valkey.url, Table(rows), builds, (before, after)))


async def _play(
    url: str,
    table: Table,
    builds: list[tuple[list[Change], list[Change], list[Change]]],
    bounds: tuple[int, int],
) -> None:
    store = open_cache(url)
    lists = NewestLists(store, f"model:{next(_prefixes)}:", limit=LIMIT, ttl_s=60)

    async def change(changes: list[Change]) -> None:
        for kind, ids in changes:
            if kind == "add":
                table.rows |= set(ids)
                await lists.add([1], member(ids[0]))
            elif kind == "remove":
                table.rows -= set(ids)
                await lists.remove([1], member(ids[0]))
            else:
                table.rows |= set(ids)
                await lists.merge(1, members(ids))
            for limits in ((0, 0), bounds):
                await _check(store, lists, table.rows, *limits)

    try:
        for earlier, before_look, after_look in builds:
            await change(earlier)
            token = await lists.begin(1)
            await change(before_look)
            found, complete = table.page()
            await change(after_look)
            if token is not None:
                await lists.finish(1, token, found, complete=complete)
            for limits in ((0, 0), bounds):
                await _check(store, lists, table.rows, *limits)
            if token is None:
                await lists.drop(1)
    finally:
        await store.close()


async def _check(store: CacheStore, lists: NewestLists, rows: set[int], before: int, after: int) -> None:
    truth = sorted((i for i in rows if i > after and (not before or i < before)), reverse=True)
    count = 3
    found = await read(store, lists, before=before, after=after, count=count)
    if found.state is not State.READY:
        return
    shown = ids_of(found)
    assert MARK not in found.members
    assert shown == truth[: len(shown)]
    assert len(shown) <= count
    if not found.exhausted:
        assert len(shown) == count < len(truth)
    if found.complete:
        assert shown == truth


async def test_a_loader_slower_than_the_memory_of_changes_never_meets_its_own_generation_again(
    store: CacheStore,
) -> None:
    sets = GuardedSets(store, [f"aba{next(_prefixes)}"])
    await sets.drop([1])
    noted = await sets.generation(1)
    await store.client.delete(sets._generation(1))  # its two minutes are over
    await sets.drop([1])  # and then the rows change
    assert not await sets.fill(1, noted, {sets._names[0]: [2, 3]})
    assert await store.client.smembers(sets.key(sets._names[0], 1)) == set()


async def test_a_loader_after_the_change_fills_the_sets(store: CacheStore) -> None:
    name = f"aba{next(_prefixes)}"
    sets = GuardedSets(store, [name])
    await sets.drop([1])
    assert await sets.fill(1, await sets.generation(1), {name: [2, 3]})
    assert await store.client.smembers(sets.key(name, 1)) == {PRESENT.encode(), b"2", b"3"}


async def test_a_defect_in_a_trip_does_not_keep_the_breaker_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trip that the open breaker lets through fails for a reason of its own: the next one must be let through."""
    store = Server(f"unix://{tmp_path}/nobody")
    with pytest.raises(CacheGone):
        for _ in range(6):
            try:
                await store.exchange([("GET", "x")])
            except CacheGone:
                if not store._breaker.closed:
                    raise
    store._breaker._open_until = 0.0

    async def broken(whole: bytes, count: int) -> list[Answer]:
        raise TypeError("a defect")

    async def well(whole: bytes, count: int) -> list[Answer]:
        return [b"fine"]

    monkeypatch.setattr(store, "_trip", broken)
    with pytest.raises(TypeError):
        await store.exchange([("GET", "x")])
    monkeypatch.setattr(store, "_trip", well)
    assert await store.exchange([("GET", "x")]) == [b"fine"]
    await store.close()
