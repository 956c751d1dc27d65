"""What every TweetStore does."""

from __future__ import annotations

import asyncio
import itertools
import random
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import pytest
from prometheus_client import CollectorRegistry
from rookery.events.v1.tweet_events_pb2 import (
    AuthorCountsMended,
    PollVotesCounted,
    TweetBookmarksChanged,
    TweetCountsChanged,
    TweetCreated,
    TweetDeleted,
    TweetLiked,
    TweetUnliked,
    TweetVisibilityChanged,
)

from mesh.errors import NotFound, Unavailable
from services.tweet.domain import Choice, Mark, Review, StoredPoll, StoredTweet, Visibility
from services.tweet.reconciler import Reconciler
from services.tweet.store.base import Applied, By, CountCheck, CountStore, Marked, PollStore, TweetStore, Wrong
from views.entry import Entry

from .events import Event, Events

ADA, BOB, EVE = 1, 2, 3
MAX_ID = 2**63 - 1


class Miscount(Protocol):
    """Writes counts of one tweet, person or poll that nobody counted."""

    async def tweet(self, tweet_id: int, **counts: int) -> None:
        """Counts of a tweet, by their names."""
        ...

    async def author(self, author_id: int, *, tweet_count: int, like_count: int) -> None:
        """How much a person wrote and likes."""
        ...

    async def poll(self, poll_id: int, votes: Mapping[int, int]) -> None:
        """Votes for some choices of a poll, by position."""
        ...


@dataclass(frozen=True, slots=True)
class TweetStores:
    """What an adapter hands to the suite."""

    tweets: TweetStore
    """The store under test."""
    polls: PollStore
    """The polls of its tweets."""
    counts: CountStore
    """What its changes are added up by."""
    check: CountCheck
    """Compares counts with rows."""
    miscount: Miscount
    """Makes counts wrong behind the store's back."""
    events: Events
    """What its changes left to be published."""
    close: Callable[[], Awaitable[None]]
    """Takes the database away."""


def tweet_of(tweet_id: int, author_id: int = ADA, **members: int) -> StoredTweet:
    """A tweet to be."""
    blank = StoredTweet(tweet_id, author_id, f"text of {tweet_id}")
    return replace(
        blank,
        conversation_id=members.get("conversation_id", 0),
        in_reply_to_tweet_id=members.get("in_reply_to_tweet_id", 0),
        in_reply_to_user_id=members.get("in_reply_to_user_id", 0),
        quoted_id=members.get("quoted_id", 0),
        retweeted_id=members.get("retweeted_id", 0),
    )


def reconciler(stores: TweetStores) -> Reconciler:
    """One without anything that changed lately."""
    return Reconciler(stores.check, lambda limit: [], registry=CollectorRegistry())


def ids(entries: list[Entry]) -> list[int]:
    """Their tweets' ids, in order."""
    return [entry.tweet_id for entry in entries]


class TweetStoreSuite(ABC):
    """Subclass it in an adapter's test module."""

    @abstractmethod
    def opened(self, folder: Path) -> AbstractAsyncContextManager[TweetStores]:
        """New, empty stores."""

    @pytest.fixture
    async def stores(self, tmp_path: Path) -> AsyncIterator[TweetStores]:
        """New, empty stores."""
        async with self.opened(tmp_path) as stores:
            yield stores

    @pytest.fixture
    def tweets(self, stores: TweetStores) -> TweetStore:
        """The store."""
        return stores.tweets

    @staticmethod
    async def one(tweets: TweetStore, tweet_id: int) -> StoredTweet:
        """A tweet that is there, or was."""
        [found] = await tweets.by_ids([tweet_id])
        return found

    @classmethod
    async def counts(cls, stores: TweetStores, tweet_id: int) -> tuple[int, int, int]:
        """Retweets, replies, quotes, once everything is added up."""
        await cls.add_up(stores)
        found = await cls.one(stores.tweets, tweet_id)
        return found.retweet_count, found.reply_count, found.quote_count

    @staticmethod
    async def add_up(stores: TweetStores) -> None:
        """Adds up all changes that wait."""
        while (await stores.counts.apply(7)).changes:
            pass
        assert not await stores.counts.waiting()

    # --- one tweet

    async def test_a_tweet_is_kept_as_it_was_written(self, tweets: TweetStore) -> None:
        hostile = "'); DROP TABLE tweets; --\n\\ % \U0001f468‍\U0001f469‍\U0001f467 \u202e\u00e9"
        tweet = StoredTweet(
            MAX_ID, MAX_ID - 1, hostile, b"\x00\xff'", "de", True, "following", 5, 6, 7, 8, 0, deleted=False
        )
        assert await tweets.create(tweet, "") == tweet, "what it points at need not be there"
        assert await tweets.by_ids([MAX_ID]) == [tweet]
        assert tweet.entry == Entry(MAX_ID, MAX_ID - 1, 7, 0)

    async def test_a_tweet_that_answers_nothing_begins_a_conversation(self, tweets: TweetStore) -> None:
        assert await tweets.create(tweet_of(10), "") == replace(tweet_of(10), conversation_id=10)

    async def test_many_are_read_at_once_and_the_unknown_left_out(self, tweets: TweetStore) -> None:
        for tweet_id in (10, 11, 12):
            await tweets.create(tweet_of(tweet_id), "")
        assert sorted(tweet.id for tweet in await tweets.by_ids([12, 99, 10, 12])) == [10, 12]
        assert await tweets.by_ids([]) == []
        assert await tweets.by_ids([99]) == []
        assert len(await tweets.by_ids(range(1, 101))) == 3, "a whole batch of the API"

    # --- how far a tweet reaches

    async def test_a_tweet_reaches_as_far_as_was_decided_last(self, stores: TweetStores) -> None:
        tweets = stores.tweets
        made = await tweets.create(replace(tweet_of(10), visibility=Visibility.LIMITED), "")
        assert made.visibility is Visibility.LIMITED
        for number, visibility in enumerate((Visibility.REMOVED, Visibility.OPEN, Visibility.LIMITED), 2):
            changed = await tweets.set_visibility(10, visibility)
            assert changed == await self.one(tweets, 10)
            assert changed == replace(made, visibility=visibility, version=made.version + number - 1)
        events = [event.message for event in await stores.events()]
        assert isinstance(events[0], TweetCreated) and events[0].visibility == Visibility.LIMITED
        assert events[1:] == [
            TweetVisibilityChanged(tweet_id=10, author_id=ADA, visibility=value)  # type: ignore[arg-type]
            for value in (3, 1, 2)
        ]

    async def test_the_same_visibility_again_changes_nothing_and_a_deleted_tweet_has_none(
        self, stores: TweetStores
    ) -> None:
        tweets = stores.tweets
        await tweets.create(tweet_of(10), "")
        first = await tweets.set_visibility(10, Visibility.REMOVED)
        assert await tweets.set_visibility(10, Visibility.REMOVED) == first
        assert len(await stores.events()) == 2
        left = await tweets.delete(10, ADA)
        assert left is not None and left.deleted, "a removed tweet is its author's still"
        assert await tweets.set_visibility(10, Visibility.OPEN) is None
        assert await tweets.set_visibility(99, Visibility.OPEN) is None

    async def test_an_event_says_why_its_tweet_is_to_be_reviewed(self, stores: TweetStores) -> None:
        await stores.tweets.create(tweet_of(10), "", review=Review(("spam", "unchecked"), 0.25, 0.5))
        [event] = [event.message for event in await stores.events()]
        assert isinstance(event, TweetCreated)
        assert list(event.review.reasons) == ["spam", "unchecked"]
        assert (event.review.toxicity, event.review.spam) == (0.25, 0.5)

    # --- the same request

    async def test_a_repeated_request_gives_the_tweet_that_it_made(self, stores: TweetStores) -> None:
        first = await stores.tweets.create(tweet_of(10, quoted_id=5), "r1")
        again = await stores.tweets.create(replace(tweet_of(11), text="other"), "r1")
        assert again == first
        assert await stores.tweets.by_ids([11]) == []
        assert await stores.tweets.by_request(ADA, "r1") == first
        assert len(await stores.events()) == 1

    async def test_request_ids_are_each_authors_own(self, tweets: TweetStore) -> None:
        assert (await tweets.create(tweet_of(10, ADA), "r1")).id == 10
        assert (await tweets.create(tweet_of(11, BOB), "r1")).id == 11
        assert (await tweets.create(tweet_of(12, ADA), "r2")).id == 12
        assert await tweets.by_request(EVE, "r1") is None
        assert await tweets.by_request(ADA, "r3") is None
        assert await tweets.by_request(ADA, "") is None

    async def test_tweets_without_a_request_id_are_all_made(self, tweets: TweetStore) -> None:
        for tweet_id in (10, 11, 12):
            assert (await tweets.create(tweet_of(tweet_id), "")).id == tweet_id

    async def test_one_request_sent_many_times_at_once_makes_one_tweet(self, stores: TweetStores) -> None:
        done = await asyncio.gather(*(stores.tweets.create(tweet_of(10 + n), "r1") for n in range(10)))
        assert len({tweet.id for tweet in done}) == 1
        assert len(await stores.events()) == 1

    async def test_a_deleted_tweet_is_not_made_again_by_its_request(self, tweets: TweetStore) -> None:
        await tweets.create(tweet_of(10), "r1")
        await tweets.delete(10, ADA)
        again = await tweets.create(tweet_of(11), "r1")
        assert (again.id, again.deleted) == (10, True)
        assert await tweets.by_ids([11]) == []

    # --- references

    async def test_what_a_tweet_points_at_counts_it(self, stores: TweetStores) -> None:
        tweets = stores.tweets
        for tweet_id in (10, 11, 12):
            await tweets.create(tweet_of(tweet_id), "")
        await tweets.create(tweet_of(20, BOB, in_reply_to_tweet_id=10, conversation_id=10), "")
        await tweets.create(tweet_of(21, BOB, in_reply_to_tweet_id=10, quoted_id=11, conversation_id=10), "")
        await tweets.create(tweet_of(22, BOB, retweeted_id=12), "")
        assert (await self.one(tweets, 10)).reply_count == 0, "a change touches no tweet but its own"
        assert await self.counts(stores, 10) == (0, 2, 0)
        assert await self.counts(stores, 11) == (0, 0, 1)
        assert await self.counts(stores, 12) == (1, 0, 0)

    async def test_a_tweet_may_answer_and_quote_the_same_one(self, stores: TweetStores) -> None:
        tweets = stores.tweets
        await tweets.create(tweet_of(10), "")
        await tweets.create(tweet_of(20, BOB, in_reply_to_tweet_id=10, quoted_id=10), "")
        assert await self.counts(stores, 10) == (0, 1, 1)
        await tweets.delete(20, BOB)
        assert await self.counts(stores, 10) == (0, 0, 0)

    async def test_a_repeated_request_counts_nothing_twice(self, stores: TweetStores) -> None:
        await stores.tweets.create(tweet_of(10), "")
        for tweet_id in (20, 21):
            await stores.tweets.create(tweet_of(tweet_id, BOB, in_reply_to_tweet_id=10), "r1")
        assert await self.counts(stores, 10) == (0, 1, 0)

    async def test_nobody_retweets_a_tweet_twice(self, stores: TweetStores) -> None:
        tweets = stores.tweets
        await tweets.create(tweet_of(10), "")
        done = await asyncio.gather(*(tweets.create(tweet_of(20 + n, BOB, retweeted_id=10), "") for n in range(5)))
        [made] = {tweet.id for tweet in done}
        other = await tweets.create(tweet_of(30, EVE, retweeted_id=10), "")
        assert other.id == 30
        assert await self.counts(stores, 10) == (2, 0, 0)
        found = await tweets.retweet(BOB, 10)
        assert found is not None
        assert found.id == made
        assert await tweets.retweet(ADA, 10) is None
        events = [event.message for event in await stores.events()]
        assert sum(isinstance(event, TweetCreated) for event in events) == 3

    async def test_a_retweet_that_was_deleted_may_be_made_again(self, stores: TweetStores) -> None:
        tweets = stores.tweets
        await tweets.create(tweet_of(10), "")
        await tweets.create(tweet_of(20, BOB, retweeted_id=10), "")
        await tweets.delete(20, BOB)
        assert await tweets.retweet(BOB, 10) is None
        assert await self.counts(stores, 10) == (0, 0, 0)
        assert (await tweets.create(tweet_of(21, BOB, retweeted_id=10), "")).id == 21
        assert await self.counts(stores, 10) == (1, 0, 0)

    async def test_who_retweets_nothing_has_no_retweet(self, tweets: TweetStore) -> None:
        """Tweets that repeat nothing have 0 there, which is no tweet."""
        await tweets.create(tweet_of(10), "")
        assert await tweets.retweet(ADA, 0) is None

    # --- deleting

    async def test_a_deleted_tweet_leaves_a_row_without_what_was_in_it(self, tweets: TweetStore) -> None:
        made = await tweets.create(replace(tweet_of(10), entities=b"\x01"), "")
        deleted = await tweets.delete(10, ADA)
        assert deleted is not None
        assert deleted == replace(made, text="", entities=b"", deleted=True, version=2)
        assert await tweets.by_ids([10]) == [deleted]
        assert await tweets.delete(10, ADA) == deleted

    async def test_only_its_author_deletes_a_tweet(self, stores: TweetStores) -> None:
        made = await stores.tweets.create(tweet_of(10), "")
        refused = await stores.tweets.delete(10, BOB)
        assert refused == made
        assert not made.deleted
        assert await stores.tweets.by_ids([10]) == [made]
        assert await stores.tweets.delete(99, ADA) is None
        assert len(await stores.events()) == 1

    async def test_deleting_counts_back_once(self, stores: TweetStores) -> None:
        tweets = stores.tweets
        await tweets.create(tweet_of(10), "")
        await tweets.create(tweet_of(20, BOB, in_reply_to_tweet_id=10, quoted_id=10), "")
        await asyncio.gather(*(tweets.delete(20, BOB) for _ in range(5)))
        assert await self.counts(stores, 10) == (0, 0, 0)
        assert [type(event.message) for event in await stores.events()].count(TweetDeleted) == 1

    # --- events

    async def test_each_change_leaves_one_event_with_its_authors_count(self, stores: TweetStores) -> None:
        tweets = stores.tweets
        await tweets.create(tweet_of(10), "")
        await tweets.create(tweet_of(11, BOB, in_reply_to_tweet_id=10, in_reply_to_user_id=ADA, quoted_id=10), "")
        await tweets.create(tweet_of(12, BOB, retweeted_id=10), "")
        await tweets.delete(11, BOB)
        created = TweetCreated(tweet_id=11, author_id=BOB, in_reply_to_user_id=ADA, referenced_tweet_ids=[10, 10])
        created.author_tweet_count = created.author_version = 1
        deleted = TweetDeleted(tweet_id=11, author_id=BOB, in_reply_to_user_id=ADA, referenced_tweet_ids=[10, 10])
        deleted.author_tweet_count, deleted.author_version = 1, 3
        assert await stores.events() == [
            Event("tweets", "1", TweetCreated(tweet_id=10, author_id=ADA, author_tweet_count=1, author_version=1)),
            Event("tweets", "2", created),
            Event(
                "tweets",
                "2",
                TweetCreated(
                    tweet_id=12,
                    author_id=BOB,
                    retweeted_tweet_id=10,
                    referenced_tweet_ids=[10],
                    author_tweet_count=2,
                    author_version=2,
                ),
            ),
            Event("tweets", "2", deleted),
        ]

    async def test_changes_at_once_are_counted_one_by_one(self, stores: TweetStores) -> None:
        await asyncio.gather(*(stores.tweets.create(tweet_of(10 + n), "") for n in range(20)))
        await asyncio.gather(*(stores.tweets.delete(10 + n, ADA) for n in range(8)))
        messages = [e.message for e in await stores.events() if isinstance(e.message, TweetCreated | TweetDeleted)]
        assert [m.author_version for m in messages] == list(range(1, 29))
        assert [m.author_tweet_count for m in messages] == [*range(1, 21), *range(19, 11, -1)]

    # --- pages

    async def test_pages_go_both_ways_and_leave_deleted_tweets_out(self, tweets: TweetStore) -> None:
        for tweet_id in range(1, 10):
            await tweets.create(tweet_of(tweet_id, ADA), "")
        await tweets.create(tweet_of(20, BOB), "")
        for tweet_id in (4, 9):
            await tweets.delete(tweet_id, ADA)

        async def page(before: int = 0, after: int = 0, *, ascending: bool = False, limit: int = 3) -> list[int]:
            return ids(await tweets.page(By.AUTHOR, ADA, before=before, after=after, ascending=ascending, limit=limit))

        assert await page() == [8, 7, 6]
        assert await page(before=6) == [5, 3, 2]
        assert await page(before=2) == [1]
        assert await page(before=1) == []
        assert await page(after=7) == [8]
        assert await page(before=7, after=2) == [6, 5, 3]
        assert await page(after=2, ascending=True) == [3, 5, 6]
        assert await page(before=6, after=2, ascending=True) == [3, 5]
        assert await page(ascending=True, limit=1) == [1]
        assert await page(before=5, after=5) == []
        assert await tweets.page(By.AUTHOR, EVE, before=0, after=0, ascending=False, limit=3) == []

    async def test_tweets_are_listed_by_what_they_have_in_common(self, tweets: TweetStore) -> None:
        await tweets.create(tweet_of(10), "")
        reply = await tweets.create(
            tweet_of(11, BOB, in_reply_to_tweet_id=10, in_reply_to_user_id=ADA, conversation_id=10), ""
        )
        await tweets.create(tweet_of(12, EVE, in_reply_to_tweet_id=11, conversation_id=10), "")
        await tweets.create(tweet_of(13, BOB, quoted_id=10), "")
        retweet = await tweets.create(tweet_of(14, EVE, retweeted_id=10), "")

        async def listed(by: By, value: int) -> list[int]:
            return ids(await tweets.page(by, value, before=0, after=0, ascending=False, limit=9))

        assert await listed(By.CONVERSATION, 10) == [12, 11, 10]
        assert await listed(By.CONVERSATION, 13) == [13]
        assert await listed(By.QUOTED, 10) == [13]
        assert await listed(By.RETWEETED, 10) == [14]
        assert await listed(By.AUTHOR, BOB) == [13, 11]
        assert await listed(By.QUOTED, 0) == [], "what quotes nothing has nothing in common"
        assert await listed(By.RETWEETED, 0) == []
        found = await tweets.page(By.AUTHOR, BOB, before=12, after=0, ascending=False, limit=9)
        assert found == [reply.entry] == [Entry(11, BOB, ADA, 0)]
        found = await tweets.page(By.AUTHOR, EVE, before=0, after=12, ascending=False, limit=9)
        assert found == [retweet.entry] == [Entry(14, EVE, 0, 10)]

    async def test_what_is_not_there_any_more_cannot_be_repeated(self, tweets: TweetStore) -> None:
        """Its row may have gone between a look at it and the retweet, when its author was erased."""
        with pytest.raises(NotFound):
            await tweets.create(tweet_of(20, BOB, retweeted_id=10), "")
        assert await tweets.by_ids([20]) == []

    async def test_kinds_may_be_left_out_before_the_page_is_cut(self, tweets: TweetStore) -> None:
        for tweet_id in range(10, 22, 3):
            await tweets.create(tweet_of(tweet_id), "")
            await tweets.create(tweet_of(tweet_id + 1, in_reply_to_tweet_id=5), "")
            await tweets.create(tweet_of(tweet_id + 100, BOB), "")
            await tweets.create(tweet_of(tweet_id + 2, retweeted_id=tweet_id + 100), "")

        async def page(*exclude: str) -> list[int]:
            return ids(
                await tweets.page(
                    By.AUTHOR, ADA, before=0, after=0, ascending=False, limit=4, exclude=frozenset(exclude)
                )
            )

        assert await page() == [21, 20, 19, 18]
        assert await page("replies") == [21, 19, 18, 16]
        assert await page("retweets") == [20, 19, 17, 16]
        assert await page("replies", "retweets") == [19, 16, 13, 10]

    async def test_a_page_of_something_unknown_is_no_page_of_everything(self, tweets: TweetStore) -> None:
        await tweets.create(tweet_of(10), "")
        with pytest.raises(KeyError):
            await tweets.page(By.AUTHOR, ADA, before=0, after=0, ascending=False, limit=9, exclude={"everything"})

    # --- recent

    async def test_recent_tweets_of_many_authors_are_merged(self, tweets: TweetStore) -> None:
        """Against a sort of everything: 150 authors, so that several statements are merged, and some deleted."""
        dice = random.Random(11)
        written: dict[int, int] = {}
        for tweet_id in range(1, 301):
            written[tweet_id] = dice.randint(1, 150)
        await asyncio.gather(*(tweets.create(tweet_of(*pair), "") for pair in written.items()))
        gone = dice.sample(sorted(written), 40)
        await asyncio.gather(*(tweets.delete(tweet_id, written.pop(tweet_id)) for tweet_id in gone))
        for _ in range(25):
            authors = dice.sample(range(1, 161), dice.choice([1, 2, 63, 64, 65, 128, 129, 150]))
            before, after = dice.choice([0, 1, 50, 250, 400]), dice.choice([0, 0, 20, 200])
            limit = dice.choice([1, 7, 500])
            expected = sorted(
                (
                    tweet_id
                    for tweet_id, author in written.items()
                    if author in authors and tweet_id > after and (not before or tweet_id < before)
                ),
                reverse=True,
            )[:limit]
            found = await tweets.recent(authors, before=before, after=after, limit=limit)
            assert ids(found) == expected
            assert [entry.author_id for entry in found] == [written[tweet_id] for tweet_id in expected]
            rising = await tweets.recent(authors, before=before, after=after, limit=1000, oldest_first=True)
            whole = await tweets.recent(authors, before=before, after=after, limit=1000)
            assert rising == whole[::-1]
            first = await tweets.recent(authors, before=before, after=after, limit=limit, oldest_first=True)
            assert first == rising[:limit]

    async def test_recent_tweets_of_nobody_are_none_and_of_one_twice_are_one(self, tweets: TweetStore) -> None:
        await tweets.create(tweet_of(10), "")
        assert await tweets.recent([], before=0, after=0, limit=5) == []
        assert ids(await tweets.recent([ADA, ADA, BOB], before=0, after=0, limit=5)) == [10]

    # --- likes and bookmarks

    @pytest.mark.parametrize(("mark", "count"), [(Mark.LIKE, "like_count"), (Mark.BOOKMARK, "bookmark_count")])
    async def test_a_mark_counts_once_and_is_taken_back_once(self, stores: TweetStores, mark: Mark, count: str) -> None:
        tweets = stores.tweets
        await tweets.create(tweet_of(10), "")
        events = len(await stores.events())
        done = await asyncio.gather(*(tweets.mark(mark, BOB, 10, 100 + n) for n in range(5)))
        assert sorted(done) == [False] * 4 + [True]
        assert await tweets.mark(mark, EVE, 10, 200)
        assert len(await stores.events()) == events + 2
        await self.add_up(stores)
        marked = await self.one(tweets, 10)
        assert getattr(marked, count) == 2
        done = await asyncio.gather(*(tweets.unmark(mark, BOB, 10) for _ in range(5)))
        assert sorted(done) == [False] * 4 + [True]
        assert not await tweets.unmark(mark, ADA, 10)
        await self.add_up(stores)
        left = await self.one(tweets, 10)
        assert getattr(left, count) == 1
        assert left.version > marked.version
        other = "bookmark_count" if mark is Mark.LIKE else "like_count"
        assert getattr(left, other) == 0

    @pytest.mark.parametrize("mark", list(Mark))
    async def test_what_is_not_there_is_not_marked(self, stores: TweetStores, mark: Mark) -> None:
        """A deletion takes marks away; one that came after it would be left behind."""
        await stores.tweets.create(tweet_of(10), "")
        await stores.tweets.delete(10, ADA)
        events = await stores.events()
        for missing in (10, 99):
            with pytest.raises(NotFound):
                await stores.tweets.mark(mark, BOB, missing, 100)
        assert await stores.tweets.marked_tweets(mark, BOB, before=0, after=0, limit=9) == []
        assert await stores.events() == events

    async def test_likes_leave_events_with_the_persons_count(self, stores: TweetStores) -> None:
        tweets = stores.tweets
        await tweets.create(tweet_of(10), "")
        await tweets.create(tweet_of(11), "")
        await tweets.mark(Mark.LIKE, BOB, 10, 100)
        await tweets.mark(Mark.LIKE, BOB, 11, 101)
        await tweets.unmark(Mark.LIKE, BOB, 10)
        assert (await stores.events())[2:] == [
            Event("engagement", "10", TweetLiked(user_id=BOB, tweet_id=10, like_count=1, like_version=1)),
            Event("engagement", "11", TweetLiked(user_id=BOB, tweet_id=11, like_count=2, like_version=2)),
            Event("engagement", "10", TweetUnliked(user_id=BOB, tweet_id=10, like_count=1, like_version=3)),
        ]

    async def test_bookmarks_tell_nobody_whose_they_are(self, stores: TweetStores) -> None:
        await stores.tweets.create(tweet_of(10), "")
        await stores.tweets.mark(Mark.BOOKMARK, BOB, 10, 100)
        await stores.tweets.unmark(Mark.BOOKMARK, BOB, 10)
        assert (await stores.events())[1:] == [Event("engagement", "10", TweetBookmarksChanged(tweet_id=10))] * 2

    @pytest.mark.parametrize("mark", list(Mark))
    async def test_marks_are_listed_from_both_ends_and_both_ways(self, tweets: TweetStore, mark: Mark) -> None:
        for tweet_id in range(1, 8):
            await tweets.create(tweet_of(tweet_id), "")
            await tweets.mark(mark, BOB, tweet_id, 100 + tweet_id)
            await tweets.mark(mark, 50 + tweet_id, 1, 200 + tweet_id)
        await tweets.unmark(mark, BOB, 4)

        async def marked(before: int = 0, after: int = 0) -> list[int]:
            found = await tweets.marked_tweets(mark, BOB, before=before, after=after, limit=3)
            assert all(one.mark_id == 100 + one.other_id for one in found)
            return [one.other_id for one in found]

        assert await marked() == [7, 6, 5]
        assert await marked(before=105) == [3, 2, 1]
        assert await marked(before=101) == []
        assert await marked(after=102) == [3, 5, 6], "the oldest first: the page above reads upwards"
        assert await marked(after=107) == []
        people = await tweets.marking_users(mark, 1, before=0, after=0, limit=3)
        assert people == [Marked(207, 57), Marked(206, 56), Marked(205, 55)]
        assert await tweets.marking_users(mark, 1, before=201, after=0, limit=3) == [Marked(101, BOB)]
        assert await tweets.marking_users(mark, 1, before=0, after=206, limit=3) == [Marked(207, 57)]
        other = Mark.BOOKMARK if mark is Mark.LIKE else Mark.LIKE
        assert await tweets.marked_tweets(other, BOB, before=0, after=0, limit=3) == []

    async def test_a_mark_that_is_made_again_comes_first(self, tweets: TweetStore) -> None:
        for tweet_id in (10, 11):
            await tweets.create(tweet_of(tweet_id), "")
            await tweets.mark(Mark.LIKE, BOB, tweet_id, 100 + tweet_id)
        await tweets.unmark(Mark.LIKE, BOB, 10)
        await tweets.mark(Mark.LIKE, BOB, 10, 200)
        found = await tweets.marked_tweets(Mark.LIKE, BOB, before=0, after=0, limit=9)
        assert found == [Marked(200, 10), Marked(111, 11)]

    # --- mentions

    async def test_a_tweet_is_listed_for_those_whom_it_mentions(self, tweets: TweetStore) -> None:
        await tweets.create(tweet_of(10), "", {BOB, EVE})
        reply = await tweets.create(tweet_of(11, in_reply_to_tweet_id=5, in_reply_to_user_id=BOB), "", {BOB})
        await tweets.create(tweet_of(12), "")
        await tweets.create(tweet_of(13), "", {BOB})
        await tweets.create(tweet_of(14), "", {BOB})
        await tweets.delete(13, ADA)

        async def page(user_id: int, before: int = 0, after: int = 0, **more: object) -> list[int]:
            wanted = {"ascending": False, "limit": 9, **more}
            return ids(await tweets.mentions(user_id, before=before, after=after, **wanted))  # type: ignore[arg-type]

        assert await page(BOB) == [14, 11, 10]
        assert await page(EVE) == [10]
        assert await page(ADA) == []
        assert await page(BOB, limit=2) == [14, 11]
        assert await page(BOB, before=14) == [11, 10]
        assert await page(BOB, after=10) == [14, 11]
        assert await page(BOB, after=10, before=14) == [11]
        assert await page(BOB, ascending=True, limit=2) == [10, 11]
        assert await page(BOB, exclude=frozenset({"replies"})) == [14, 10]
        [found] = await tweets.mentions(BOB, before=12, after=10, ascending=False, limit=9)
        assert found == reply.entry

    async def test_a_repeated_request_mentions_nobody_else(self, tweets: TweetStore) -> None:
        await tweets.create(tweet_of(10), "r1", {BOB})
        await tweets.create(tweet_of(11), "r1", {BOB, EVE})
        assert ids(await tweets.mentions(BOB, before=0, after=0, ascending=False, limit=9)) == [10]
        assert await tweets.mentions(EVE, before=0, after=0, ascending=False, limit=9) == []

    # --- polls

    @staticmethod
    async def polled(stores: TweetStores, tweet_id: int = 10) -> StoredPoll:
        """A tweet with a poll that ends at 1,000 ms."""
        poll = StoredPoll(tweet_id + 1_000, tweet_id, 5, 1_000, (Choice(1, "yes"), Choice(2, "no"), Choice(3, "maybe")))
        await stores.tweets.create(replace(tweet_of(tweet_id), poll_id=poll.id), "", (), poll)
        return poll

    async def test_a_poll_is_made_with_its_tweet(self, stores: TweetStores) -> None:
        poll, other = await self.polled(stores), await self.polled(stores, 11)
        assert await stores.polls.by_ids([poll.id]) == [poll]
        assert (await self.one(stores.tweets, 10)).poll_id == poll.id
        assert sorted(one.id for one in await stores.polls.by_ids([poll.id, 99, other.id])) == [poll.id, other.id]
        assert await stores.polls.by_ids([]) == []

    async def test_a_person_votes_once(self, stores: TweetStores) -> None:
        poll = await self.polled(stores)
        done = await asyncio.gather(*(stores.polls.vote(poll.id, BOB, 1 + n % 2, 500) for n in range(6)))
        [position] = set(done)
        assert await stores.polls.vote(poll.id, EVE, 2, 999) == 2
        assert await stores.polls.vote(poll.id, EVE, 1, 999) == 2, "what was voted stays"
        assert await stores.polls.vote(poll.id, EVE, 2, 5_000) == 2, "also after the end"
        assert await stores.polls.vote(poll.id, 50, 1, 1_000) == 0, "it has ended"
        [before] = await stores.polls.by_ids([poll.id])
        assert before == poll, "a vote touches no counted row"
        events = len(await stores.events())
        applied = await stores.counts.apply(100)
        assert (applied.changes, applied.tweets) == (2, [])
        [counted] = applied.polls
        assert await stores.polls.by_ids([poll.id]) == [counted]
        assert sum(one.votes for one in counted.choices) == 2
        assert counted.choices[1].votes == 1 + (position == 2)
        assert counted.version == 2
        assert [event.message for event in (await stores.events())[events:]] == [
            PollVotesCounted(poll_id=poll.id, tweet_id=10, version=2)
        ]

    async def test_many_votes_are_counted_exactly(self, stores: TweetStores) -> None:
        poll = await self.polled(stores)
        done = asyncio.Event()

        async def replica() -> None:
            while not done.is_set():
                await stores.counts.apply(3)

        adding = [asyncio.create_task(replica()) for _ in range(2)]
        await asyncio.gather(*(stores.polls.vote(poll.id, 100 + n, 1 + n % 3, 500) for n in range(90)))
        done.set()
        await asyncio.gather(*adding)
        await self.add_up(stores)
        [counted] = await stores.polls.by_ids([poll.id])
        assert [one.votes for one in counted.choices] == [30, 30, 30]

    async def test_a_poll_goes_with_its_tweet_in_pages(self, stores: TweetStores) -> None:
        poll, kept = await self.polled(stores), await self.polled(stores, 11)
        for person in range(50, 55):
            for one in (poll, kept):
                await stores.polls.vote(one.id, person, 1, 500)
        await stores.tweets.delete(10, ADA)
        assert await stores.polls.by_ids([poll.id]) == [], "at once"
        with pytest.raises(NotFound):
            await stores.polls.vote(poll.id, 60, 1, 500)
        with pytest.raises(NotFound):
            await stores.polls.vote(99, 60, 1, 500)
        [deleted] = [event.message for event in await stores.events() if isinstance(event.message, TweetDeleted)]
        assert deleted.poll_id == poll.id
        assert [await stores.tweets.purge(10, 2) for _ in range(4)] == [2, 2, 1, 0]
        await self.add_up(stores)
        [left] = await stores.polls.by_ids([poll.id, kept.id])
        assert (left.id, left.choices[0].votes) == (kept.id, 5)

    # --- what hangs on a deleted tweet

    async def test_what_hangs_on_a_deleted_tweet_goes_in_pages(self, stores: TweetStores) -> None:
        tweets = stores.tweets
        for tweet_id in (10, 11):
            await tweets.create(tweet_of(tweet_id), "", {BOB, EVE})
            for person in range(50, 55):
                await tweets.mark(Mark.LIKE, person, tweet_id, tweet_id * 100 + person)
                await tweets.mark(Mark.BOOKMARK, person, tweet_id, tweet_id * 100 + person)
        assert await tweets.purge(10, 4) == 0, "it is there"
        await tweets.delete(10, ADA)
        before = len(await stores.events())
        assert [await tweets.purge(10, 4) for _ in range(5)] == [4, 4, 4, 0, 0]
        for mark in Mark:
            assert await tweets.marking_users(mark, 10, before=0, after=0, limit=9) == []
            assert len(await tweets.marking_users(mark, 11, before=0, after=0, limit=9)) == 5
            assert [one.other_id for one in await tweets.marked_tweets(mark, 50, before=0, after=0, limit=9)] == [11]
        assert ids(await tweets.mentions(BOB, before=0, after=0, ascending=False, limit=9)) == [11]
        told = [event.message for event in (await stores.events())[before:]]
        assert sorted(one.user_id for one in told if isinstance(one, TweetUnliked)) == [50, 51, 52, 53, 54]
        assert all(isinstance(one, TweetUnliked) and one.like_count == 1 for one in told)
        await self.add_up(stores)
        assert (await self.one(tweets, 11)).like_count == 5
        assert await stores.check.wrong_authors([50, 51, 52, 53, 54]) == []
        assert await tweets.purge(99, 4) == 0

    # --- all together

    @staticmethod
    async def whatever_happens(stores: TweetStores, changes: int) -> dict[int, StoredTweet]:
        """Changes by everybody to tweets 1 to 5, eight at a time; gives what points at them."""
        tweets = stores.tweets
        dice = random.Random(3)
        fresh = itertools.count(100)
        for tweet_id in range(1, 6):
            await tweets.create(tweet_of(tweet_id, EVE), "")
        everything: dict[int, StoredTweet] = {}

        async def change() -> None:
            target, who = dice.randint(1, 5), dice.randint(1, 3)
            kind = dice.choice(["reply", "quote", "retweet", "delete", "mark", "unmark"])
            mark = dice.choice(list(Mark))
            if kind == "mark":
                await tweets.mark(mark, who, target, next(fresh))
            elif kind == "unmark":
                await tweets.unmark(mark, who, target)
            elif kind == "delete":
                if everything:
                    tweet = dice.choice(list(everything.values()))
                    await tweets.delete(tweet.id, tweet.author_id)
            else:
                member = {"reply": "in_reply_to_tweet_id", "quote": "quoted_id", "retweet": "retweeted_id"}[kind]
                made = await tweets.create(tweet_of(next(fresh), who, **{member: target}), "")
                everything[made.id] = made

        for _ in range(changes // 8):
            await asyncio.gather(*(change() for _ in range(8)))
        return everything

    async def assert_counted(self, stores: TweetStores, everything: dict[int, StoredTweet]) -> None:
        """Counts of tweets 1 to 5 are those of the rows."""
        tweets = stores.tweets
        await self.add_up(stores)
        left = [tweet for tweet in await tweets.by_ids(list(everything)) if not tweet.deleted]
        assert left
        for tweet in await tweets.by_ids(range(1, 6)):
            assert tweet.reply_count == len([one for one in left if one.in_reply_to_tweet_id == tweet.id])
            assert tweet.quote_count == len([one for one in left if one.quoted_id == tweet.id])
            assert tweet.retweet_count == len([one for one in left if one.retweeted_id == tweet.id])
            for mark, count in ((Mark.LIKE, tweet.like_count), (Mark.BOOKMARK, tweet.bookmark_count)):
                assert count == len(await tweets.marking_users(mark, tweet.id, before=0, after=0, limit=99))
            retweets = await tweets.page(By.RETWEETED, tweet.id, before=0, after=0, ascending=False, limit=99)
            assert len({entry.author_id for entry in retweets}) == len(retweets) == tweet.retweet_count

    async def test_whatever_happens_counts_are_those_of_the_rows(self, stores: TweetStores) -> None:
        """400 changes, eight at a time, while two replicas add up."""
        done = asyncio.Event()

        async def replica() -> None:
            while not done.is_set():
                await stores.counts.apply(3)

        adding = [asyncio.create_task(replica()) for _ in range(2)]
        everything = await self.whatever_happens(stores, 400)
        done.set()
        await asyncio.gather(*adding)
        await self.assert_counted(stores, everything)

    # --- counts

    async def test_a_batch_tells_what_came_of_it_and_is_done_once(self, stores: TweetStores) -> None:
        for tweet_id in (10, 11):
            await stores.tweets.create(tweet_of(tweet_id), "")
        for person in range(50, 60):
            await stores.tweets.mark(Mark.LIKE, person, 10, 100 + person)
        await stores.tweets.mark(Mark.BOOKMARK, BOB, 11, 200)
        await stores.tweets.unmark(Mark.LIKE, 50, 10)
        before = len(await stores.events())
        assert stores.counts.changed.is_set()
        assert await stores.counts.waiting()
        applied = await stores.counts.apply(100)
        assert applied.changes == 12
        assert {tweet.id: (tweet.like_count, tweet.bookmark_count) for tweet in applied.tweets} == {
            10: (9, 0),
            11: (0, 1),
        }
        assert sorted(await stores.tweets.by_ids([10, 11]), key=lambda tweet: tweet.id) == sorted(
            applied.tweets, key=lambda tweet: tweet.id
        )
        told = {event.key: event.message for event in (await stores.events())[before:]}
        assert told == {
            "10": TweetCountsChanged(tweet_id=10, version=2, like_count=9),
            "11": TweetCountsChanged(tweet_id=11, version=2, bookmark_count=1),
        }
        assert await stores.counts.apply(100) == Applied(0, [])
        assert not await stores.counts.waiting()

    async def test_impressions_are_added_up_and_told_nobody(self, stores: TweetStores) -> None:
        for tweet_id in (10, 11):
            await stores.tweets.create(tweet_of(tweet_id), "")
        before = await stores.events()
        await stores.counts.add_impressions({10: 5, 11: 1, 99: 7})
        await stores.counts.add_impressions({10: 2})
        await stores.counts.add_impressions({})
        applied = await stores.counts.apply(100)
        assert {tweet.id: tweet.impression_count for tweet in applied.tweets} == {10: 7, 11: 1}
        assert await stores.events() == before, "records are written, and that is all"
        assert await stores.check.wrong_tweets([10, 11]) == []

    async def test_changes_of_what_never_was_or_is_gone_are_forgotten(self, stores: TweetStores) -> None:
        await stores.tweets.create(tweet_of(10), "")
        await stores.tweets.create(tweet_of(20, BOB, in_reply_to_tweet_id=10, quoted_id=99), "")
        await stores.tweets.delete(10, ADA)
        applied = await stores.counts.apply(100)
        assert (applied.changes, [tweet.id for tweet in applied.tweets]) == (2, [10])
        assert not [e for e in await stores.events() if isinstance(e.message, TweetCountsChanged)]

    # --- comparing counts with rows

    async def test_wrong_counts_are_found_and_mended(self, stores: TweetStores) -> None:
        everything = await self.whatever_happens(stores, 80)
        await self.add_up(stores)
        sweep = reconciler(stores).sweep
        right = await stores.tweets.by_ids(range(1, 6))
        await sweep()
        await self.add_up(stores)
        assert await stores.tweets.by_ids(range(1, 6)) == right, "what is right is not touched"
        likes = (await self.one(stores.tweets, 3)).like_count
        await stores.miscount.tweet(3, like_count=likes + 7, reply_count=0)
        await stores.miscount.tweet(4, retweet_count=99, quote_count=98, bookmark_count=97)
        wrong = await stores.check.wrong_tweets([1, 2, 3, 4, 5])
        assert {(one.id, one.count) for one in wrong} >= {
            (3, "like_count"),
            (4, "retweet_count"),
            (4, "quote_count"),
            (4, "bookmark_count"),
        }
        assert {one.id for one in wrong} == {3, 4}
        await sweep()
        await sweep()  # a second one before the first is added up counts nothing twice
        await self.assert_counted(stores, everything)
        assert await stores.check.wrong_tweets([1, 2, 3, 4, 5]) == []

    async def test_a_wrong_count_of_a_person_is_mended_and_told(self, stores: TweetStores) -> None:
        for tweet_id in (10, 11):
            await stores.tweets.create(tweet_of(tweet_id), "")
        await stores.tweets.delete(11, ADA)
        await stores.tweets.mark(Mark.LIKE, ADA, 10, 100)
        before = len(await stores.events())
        assert await stores.check.author_ids(0, 10) == [ADA]
        assert await stores.check.wrong_authors([ADA]) == []
        await stores.miscount.author(ADA, tweet_count=5, like_count=0)
        assert await stores.check.wrong_authors([ADA]) == [
            Wrong(ADA, "tweet_count", 5, 1),
            Wrong(ADA, "like_count", 0, 1),
        ]
        await reconciler(stores).sweep()
        assert await stores.check.wrong_authors([ADA]) == []
        assert (await stores.events())[before:] == [
            Event("tweets", "1", AuthorCountsMended(author_id=ADA, tweet_count=1, like_count=1, version=5))
        ]
        assert await stores.check.mend_author(ADA) == []

    async def test_wrong_counts_of_votes_are_mended(self, stores: TweetStores) -> None:
        poll = await self.polled(stores)
        for person in range(50, 57):
            await stores.polls.vote(poll.id, person, 1 + person % 2, 500)
            if person == 52:
                await self.add_up(stores)
        assert await stores.check.poll_ids(0, 9) == [poll.id]
        assert await stores.check.wrong_polls([poll.id]) == [], "votes that wait are counted in"
        await stores.miscount.poll(poll.id, {1: 9, 3: 9})
        found = await stores.check.wrong_polls([poll.id])
        assert {(one.id, one.count, one.rows) for one in found} == {(poll.id, "votes.1", 4), (poll.id, "votes.3", 0)}
        await reconciler(stores).sweep()
        await reconciler(stores).sweep()
        await self.add_up(stores)
        [mended] = await stores.polls.by_ids([poll.id])
        assert [one.votes for one in mended.choices] == [4, 3, 0]
        await stores.tweets.delete(10, ADA)
        await stores.miscount.poll(poll.id, {1: 9, 2: 9, 3: 9})
        assert await stores.check.wrong_polls([poll.id]) == [], "it goes with its tweet"

    async def test_comparing_damages_nothing_while_writes_go_on(self, stores: TweetStores) -> None:
        """Two replicas compare, two add up, everybody writes: nothing is found wrong, or is in the end."""
        done = asyncio.Event()
        found: list[Wrong] = []

        async def adds_up() -> None:
            while not done.is_set():
                await stores.counts.apply(3)

        async def compares() -> None:
            while not done.is_set():
                found.extend(await stores.check.wrong_tweets([1, 2, 3, 4, 5]))
                found.extend(await stores.check.mend_tweet(3))
                await reconciler(stores).sweep()

        work = [asyncio.create_task(one()) for one in (adds_up, adds_up, compares, compares)]
        everything = await self.whatever_happens(stores, 400)
        done.set()
        await asyncio.gather(*work)
        assert found == []
        await self.assert_counted(stores, everything)

    async def test_what_changed_lately_is_compared_first(self, stores: TweetStores) -> None:
        for tweet_id in range(1, 301):
            await stores.tweets.create(tweet_of(tweet_id), "")
        in_order = await stores.check.tweet_ids(0, 300)
        assert sorted(in_order) == list(range(1, 301)), "each once, in an order of the store's own"
        second, third = in_order[149], in_order[249]  # of pages of 100, the first of which begins after the first
        for tweet_id in (second, third):
            await stores.miscount.tweet(tweet_id, like_count=7)
        one = Reconciler(stores.check, lambda limit: [third], registry=CollectorRegistry(), chance=lambda: 0.0)
        await one.step()
        assert {wrong.id for wrong in await stores.check.wrong_tweets([second, third])} == {second}
        await one.step()
        assert await stores.check.wrong_tweets([second, third]) == []

    # --- outages

    async def test_without_the_database_callers_are_told(self, stores: TweetStores) -> None:
        await stores.close()
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: stores.tweets.create(tweet_of(10), ""),
            lambda: stores.tweets.delete(10, ADA),
            lambda: stores.tweets.by_ids([10]),
            lambda: stores.tweets.recent([ADA], before=0, after=0, limit=1),
            lambda: stores.tweets.mark(Mark.LIKE, ADA, 10, 1),
        ]
        for call in calls:
            async with asyncio.timeout(3):
                with pytest.raises(Unavailable):
                    await call()
