"""How something is done on Cassandra, which has no transactions: wholly, once, and in an order.

Everything that a person does is an *act* in that person's journal, a row that is written by conditions only:

1. The journal's number is read, and what was decided before is done to its end.
2. The act is decided upon by what the tables say: is the tweet there, is there such a like?
3. Its *intent* is stored: all that is to be written.
4. The number is raised by one, if it is still the one that was read. That decides: whoever decided upon the same facts
   at the same time is refused, and looks again. So acts of one person are serializable.
5. One logged batch writes all rows, the events and the changes of counts, with the act's own time, which is later than
   that of the act before. So it may be written again, late, and by several, and changes nothing any more.
6. What others may have taken away in between is looked at once more (`Check`), then the intent is deleted.

A caller who is told `Unavailable` knows nothing; the next act in the same journal, or `complete`, which looks for
intents that are some seconds old, does to the end what was decided at 4, and takes away what was not. Nobody ever waits
for somebody who died.

Intents and changes of counts are in shards, and in *buckets* of 10 seconds. The watermark says before which bucket
there is no intent any more, so that nothing can come into buckets before it.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Sequence
from contextlib import asynccontextmanager
from typing import Protocol, TypeVar
from uuid import UUID, uuid1

import structlog

from mesh.bus.base import Outgoing
from mesh.bus.lanes import backoff
from mesh.db.cassandra import Cassandra, Statement
from mesh.errors import Unavailable
from services.tweet.store.cassandra.acts import Act, Check, Done, Head, Intent
from services.tweet.store.cassandra.writes import WRITES

T = TypeVar("T")

SHARDS = 4
"""Of intents and of changes of counts: each bucket of a shard is one partition."""
BUCKET_S = 10
"""Seconds of a bucket."""
_LATE = 3  # buckets: no intent of a bucket is stored later than this
_DECIDES_S = 10.0  # an intent that is older is not decided upon
_TRIES = 3  # of a batch that may be repeated
_BATCH_BYTES = 24_000  # a node refuses more than 50 KiB
_ROW_BYTES = 60  # about, besides texts
_BATCH_ROWS = 100
_KNOWN = 20_000
_RESOLVED = 500  # intents that are read at once
_EACH_S = 1.0  # between looks for what was left

_HEAD = "SELECT seq, act, bucket, at, tweet_count, like_count, version, position FROM journals WHERE id = ?"
_DECIDE = (
    "UPDATE journals SET seq = ?, act = ?, bucket = ?, at = ?, tweet_count = ?, like_count = ?, version = ?,"
    " position = ? WHERE id = ? IF seq = ?"
)
_FORGET = "DELETE FROM journals WHERE id = ? IF seq = ?"
_INTEND = "INSERT INTO intents (shard, bucket, act, journal, body) VALUES (?, ?, ?, ?, ?)"
_INTENT = "SELECT journal, body FROM intents WHERE shard = ? AND bucket = ? AND act = ?"
_INTENTS = "SELECT act, journal, body FROM intents WHERE shard = ? AND bucket = ? LIMIT ?"
_UNINTEND = "DELETE FROM intents WHERE shard = ? AND bucket = ? AND act = ?"
_CHANGE = (
    "INSERT INTO count_changes (shard, bucket, act, place, target_id, metric, step) VALUES (?, ?, ?, ?, ?, ?, ?)"
    " USING TIMESTAMP ?"
)
_UNCHANGE = "DELETE FROM count_changes USING TIMESTAMP ? WHERE shard = ? AND bucket = ? AND act = ? AND place = ?"
_BUCKET = "INSERT INTO buckets (queue, shard, bucket) VALUES (?, ?, ?)"
_BUCKETS = "SELECT bucket FROM buckets WHERE queue = ? AND shard = ? AND bucket >= ? LIMIT ?"
_UNBUCKET = "DELETE FROM buckets WHERE queue = ? AND shard = ? AND bucket = ?"
_WATERMARK = "SELECT bucket FROM watermarks WHERE queue = ?"
_RISE = "UPDATE watermarks USING TIMESTAMP ? SET bucket = ? WHERE queue = ?"  # its own time: the highest one stays

INTENTS, CHANGES = "intents", "changes"
_log = structlog.get_logger(__name__)


class EventRows(Protocol):
    """The outbox, as acts use it."""

    def statements(self, events: Sequence[Outgoing], at_us: int) -> list[Statement]:
        """What puts these events into it, for a logged batch. Events of a key keep the order of their times."""
        ...

    def committed(self) -> None:
        """They are there."""
        ...


class _Known:
    """The last of so many things that need not be done again."""

    def __init__(self) -> None:
        self._things: OrderedDict[Hashable, None] = OrderedDict()

    def __contains__(self, thing: Hashable) -> bool:
        return thing in self._things

    def add(self, thing: Hashable) -> None:
        self._things[thing] = None
        if len(self._things) > _KNOWN:
            self._things.popitem(last=False)


def shard_of(number: int) -> int:
    """The shard of a journal, a tweet or a poll."""
    return ((number * 0x9E3779B97F4A7C15) >> 40) % SHARDS


class Journal:
    """Does what is to be done.

    Args:
        db: the keyspace.
        events: the outbox.
        grace_s: seconds after which what somebody began is done to its end by others.
        patience_s: seconds that one call waits for others who do something in the same journal.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        db: Cassandra,
        events: EventRows,
        *,
        grace_s: float = 5.0,
        patience_s: float = 8.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._db = db
        self._events = events
        self._grace_s = grace_s
        self._patience_s = patience_s
        self._clock = clock
        self._node = secrets.randbits(47) | 1 << 40  # of act ids; never the machine's own address
        self._turns: dict[int, tuple[asyncio.Lock, int]] = {}
        self._applied = _Known()
        self._indexed = _Known()
        self._tails: set[asyncio.Task[object]] = set()
        self.changed = asyncio.Event()
        """Set when changes of counts were written."""
        self.looks_back: Callable[[Check], Awaitable[bool]] | None = None
        """Carries a Check out, and says whether what was done was undone; who owns the journal sets it."""

    def bucket(self) -> int:
        """Of this moment."""
        return int(self._clock()) // BUCKET_S

    def act_id(self) -> UUID:
        """Of an act, or of whatever else changes counts."""
        return uuid1(self._node)

    async def head(self, journal: int, *, serial: bool = False) -> Head:
        """What was decided last in a journal. Raises Unavailable."""
        rows = await self._db.rows(_HEAD, (journal,), serial=serial)
        if not rows or rows[0].seq is None:
            return Head()
        [row] = rows
        counts = row.tweet_count or 0, row.like_count or 0, row.version or 0, row.position or 0
        return Head(row.seq, row.act, row.bucket or 0, row.at or 0, *counts)

    async def settled(self, journal: int) -> Head:
        """As `head`, once all that was decided is done. Raises Unavailable."""
        head = await self.head(journal, serial=True)
        await self._settle(journal, head)
        return head

    async def do(self, journal: int, decide: Callable[[Head, int], Awaitable[Act[T] | Done[T]]]) -> tuple[T, bool]:
        """Does something in a journal.

        Args:
            journal: a person's id.
            decide: gives the act by what the tables say now; called again when somebody did something meanwhile. The
                second argument is the act's time, in microseconds.

        Returns:
            The act's value, and whether a look back undid it.

        Raises:
            Unavailable: whether it is done will be seen; whoever calls again does nothing twice.
        """
        until = time.monotonic() + self._patience_s
        async with self._turn(journal):
            head = await self.head(journal)
            tries = 0
            sure = False  # whether `head` is what is decided, also by those who are not done deciding
            while True:
                await self._settle(journal, head)
                at = max(int(self._clock() * 1_000_000), head.at + 1)
                made = await decide(head, at)
                if isinstance(made, Done):
                    before = head
                    head = before if sure else await self.head(journal, serial=True)
                    if head == before:
                        return made.value, False
                    sure = True
                    continue
                tail = asyncio.create_task(self._carry_out(journal, head, at, made))
                self._tails.add(tail)
                tail.add_done_callback(self._tails.discard)
                done = await asyncio.shield(tail)  # a caller who goes away leaves nothing half done
                if done is not None:
                    break
                tries += 1
                if time.monotonic() > until:
                    raise Unavailable("others do the same thing all the time")
                await asyncio.sleep(backoff(tries, 0.005, 0.2))
                head, sure = await self.head(journal, serial=True), True
        return made.value, await self._look_back(done)

    async def forget(self, journal: int) -> None:
        """Deletes a journal. Raises Unavailable."""
        async with self._turn(journal):
            head = await self.settled(journal)
            if head.seq and not (await self._db.conditional(_FORGET, (journal, head.seq))).applied:
                raise Unavailable("somebody is still at it")

    async def close(self) -> None:
        """Waits for what is being done."""
        if self._tails:
            await asyncio.wait(self._tails, timeout=self._patience_s)

    async def _look_back(self, intent: Intent) -> bool:
        """Whether what was done is undone; the last step."""
        if intent.check is None:
            return False
        if self.looks_back is None:
            raise RuntimeError("nobody looks back")
        undone = await self.looks_back(intent.check)
        await self._end(intent)
        return undone

    async def _carry_out(self, journal: int, head: Head, at: int, act: Act[object]) -> Intent | None:
        """The intent of what is done, or None when somebody else was quicker."""
        began = time.monotonic()
        bucket = self.bucket()
        intent = Intent(
            *(journal, head.seq + 1, self.act_id(), bucket, at),
            *(act.rows, act.events, act.changes, act.counted, act.check),
        )
        await self._intend(intent)
        counts = act.counts or (head.tweet_count + act.tweets, head.like_count + act.likes)
        version = head.version + (act.counts is not None or bool(act.tweets) or bool(act.likes))
        decision = (
            # Events of one act have times that follow each other.
            *(intent.seq, intent.act, bucket, at + len(act.events), *counts, version, act.position or head.position),
            *(journal, head.seq or None),
        )
        if time.monotonic() - began > _DECIDES_S:
            await self._end(intent)
            raise Unavailable("the database did not answer in time")
        try:
            decided = (await self._db.conditional(_DECIDE, decision)).applied
        except Unavailable:
            # A serial read brings what is under way to its end, one way or the other.
            decided = (await self.head(journal, serial=True)).act == intent.act
        if not decided:
            await self._end(intent)
            return None
        await self._apply(intent, again=False)
        if intent.check is None:
            await self._end(intent)
        return intent

    async def _intend(self, intent: Intent) -> None:
        shard = shard_of(intent.journal)
        index = (INTENTS, shard, intent.bucket)
        if index not in self._indexed:
            await self._db.execute(_BUCKET, index, idempotent=True)
            self._indexed.add(index)
        await self._db.execute(
            _INTEND, (shard, intent.bucket, intent.act, intent.journal, intent.body()), idempotent=True
        )

    async def _end(self, intent: Intent) -> None:
        """Deletes an intent; if that fails, whoever looks for old ones does it."""
        try:
            await self._db.execute(_UNINTEND, (shard_of(intent.journal), intent.bucket, intent.act), idempotent=True)
        except Unavailable as error:
            _log.info("an intent is left", error=error.detail)

    async def _settle(self, journal: int, head: Head) -> None:
        """Does to the end what was decided."""
        if head.act is None or head.act in self._applied:
            return
        rows = await self._db.rows(_INTENT, (shard_of(journal), head.bucket, head.act))
        if rows:
            intent = Intent.read(journal, head.act, head.bucket, rows[0].body)
            await self._apply(intent, again=True)
            if intent.check is None:
                await self._end(intent)
        self._applied.add(head.act)

    async def _apply(self, intent: Intent, *, again: bool) -> None:
        """Writes all that an act writes.

        Args:
            intent: what was decided.
            again: somebody else may have begun it.
        """
        statements: list[Statement] = []
        indexes: list[tuple[str, int, int]] = []
        windows: list[tuple[object, ...]] = []
        for name, values in intent.rows:
            if name == "window":
                if values in self._indexed and not again:
                    continue
                windows.append(values)
            write = WRITES[name]
            statements.append((write.cql, write.values(intent.at, values)))
        for place, (target, metric, step) in enumerate(intent.changes):
            shard = shard_of(target)
            index = (CHANGES, shard, intent.bucket)
            if (again or index not in self._indexed) and index not in indexes:
                indexes.append(index)
                statements.append((_BUCKET, index))
            statements.append((_CHANGE, (shard, intent.bucket, intent.act, place, target, metric, step, intent.at)))
        for shard, bucket, act, place, at in intent.counted:
            statements.append((_UNCHANGE, (at, shard, bucket, act, place)))
        if intent.events:
            # What is told again, late, is told as of now: those who publish have left older places behind.
            told = int(self._clock() * 1_000_000) if again else intent.at
            statements += self._events.statements(intent.events, told)
        for batch in _batches(statements):
            await self._batch(batch)
        for known in (*indexes, *windows):
            self._indexed.add(known)
        self._applied.add(intent.act)
        if intent.changes:
            self.changed.set()
        if intent.events:
            self._events.committed()

    async def _batch(self, statements: Sequence[Statement]) -> None:
        for attempt in range(1, _TRIES + 1):
            try:
                await self._db.batch(statements, idempotent=True)
            except Unavailable:
                if attempt == _TRIES:
                    raise
            else:
                return

    @asynccontextmanager
    async def _turn(self, journal: int) -> AsyncIterator[None]:
        """One after the other in this process, so that only other processes can be quicker."""
        lock, waiting = self._turns.get(journal, (asyncio.Lock(), 0))
        self._turns[journal] = lock, waiting + 1
        try:
            async with asyncio.timeout(self._patience_s):
                await lock.acquire()
        except TimeoutError:
            self._left(journal)
            raise Unavailable("too many do something in this journal") from None
        except BaseException:
            self._left(journal)
            raise
        try:
            yield
        finally:
            lock.release()
            self._left(journal)

    def _left(self, journal: int) -> None:
        lock, waiting = self._turns.pop(journal)
        if waiting > 1:
            self._turns[journal] = lock, waiting - 1

    # --- changes of counts that are no act of somebody

    async def change(self, changes: Sequence[tuple[int, str, int]]) -> None:
        """Writes changes of counts. Raises Unavailable; then some may be written."""
        bucket, act, at = self.bucket(), self.act_id(), int(self._clock() * 1_000_000)
        asked = {(CHANGES, shard_of(target), bucket) for target, _, _ in changes}
        indexes = [index for index in asked if index not in self._indexed]
        await self._db.many([(_BUCKET, index) for index in indexes], reads=False)
        for index in indexes:
            self._indexed.add(index)
        await self._db.many(
            [
                (_CHANGE, (shard_of(target), bucket, act, place, target, metric, step, at))
                for place, (target, metric, step) in enumerate(changes)
            ],
            reads=False,
        )
        self.changed.set()

    # --- what others left

    async def run(self) -> None:
        """Completes what was left, for as long as the process runs."""
        while True:
            await asyncio.sleep(_EACH_S)
            try:
                await self.complete()
            except Unavailable as error:
                _log.info("what was left waits", error=error.detail)

    async def complete(self) -> int:
        """Does to the end what was decided, takes away what was not, and raises the watermark; how many there were.

        Only what is older than the grace. Raises Unavailable.
        """
        now = self.bucket()
        low = await self.watermark()
        found, oldest = 0, now
        for shard in range(SHARDS):
            for bucket in await self.buckets(INTENTS, shard, low):
                left = 0
                while rows := await self._db.rows(_INTENTS, (shard, bucket, _RESOLVED)):
                    old = [Intent.read(row.journal, row.act, bucket, row.body) for row in rows if self._age(row.act)]
                    left = len(rows) - len(old)
                    for intent in old:
                        left += not await self._resolve(intent)
                    found += len(old)
                    if left:
                        break
                if left or bucket > now - _LATE:
                    oldest = min(oldest, bucket)
                    continue
                await self._db.execute(_UNBUCKET, (INTENTS, shard, bucket), idempotent=True)
        mark = min(oldest, now - _LATE + 1)
        if mark > low:
            await self._db.execute(_RISE, (mark, mark, INTENTS), idempotent=True)
        return found

    def _age(self, act: UUID) -> bool:
        """Whether an act is older than the grace. Its id has 100 ns since 1582."""
        return self._clock() - ((act.time - 0x01B21DD213814000) / 10_000_000) > self._grace_s

    async def _resolve(self, intent: Intent) -> bool:
        """Whether an intent of somebody who may have died is gone now."""
        async with self._turn(intent.journal):
            head = await self.head(intent.journal, serial=True)
            if head.act == intent.act:
                await self._apply(intent, again=True)
            elif head.seq < intent.seq:
                # Nothing was decided, and from now on it cannot be: the number that it needs is taken.
                fence = (head.seq + 1, None, 0, head.at, head.tweet_count, head.like_count, head.version, head.position)
                if not (await self._db.conditional(_DECIDE, (*fence, intent.journal, head.seq or None))).applied:
                    return False
            # Else it was done before the next one was decided upon, or it lost.
        if intent.check is not None:
            await self._look_back(intent)
        else:
            await self._end(intent)
        return True

    async def watermark(self) -> int:
        """No intent is left in buckets below this one, and none will come. Raises Unavailable."""
        rows = await self._db.rows(_WATERMARK, (INTENTS,))
        return rows[0].bucket if rows else 0

    async def buckets(self, queue: str, shard: int, first: int) -> list[int]:
        """The first of the buckets that have something, or had. Raises Unavailable."""
        return [row.bucket for row in await self._db.rows(_BUCKETS, (queue, shard, first, 1_000))]

    async def leave(self, shard: int, bucket: int) -> None:
        """Says that a bucket of changes has none any more. Raises Unavailable."""
        await self._db.execute(_UNBUCKET, (CHANGES, shard, bucket), idempotent=True)

    async def under_way(self) -> list[Intent]:
        """Everything that somebody is about to do, or has just done. Raises Unavailable."""
        low = await self.watermark()
        found = []
        for shard in range(SHARDS):
            for bucket in await self.buckets(INTENTS, shard, low):
                rows = await self._db.rows(_INTENTS, (shard, bucket, 10_000))
                found += [Intent.read(row.journal, row.act, bucket, row.body) for row in rows]
        return found


def _batches(statements: Sequence[Statement]) -> list[list[Statement]]:
    """As few batches as a node takes; nearly always one."""
    made: list[list[Statement]] = [[]]
    size = 0
    for statement in statements:
        length = _ROW_BYTES + sum(len(value) for value in statement[1] if isinstance(value, str | bytes))
        if made[-1] and (size + length > _BATCH_BYTES or len(made[-1]) >= _BATCH_ROWS):
            made.append([])
            size = 0
        made[-1].append(statement)
        size += length
    return made if made[0] else []
