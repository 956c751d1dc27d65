"""The tweets store on Cassandra as an end of a copy.

Every kind is read by walking over one table that has all of it, in the order of its partitions' tokens; written, each
record becomes the rows that acts would have left. Nobody else is at it, so nothing is decided, but for journals, whose
rows are written by conditions alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesh.bus.base import Outgoing
from mesh.bus.redis_streams import RedisStreamsBus
from mesh.db.cassandra import Cassandra, Statement
from mesh.db.migrations import load_migrations, migrate
from mesh.errors import Unavailable
from mesh.outbox.cassandra import CassandraOutbox, CassandraRows
from mesh.transfer.base import EVENTS, Holder, Kind, Page, Record, TransferError, check_schema
from services.tweet.domain import Mark, StoredTweet, Visibility
from services.tweet.store.cassandra.journal import Journal
from services.tweet.store.cassandra.polls import part_of
from services.tweet.store.cassandra.rows import POLL, tweet_rows, votes_of
from services.tweet.store.cassandra.stores import on_cassandra
from services.tweet.store.cassandra.tweets import marked, rows_of
from services.tweet.store.cassandra.windows import MENTIONS, week_of
from services.tweet.store.cassandra.writes import WRITES, Row

_OPEN_S = 10.0
_DEADLINE_S = 60.0
_SETTLE_S = 300.0
_GRACE_S = 0.1  # nobody who began something is still at it
_ROWS = 1_000
_AT_ONCE = 32  # conditional writes
_TRIES = 5
_BEFORE_US = 3_600_000_000  # rows are from an hour ago: what services write later is later, whatever their clocks say
_KNOWN = 100_000
_AUTHOR = "UPDATE journals SET seq = ?, at = ?, tweet_count = ?, like_count = ?, version = ? WHERE id = ? IF seq = ?"
_PARTITIONS = "SELECT DISTINCT minute, shard FROM outbox_waiting"
_EVENTS = (
    "SELECT at_us, event_id, topic, key, type, payload, traceparent FROM outbox_waiting"
    " WHERE minute = ? AND shard = ? AND (at_us, event_id) > (?, ?) LIMIT ?"
)
_PROGRESS = "SELECT holder FROM schema_lock WHERE name = 'unfinished_copy'"
_BEGIN = "INSERT INTO schema_lock (name, holder) VALUES ('unfinished_copy', ?) IF NOT EXISTS"
_SAVE = "UPDATE schema_lock SET holder = ? WHERE name = 'unfinished_copy' IF EXISTS"
_FINISH = "DELETE FROM schema_lock WHERE name = 'unfinished_copy' IF EXISTS"
_TABLES = (
    *("journals", "intents", "count_changes", "buckets", "watermarks", "windows", "tweets", "tweets_by_author"),
    *("tweets_by_relation", "mentions", "requests", "retweets", "deleted_tweets", "marks", "marks_by_tweet"),
    *("marks_by_user", "polls", "votes_by_poll", "votes_by_user", "outbox_waiting", "outbox_published"),
)


@dataclass(frozen=True, slots=True)
class _Source:
    """The table that has all of a kind."""

    table: str
    partition: tuple[str, ...]
    """Its partition key."""
    rest: tuple[str, ...]
    """What orders rows of a partition."""
    more: tuple[str, ...]
    """What else is read."""
    records: Callable[[Any], Iterable[Record]]
    """What a row says of this kind; nothing, perhaps."""

    @property
    def key(self) -> tuple[str, ...]:
        """The primary key."""
        return (*self.partition, *self.rest)

    def select(self, *, since: bool) -> str:
        """Reads the table; with `since` from a partition on."""
        names = ", ".join(self.partition)
        marks = ", ".join("?" for _ in self.partition)
        where = f" WHERE token({names}) >= token({marks})" if since else ""
        return f"SELECT {', '.join((*self.key, *self.more))} FROM {self.table}{where}"


def _author(row: Any) -> list[Record]:
    return [(row.id, row.tweet_count or 0, row.like_count or 0, row.version)] if row.id > 0 and row.version else []


_CONTENT = (
    *("author_id", "text", "entities", "lang", "possibly_sensitive", "reply_settings", "conversation_id"),
    *("in_reply_to_tweet_id", "in_reply_to_user_id", "quoted_id", "retweeted_id", "retweeted_author_id", "poll_id"),
    "request_id",
)
_COUNTS = ("retweet_count", "reply_count", "like_count", "quote_count", "bookmark_count", "impression_count")


def _tweet(row: Any) -> list[Record]:
    if row.author_id is None:  # counts that came late to a row that was removed
        return []
    content = {name: getattr(row, name) for name in _CONTENT}
    content |= {"entities": bytes(row.entities) if row.entities else None, "request_id": row.request_id or None}
    counts = [getattr(row, name) or 0 for name in _COUNTS]
    return [
        (row.id, *content.values(), *counts, bool(row.deleted), row.changes + (row.counted or 0), row.visibility or 1)
    ]


def _mark(mark: Mark) -> Callable[[Any], list[Record]]:
    return lambda row: [(row.user_id, row.tweet_id, row.mark_id)] if row.mark == mark.value else []


def _mention(row: Any) -> list[Record]:
    return [(row.user_id, row.tweet_id)] if row.shown else []


def _poll(row: Any) -> list[Record]:
    if row.tweet_id is None:
        return []
    return [(row.id, row.tweet_id, row.duration_minutes, row.end_ms, 1 + (row.counted or 0))]


def _options(row: Any) -> list[Record]:
    if row.tweet_id is None:
        return []
    pairs = zip(row.labels or (), votes_of(row) if row.labels else (), strict=True)
    return [(row.id, position, label, votes) for position, (label, votes) in enumerate(pairs, 1)]


_POLL = ("tweet_id", "duration_minutes", "end_ms", "labels", "votes", "counted")
_SOURCES: Mapping[str, _Source] = {
    "authors": _Source("journals", ("id",), (), ("tweet_count", "like_count", "version"), _author),
    "tweets": _Source(
        "tweets", ("id",), (), (*_CONTENT, *_COUNTS, "deleted", "changes", "counted", "visibility"), _tweet
    ),
    "mentions": _Source("mentions", ("user_id", "week"), ("tweet_id",), ("shown",), _mention),
    "likes": _Source("marks", ("user_id", "tweet_id"), ("mark",), ("mark_id",), _mark(Mark.LIKE)),
    "bookmarks": _Source("marks", ("user_id", "tweet_id"), ("mark",), ("mark_id",), _mark(Mark.BOOKMARK)),
    "polls": _Source("polls", ("id",), (), _POLL, _poll),
    "poll_options": _Source("polls", ("id",), (), _POLL, _options),
    "poll_votes": _Source(
        *("votes_by_user", ("user_id",), ("poll_id",), ("position",)),
        lambda row: [(row.poll_id, row.user_id, row.position)],
    ),
}


async def open_cassandra(url: str, schema: Path, kinds: Sequence[Kind], *, target: bool) -> CassandraTransfer:
    """The store behind a URL, as SqlTransfer.open.

    Raises:
        TransferError: a source whose schema is older or newer than the folder.
        MigrationError, Unavailable, ValueError: as `migrate` and `Cassandra.open`.
    """
    if target:
        await migrate(url, schema, unfinished=True)
    db = await Cassandra.open(url, deadline=_OPEN_S)
    try:
        steps = await db.rows("SELECT name FROM schema_migrations WHERE part = 'schema' ORDER BY number")
        check_schema([step.name for step in steps], [step.name for step in load_migrations(schema, "cql")])
    except BaseException:
        await db.close()
        raise
    return CassandraTransfer(db, kinds)


class CassandraTransfer:
    """mesh.transfer.base.Transfer of the tweets store.

    Args:
        db: the keyspace, migrated.
        kinds: of services.tweet.store.transfer.
    """

    def __init__(self, db: Cassandra, kinds: Sequence[Kind]) -> None:
        self._db = db
        self._kinds = (*kinds, EVENTS)
        bus = RedisStreamsBus("unix:///nowhere")  # is not asked for anything: events wait in the outbox
        self._outbox = CassandraOutbox(db, bus, "tweet")
        self._walks: dict[str, tuple[str, AsyncGenerator[list[Any], None]]] = {}
        """By kind: the place that a walk has come to. Going on with it costs nothing, beginning there anew does."""
        self._windows: dict[tuple[object, ...], None] = {}
        """The last that were written."""
        self._events: set[bytes] | None = None
        """Digests of the ids of events that are there."""

    @property
    def kinds(self) -> Sequence[Kind]:
        """See Transfer."""
        return self._kinds

    async def holders(self) -> Sequence[Holder]:
        """See Transfer."""
        now = time.time_ns() // 1_000_000
        found = await self._db.rows("SELECT holder, expires_ms FROM worker_leases", deadline=_DEADLINE_S)
        found += await self._db.rows("SELECT holder, expires_ms FROM outbox_lease", deadline=_DEADLINE_S)
        return [Holder(row.holder, row.expires_ms) for row in found if (row.expires_ms or 0) > now]

    async def settle(self) -> None:
        """See Transfer. Completes what was begun, takes away what hangs on deleted tweets, adds up, and has all events
        wait again: those that were published would go by themselves before both sides are compared."""
        stores = on_cassandra(self._db, self._outbox, grace_s=_GRACE_S)
        journal = Journal(self._db, self._outbox, grace_s=_GRACE_S)
        async with asyncio.timeout(_SETTLE_S):
            while await journal.under_way():
                await journal.complete()
                await asyncio.sleep(_GRACE_S)
        async for page in self._db.pages("SELECT tweet_id FROM deleted_tweets", deadline=_DEADLINE_S):
            for row in page:
                while await stores.tweets.purge(row.tweet_id, _ROWS) == _ROWS:
                    pass
        while (await stores.counts.apply(_ROWS)).changes:
            pass
        rows = CassandraRows(self._db, keep_s=600.0, clock=time.time)
        while (await rows.rewind(0))[1]:
            pass

    async def count(self, kind: Kind) -> int | None:
        """See Transfer. Only reading everything would tell."""
        del kind
        return None

    # --- reading

    async def read(self, kind: Kind, after: str, limit: int) -> Page:
        """See Transfer."""
        if kind is EVENTS:
            return await self._read_events(after, limit)
        source = _SOURCES[kind.name]
        place, walk = self._walks.pop(kind.name, ("", None))
        if walk is None or place != after or not after:
            walk = self._walk(source, after, limit)
        rows = await anext(walk, None)
        if not rows:
            return Page([], "")
        place = json.dumps([getattr(rows[-1], name) for name in source.key])
        self._walks[kind.name] = place, walk
        return Page([record for row in rows for record in source.records(row)], place)

    async def _walk(self, source: _Source, after: str, limit: int) -> AsyncGenerator[list[Any], None]:
        """Rows after a place, page by page."""
        last = json.loads(after) if after else None
        params = tuple(last[: len(source.partition)]) if last else ()
        query = source.select(since=last is not None)
        # The place's own partition comes again, up to the place.
        async for page in self._db.pages(query, params, size=limit, deadline=_DEADLINE_S):
            rows = page
            if last is not None:
                keys = [[getattr(row, name) for name in source.key] for row in page]
                if last in keys:
                    rows = page[keys.index(last) + 1 :]
                    last = None
                elif keys[0][: len(params)] == list(params):
                    continue
                else:
                    last = None  # the row at the place is gone
            if rows:
                yield rows

    async def _partitions(self) -> list[tuple[int, int]]:
        pages = self._db.pages(_PARTITIONS, deadline=_DEADLINE_S)
        return sorted([(row.minute, row.shard) async for page in pages for row in page])

    async def _read_events(self, after: str, limit: int) -> Page:
        minute, shard, at_us, event_id = json.loads(after) if after else (0, 0, -1, "")
        records: list[Record] = []
        for partition in await self._partitions():
            if partition < (minute, shard):
                continue
            start = (at_us, event_id) if partition == (minute, shard) else (-1, "")
            rows = await self._db.rows(_EVENTS, (*partition, *start, limit - len(records)), deadline=_DEADLINE_S)
            records += [
                (row.event_id, row.topic, bytes(row.key), row.type, bytes(row.payload), row.traceparent) for row in rows
            ]
            if len(records) == limit:
                return Page(records, json.dumps([*partition, rows[-1].at_us, rows[-1].event_id]))
        return Page(records, "")

    # --- writing

    async def write(self, kind: Kind, records: Sequence[Record]) -> None:
        """See Transfer."""
        if not records:
            return
        at = time.time_ns() // 1_000 - _BEFORE_US
        if kind is EVENTS:
            await self._write_events(records)
        elif kind.name == "authors":
            await self._write_authors(records, at)
        else:
            named = [dict(zip(kind.fields, record, strict=True)) for record in records]
            rows = await _WRITERS[kind.name](self, named)
            await self._put(rows, at)

    async def _put(self, rows: Sequence[Row], at: int) -> None:
        statements: list[Statement] = []
        for name, values in rows:
            if name == "window":
                if values in self._windows:
                    continue
                self._windows[values] = None
                if len(self._windows) > _KNOWN:
                    del self._windows[next(iter(self._windows))]
            statements.append((WRITES[name].cql, WRITES[name].values(at, values)))
        try:
            await self._db.many(statements, reads=False, deadline=_DEADLINE_S)
        except BaseException:
            self._windows.clear()  # nobody knows which of them are there
            raise

    async def _write_authors(self, records: Sequence[Record], at: int) -> None:
        room = asyncio.Semaphore(_AT_ONCE)

        async def one(author_id: Any, tweets: Any, likes: Any, version: Any) -> None:
            async with room:
                seq: int | None = None
                for _ in range(_TRIES):
                    values = ((seq or 0) + 1, at, tweets, likes, version, author_id, seq)
                    decision = await self._db.conditional(_AUTHOR, values, deadline=_DEADLINE_S)
                    if decision.applied:
                        return
                    seq = decision.row.seq if decision.row is not None else None
            raise TransferError(f"authors author_id {author_id} cannot be stored: somebody else writes it")

        await asyncio.gather(*(one(*record) for record in records))

    async def _tweets(self, tweets: Sequence[Mapping[str, Any]]) -> list[Row]:
        rows: list[Row] = []
        for one in tweets:
            (name, values), *lists = rows_of(_stored(one), one["request_id"] or "", (), None)
            rows.append((name, (*values[:-2], one["deleted"], one["version"])))
            lists = [row for row in lists if row[0] != "tweet-visibility"]
            if one["visibility"] != Visibility.OPEN:
                rows.append(("tweet-visibility", (one["visibility"], one["version"], one["id"])))
            rows.append(("tweet-counted", (*(one[count] for count in _COUNTS), 0, one["id"])))
            if one["deleted"]:  # it is in no list but this one
                rows.append(("deleted", (one["author_id"], one["id"])))
                lists = [row for row in lists if row[0] == "request"]
            rows += lists
        return rows

    async def _mentions(self, mentions: Sequence[Mapping[str, Any]]) -> list[Row]:
        people: defaultdict[int, set[int]] = defaultdict(set)
        for one in mentions:
            people[one["tweet_id"]].add(one["user_id"])
        rows: list[Row] = []
        for tweet in await tweet_rows(self._db, people):
            week = week_of(tweet.id)
            rows.append(("tweet-named", (frozenset(tweet.named or ()) | people[tweet.id], tweet.id)))
            for person in people[tweet.id]:
                points = (tweet.in_reply_to_tweet_id, tweet.in_reply_to_user_id)
                rows += [
                    ("mention", (person, week, tweet.id, tweet.author_id, *points, True)),
                    ("window", (person, MENTIONS.name, week)),
                ]
        return rows

    async def _likes(self, marks: Sequence[Mapping[str, Any]]) -> list[Row]:
        return _mark_rows(Mark.LIKE, marks)

    async def _bookmarks(self, marks: Sequence[Mapping[str, Any]]) -> list[Row]:
        return _mark_rows(Mark.BOOKMARK, marks)

    async def _polls(self, polls: Sequence[Mapping[str, Any]]) -> list[Row]:
        rows: list[Row] = []
        for one in polls:
            rows += [
                ("poll", (one["id"], one["tweet_id"], one["duration_minutes"], one["end_ms"], [], False)),
                ("poll-counted", ([], one["version"] - 1, one["id"])),
            ]
        return rows

    async def _poll_options(self, options: Sequence[Mapping[str, Any]]) -> list[Row]:
        of_poll: defaultdict[int, dict[int, tuple[str, int]]] = defaultdict(dict)
        for one in options:
            of_poll[one["poll_id"]][one["position"]] = (one["label"], one["votes"])
        rows: list[Row] = []
        for found in await self._db.many([(POLL, (poll_id,)) for poll_id in of_poll]):
            for poll in found:
                known = dict(enumerate(zip(poll.labels or (), poll.votes or (), strict=False), 1))
                known |= of_poll[poll.id]
                there = [known.get(position, ("", 0)) for position in range(1, max(known) + 1)]
                labels, votes = [label for label, _ in there], [number for _, number in there]
                rows += [
                    ("poll", (poll.id, poll.tweet_id, poll.duration_minutes, poll.end_ms, labels, False)),
                    ("poll-counted", (votes, poll.counted, poll.id)),
                ]
        return rows

    async def _poll_votes(self, votes: Sequence[Mapping[str, Any]]) -> list[Row]:
        rows: list[Row] = []
        for one in votes:
            poll_id, person, position = one["poll_id"], one["user_id"], one["position"]
            rows += [
                ("vote-by-user", (person, poll_id, position)),
                ("vote-by-poll", (poll_id, part_of(person), position, person)),
            ]
        return rows

    async def _write_events(self, records: Sequence[Record]) -> None:
        if self._events is None:
            self._events = await self._known_events()
        known = self._events
        names = list(EVENTS.fields)
        events = [Outgoing(**dict(zip(names, record, strict=True))) for record in records]  # type: ignore[arg-type]
        new = [event for event in events if _short(event.event_id) not in known]
        # One after the other, so that those of a key keep their order.
        await self._db.many(self._outbox.statements(new), reads=False, deadline=_DEADLINE_S)
        known.update(_short(event.event_id) for event in new)

    async def _known_events(self) -> set[bytes]:
        """A copy that was killed has written some of the page at which it goes on."""
        found: set[bytes] = set()
        after = ""
        while True:
            page = await self._read_events(after, _ROWS)
            found.update(_short(str(record[0])) for record in page.records)
            after = page.after
            if not after:
                return found

    # --- the rest

    async def progress(self) -> str:
        """See Transfer."""
        row = await self._db.row(_PROGRESS, serial=True, deadline=_DEADLINE_S)
        return "" if row is None else str(row.holder)

    async def save(self, progress: str) -> None:
        """See Transfer."""
        for _ in range(_TRIES):
            for query in (_SAVE, _BEGIN):
                if (await self._db.conditional(query, (progress,), deadline=_DEADLINE_S)).applied:
                    return
        raise Unavailable("somebody else copies to it too")

    async def finish(self) -> None:
        """See Transfer."""
        await self._db.conditional(_FINISH, deadline=_DEADLINE_S)

    async def clear(self) -> None:
        """See Transfer."""
        for table in _TABLES:
            await self._db.execute(f"TRUNCATE {table}", deadline=_DEADLINE_S)
        self._windows.clear()
        self._walks.clear()
        self._events = None

    async def close(self) -> None:
        """See Transfer."""
        await self._db.close()


_WRITERS = {
    "tweets": CassandraTransfer._tweets,
    "mentions": CassandraTransfer._mentions,
    "likes": CassandraTransfer._likes,
    "bookmarks": CassandraTransfer._bookmarks,
    "polls": CassandraTransfer._polls,
    "poll_options": CassandraTransfer._poll_options,
    "poll_votes": CassandraTransfer._poll_votes,
}


def _stored(one: Mapping[str, Any]) -> StoredTweet:
    return StoredTweet(**{name: one[name] for name in StoredTweet.__slots__} | {"entities": one["entities"] or b""})


def _mark_rows(mark: Mark, marks: Sequence[Mapping[str, Any]]) -> list[Row]:
    return [row for one in marks for row in marked(mark, one["user_id"], one["tweet_id"], one["mark_id"])]


def _short(event_id: str) -> bytes:
    return hashlib.blake2b(event_id.encode(), digest_size=8).digest()
