"""The background task that settles lists: at its start, when it is woken, and when nobody wakes it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import cast

import pytest

from services.graph import settling
from services.graph.settling import Settling
from services.graph.store.lists import ListStore


class Work:
    """A store with pages of work; stands in for the real one, whose settling tests/stores has."""

    def __init__(self) -> None:
        self.left = 0
        self.idle = asyncio.Event()

    async def settle(self, limit: int, after: int = 0) -> int:
        """See ListStore."""
        assert limit > 0
        if not self.left:
            self.idle.set()
            return 0
        self.left -= 1
        return after + 1


async def _run(work: Work, during: Callable[[Settling], None]) -> None:
    task_of = Settling(cast("ListStore", work))
    running = asyncio.create_task(task_of.run())
    try:
        async with asyncio.timeout(5):
            await work.idle.wait()
            work.idle.clear()
            work.left = 3
            during(task_of)
            await work.idle.wait()
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
    assert work.left == 0


async def test_it_settles_what_a_dead_process_left_and_what_it_is_woken_for() -> None:
    work = Work()
    work.left = 2
    await _run(work, lambda task: task.wake())


async def test_it_looks_by_itself_for_what_another_replica_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling, "_SWEEP_S", 0.02)
    await _run(Work(), lambda task: None)
