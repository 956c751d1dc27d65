"""What every ListStore does, beside the GraphStore that shares its database."""

from __future__ import annotations

import asyncio
import itertools
import random
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from rookery.events.v1.graph_events_pb2 import ListedCountChanged

from mesh.errors import NotFound, PermissionDenied
from services.graph.list_domain import MAX_FOLLOWED, MAX_MEMBERS, MAX_OWNED, MAX_PINNED, PeopleList
from services.graph.store.base import Edge, GraphStore
from services.graph.store.lists import Listing, ListStore

from .events import Events

OWNER, OTHER, BIRD, READER = 1, 2, 7, 8
LIST = PeopleList(100, OWNER, "birds", "all of them", False, 0, 0)
PRIVATE = replace(LIST, id=200, private=True)


@dataclass(frozen=True, slots=True)
class ListStores:
    """What an adapter hands to the suite."""

    lists: ListStore
    """The store under test."""
    graph: GraphStore
    """Blocks, in the same database."""
    events: Events
    """What changes left to be published."""
    fill: Callable[[str, Sequence[tuple[int, int]]], Awaitable[None]]
    """Puts pairs of list and person there without the port, where thousands are needed: `list_members` or
    `list_follows`; counts of lists too."""
    unordered: Callable[[], Awaitable[list[str]]]
    """Of the queries for pages of memberships, follows and lists those that do not read an index in its order, each
    with its plan in the store's own words."""


class ListStoreSuite(ABC):
    """Subclass it in an adapter's test module."""

    @abstractmethod
    def opened(self, folder: Path) -> AbstractAsyncContextManager[ListStores]:
        """New, empty stores."""

    @pytest.fixture
    async def stores(self, tmp_path: Path) -> AsyncIterator[ListStores]:
        """New, empty stores."""
        async with self.opened(tmp_path) as stores:
            yield stores

    @pytest.fixture
    def lists(self, stores: ListStores) -> ListStore:
        """The store."""
        return stores.lists

    @staticmethod
    async def settled(lists: ListStore, limit: int = 200) -> int:
        """Settles all there is; says in how many pages."""
        pages = 0
        while await lists.settle(limit):
            pages += 1
        return pages

    @staticmethod
    async def listed(stores: ListStores) -> dict[int, int]:
        """Each person's newest listed_count, as events tell it."""
        newest: dict[int, tuple[int, int]] = {}
        for event in await stores.events():
            message = event.message
            if isinstance(message, ListedCountChanged):
                assert (event.topic, event.key) == ("social", str(message.user_id))
                newest[message.user_id] = max(
                    newest.get(message.user_id, (0, 0)), (message.version, message.listed_count)
                )
        return {user_id: count for user_id, (_, count) in newest.items()}

    # --- lists

    async def test_a_list_is_what_it_was_made_and_changed_to(self, lists: ListStore) -> None:
        assert await lists.create(LIST) == LIST
        assert await lists.by_ids([LIST.id, 5]) == [LIST]
        await lists.update(LIST.id, OWNER, name="gulls", description=None, private=None)
        assert await lists.by_ids([LIST.id]) == [replace(LIST, name="gulls")]
        await lists.update(LIST.id, OWNER, name=None, description="", private=True)
        assert await lists.by_ids([LIST.id]) == [replace(LIST, name="gulls", description="", private=True)]
        with pytest.raises(NotFound):
            await lists.update(LIST.id, OTHER, name="mine", description=None, private=None)

    async def test_a_request_makes_one_list(self, lists: ListStore) -> None:
        assert await lists.create(LIST, "r") == LIST
        assert await lists.create(replace(LIST, id=101, name="else"), "r") == LIST
        assert (await lists.create(replace(LIST, id=102, owner_id=OTHER), "r")).id == 102
        assert (await lists.create(replace(LIST, id=103))).id == 103
        assert (await lists.create(replace(LIST, id=104))).id == 104

    async def test_the_list_after_the_thousandth_is_refused(self, lists: ListStore) -> None:
        for first in range(1_000, 1_000 + MAX_OWNED, 50):
            await asyncio.gather(*(lists.create(replace(LIST, id=n)) for n in range(first, first + 50)))
        with pytest.raises(PermissionDenied):
            await lists.create(replace(LIST, id=1))
        assert await lists.by_ids([1]) == []
        assert await lists.delete(1_500, OWNER)
        assert (await lists.create(replace(LIST, id=1))).id == 1

    async def test_a_deleted_list_is_gone_at_once_with_all_that_belonged_to_it(self, stores: ListStores) -> None:
        lists = stores.lists
        await lists.create(LIST)
        await lists.add_member(LIST.id, OWNER, BIRD, 1)
        await lists.follow_list(LIST.id, READER, 2)
        await lists.pin(LIST.id, READER, 3)
        assert not await lists.delete(LIST.id, OTHER)
        assert await lists.delete(LIST.id, OWNER)
        assert await lists.delete(LIST.id, OWNER), "the second time too"
        assert await lists.by_ids([LIST.id]) == []
        bounds = {"before": 0, "after": 0, "limit": 10}
        for read, user_id in (
            (lists.owned, OWNER),
            (lists.memberships, BIRD),
            (lists.followed, READER),
            (lists.pinned, READER),
        ):
            assert await read(user_id, **bounds) == []
        for change in (
            lists.add_member(LIST.id, OWNER, BIRD, 4),
            lists.remove_member(LIST.id, OWNER, BIRD),
            lists.follow_list(LIST.id, READER, 5),
            lists.pin(LIST.id, READER, 6),
            lists.update(LIST.id, OWNER, name="x", description=None, private=None),
        ):
            with pytest.raises(NotFound):
                await change
        await self.settled(lists)
        assert await self.listed(stores) == {BIRD: 0}
        assert await lists.members(LIST.id, **bounds) == []
        assert await lists.list_followers(LIST.id, **bounds) == []
        assert not await lists.unfollow_list(LIST.id, READER)
        assert not await lists.unpin(LIST.id, READER)

    # --- members

    async def test_a_membership_is_seen_from_both_ends(self, stores: ListStores) -> None:
        lists = stores.lists
        await lists.create(LIST)
        assert await lists.add_member(LIST.id, OWNER, BIRD, 10)
        assert not await lists.add_member(LIST.id, OWNER, BIRD, 11)
        assert await lists.members(LIST.id, before=0, after=0, limit=5) == [Edge(10, BIRD)]
        assert await lists.memberships(BIRD, before=0, after=0, limit=5) == [Listing(10, replace(LIST, member_count=1))]
        assert await lists.member_ids(LIST.id) == [BIRD]
        assert await lists.remove_member(LIST.id, OWNER, BIRD)
        assert not await lists.remove_member(LIST.id, OWNER, BIRD)
        assert await lists.by_ids([LIST.id]) == [LIST]
        assert await lists.member_ids(LIST.id) == []
        assert len(await stores.events()) == 2

    async def test_only_the_owner_changes_members(self, lists: ListStore) -> None:
        await lists.create(LIST)
        await lists.add_member(LIST.id, OWNER, BIRD, 10)
        with pytest.raises(NotFound):
            await lists.add_member(LIST.id, OTHER, READER, 11)
        with pytest.raises(NotFound):
            await lists.remove_member(LIST.id, OTHER, BIRD)
        assert await lists.member_ids(LIST.id) == [BIRD]

    async def test_the_member_after_the_five_thousandth_is_refused(self, stores: ListStores) -> None:
        lists = stores.lists
        await lists.create(LIST)
        await stores.fill("list_members", [(LIST.id, 1_000 + n) for n in range(MAX_MEMBERS - 1)])
        assert await lists.add_member(LIST.id, OWNER, 999_999, 10)
        with pytest.raises(PermissionDenied, match="5000 members"):
            await lists.add_member(LIST.id, OWNER, BIRD, 11)
        assert not await lists.add_member(LIST.id, OWNER, 999_999, 12), "who is on it may be added again"
        assert len(await lists.member_ids(LIST.id)) == MAX_MEMBERS
        assert (await lists.by_ids([LIST.id]))[0].member_count == MAX_MEMBERS
        assert await self.listed(stores) == {999_999: 1}
        assert await lists.remove_member(LIST.id, OWNER, 1_000)
        assert await lists.add_member(LIST.id, OWNER, BIRD, 13)

    async def test_of_fifty_changes_of_one_membership_at_once_the_counts_tell_the_truth(
        self, stores: ListStores
    ) -> None:
        lists = stores.lists
        await lists.create(LIST)
        numbers = itertools.count(1)
        done = await asyncio.gather(
            *(
                lists.add_member(LIST.id, OWNER, BIRD, next(numbers))
                if n % 2
                else lists.remove_member(LIST.id, OWNER, BIRD)
                for n in random.Random(5).sample(range(50), 50)
            )
        )
        members = await lists.member_ids(LIST.id)
        assert (await lists.by_ids([LIST.id]))[0].member_count == len(members)
        assert (await self.listed(stores))[BIRD] == len(members)
        assert len(await stores.events()) == sum(done), "one event for each change, and none for no change"

    # --- follows and pins

    async def test_a_follow_is_seen_from_both_ends(self, lists: ListStore) -> None:
        await lists.create(LIST)
        assert await lists.follow_list(LIST.id, READER, 10)
        assert not await lists.follow_list(LIST.id, READER, 11)
        assert await lists.followed(READER, before=0, after=0, limit=5) == [
            Listing(10, replace(LIST, follower_count=1))
        ]
        assert await lists.list_followers(LIST.id, before=0, after=0, limit=5) == [Edge(10, READER)]
        assert await lists.unfollow_list(LIST.id, READER)
        assert not await lists.unfollow_list(LIST.id, READER)
        assert await lists.by_ids([LIST.id]) == [LIST]

    async def test_anothers_private_list_is_not_there_to_follow_or_pin(self, lists: ListStore) -> None:
        await lists.create(PRIVATE)
        for change in (lists.follow_list(PRIVATE.id, READER, 1), lists.pin(PRIVATE.id, READER, 2)):
            with pytest.raises(NotFound):
                await change
        assert await lists.follow_list(PRIVATE.id, OWNER, 3)
        assert await lists.pin(PRIVATE.id, OWNER, 4)

    async def test_follows_and_pins_have_an_end(self, stores: ListStores) -> None:
        lists = stores.lists
        await lists.create(LIST)
        await stores.fill("list_follows", [(1_000_000 + n, READER) for n in range(MAX_FOLLOWED)])
        with pytest.raises(PermissionDenied):
            await lists.follow_list(LIST.id, READER, 1)
        assert await lists.by_ids([LIST.id]) == [LIST]
        for n in range(MAX_PINNED):
            await lists.create(replace(LIST, id=300 + n))
            assert await lists.pin(300 + n, READER, n + 1)
        with pytest.raises(PermissionDenied):
            await lists.pin(LIST.id, READER, 50)
        assert not await lists.pin(300, READER, 51)
        await lists.update(300, OWNER, name=None, description=None, private=True)
        assert await lists.pin(LIST.id, READER, 52), "a pin that does not show takes no place"

    # --- pages

    async def test_pages_of_each_kind_go_both_ways(self, stores: ListStores) -> None:
        lists = stores.lists
        made = [replace(LIST, id=100 + n) for n in range(5)]
        for n, one in enumerate(made):
            await lists.create(one)
            await lists.add_member(one.id, OWNER, BIRD, 10 + n)
            await lists.follow_list(one.id, BIRD, 10 + n)
            await lists.pin(one.id, BIRD, 10 + n)
        for read, user_id, first in (
            (lists.owned, OWNER, 100),
            (lists.memberships, BIRD, 10),
            (lists.followed, BIRD, 10),
            (lists.pinned, BIRD, 10),
        ):
            keys = [first + n for n in range(5)]
            assert [one.key for one in await read(user_id, before=0, after=0, limit=3)] == keys[:1:-1]
            assert [one.key for one in await read(user_id, before=keys[2], after=0, limit=3)] == keys[1::-1]
            assert [one.key for one in await read(user_id, before=0, after=keys[0], limit=3)] == keys[1:4]

    async def test_pages_are_read_in_the_order_of_an_index(self, stores: ListStores) -> None:
        assert await stores.unordered() == []

    # --- blocks

    @pytest.mark.parametrize("blocker", [OWNER, BIRD])
    async def test_a_block_ends_memberships_follows_and_pins_between_the_two(
        self, stores: ListStores, blocker: int
    ) -> None:
        lists = stores.lists
        await lists.create(LIST)
        await lists.create(PRIVATE)
        await lists.create(replace(LIST, id=300, owner_id=BIRD))
        await lists.create(replace(LIST, id=400, owner_id=OTHER))
        numbers = itertools.count(1)
        for list_id, owner, user in (
            (LIST.id, OWNER, BIRD),
            (PRIVATE.id, OWNER, BIRD),
            (300, BIRD, OWNER),
            (400, OTHER, BIRD),
            (LIST.id, OWNER, READER),
        ):
            await lists.add_member(list_id, owner, user, next(numbers))
        for list_id, user in ((LIST.id, BIRD), (300, OWNER), (400, BIRD), (LIST.id, READER)):
            await lists.follow_list(list_id, user, next(numbers))
            await lists.pin(list_id, user, next(numbers))
        assert await stores.graph.block(blocker, OWNER + BIRD - blocker, 900)
        counts = {one.id: (one.member_count, one.follower_count) for one in await lists.by_ids([100, 200, 300, 400])}
        assert counts == {100: (1, 1), 200: (0, 0), 300: (0, 0), 400: (1, 1)}
        assert await self.listed(stores) == {OWNER: 0, BIRD: 1, READER: 1}
        bounds = {"before": 0, "after": 0, "limit": 10}
        assert [one.list.id for one in await lists.memberships(BIRD, **bounds)] == [400]
        assert [one.list.id for one in await lists.followed(BIRD, **bounds)] == [400]
        assert [one.list.id for one in await lists.pinned(BIRD, **bounds)] == [400]
        assert await lists.pinned(OWNER, **bounds) == []
        with pytest.raises(PermissionDenied):
            await lists.add_member(LIST.id, OWNER, BIRD, 901)
        for change in (lists.follow_list(LIST.id, BIRD, 902), lists.pin(LIST.id, BIRD, 903)):
            with pytest.raises(NotFound):
                await change
        await stores.graph.unblock(blocker, OWNER + BIRD - blocker)
        assert await lists.add_member(LIST.id, OWNER, BIRD, 904)

    async def test_no_race_leaves_a_membership_across_a_block(self, stores: ListStores) -> None:
        lists = stores.lists
        await lists.create(LIST)
        numbers = itertools.count(1)

        async def add() -> None:
            try:
                await lists.add_member(LIST.id, OWNER, BIRD, next(numbers))
            except PermissionDenied:
                return

        for _ in range(10):
            changes = [add() for _ in range(4)] + [stores.graph.block(BIRD, OWNER, next(numbers))]
            random.Random(1).shuffle(changes)
            await asyncio.gather(*changes)
            assert await lists.member_ids(LIST.id) == []
            assert (await lists.by_ids([LIST.id]))[0].member_count == 0
            await stores.graph.unblock(BIRD, OWNER)
        assert set((await self.listed(stores)).values()) <= {0}

    # --- listed counts

    async def test_only_public_lists_count(self, stores: ListStores) -> None:
        lists = stores.lists
        for one in (LIST, PRIVATE, replace(LIST, id=300, owner_id=OTHER)):
            await lists.create(one)
            await lists.add_member(one.id, one.owner_id, BIRD, one.id)
        assert await self.listed(stores) == {BIRD: 2}
        await lists.remove_member(PRIVATE.id, OWNER, BIRD)
        assert await self.listed(stores) == {BIRD: 2}

    async def test_a_switch_counts_all_members_anew_in_pages(self, stores: ListStores) -> None:
        lists = stores.lists
        await lists.create(LIST)
        for n in range(25):
            await lists.add_member(LIST.id, OWNER, 1_000 + n, n + 1)
        for private in (True, False, True):
            await lists.update(LIST.id, OWNER, name=None, description=None, private=private)
            assert await self.settled(lists, limit=10) == 3
            assert await self.listed(stores) == {1_000 + n: 0 if private else 1 for n in range(25)}
        events = len(await stores.events())
        await lists.update(LIST.id, OWNER, name=None, description=None, private=True)
        assert await self.settled(lists) == 0, "nothing was switched"
        assert len(await stores.events()) == events

    async def test_a_deletion_uncounts_all_members_in_pages(self, stores: ListStores) -> None:
        lists = stores.lists
        await lists.create(LIST)
        for n in range(25):
            await lists.add_member(LIST.id, OWNER, 1_000 + n, n + 1)
            await lists.follow_list(LIST.id, 2_000 + n, n + 1)
        await lists.delete(LIST.id, OWNER)
        assert await self.settled(lists, limit=10) == 6
        assert await self.listed(stores) == {1_000 + n: 0 for n in range(25)}
        assert await lists.list_followers(LIST.id, before=0, after=0, limit=100) == []

    async def test_lists_are_settled_a_page_each_in_turn(self, stores: ListStores) -> None:
        """So a large one that is switched over and over keeps no other waiting."""
        lists = stores.lists
        for list_id, members in ((100, 5), (200, 2), (300, 3)):
            await lists.create(replace(LIST, id=list_id))
            for n in range(members):
                await lists.add_member(list_id, OWNER, 1_000 + n, list_id + n)
            await lists.delete(list_id, OWNER)
        turns, turn = [], await lists.settle(2)
        while turn:
            turns.append(turn)
            turn = await lists.settle(2, turn)
        assert turns == [100, 200, 300, 100, 200, 300, 100]

    async def test_whatever_happens_at_once_listed_counts_end_at_the_truth(self, stores: ListStores) -> None:
        """400 changes, eight at a time, while two settle: members come and go, lists are switched and deleted."""
        lists, dice, numbers = stores.lists, random.Random(11), itertools.count(1_000)
        for n in range(6):
            await lists.create(replace(LIST, id=n + 1))
        busy = True

        async def settle() -> None:
            while busy:
                await lists.settle(3)

        async def change() -> None:
            list_id, user = dice.randint(1, 6), dice.randint(10, 14)
            try:
                kind = dice.random()
                if kind < 0.5:
                    await lists.add_member(list_id, OWNER, user, next(numbers))
                elif kind < 0.75:
                    await lists.remove_member(list_id, OWNER, user)
                elif kind < 0.99:
                    private = dice.random() < 0.5
                    await lists.update(list_id, OWNER, name=None, description=None, private=private)
                else:
                    await lists.delete(list_id, OWNER)
            except NotFound:
                return

        async def all_changes() -> None:
            nonlocal busy
            for _ in range(50):
                await asyncio.gather(*(change() for _ in range(8)))
            busy = False

        await asyncio.gather(settle(), settle(), all_changes())
        await self.settled(lists)
        truth: Counter[int] = Counter()
        there = await lists.by_ids(range(1, 7))
        for one in there:
            members = await lists.member_ids(one.id)
            assert one.member_count == len(members)
            truth.update([] if one.private else members)
        assert 0 < len(there) < 6, "the dice must both delete and leave lists"
        assert {user: count for user, count in (await self.listed(stores)).items() if count} == dict(truth)
