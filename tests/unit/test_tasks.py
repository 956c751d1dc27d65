"""Supervision of background tasks."""

from __future__ import annotations

import asyncio

import pytest

from mesh.tasks import Tasks


async def test_a_task_that_raises_is_started_again() -> None:
    runs = 0
    third = asyncio.Event()

    async def work() -> None:
        nonlocal runs
        runs += 1
        if runs == 3:
            third.set()
            await asyncio.get_running_loop().create_future()
        raise ValueError("broken")

    tasks = Tasks(backoff=0.001, backoff_cap=0.01)
    tasks.start("work", work)
    await asyncio.wait_for(third.wait(), 5)
    state = tasks.states()["work"]
    assert (state.running, state.restarts, state.error) == (True, 2, "ValueError: broken")
    await tasks.stop(1.0)
    assert not tasks.states()["work"].running


async def test_a_task_that_returns_is_done() -> None:
    tasks = Tasks()
    runs = 0
    ended = asyncio.Event()

    async def work() -> None:
        nonlocal runs
        runs += 1
        ended.set()

    tasks.start("once", work)
    await asyncio.wait_for(ended.wait(), 5)
    await asyncio.sleep(0)
    assert not tasks.states()["once"].running
    tasks.start("once", work)  # its name is free again
    await tasks.stop(1.0)
    assert runs <= 2


async def test_stop_is_bounded_and_awaits_what_ends() -> None:
    cleaned: list[str] = []
    release = asyncio.Event()

    async def polite() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            cleaned.append("polite")

    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    tasks = Tasks()
    tasks.start("polite", polite)
    tasks.start("stubborn", stubborn)
    await asyncio.sleep(0)
    await asyncio.wait_for(tasks.stop(0.05), 2)
    assert cleaned == ["polite"]
    release.set()
    with pytest.raises(RuntimeError, match="after stop"):
        tasks.start("late", polite)


async def test_something_cancelled_inside_a_task_is_a_failure_of_it() -> None:
    again = asyncio.Event()
    runs = 0

    async def work() -> None:
        nonlocal runs
        runs += 1
        if runs == 2:
            again.set()
            return
        inner = asyncio.get_running_loop().create_future()
        inner.cancel()
        await inner

    tasks = Tasks(backoff=0.001)
    tasks.start("work", work)
    await asyncio.wait_for(again.wait(), 5)
    await tasks.stop(1.0)


async def test_names_are_unique_and_bounded() -> None:
    async def work() -> None:
        await asyncio.get_running_loop().create_future()

    tasks = Tasks(limit=1)
    tasks.start("a", work)
    with pytest.raises(RuntimeError, match="runs already"):
        tasks.start("a", work)
    with pytest.raises(RuntimeError, match="more than 1"):
        tasks.start("b", work)
    await tasks.stop(1.0)
