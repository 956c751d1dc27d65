"""Supervised background tasks of a process."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import structlog

_log = structlog.stdlib.get_logger("mesh.tasks")


@dataclass(frozen=True, slots=True)
class TaskState:
    """A task, for the health map."""

    running: bool
    """False once it returned, or was stopped."""
    restarts: int
    """How often it has failed."""
    error: str | None
    """What it raised last."""


class Tasks:
    """Named background tasks. One that raises is logged and started again; one that returns is done.

    Args:
        backoff: seconds before the first restart; doubles with each failure, with jitter, and starts over once a task
            has run for `backoff_cap` seconds.
        backoff_cap: seconds before a restart at most.
        limit: tasks at most; more is a defect of the program.
    """

    def __init__(self, *, backoff: float = 0.1, backoff_cap: float = 10.0, limit: int = 100) -> None:
        self._backoff = backoff
        self._backoff_cap = backoff_cap
        self._limit = limit
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._states: dict[str, TaskState] = {}
        self._stopping = False

    def start(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Run `work()` in the background, from within the event loop.

        Args:
            name: for the log and the health map; in use once at a time.
            work: called again after each failure.

        Raises:
            RuntimeError: a task of this name runs, there are too many, or `stop` was called.
        """
        if self._stopping:
            raise RuntimeError(f"task {name!r} was started after stop")
        current = self._tasks.get(name)
        if current is not None and not current.done():
            raise RuntimeError(f"task {name!r} runs already")
        if current is None and len(self._tasks) >= self._limit:
            raise RuntimeError(f"more than {self._limit} background tasks")
        self._states[name] = TaskState(running=True, restarts=0, error=None)
        self._tasks[name] = asyncio.create_task(self._supervise(name, work), name=name)

    def states(self) -> Mapping[str, TaskState]:
        """Each task's state, by name."""
        return dict(self._states)

    async def stop(self, grace_s: float) -> None:
        """Cancel every task and wait until they have ended, at most `grace_s` seconds. Safe to call twice."""
        self._stopping = True
        tasks = [task for task in self._tasks.values() if not task.done()]
        for task in tasks:
            task.cancel()
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=grace_s)
        for task in late:
            _log.error("a background task ignores cancellation", task=task.get_name())

    async def _supervise(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        restarts = streak = 0
        error_text: str | None = None
        try:
            while True:
                started = time.monotonic()
                try:
                    await work()
                except asyncio.CancelledError as error:
                    task = asyncio.current_task()
                    if self._stopping or task is None or task.cancelling():
                        raise
                    failure: BaseException = error  # something inside was cancelled, not this task
                except Exception as error:  # noqa: BLE001 - this is the supervisor: logged, then restarted
                    failure = error
                else:
                    return
                if time.monotonic() - started >= self._backoff_cap:
                    streak = 0
                restarts += 1
                streak += 1
                error_text = f"{type(failure).__name__}: {failure}"[:500]
                self._states[name] = TaskState(running=True, restarts=restarts, error=error_text)
                bound = min(self._backoff_cap, self._backoff * 2.0 ** min(streak - 1, 30))
                delay = bound * random.uniform(0.5, 1.0)  # noqa: S311 - not a secret
                _log.error("a background task failed", task=name, restart_in_s=round(delay, 3), exc_info=failure)
                await asyncio.sleep(delay)
        finally:
            self._states[name] = TaskState(running=False, restarts=restarts, error=error_text)
