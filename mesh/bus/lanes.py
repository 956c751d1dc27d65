"""The handling of one partition's messages: order a key, concurrency across keys, retries, and giving up.

It knows no server; every bus adapter that reads partitions in order can feed it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from typing import Any, Protocol

import structlog

from mesh.bus.base import BatchHandler, Message, MessageHandler, SubscriptionOptions
from mesh.bus.metrics import BusMetrics
from mesh.errors import DeadlineExceeded, Unavailable

_ERROR_CHARS = 1000
_TURN = 32  # messages that a worker handles before it lets others work
_OUTAGES = (Unavailable, DeadlineExceeded)  # of something that the handler needs, which is gone, or hangs

_log = structlog.stdlib.get_logger("mesh.bus")


class Partition(Protocol):
    """What the lanes need from whoever reads the partition."""

    async def held(self) -> None:
        """Return once this process may handle the partition's messages (its lease is known to be valid), or when it is
        about to let go of them."""

    def done(self, message: Message) -> None:
        """The message is finished with: acknowledge it."""

    async def give_up(self, message: Message, error: str) -> None:
        """Put the message among the dead letters.

        Raises:
            Unavailable: try again.
        """


def backoff(attempt: int, first: float, cap: float) -> float:
    """Seconds before try `attempt + 1`: doubling from `first` up to `cap`, of which a random half is waited."""
    bound = min(cap, first * 2.0 ** min(attempt - 1, 30))
    return bound * random.uniform(0.5, 1.0)  # noqa: S311 - not a secret


def describe(error: BaseException) -> str:
    """An error as text for a dead letter."""
    return f"{type(error).__name__}: {error}"[:_ERROR_CHARS]


class _Lane:
    """The queue of one key; its first message is being handled, waits for a worker, or waits for its next try."""

    __slots__ = ("failures", "messages", "outages")

    def __init__(self, message: Message) -> None:
        self.messages = deque((message,))
        self.failures = 0
        """Of the first message, that count."""
        self.outages = 0
        """Those that do not."""


class Lanes:
    """Handles the messages of one partition.

    A lane is the queue of one key. Workers take lanes in turn, a message at a time: a task for each message would cost
    more than the rest. There are up to `options.concurrency` of them, as many as find work; a lane that waits for its
    next try has none. With a batch handler, messages whose key has no lane are handed over in batches, one batch at a
    time; a batch that fails becomes lanes.

    Args:
        group: for metrics and logs.
        topic: for metrics and logs.
        handler: for one message, or for a batch.
        partition: acknowledges and gives up.
        options: limits.
        metrics: counters.
    """

    def __init__(
        self,
        group: str,
        topic: str,
        handler: MessageHandler | None,
        batch_handler: BatchHandler | None,
        partition: Partition,
        options: SubscriptionOptions,
        metrics: BusMetrics,
    ) -> None:
        if (handler is None) == (batch_handler is None):
            raise ValueError("exactly one of handler and batch_handler is needed")
        self._handler = handler
        self._batch_handler = batch_handler
        self._partition = partition
        self._options = options
        self._log = _log.bind(topic=topic, group=group)
        self._handled = metrics.handled.labels(topic, group)
        self._duration = metrics.duration.labels(topic, group)
        self._dead = metrics.dead.labels(topic, group)
        self._metrics = metrics
        self._labels = (topic, group)
        self._lanes: dict[bytes, _Lane] = {}
        self._ready: deque[_Lane] = deque()  # those whose first message may be handled now
        self._workers = 0
        self._batch: deque[Message] = deque()
        self._batching = False
        self._slots = asyncio.Semaphore(options.concurrency)
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining = asyncio.Event()
        self._running: dict[asyncio.Task[Any], float] = {}  # handler calls, and when they began
        self._expired: set[asyncio.Task[Any]] = set()
        self._watching = False

    def add(self, messages: Sequence[Message]) -> None:
        """Take messages over, in order; they end in `Partition.done`."""
        if self._draining.is_set():
            return
        if self._batch_handler is None:
            for message in messages:
                self._to_lane(message)
            self._employ()
            return
        self._batch.extend(messages)
        if not self._batching:
            self._batching = True
            self._spawn(self._run_batches())

    def bury(self, message: Message, error: str) -> None:
        """Give a message up without a try."""
        self._spawn(self._give_up(message, error))

    def close(self) -> None:
        """Begin nothing new; running handler calls go on."""
        self._draining.set()

    async def drain(self, grace: float) -> None:
        """Let the running handler calls end, for `grace` seconds, then cancel them; nothing new begins."""
        self.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)
        await self.cancel()

    async def cancel(self) -> None:
        """Cancel the running handler calls and wait until they have ended (5 s at most)."""
        self.close()
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=5.0)
            if late:
                self._log.error("handlers ignore cancellation", handlers=len(late))

    def _failed(self, error: BaseException) -> None:
        self._metrics.failed.labels(*self._labels, type(error).__name__).inc()

    async def _pause(self, seconds: float) -> None:
        """Wait before the next try; not any longer once the lanes drain."""
        try:
            async with asyncio.timeout(seconds):
                await self._draining.wait()
        except TimeoutError:
            return

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # A defect in this module: what the lane held stays unacknowledged until the partition changes hands.
            self._log.error("a lane failed", exc_info=error)

    def _to_lane(self, message: Message) -> None:
        lane = self._lanes.get(message.key)
        if lane is not None:
            lane.messages.append(message)
            return
        lane = self._lanes[message.key] = _Lane(message)
        self._ready.append(lane)

    def _employ(self) -> None:
        """One more worker, if there is work for it; it looks for further ones itself."""
        if self._ready and self._workers < self._options.concurrency and not self._draining.is_set():
            self._workers += 1
            self._spawn(self._work())

    async def _work(self) -> None:
        """Handles first messages of lanes until none is left."""
        handled = 0
        try:
            async with self._slots:
                while self._ready and not self._draining.is_set():
                    lane = self._ready.popleft()
                    self._employ()  # it has the rest while this one's handler waits
                    if await self._step(lane):
                        handled += 1
                        if handled % _TURN == 0:
                            await asyncio.sleep(0)  # handlers that never wait must not keep others from working
        finally:
            self._workers -= 1
            self._handled.inc(handled)
        self._employ()

    async def _step(self, lane: _Lane) -> bool:
        """Handles a lane's first message once, and says what comes next for the lane; whether it was handled."""
        message = lane.messages[0]
        error = await self._call([message])
        if error is None:
            self._partition.done(message)
            self._next(lane)
            return True
        if self._draining.is_set():
            return False  # it stays with the partition
        if isinstance(error, _OUTAGES):  # giving up would lose work that nothing is wrong with
            lane.outages += 1
            if lane.outages == 1:
                self._log.warning("a handler's dependency is unavailable", id=message.id, error=describe(error))
        else:
            lane.failures += 1
            if lane.failures >= self._options.max_attempts:
                self._spawn(self._give_up_first(lane, describe(error)))
                return False
            self._log.warning("a handler failed", id=message.id, attempt=message.attempt, error=describe(error))
            lane.messages[0] = replace(message, attempt=message.attempt + 1)
        pause = backoff(lane.failures + lane.outages, self._options.backoff, self._options.backoff_cap)
        asyncio.get_running_loop().call_later(pause, self._again, lane)
        return False

    def _next(self, lane: _Lane) -> None:
        """The first message of a lane is done with."""
        done = lane.messages.popleft()
        lane.failures = lane.outages = 0
        if lane.messages:
            self._ready.append(lane)
        else:
            del self._lanes[done.key]

    def _again(self, lane: _Lane) -> None:
        """A lane's next try is due."""
        self._ready.append(lane)
        self._employ()

    async def _give_up_first(self, lane: _Lane, error: str) -> None:
        await self._give_up(lane.messages[0], error)
        if not self._draining.is_set():
            self._next(lane)
            self._employ()

    async def _run_batches(self) -> None:
        try:
            while self._batch and not self._draining.is_set():
                batch: list[Message] = []
                while self._batch and len(batch) < self._options.batch_size:
                    message = self._batch.popleft()
                    if message.key in self._lanes:  # behind those of its key that are being tried one at a time
                        self._lanes[message.key].messages.append(message)
                    else:
                        batch.append(message)
                if batch:
                    await self._finish_batch(batch)
        finally:
            self._batching = False

    async def _finish_batch(self, batch: list[Message]) -> None:
        outages = 0
        while not self._draining.is_set():
            async with self._slots:
                error = await self._call(batch)
            if error is None:
                for message in batch:
                    self._partition.done(message)
                self._handled.inc(len(batch))
                return
            if not isinstance(error, _OUTAGES):
                self._log.warning("a batch failed; going on one at a time", messages=len(batch), error=describe(error))
                for message in batch:
                    self._to_lane(message)
                self._employ()
                return
            outages += 1
            await self._pause(backoff(outages, self._options.backoff, self._options.backoff_cap))

    async def _give_up(self, message: Message, error: str) -> None:
        """Put a message among the dead letters, for as many tries as it takes."""
        attempt = 0
        while not self._draining.is_set():
            try:
                await self._partition.give_up(message, error)
            except Unavailable:
                attempt += 1
                await self._pause(backoff(attempt, self._options.backoff, self._options.backoff_cap))
                continue
            self._log.error("gave up on a message", id=message.id, event_id=message.event_id, error=error)
            self._dead.inc()
            self._partition.done(message)
            return

    async def _call(self, messages: list[Message]) -> Exception | None:
        """Call the handler once; what it raised, or None. While draining it is not called: that is `Unavailable`."""
        await self._partition.held()
        if self._draining.is_set():
            return Unavailable("stopping")
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("handlers are called by tasks")
        started = self._running[task] = time.perf_counter()
        if not self._watching:
            self._watch()
        late = False
        try:
            if self._batch_handler is not None:
                await self._batch_handler(messages)
            elif self._handler is not None:
                await self._handler(messages[0])
        except asyncio.CancelledError:
            late = task in self._expired
            if task.cancelling() > late:  # this worker is to end, and not the handler alone
                raise
            error: Exception = (
                TimeoutError("the handler took too long")
                if late
                else RuntimeError("something in the handler was cancelled")
            )
            self._failed(error)
            return error
        except Exception as failure:  # noqa: BLE001 - whatever a handler raises is retried or becomes a dead letter
            self._failed(failure)
            return failure
        finally:
            if task in self._expired:
                self._expired.discard(task)
                task.uncancel()
            del self._running[task]
            self._duration.observe(time.perf_counter() - started)
        return None

    def _watch(self) -> None:
        """Ends handler calls that take too long, a tenth later at most: a timer for each would cost more than it."""
        self._watching = bool(self._running)
        if self._watching:
            overdue = time.perf_counter() - self._options.handler_timeout
            for task, started in self._running.items():
                if started <= overdue and task not in self._expired:
                    self._expired.add(task)
                    task.cancel()
            asyncio.get_running_loop().call_later(self._options.handler_timeout / 10, self._watch)
