"""Copies a store to another one: page by page, so that a copy which was killed goes on where it was, and compares.

What makes it safe to kill at any moment: a page is written before the place after it is noted, and writing a page
twice is as writing it once.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import Protocol

from mesh.transfer.base import Kind, Transfer, TransferError
from mesh.transfer.comparing import Difference, Summary, compare

PAGE = 1_000
"""Records of one page. With records of 4 KB two are 8 MB: as one is written, the next is read."""
_LEASE_S = 65.0  # a worker number's lease is 60 s: nobody has one any more, or it was renewed meanwhile
_LOOK_S = 0.5


class Watcher(Protocol):
    """Is told how far a copy is."""

    def phase(self, name: str, total: int | None, done: int = 0) -> AbstractContextManager[Callable[[int], None]]:
        """What begins now, of how many records if that is known, and how many an earlier run did; gives what is told
        how many more are done."""
        ...


@dataclass(slots=True)
class _Progress:
    """How far a copy is, as the target keeps it."""

    origin: str
    """Which source."""
    kind: str = ""
    """What is being copied; empty before the first kind."""
    after: str = ""
    """Where its next page begins."""
    copied: int = 0
    """How many of its records are copied."""
    done: list[str] = field(default_factory=list)
    """Kinds that are copied."""

    def pack(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def unpack(cls, text: str) -> _Progress:
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a copy came to."""

    resumed: bool
    """Whether it went on with an earlier one."""
    copied: int
    """Records that this run wrote."""
    summaries: Sequence[Summary]
    """What each kind is at the source, and at the target unless it is among the differences."""
    differences: Sequence[Difference]
    """Some of them; none when both have the same."""


async def wait_until_unused(
    store: Transfer, *, waiting: Callable[[str], None] = lambda _: None, clock: Callable[[], float] = time.monotonic
) -> None:
    """Returns once no process has a lease in the store.

    A process that runs renews its lease; one that was killed cannot, and its lease ends within a minute.

    Args:
        store: which.
        waiting: is told once, with the holder's name, that there is a lease to wait for.
        clock: monotonic seconds.

    Raises:
        TransferError: a service runs on it.
    """
    until = clock() + _LEASE_S
    first = {holder.name: holder.until_ms for holder in await store.holders()}
    if not first:
        return
    waiting(min(first))
    while holders := await store.holders():
        for holder in holders:
            if holder.until_ms > first.get(holder.name, 0) or clock() > until:
                raise TransferError(f"a service runs on it: {holder.name} has just renewed its lease; stop it first")
        await asyncio.sleep(_LOOK_S)


async def copy(
    source: Transfer, target: Transfer, *, origin: str, watcher: Watcher, again: bool = False, page: int = PAGE
) -> Outcome:
    """Copies all records, then compares both sides, and hands the target over to services if they are the same.

    Call `wait_until_unused` for both before.

    Args:
        source: it keeps what it has; only what its service had left to do in the background is done.
        target: empty, or with an unfinished copy of the same source, which goes on.
        origin: names the source: the same each time, without its password.
        watcher: is told how far it is.
        again: begins anew with an unfinished copy: what it had written is deleted first.
        page: records at a time.

    Raises:
        TransferError: the target has data of its own or of another source, or cannot hold a record.
        Unavailable: one of them does not answer; calling again goes on.
    """
    progress, resumed = await _begin(target, origin, again)
    await source.settle()
    copied = 0
    for kind in source.kinds:
        if kind.name in progress.done:
            continue
        if progress.kind != kind.name:
            progress.kind, progress.after, progress.copied = kind.name, "", 0
        with watcher.phase(f"copy {kind.name}", await source.count(kind), progress.copied) as advance:
            copied += await _copy_kind(source, target, kind, progress, advance, page)
    summaries: list[Summary] = []
    differences: list[Difference] = []
    for kind in source.kinds:
        total = await source.count(kind)
        with watcher.phase(f"compare {kind.name}", None if total is None else 2 * total) as advance:
            summary, found = await compare(source, target, kind, advance, page)
        summaries.append(summary)
        differences += found
    for store, which in ((source, "source"), (target, "target")):
        if holders := await store.holders():
            raise TransferError(
                f"a service began to use the {which} meanwhile: {holders[0].name}; stop it, then repeat"
            )
    if not differences:
        await target.finish()
    return Outcome(resumed, copied, summaries, differences)


async def _begin(target: Transfer, origin: str, again: bool) -> tuple[_Progress, bool]:
    """Where to go on, and whether an earlier run began it."""
    text = await target.progress()
    if text and again:
        await target.clear()
        text = _Progress(origin).pack()
        await target.save(text)
        return _Progress.unpack(text), False
    if text:
        progress = _Progress.unpack(text)
        if progress.origin != origin:
            raise TransferError(f"the target has an unfinished copy of another source, {progress.origin}")
        return progress, True
    for kind in target.kinds:
        if (await target.read(kind, "", 1)).records:
            raise TransferError(f"the target has data of its own: there are {kind.name}; choose an empty store")
    progress = _Progress(origin)
    await target.save(progress.pack())
    return progress, False


async def _copy_kind(
    source: Transfer, target: Transfer, kind: Kind, progress: _Progress, advance: Callable[[int], None], limit: int
) -> int:
    copied = 0
    page = await source.read(kind, progress.after, limit)
    while True:
        # The next page is read while this one is written; both have deadlines of their own.
        reading = source.read(kind, page.after, limit) if page.after else _nothing()
        following, written = await asyncio.gather(reading, target.write(kind, page.records), return_exceptions=True)
        for result in (written, following):
            if isinstance(result, BaseException):
                raise result
        copied += len(page.records)
        advance(len(page.records))
        progress.copied += len(page.records)
        progress.after = page.after
        if not page.after:
            progress.done.append(kind.name)
        await target.save(progress.pack())
        if isinstance(following, BaseException) or following is None:
            return copied
        page = following


async def _nothing() -> None:
    """There is no next page."""
