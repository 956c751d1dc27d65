"""Long lists: every port's pages over as many rows as a list may have, one by one, both ways, while they change.

A page is found by its key, so the last one costs what the first does, and rows that come and go while somebody reads
neither hide nor repeat another. Rows are put there without the port, as many as `rows` of each kind.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest

from services.graph.list_domain import PeopleList
from services.graph.store.base import GraphStore
from services.graph.store.lists import ListStore
from services.tweet.domain import Mark, StoredTweet
from services.tweet.store.base import By, TweetStore
from services.user.store.base import FoundWord, UserStore

T = TypeVar("T")
Read = Callable[[int, int, int], Awaitable[list[T]]]
"""A page: the bounds before and after, exclusive, 0 for none, and its length; with `after` the oldest first."""

ADA, BOB, EVE = 1, 2, 3
PAGES = 100
"""That a list is read in."""
FIRST = 1_000
"""The first id, and the first number, of what is put there; what it points at is below."""
TARGET = 10
"""What everything points at."""


@dataclass
class Walk:
    """A list as it was read."""

    keys: list[int] = field(default_factory=list)
    """In the order in which they came."""
    seconds: list[float] = field(default_factory=list)
    """For each page."""

    def costs_the_same_everywhere(self) -> None:
        """The last pages take no longer than the first, but for a machine that is busy with other things."""
        tenth = max(1, len(self.seconds) // 10)
        first, last = statistics.median(self.seconds[:tenth]), statistics.median(self.seconds[-tenth:])
        assert last < 10 * first + 0.05, f"a page took {first:.4f} s at the beginning, {last:.4f} s at the end"


async def walk(read: Read[T], key: Callable[[T], int], page: int, *, up: bool = False) -> Walk:
    """Reads a list from one end to the other, a page at a time."""
    walked = Walk()
    edge = 0
    for _ in range(3 * PAGES):
        began = time.perf_counter()
        found = await read(0 if up else edge, max(edge, 1) if up else 0, page)
        walked.seconds.append(time.perf_counter() - began)
        walked.keys += map(key, found)
        if len(found) < page:
            return walked
        edge = walked.keys[-1]
    raise AssertionError("the list does not end")


class AtScale:
    """What the suites share."""

    rows: ClassVar[int] = 20_000
    """Of each kind."""

    @property
    def page(self) -> int:
        """Rows of a page."""
        return self.rows // PAGES

    async def whole(self, read: Read[T], key: Callable[[T], int], ids: Sequence[int], name: str) -> None:
        """A list has exactly these, both ways."""
        down = await walk(read, key, self.page)
        assert down.keys == list(reversed(ids)), name
        down.costs_the_same_everywhere()
        up = await walk(read, key, self.page, up=True)
        assert up.keys == list(ids), name
        up.costs_the_same_everywhere()


async def changing(walking: Awaitable[Walk], change: Callable[[int], Awaitable[object]]) -> tuple[Walk, int]:
    """A walk while changes are made one after the other; and how many there were."""
    reading = asyncio.ensure_future(walking)
    changes = 0
    while not reading.done():
        await change(changes)
        changes += 1
    return await reading, changes


@dataclass(frozen=True, slots=True)
class TweetsAtScale:
    """What an adapter hands to the suite."""

    tweets: TweetStore
    """The store under test."""
    write_all: Callable[[Sequence[StoredTweet], Collection[int]], Awaitable[None]]
    """Puts tweets there, each for all those mentioned, in all lists that they are in; without counts and events."""
    mark_all: Callable[[Mark, Sequence[tuple[int, int]]], Awaitable[None]]
    """Puts marks there, person and tweet, numbered from FIRST on; without counts and events."""


class TweetsAtScaleSuite(AtScale, ABC):
    """Subclass it in an adapter's test module."""

    @abstractmethod
    def opened(self, folder: Path) -> AbstractAsyncContextManager[TweetsAtScale]:
        """New, empty stores."""

    @pytest.mark.timeout(600)
    async def test_lists_of_tweets_are_whole(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as stores:
            tweets, ids = stores.tweets, range(FIRST, FIRST + self.rows)
            await stores.tweets.create(StoredTweet(TARGET, EVE, "all of it is about this"), "")
            one = StoredTweet(0, ADA, "text", conversation_id=TARGET, quoted_id=TARGET)
            await stores.write_all([replace(one, id=i) for i in ids], [BOB])

            def listed(by: By, value: int) -> Read[Any]:
                return lambda before, after, limit: tweets.page(
                    by, value, before=before, after=after, ascending=bool(after), limit=limit
                )

            def mentions(before: int, after: int, limit: int) -> Awaitable[list[Any]]:
                return tweets.mentions(BOB, before=before, after=after, ascending=bool(after), limit=limit)

            def recent(before: int, after: int, limit: int) -> Awaitable[list[Any]]:
                return tweets.recent([ADA, BOB], before=before, after=after, limit=limit, oldest_first=bool(after))

            def key(entry: Any) -> int:
                return int(entry.tweet_id)

            await self.whole(listed(By.AUTHOR, ADA), key, ids, "of an author")
            await self.whole(recent, key, ids, "recent ones")
            await self.whole(mentions, key, ids, "mentions")
            await self.whole(listed(By.QUOTED, TARGET), key, ids, "quotes")
            down = await walk(listed(By.CONVERSATION, TARGET), key, self.page)
            assert [i for i in down.keys if i != TARGET] == list(reversed(ids)), "of a conversation"

            async def change(number: int) -> None:
                await tweets.create(replace(one, id=FIRST + 10 * self.rows + number), "")
                await tweets.delete(FIRST + 7 * number, ADA)

            during, changes = await changing(walk(listed(By.AUTHOR, ADA), key, self.page), change)
            stays = {i for i in ids if (i - FIRST) % 7 or (i - FIRST) // 7 >= changes}
            assert during.keys == sorted(set(during.keys), reverse=True), "none twice, all in order"
            assert stays <= set(during.keys), "what was there all the time is there"
            assert set(during.keys[self.page :]) <= set(ids), "what came above the first page is not in a later one"

    @pytest.mark.timeout(600)
    async def test_retweets_are_whole(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as stores:
            ids = range(FIRST, FIRST + self.rows)
            await stores.tweets.create(StoredTweet(TARGET, EVE, "worth repeating"), "")
            one = StoredTweet(0, 0, "", retweeted_id=TARGET)
            await stores.write_all([replace(one, id=i, author_id=10 * i, conversation_id=i) for i in ids], [])
            await self.whole(
                lambda before, after, limit: stores.tweets.page(
                    By.RETWEETED, TARGET, before=before, after=after, ascending=bool(after), limit=limit
                ),
                lambda entry: int(entry.tweet_id),
                ids,
                "retweets",
            )

    @pytest.mark.timeout(600)
    @pytest.mark.parametrize("mark", list(Mark))
    async def test_marks_are_whole_from_both_ends(self, tmp_path: Path, mark: Mark) -> None:
        async with self.opened(tmp_path) as stores:
            tweets, ids = stores.tweets, range(FIRST, FIRST + self.rows)
            await tweets.create(StoredTweet(TARGET, EVE, "everybody likes it"), "")
            await stores.mark_all(mark, [(10 * i, TARGET) for i in ids])
            await self.whole(
                lambda before, after, limit: tweets.marking_users(
                    mark, TARGET, before=before, after=after, limit=limit
                ),
                lambda one: one.mark_id,
                ids,
                "people",
            )
            await stores.mark_all(mark, [(EVE, 10 * i) for i in ids])
            await self.whole(
                lambda before, after, limit: tweets.marked_tweets(mark, EVE, before=before, after=after, limit=limit),
                lambda one: one.mark_id,
                ids,
                "tweets",
            )
            middle = FIRST + self.rows // 2
            found = await tweets.marking_users(mark, TARGET, before=middle, after=0, limit=2)
            assert [one.other_id for one in found] == [10 * (middle - 1), 10 * (middle - 2)]


@dataclass(frozen=True, slots=True)
class GraphAtScale:
    """What an adapter hands to the suite."""

    graph: GraphStore
    """The store under test."""
    follow_each: Callable[[Sequence[tuple[int, int]]], Awaitable[None]]
    """Puts follows there: followers and followees, numbered from FIRST on, with the counts of the people at both ends;
    nobody of them was there before."""


class GraphAtScaleSuite(AtScale, ABC):
    """Subclass it in an adapter's test module."""

    @abstractmethod
    def opened(self, folder: Path) -> AbstractAsyncContextManager[GraphAtScale]:
        """New, empty stores."""

    @pytest.mark.timeout(600)
    async def test_followers_are_whole(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as stores:
            graph, ids = stores.graph, range(FIRST, FIRST + self.rows)
            await stores.follow_each([(10 * i, ADA) for i in ids])

            def followers(before: int, after: int, limit: int) -> Awaitable[list[Any]]:
                return graph.followers(ADA, before=before, after=after, limit=limit)

            def key(edge: Any) -> int:
                return int(edge.edge_id)

            await self.whole(followers, key, ids, "followers")
            everyone: list[int] = []
            for _ in range(2 * PAGES):
                found = await graph.follower_ids(ADA, after=everyone[-1] if everyone else 0, limit=self.page)
                everyone += found
                if len(found) < self.page:
                    break
            assert everyone == [10 * i for i in ids], "for fan-out, by id"

            async def change(number: int) -> None:
                await graph.follow(number + 100, ADA, 10 * self.rows + FIRST + number)
                await graph.unfollow(10 * (FIRST + 7 * number), ADA)

            during, changes = await changing(walk(followers, key, self.page), change)
            stays = {i for i in ids if (i - FIRST) % 7 or (i - FIRST) // 7 >= changes}
            assert during.keys == sorted(set(during.keys), reverse=True), "none twice, all in order"
            assert stays <= set(during.keys)
            assert set(during.keys[self.page :]) <= set(ids)

    @pytest.mark.timeout(600)
    async def test_followees_are_whole(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as stores:
            ids = range(FIRST, FIRST + self.rows)
            await stores.follow_each([(ADA, 10 * i) for i in ids])
            await self.whole(
                lambda before, after, limit: stores.graph.following(ADA, before=before, after=after, limit=limit),
                lambda edge: int(edge.edge_id),
                ids,
                "followees",
            )


@dataclass(frozen=True, slots=True)
class ListsAtScale:
    """What an adapter hands to the suite."""

    lists: ListStore
    """The store under test."""
    follow_all: Callable[[int, Sequence[int]], Awaitable[None]]
    """Puts follows of one list there, by these people, numbered from FIRST on."""


class ListsAtScaleSuite(AtScale, ABC):
    """Subclass it in an adapter's test module."""

    @abstractmethod
    def opened(self, folder: Path) -> AbstractAsyncContextManager[ListsAtScale]:
        """New, empty stores."""

    @pytest.mark.timeout(600)
    async def test_followers_of_a_list_are_whole(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as stores:
            ids = range(FIRST, FIRST + self.rows)
            await stores.lists.create(PeopleList(TARGET, EVE, "birds", "", False, 0, 0))
            await stores.follow_all(TARGET, [10 * i for i in ids])
            await self.whole(
                lambda before, after, limit: stores.lists.list_followers(
                    TARGET, before=before, after=after, limit=limit
                ),
                lambda edge: int(edge.edge_id),
                ids,
                "followers",
            )


@dataclass(frozen=True, slots=True)
class PeopleAtScale:
    """What an adapter hands to the suite."""

    users: UserStore
    """The store under test."""
    register_all: Callable[[Sequence[tuple[int, str]]], Awaitable[None]]
    """Puts people there, id and username, who are found by it; without sessions and events."""


class PeopleAtScaleSuite(AtScale, ABC):
    """Subclass it in an adapter's test module."""

    @abstractmethod
    def opened(self, folder: Path) -> AbstractAsyncContextManager[PeopleAtScale]:
        """New, empty stores."""

    @pytest.mark.timeout(600)
    async def test_a_search_is_whole(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as stores:
            people = [(FIRST + i, f"anna{i:07}") for i in range(self.rows)]
            await stores.register_all([*people, (ADA, "ada"), (BOB, "annb")])
            found: list[FoundWord] = []
            walked = Walk()
            while True:
                began = time.perf_counter()
                some = await stores.users.search("anna", found[-1] if found else None, self.page)
                walked.seconds.append(time.perf_counter() - began)
                found += some
                if len(some) < self.page:
                    break
                assert len(found) <= self.rows, "the list does not end"
            assert [one.user_id for one in found] == [user_id for user_id, _ in people]
            walked.costs_the_same_everywhere()
            batch = [user_id for user_id, _ in people[:: self.page]]
            assert sorted(one.id for one in await stores.users.by_ids(batch)) == batch
