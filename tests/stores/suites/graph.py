"""What every GraphStore does."""

from __future__ import annotations

import asyncio
import itertools
import random
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest
from rookery.events.v1.graph_events_pb2 import (
    FollowRequested,
    FollowRequestWithdrawn,
    ReachCrossed,
    UserBlocked,
    UserFollowed,
    UserMuted,
    UserUnblocked,
    UserUnfollowed,
    UserUnmuted,
)

from mesh.errors import PermissionDenied
from services.graph.domain import (
    MAX_BLOCKED_SET,
    MAX_BLOCKS,
    MAX_FOLLOWING,
    MAX_MUTES,
    MAX_REQUESTS,
    SEEN_STEP_MS,
    Line,
)
from services.graph.store.base import Audience, Edge, GraphStore, Relations, Standing

from .events import Event, Events

LINE = Line(10)
"""Pulled from 10 followers on, pushed again below 9."""
AUTHOR = 1
RANGE = {"before": 0, "after": 0, "limit": 10}


@dataclass(frozen=True, slots=True)
class GraphStores:
    """What an adapter hands to the suite."""

    graph: GraphStore
    """The store under test, with LINE."""
    events: Events
    """What its changes left to be published."""
    follow_all: Callable[[int, range], Awaitable[None]]
    """Puts edges there without the port, where thousands are needed: a follower, and their followees."""
    block_all: Callable[[Sequence[tuple[int, int]]], Awaitable[None]]
    """The same for blocks: blockers and blocked."""
    mute_all: Callable[[int, range], Awaitable[None]]
    """The same for mutes: a muter and the muted."""
    request_all: Callable[[int, range], Awaitable[None]]
    """The same for requests: a requester and the targets."""
    with_line: Callable[[Line], GraphStore]
    """The same store as an operator who moved the line has it."""


def all_of(relations: Relations) -> tuple[set[int], set[int], set[int]]:
    """Its three lists of followees, which must have nobody twice."""
    lists = (relations.followee_ids, relations.pulled_ids, relations.unpushed_ids)
    assert all(len(one) == len(set(one)) for one in lists)
    return set(lists[0]), set(lists[1]), set(lists[2])


class GraphStoreSuite(ABC):
    """Subclass it in an adapter's test module."""

    @abstractmethod
    def opened(self, folder: Path) -> AbstractAsyncContextManager[GraphStores]:
        """New, empty stores."""

    @pytest.fixture
    async def stores(self, tmp_path: Path) -> AsyncIterator[GraphStores]:
        """New, empty stores."""
        async with self.opened(tmp_path) as stores:
            yield stores

    @pytest.fixture
    def graph(self, stores: GraphStores) -> GraphStore:
        """The store."""
        return stores.graph

    # --- edges

    async def test_a_follow_is_seen_from_both_ends(self, graph: GraphStore) -> None:
        assert await graph.follow(2, AUTHOR, 100)
        assert await graph.followers(AUTHOR, before=0, after=0, limit=10) == [Edge(100, 2)]
        assert await graph.following(2, before=0, after=0, limit=10) == [Edge(100, AUTHOR)]
        assert await graph.followers(2, before=0, after=0, limit=10) == []
        assert await graph.following(AUTHOR, before=0, after=0, limit=10) == []
        assert await graph.related([(2, AUTHOR), (AUTHOR, 2), (2, 3)]) == {(2, AUTHOR)}
        assert await graph.follower_ids(AUTHOR, after=0, limit=10) == [2]
        assert await graph.relations(2) == Relations([AUTHOR], [], [], [], [])

    async def test_a_second_follow_changes_nothing(self, stores: GraphStores) -> None:
        assert await stores.graph.follow(2, AUTHOR, 100)
        assert not await stores.graph.follow(2, AUTHOR, 200)
        assert await stores.graph.followers(AUTHOR, before=0, after=0, limit=10) == [Edge(100, 2)]
        assert len(await stores.events()) == 1

    async def test_an_unfollow_takes_the_edge_away_and_a_second_changes_nothing(self, stores: GraphStores) -> None:
        await stores.graph.follow(2, AUTHOR, 100)
        assert await stores.graph.unfollow(2, AUTHOR)
        assert await stores.graph.related([(2, AUTHOR)]) == set()
        assert await stores.graph.followers(AUTHOR, before=0, after=0, limit=10) == []
        assert (await stores.graph.relations(2)).followee_ids == []
        assert not await stores.graph.unfollow(2, AUTHOR)
        assert not await stores.graph.unfollow(AUTHOR, 2)
        assert len(await stores.events()) == 2

    async def test_follows_of_one_edge_at_once_make_one(self, stores: GraphStores) -> None:
        done = await asyncio.gather(*(stores.graph.follow(2, AUTHOR, 100 + n) for n in range(10)))
        assert sorted(done) == [False] * 9 + [True]
        [event] = await stores.events()
        assert isinstance(event.message, UserFollowed)
        assert (event.message.counts.followers_count, event.message.counts.following_count) == (1, 1)

    async def test_opposite_follows_at_once_do_not_wait_for_each_other(self, graph: GraphStore) -> None:
        pairs = [(a, b) for a, b in itertools.permutations(range(1, 6), 2)]
        async with asyncio.timeout(5):
            done = await asyncio.gather(*(graph.follow(a, b, 100 + n) for n, (a, b) in enumerate(pairs)))
        assert all(done)
        assert await graph.related(pairs) == set(pairs)

    # --- events

    async def test_each_change_leaves_one_event_with_the_counts_after_it(self, stores: GraphStores) -> None:
        await stores.graph.follow(2, AUTHOR, 100)
        await stores.graph.follow(3, AUTHOR, 101)
        await stores.graph.unfollow(2, AUTHOR)
        events = await stores.events()
        assert [(event.topic, event.key, type(event.message)) for event in events] == [
            ("social", "2", UserFollowed),
            ("social", "3", UserFollowed),
            ("social", "2", UserUnfollowed),
        ]
        messages = [e.message for e in events if isinstance(e.message, UserFollowed | UserUnfollowed)]
        assert [(m.follower_id, m.followee_id) for m in messages] == [(2, AUTHOR), (3, AUTHOR), (2, AUTHOR)]
        assert [(m.counts.followers_count, m.counts.following_count) for m in messages] == [(1, 1), (2, 1), (1, 0)]
        followee_versions = [m.counts.followee_version for m in messages]
        assert followee_versions == sorted(set(followee_versions)), "a later change has a greater number"
        assert messages[2].counts.follower_version > messages[0].counts.follower_version

    async def test_whatever_happens_counts_are_those_of_the_edges(self, stores: GraphStores) -> None:
        """300 changes, six at a time; the event with the greatest number of each person tells the truth."""
        dice = random.Random(7)
        edges: dict[tuple[int, int], bool] = {}
        for _ in range(50):
            pairs = list({(dice.randint(1, 6), dice.randint(7, 9)) for _ in range(6)})
            changes = [(pair, dice.random() < 0.6) for pair in pairs]
            ids = itertools.count(100)
            await asyncio.gather(
                *(
                    stores.graph.follow(*pair, next(ids)) if follow else stores.graph.unfollow(*pair)
                    for pair, follow in changes
                )
            )
            edges |= dict(changes)
        truth = {pair for pair, there in edges.items() if there}
        assert await stores.graph.related([(a, b) for a in range(1, 7) for b in range(7, 10)]) == truth
        newest: dict[tuple[str, int], tuple[int, int]] = {}
        for event in await stores.events():
            message = event.message
            if not isinstance(message, UserFollowed | UserUnfollowed):
                continue
            counts = message.counts
            for key, seen in (
                (("following", message.follower_id), (counts.follower_version, counts.following_count)),
                (("followers", message.followee_id), (counts.followee_version, counts.followers_count)),
            ):
                newest[key] = max(newest.get(key, (0, 0)), seen)
        for (kind, user_id), (_, count) in newest.items():
            place = 0 if kind == "following" else 1
            assert count == len([pair for pair in truth if pair[place] == user_id])

    # --- limits

    async def test_nobody_follows_more_than_the_limit(self, stores: GraphStores) -> None:
        """The one too many leaves nothing: no edge, no count, no event."""
        await stores.follow_all(2, range(1001, 1000 + MAX_FOLLOWING))
        assert await stores.graph.follow(2, 9001, 100_001)
        events = len(await stores.events())
        with pytest.raises(PermissionDenied):
            await stores.graph.follow(2, 9002, 100_002)
        assert await stores.graph.related([(2, 9002)]) == set()
        assert len(await stores.events()) == events
        assert await stores.graph.unfollow(2, 9001)
        assert await stores.graph.follow(2, 9002, 100_003), "there is room again"
        following = (await stores.graph.relations(2)).followee_ids
        assert len(following) == len(set(following)) == MAX_FOLLOWING

    # --- pages

    async def test_pages_go_both_ways(self, graph: GraphStore) -> None:
        for n in range(1, 8):
            await graph.follow(n + 10, AUTHOR, 100 + n)
            await graph.follow(AUTHOR, n + 10, 200 + n)

        for read, base in ((graph.followers, 100), (graph.following, 200)):

            async def page(
                before: int = 0,
                after: int = 0,
                limit: int = 3,
                read: Callable[..., Awaitable[list[Edge]]] = read,
                base: int = base,
            ) -> list[int]:
                edges = await read(
                    AUTHOR, before=base + before if before else 0, after=base + after if after else 0, limit=limit
                )
                assert all(edge.user_id == edge.edge_id - base + 10 for edge in edges)
                return [edge.edge_id - base for edge in edges]

            assert await page() == [7, 6, 5]
            assert await page(before=5) == [4, 3, 2]
            assert await page(before=2) == [1]
            assert await page(before=1) == []
            assert await page(after=4) == [5, 6, 7], "the oldest first: the page above reads upwards"
            assert await page(after=2) == [3, 4, 5]
            assert await page(after=7) == []
            assert await page(limit=1) == [7]

    async def test_lists_are_ordered_by_when_and_not_by_who(self, graph: GraphStore) -> None:
        for follower, follow_id in ((30, 101), (10, 102), (20, 103)):
            await graph.follow(follower, AUTHOR, follow_id)
        found = await graph.followers(AUTHOR, before=0, after=0, limit=10)
        assert [edge.user_id for edge in found] == [20, 10, 30]
        assert await graph.follower_ids(AUTHOR, after=0, limit=2) == [10, 20]
        assert await graph.follower_ids(AUTHOR, after=20, limit=2) == [30]
        assert await graph.follower_ids(AUTHOR, after=30, limit=2) == []

    async def test_relations_of_many_pairs_are_read_at_once(self, graph: GraphStore) -> None:
        for n in range(20):
            await graph.follow(100 + n, 200 + n, 300 + n)
        pairs = [(100 + a, 200 + b) for a in range(20) for b in range(20)]
        assert await graph.related(pairs) == {(100 + n, 200 + n) for n in range(20)}
        assert await graph.related([(100, 200), (100, 200)]) == {(100, 200)}
        assert await graph.related([]) == set()

    # --- audience

    async def test_an_audience_is_who_was_seen_lately(self, graph: GraphStore) -> None:
        now = 10**12
        for follower in (2, 3, 4, 5):
            await graph.follow(follower, AUTHOR, 100 + follower)
        for follower, seen in ((2, now), (3, now - 1), (4, now + 5), (6, now)):
            await graph.mark_seen(follower, seen)

        async def audience(after: int = 0, limit: int = 10) -> Audience:
            return await graph.audience(AUTHOR, after=after, limit=limit, seen_since_ms=now)

        assert await audience() == Audience(True, [2, 4]), "5 never came, 6 is no follower"
        assert await audience(limit=1) == Audience(True, [2])
        assert await audience(after=2) == Audience(True, [4])
        assert await audience(after=4) == Audience(True, [])
        assert await graph.audience(99, after=0, limit=10, seen_since_ms=now) == Audience(True, [])

    async def test_a_mark_is_written_again_only_when_it_is_old(self, graph: GraphStore) -> None:
        now = 10**12
        await graph.follow(2, AUTHOR, 100)

        async def seen_since(ms: int) -> bool:
            return (await graph.audience(AUTHOR, after=0, limit=1, seen_since_ms=ms)).follower_ids == [2]

        await graph.mark_seen(2, now)
        assert await seen_since(now)
        await graph.mark_seen(2, now + SEEN_STEP_MS)
        assert not await seen_since(now + 1)
        await graph.mark_seen(2, now + SEEN_STEP_MS + 1)
        assert await seen_since(now + SEEN_STEP_MS + 1)
        await graph.mark_seen(2, now)
        assert await seen_since(now + SEEN_STEP_MS + 1), "a mark never goes back"

    # --- reach

    @staticmethod
    def crossings(events: list[Event]) -> list[bool]:
        """Where the author's crossings so far led: True to be pulled."""
        found = [event for event in events if isinstance(event.message, ReachCrossed)]
        assert all((event.topic, event.key) == ("social", str(AUTHOR)) for event in found)
        return [event.message.pulled for event in found if isinstance(event.message, ReachCrossed)]

    async def test_an_author_crosses_the_line_and_back(self, stores: GraphStores) -> None:
        """In between both ways hold: tweets are pushed and pulled, so that nobody misses any."""
        graph = stores.graph
        fan = 2
        pushed = ({AUTHOR}, set[int](), set[int]())
        both = ({AUTHOR}, {AUTHOR}, set[int]())
        pulled = ({AUTHOR}, {AUTHOR}, {AUTHOR})

        async def state() -> tuple[set[int], set[int], set[int]]:
            found = all_of(await graph.relations(fan))
            audience = await graph.audience(AUTHOR, after=0, limit=100, seen_since_ms=0)
            assert audience.pushed == (found[2] == set())
            assert bool(audience.follower_ids) == audience.pushed
            return found

        for follower in range(2, 11):
            await graph.follow(follower, AUTHOR, 100 + follower)
        assert await state() == pushed, "9 followers"
        for way in (True, False):
            await graph.settle(AUTHOR, pulled=way)
            assert await state() == pushed, "there was nothing to settle"

        await graph.follow(11, AUTHOR, 111)
        assert await state() == both
        await graph.unfollow(11, AUTHOR)
        await graph.follow(11, AUTHOR, 112)
        assert await state() == both
        assert self.crossings(await stores.events()) == [True], "a crossing begins once"

        await graph.settle(AUTHOR, pulled=False)
        assert await state() == both, "an older crossing's end, come late, does not end this one"
        await graph.settle(AUTHOR, pulled=True)
        assert await state() == pulled
        await graph.settle(AUTHOR, pulled=True)
        assert await state() == pulled, "settling may be repeated"

        await graph.unfollow(11, AUTHOR)
        assert await state() == pulled, "9 followers: a tenth below the line is not yet back"
        await graph.unfollow(10, AUTHOR)
        assert await state() == both
        assert self.crossings(await stores.events()) == [True, False]
        await graph.settle(AUTHOR, pulled=True)
        assert await state() == both
        await graph.settle(AUTHOR, pulled=False)
        assert await state() == pushed
        assert self.crossings(await stores.events()) == [True, False]

    async def test_an_audience_that_changed_during_a_crossing_begins_the_next_at_its_end(
        self, stores: GraphStores
    ) -> None:
        graph = stores.graph
        for follower in range(2, 12):
            await graph.follow(follower, AUTHOR, 100 + follower)
        for follower in range(3, 12):
            await graph.unfollow(follower, AUTHOR)
        assert self.crossings(await stores.events()) == [True]
        await graph.settle(AUTHOR, pulled=True)
        assert self.crossings(await stores.events()) == [True, False]
        assert all_of(await graph.relations(2)) == ({AUTHOR}, {AUTHOR}, set())
        await graph.settle(AUTHOR, pulled=False)
        assert all_of(await graph.relations(2)) == ({AUTHOR}, set(), set())

    async def test_a_review_begins_what_a_moved_line_calls_for_and_repeats_what_is_under_way(
        self, stores: GraphStores
    ) -> None:
        for follower in range(2, 7):
            await stores.graph.follow(follower, AUTHOR, 100 + follower)
        await stores.graph.follow(AUTHOR, 2, 300)

        async def round_of(graph: GraphStore) -> int:
            after, pages = 0, 1
            while after := await graph.review(after=after, limit=2):
                pages += 1
            return pages

        assert await round_of(stores.graph) == 4, "six people, two a page, and the end"
        assert self.crossings(await stores.events()) == []
        lower = stores.with_line(Line(5))
        await round_of(lower)
        assert self.crossings(await stores.events()) == [True]
        await round_of(lower)
        assert self.crossings(await stores.events()) == [True, True], "its first event may be lost"
        await lower.settle(AUTHOR, pulled=True)
        await round_of(lower)
        assert self.crossings(await stores.events()) == [True, True]
        await round_of(stores.graph)
        assert self.crossings(await stores.events()) == [True, True, False]

    async def test_settling_somebody_unknown_changes_nothing(self, stores: GraphStores) -> None:
        await stores.graph.settle(99, pulled=True)
        assert await stores.events() == []

    # --- blocks

    @staticmethod
    async def kinds(stores: GraphStores) -> list[tuple[str, type]]:
        """Keys and types of all events so far."""
        events = await stores.events()
        assert all(event.topic == "social" for event in events)
        return [(event.key, type(event.message)) for event in events]

    async def test_a_block_cuts_follows_both_ways(self, stores: GraphStores) -> None:
        """With the events and the counts of unfollows, so that nobody has to know of blocks to count followers."""
        graph = stores.graph
        await graph.follow(1, 2, 100)
        await graph.follow(2, 1, 101)
        await graph.follow(2, 3, 102)
        before = len(await stores.events())
        assert await graph.block(1, 2, 103)
        assert await graph.related([(1, 2), (2, 1), (2, 3)]) == {(2, 3)}
        assert (await self.kinds(stores))[before:] == [("1", UserBlocked), ("1", UserUnfollowed), ("2", UserUnfollowed)]
        block, one, other = [event.message for event in await stores.events()][before:]
        assert block == UserBlocked(blocker_id=1, blocked_id=2)
        assert isinstance(one, UserUnfollowed)
        assert isinstance(other, UserUnfollowed)
        assert (one.follower_id, one.followee_id, other.follower_id, other.followee_id) == (1, 2, 2, 1)
        assert (one.counts.following_count, one.counts.followers_count) == (0, 0)
        assert (other.counts.following_count, other.counts.followers_count) == (1, 0)
        assert other.counts.follower_version > one.counts.followee_version

    async def test_a_block_cuts_requests_both_ways(self, stores: GraphStores) -> None:
        graph = stores.graph
        await graph.request(1, 2, 100)
        await graph.request(2, 1, 101)
        await graph.request(2, 3, 102)
        assert await graph.block(1, 2, 103)
        assert await graph.requests_sent(1, before=0, after=0, limit=10) == []
        assert await graph.requests_sent(2, before=0, after=0, limit=10) == [Edge(102, 3)]
        assert (await self.kinds(stores))[3:] == [
            ("1", UserBlocked),
            ("1", FollowRequestWithdrawn),
            ("2", FollowRequestWithdrawn),
        ]

    async def test_a_second_block_or_unblock_changes_nothing(self, stores: GraphStores) -> None:
        graph = stores.graph
        assert await graph.block(1, 2, 100)
        assert not await graph.block(1, 2, 101)
        assert await graph.blocking(1, before=0, after=0, limit=10) == [Edge(100, 2)]
        assert await graph.blocking(2, before=0, after=0, limit=10) == []
        assert await graph.unblock(1, 2)
        assert not await graph.unblock(1, 2)
        assert not await graph.unblock(2, 1)
        assert await graph.blocking(1, before=0, after=0, limit=10) == []
        assert await self.kinds(stores) == [("1", UserBlocked), ("1", UserUnblocked)]

    @pytest.mark.parametrize(("blocker", "reason"), [(1, "BLOCKING"), (2, "BLOCKED")])
    async def test_nobody_follows_or_asks_across_a_block(self, stores: GraphStores, blocker: int, reason: str) -> None:
        graph = stores.graph
        await graph.block(blocker, 3 - blocker, 100)
        for attempt in (graph.follow, graph.request):
            with pytest.raises(PermissionDenied) as raised:
                await attempt(1, 2, 101)
            assert raised.value.reason == reason
        assert not await graph.accept(1, 2, 102)
        assert await self.kinds(stores) == [(str(blocker), UserBlocked)]
        await graph.unblock(blocker, 3 - blocker)
        assert await graph.follow(1, 2, 103)

    async def test_two_may_block_each_other(self, graph: GraphStore) -> None:
        assert await graph.block(1, 2, 100)
        assert await graph.block(2, 1, 101)
        assert sorted((await graph.relations(1)).blocked_ids) == [2]
        await graph.unblock(1, 2)
        assert (await graph.relations(1)).blocked_ids == [2], "the other's block holds"
        with pytest.raises(PermissionDenied) as raised:
            await graph.follow(1, 2, 102)
        assert raised.value.reason == "BLOCKED"

    async def test_a_block_makes_an_audience_small_again(self, stores: GraphStores) -> None:
        for follower in range(2, 12):
            await stores.graph.follow(follower, AUTHOR, 100 + follower)
        await stores.graph.settle(AUTHOR, pulled=True)
        await stores.graph.block(AUTHOR, 2, 200)
        await stores.graph.block(3, AUTHOR, 201)
        assert self.crossings(await stores.events()) == [True, False]

    async def test_nobody_blocks_more_than_the_limit(self, stores: GraphStores) -> None:
        await stores.block_all([(2, 100_000 + n) for n in range(MAX_BLOCKS)])
        await stores.graph.follow(2, 9001, 1)
        before = await self.kinds(stores)
        with pytest.raises(PermissionDenied):
            await stores.graph.block(2, 9001, 1_000_000)
        assert await stores.graph.related([(2, 9001)]) == {(2, 9001)}, "what was refused cut nothing"
        assert await self.kinds(stores) == before
        assert not await stores.graph.block(2, 100_000, 1_000_001), "this one was there"

    # --- mutes

    async def test_a_mute_is_of_the_muter_alone(self, stores: GraphStores) -> None:
        graph = stores.graph
        await graph.follow(1, 2, 100)
        assert await graph.mute(1, 2, 101)
        assert not await graph.mute(1, 2, 102)
        assert await graph.muting(1, before=0, after=0, limit=10) == [Edge(101, 2)]
        assert await graph.muting(2, before=0, after=0, limit=10) == []
        assert (await graph.relations(1)).muted_ids == [2]
        assert (await graph.relations(2)).muted_ids == []
        assert await graph.related([(1, 2)]) == {(1, 2)}, "one may mute whom one follows"
        assert await graph.unmute(1, 2)
        assert not await graph.unmute(1, 2)
        assert (await graph.relations(1)).muted_ids == []
        assert (await self.kinds(stores))[1:] == [("1", UserMuted), ("1", UserUnmuted)]

    async def test_nobody_mutes_more_than_the_limit(self, stores: GraphStores) -> None:
        await stores.mute_all(2, range(100_000, 100_000 + MAX_MUTES))
        with pytest.raises(PermissionDenied):
            await stores.graph.mute(2, 9001, 1_000_000)
        assert (await stores.graph.standing(2, [9001, 100_000])).muted == {100_000}
        assert await stores.events() == []

    # --- requests

    async def test_a_request_waits_until_it_is_accepted(self, stores: GraphStores) -> None:
        graph = stores.graph
        assert await graph.request(1, 2, 100)
        assert await graph.request(1, 2, 101), "it waits still"
        assert await graph.related([(1, 2)]) == set()
        assert await graph.requests_sent(1, before=0, after=0, limit=10) == [Edge(100, 2)]
        assert await graph.requests_received(2, before=0, after=0, limit=10) == [Edge(100, 1)]
        assert not await graph.accept(2, 1, 102), "that one was never made"
        assert await graph.accept(1, 2, 103)
        assert await graph.accept(1, 2, 104), "a second time, as the first answer may have got lost"
        assert await graph.followers(2, before=0, after=0, limit=10) == [Edge(103, 1)]
        assert await graph.requests_received(2, before=0, after=0, limit=10) == []
        assert not await graph.request(1, 2, 105), "they follow already"
        assert not await graph.decline(1, 2)
        assert await self.kinds(stores) == [("1", FollowRequested), ("1", UserFollowed)]
        followed = (await stores.events())[1].message
        assert isinstance(followed, UserFollowed)
        assert followed.accepted

    async def test_a_request_ends_when_it_is_declined_or_taken_back(self, stores: GraphStores) -> None:
        for end in (stores.graph.decline, stores.graph.unfollow):
            before = len(await stores.events())
            await stores.graph.request(1, 2, 100 + before)
            assert await end(1, 2)
            assert not await end(1, 2)
            assert not await stores.graph.accept(1, 2, 200)
            assert await stores.graph.related([(1, 2)]) == set()
            assert await stores.graph.requests_received(2, before=0, after=0, limit=10) == []
            assert (await self.kinds(stores))[before:] == [("1", FollowRequested), ("1", FollowRequestWithdrawn)]

    async def test_a_follow_takes_the_place_of_the_request(self, stores: GraphStores) -> None:
        """The target has gone public meanwhile."""
        await stores.graph.request(1, 2, 100)
        assert await stores.graph.follow(1, 2, 101)
        assert await stores.graph.requests_sent(1, before=0, after=0, limit=10) == []
        assert await stores.graph.unfollow(1, 2)
        assert await self.kinds(stores) == [("1", FollowRequested), ("1", UserFollowed), ("1", UserUnfollowed)]
        followed = (await stores.events())[1].message
        assert isinstance(followed, UserFollowed)
        assert not followed.accepted

    async def test_nobody_has_more_requests_waiting_than_the_limit(self, stores: GraphStores) -> None:
        await stores.request_all(2, range(100_000, 100_000 + MAX_REQUESTS))
        with pytest.raises(PermissionDenied):
            await stores.graph.request(2, 9001, 1_000_000)
        assert await stores.graph.request(2, 100_000, 1_000_001), "that one waits already"
        assert await stores.events() == []

    async def test_accepting_who_follows_too_many_leaves_the_request(self, stores: GraphStores) -> None:
        await stores.graph.request(2, 9001, 5)
        await stores.follow_all(2, range(100_000, 100_000 + MAX_FOLLOWING))
        with pytest.raises(PermissionDenied):
            await stores.graph.accept(2, 9001, 1_000_000)
        assert await stores.graph.requests_received(9001, before=0, after=0, limit=10) == [Edge(5, 2)]
        assert await stores.graph.related([(2, 9001)]) == set()

    async def test_lists_of_blocks_mutes_and_requests_are_paged_both_ways(self, graph: GraphStore) -> None:
        for n in range(1, 6):
            await graph.block(1, 10 + n, 100 + n)
            await graph.mute(1, 10 + n, 200 + n)
            await graph.request(2, 10 + n, 300 + n)
            await graph.request(20 + n, 2, 400 + n)
        for read, owner, base, first in (
            (graph.blocking, 1, 100, 10),
            (graph.muting, 1, 200, 10),
            (graph.requests_sent, 2, 300, 10),
            (graph.requests_received, 2, 400, 20),
        ):
            assert await read(owner, before=0, after=0, limit=2) == [Edge(base + n, first + n) for n in (5, 4)]
            assert await read(owner, before=base + 4, after=0, limit=2) == [Edge(base + n, first + n) for n in (3, 2)]
            assert await read(owner, before=0, after=base + 2, limit=2) == [Edge(base + n, first + n) for n in (3, 4)]
            assert await read(99, before=0, after=0, limit=2) == []

    # --- standing

    async def test_standing_tells_all_relations_of_the_viewer(self, graph: GraphStore) -> None:
        await graph.follow(1, 2, 100)
        await graph.follow(3, 1, 101)
        await graph.block(1, 4, 102)
        await graph.block(5, 1, 103)
        await graph.block(4, 5, 104)
        await graph.mute(1, 2, 105)
        await graph.mute(6, 1, 106)
        everyone = list(range(1, 10))
        assert await graph.standing(1, everyone) == Standing({2}, {4, 5}, {2})
        assert await graph.standing(1, [3, 6, 7]) == Standing(set(), set(), set())
        assert await graph.standing(1, []) == Standing(set(), set(), set())
        assert await graph.standing(5, everyone) == Standing(set(), {1, 4}, set())
        relations = await graph.relations(1)
        assert (relations.followee_ids, sorted(relations.blocked_ids), relations.muted_ids) == ([2], [4, 5], [2])
        assert await graph.relations(9) == Relations([], [], [], [], [])

    async def test_who_is_blocked_by_very_many_has_no_more_relations_than_show_it(self, stores: GraphStores) -> None:
        half = MAX_BLOCKED_SET // 2
        await stores.block_all([(1, 100_000 + n) for n in range(half)])
        await stores.block_all([(200_000 + n, 1) for n in range(half)])
        assert len((await stores.graph.relations(1)).blocked_ids) == MAX_BLOCKED_SET
        await stores.graph.block(1, 200_000, 9_000_000)
        assert len((await stores.graph.relations(1)).blocked_ids) == MAX_BLOCKED_SET, "both ways is one person still"
        await stores.graph.block(9, 1, 9_000_001)
        await stores.graph.block(8, 1, 9_000_002)
        assert len((await stores.graph.relations(1)).blocked_ids) == MAX_BLOCKED_SET + 1
        assert (await stores.graph.standing(1, [8, 9, 7, 200_001])).blocked == {8, 9, 200_001}

    # --- all at once

    async def test_a_pair_that_does_everything_at_once_ends_in_one_state(self, stores: GraphStores) -> None:
        """No follow and no request crosses a block, none is beside the other, and counts are those of the follows."""
        graph = stores.graph
        dice = random.Random(11)
        ids = itertools.count(100)
        for _ in range(30):
            one, other = dice.sample((1, 2), 2)
            doings: list[Callable[[], Awaitable[object]]] = [
                lambda a=one, b=other: graph.follow(a, b, next(ids)),  # type: ignore[misc]
                lambda a=other, b=one: graph.follow(a, b, next(ids)),  # type: ignore[misc]
                lambda a=one, b=other: graph.request(a, b, next(ids)),  # type: ignore[misc]
                lambda a=one, b=other: graph.accept(a, b, next(ids)),  # type: ignore[misc]
                lambda a=one, b=other: graph.unfollow(a, b),  # type: ignore[misc]
                lambda a=one, b=other: graph.block(a, b, next(ids)),  # type: ignore[misc]
                lambda a=one, b=other: graph.unblock(a, b),  # type: ignore[misc]
                lambda a=other, b=one: graph.unblock(a, b),  # type: ignore[misc]
            ]
            dice.shuffle(doings)
            done = await asyncio.gather(*(do() for do in doings), return_exceptions=True)
            assert all(isinstance(one, bool | PermissionDenied) for one in done)
            follows = await graph.related([(1, 2), (2, 1)])
            asked = {(a, edge.user_id) for a in (1, 2) for edge in await graph.requests_sent(a, **RANGE)}
            blocks = [edge for a in (1, 2) for edge in await graph.blocking(a, **RANGE)]
            assert not follows & asked
            assert not blocks or not follows | asked
            newest = (0, 0)
            for event in await stores.events():
                counts = getattr(event.message, "counts", None)
                if counts is not None and event.message.followee_id == 2:  # type: ignore[attr-defined]
                    newest = max(newest, (counts.followee_version, counts.followers_count))
            assert newest[1] == ((1, 2) in follows)
