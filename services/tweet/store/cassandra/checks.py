"""Counts against the rows that they count, on Cassandra.

There are no snapshots. What differs at a first look is looked at again, more closely: a count, the changes that wait
and the rows belong together if nobody was doing anything to the tweet before and after they were read (`under_way`),
the changes that wait are the same, and nothing was added up in between, which the journal of those who add up tells.
What is never still is compared another time.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

from rookery.events.v1.tweet_events_pb2 import AuthorCountsMended

from mesh.db.cassandra import Cassandra
from mesh.outbox.relay import Outbox
from services.tweet.domain import TWEETS_TOPIC, Mark, vote_metric
from services.tweet.store.base import Wrong
from services.tweet.store.cassandra.acts import Act, Done, Head
from services.tweet.store.cassandra.counts import CassandraCounts, journal_of
from services.tweet.store.cassandra.journal import Journal, shard_of
from services.tweet.store.cassandra.polls import CassandraPolls
from services.tweet.store.cassandra.rows import poll_rows, tweet_rows, votes_of
from services.tweet.store.cassandra.tweets import METRICS, RELATIONS, event
from services.tweet.store.cassandra.windows import (
    BY_AUTHOR,
    Listing,
    by_relation,
    count,
    marks_by_tweet,
    marks_by_user,
    windows_of,
)

_READ_S = 10.0
_LOOKS = 3  # until what differs is left for another time
_MOST = 5_000  # changes that wait: with more, nothing is compared now
_AT_ONCE = 8  # tweets whose rows are counted side by side
_LISTS: Mapping[str, Listing] = {
    **{metric.value: by_relation(relation) for relation, metric in RELATIONS.items()},
    **{metric.value: marks_by_tweet(mark) for mark, metric in METRICS.items()},
}
_COUNTED = ("tweet-counted", "poll-counted")  # writes; their last value is whose count it is
_WINDOWS = "SELECT list, start FROM windows WHERE owner = ?"
_WALK = "SELECT {0} AS id, {1} AS there FROM {2} WHERE token({0}) > token(?) LIMIT ?"
_BEGIN = "SELECT {0} AS id, {1} AS there FROM {2} LIMIT ?"


class CassandraCheck:
    """services.tweet.store.base.CountCheck."""

    def __init__(
        self, db: Cassandra, journal: Journal, outbox: Outbox, counts: CassandraCounts, polls: CassandraPolls
    ) -> None:
        self._db = db
        self._journal = journal
        self._outbox = outbox
        self._counts = counts
        self._polls = polls

    # --- tweets

    async def tweet_ids(self, after: int, limit: int) -> list[int]:
        """See CountCheck."""
        return await self._ids("tweets", "id", "deleted", after, limit, lambda there: there is False)

    async def wrong_tweets(self, ids: Sequence[int]) -> list[Wrong]:
        """See CountCheck."""
        return await self._wrong(ids, self._tweets)

    async def mend_tweet(self, tweet_id: int) -> list[Wrong]:
        """See CountCheck."""
        return await self._mend(tweet_id, self._tweets)

    async def _tweets(self, ids: Collection[int], waiting: _Waiting) -> list[Wrong]:
        rows = [row for row in await tweet_rows(self._db, ids) if not row.deleted]
        counted = await _few([(self._rows_of, row.id) for row in rows])
        return [
            Wrong(row.id, metric, now, there[metric])
            for row, there in zip(rows, counted, strict=True)
            for metric in _LISTS
            if (now := (getattr(row, metric) or 0) + waiting[row.id, metric]) != there[metric]
        ]

    async def _rows_of(self, tweet_id: int) -> Counter[str]:
        windows: defaultdict[str, list[int]] = defaultdict(list)
        for row in await self._db.rows(_WINDOWS, (tweet_id,)):
            windows[row.list].append(row.start)
        found: Counter[str] = Counter()
        for metric, listing in _LISTS.items():
            if listing.name in windows:
                found[metric] = await count(self._db, listing, tweet_id, windows[listing.name], deadline=_READ_S)
        return found

    # --- polls

    async def poll_ids(self, after: int, limit: int) -> list[int]:
        """See CountCheck."""
        return await self._ids("polls", "id", "deleted", after, limit, lambda there: there is not None)

    async def wrong_polls(self, ids: Sequence[int]) -> list[Wrong]:
        """See CountCheck."""
        return await self._wrong(ids, self._of_polls)

    async def mend_poll(self, poll_id: int) -> list[Wrong]:
        """See CountCheck."""
        return await self._mend(poll_id, self._of_polls)

    async def _of_polls(self, ids: Collection[int], waiting: _Waiting) -> list[Wrong]:
        rows = await poll_rows(self._db, list(ids))
        counted = await _few([(self._votes_of, row) for row in rows])
        return [
            Wrong(row.id, vote_metric(position), now, there)
            for row, votes in zip(rows, counted, strict=True)
            for position, (before, there) in enumerate(zip(votes_of(row), votes, strict=True), 1)
            if (now := before + waiting[row.id, vote_metric(position)]) != there
        ]

    async def _votes_of(self, row: Any) -> list[int]:
        return await self._polls.counted(row.id, len(row.labels), deadline=_READ_S)

    # --- people

    async def author_ids(self, after: int, limit: int) -> list[int]:
        """See CountCheck."""
        return await self._ids("journals", "id", "version", after, limit, lambda version: bool(version), above=0)

    async def wrong_authors(self, ids: Sequence[int]) -> list[Wrong]:
        """See CountCheck."""
        return [wrong for found in await _few([(self._wrong_author, one) for one in ids]) for wrong in found]

    async def _wrong_author(self, author_id: int) -> list[Wrong]:
        for look in range(_LOOKS):
            head = await (self._journal.settled(author_id) if look else self._journal.head(author_id))
            wrong = await self._author(author_id, head)
            # What the person did last may be on its way; what they do next has another number.
            if not wrong or (look and await self._journal.head(author_id, serial=True) == head):
                return wrong
        return []

    async def mend_author(self, author_id: int) -> list[Wrong]:
        """See CountCheck."""

        async def decide(head: Head, at: int) -> Act[list[Wrong]] | Done[list[Wrong]]:
            wrong = await self._author(author_id, head)
            if not wrong:
                return Done(wrong)
            right = {one.count: one.rows for one in wrong}
            tweets, likes = right.get("tweet_count", head.tweet_count), right.get("like_count", head.like_count)
            told = AuthorCountsMended(
                author_id=author_id, tweet_count=tweets, like_count=likes, version=head.version + 1
            )
            return Act(wrong, [], [event(self._outbox, TWEETS_TOPIC, author_id, told)], counts=(tweets, likes))

        return (await self._journal.do(author_id, decide))[0]

    async def _author(self, author_id: int, head: Head) -> list[Wrong]:
        if not head.version:
            return []
        tweets, likes = await asyncio.gather(
            self._all(BY_AUTHOR, author_id), self._all(marks_by_user(Mark.LIKE), author_id)
        )
        counts = (("tweet_count", head.tweet_count, tweets), ("like_count", head.like_count, likes))
        return [Wrong(author_id, name, counted, rows) for name, counted, rows in counts if counted != rows]

    async def _all(self, listing: Listing, owner: int) -> int:
        return await count(self._db, listing, owner, await windows_of(self._db, listing, owner), deadline=_READ_S)

    # --- what tweets and polls share

    async def _wrong(self, ids: Sequence[int], compare: _Compare) -> list[Wrong]:
        wrong = await compare(ids, await self._waiting(ids)) if ids else []
        sure: set[int] = set()
        for _ in range(_LOOKS):
            suspects = {one.id for one in wrong}
            if suspects <= sure:
                return wrong
            heads = await self._heads(suspects)
            still, wrong = await self._closely(suspects, compare)
            sure = still if await self._heads(suspects) == heads else set()
        return [one for one in wrong if one.id in sure]

    async def _mend(self, target: int, compare: _Compare) -> list[Wrong]:
        async def decide(head: Head, at: int) -> Act[list[Wrong]] | Done[list[Wrong]]:
            still, wrong = await self._closely([target], compare)
            if not wrong or target not in still:
                return Done([])
            # Nobody adds anything up before this is decided: it would have another number.
            return Act(wrong, [], changes=[(target, one.count, one.rows - one.counted) for one in wrong])

        if not await compare([target], await self._waiting([target])):
            return []
        return (await self._journal.do(journal_of(shard_of(target)), decide))[0]

    async def _heads(self, ids: Collection[int]) -> list[int]:
        shards = sorted({shard_of(one) for one in ids})
        return [(await self._journal.head(journal_of(shard), serial=True)).seq for shard in shards]

    async def _closely(self, ids: Collection[int], compare: _Compare) -> tuple[set[int], list[Wrong]]:
        """Those that nobody touched while they were compared, and what is wrong with all."""
        busy = await self._touched()
        before = await self._waiting(ids)
        wrong = await compare(ids, before)
        after = await self._waiting(ids)
        busy |= await self._touched()
        return {one for one in ids if one not in busy and before.of(one) == after.of(one)}, wrong

    async def _touched(self) -> set[int]:
        """Tweets and polls to which somebody is doing something that counts, or that are being counted."""
        found: set[int] = set()
        for intent in await self._journal.under_way():
            found |= {target for target, _, _ in intent.changes}
            found |= {int(values[-1]) for name, values in intent.rows if name in _COUNTED}  # type: ignore[arg-type]
        return found

    async def _waiting(self, ids: Collection[int]) -> _Waiting:
        found = _Waiting()
        wanted = set(ids)
        for shard in {shard_of(one) for one in ids}:
            changes = await self._counts.changes(shard, _MOST)
            if len(changes) == _MOST:
                found.blind.add(shard)
            for _, change in changes:
                if change.target_id in wanted:
                    found.add(change)
        return found

    async def _ids(
        self,
        table: str,
        key: str,
        column: str,
        after: int,
        limit: int,
        wanted: Callable[[Any], bool],
        *,
        above: int | None = None,
    ) -> list[int]:
        """Ids from the one after `after` on, in the order of their tokens. Those that are not wanted are passed."""
        found: list[int] = []
        while len(found) < limit:
            if after:
                rows = await self._db.rows(_WALK.format(key, column, table), (after, limit), deadline=_READ_S)
            else:
                rows = await self._db.rows(_BEGIN.format(key, column, table), (limit,), deadline=_READ_S)
            found += [row.id for row in rows if wanted(row.there) and (above is None or row.id > above)]
            if len(rows) < limit:
                break
            after = rows[-1].id
        return found[:limit]


class _Waiting:
    """Changes that wait, by tweet or poll and by what they count."""

    def __init__(self) -> None:
        self._steps: Counter[tuple[int, str]] = Counter()
        self._rows: defaultdict[int, set[tuple[Any, int]]] = defaultdict(set)
        self.blind: set[int] = set()
        """Shards with more than are read."""

    def add(self, change: Any) -> None:
        self._steps[change.target_id, change.metric] += change.step
        self._rows[change.target_id].add((change.act, change.place))

    def __getitem__(self, what: tuple[int, str]) -> int:
        return self._steps[what]

    def of(self, target: int) -> object:
        """What waits for one; never the same twice when not all was read."""
        return object() if shard_of(target) in self.blind else frozenset(self._rows[target])


_Compare = Callable[[Collection[int], _Waiting], Awaitable[list[Wrong]]]


async def _few(calls: Sequence[tuple[Callable[[Any], Awaitable[Any]], Any]]) -> list[Any]:
    """Runs them, some at a time; gives what they give, in their order."""
    room = asyncio.Semaphore(_AT_ONCE)

    async def one(call: Callable[[Any], Awaitable[Any]], argument: Any) -> Any:
        async with room:
            return await call(argument)

    return list(await asyncio.gather(*(one(call, argument) for call, argument in calls)))
