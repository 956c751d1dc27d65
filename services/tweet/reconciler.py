"""Compares counts with the rows that they count, slowly and for ever, and mends what differs.

Counts are exact by construction (services/tweet/counts.py); this is for what construction does not foresee: a defect,
an operator's hand. It reads pages on a snapshot, in which a count, the changes that wait and the rows belong together,
so writes that go on disturb nothing. What differs there is compared once more in the transaction that mends it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog
from prometheus_client import REGISTRY, CollectorRegistry, Counter

from mesh.errors import Unavailable
from mesh.ids import id_of_ms
from services.tweet.store.base import CountCheck, Wrong

_log = structlog.get_logger(__name__)
_PAGE = 100
_PAUSE_S = 1.0  # between pages: a million tweets in three hours, for about a millisecond of reading a second


_Page = Callable[[int, int], Awaitable[list[int]]]


@dataclass(frozen=True, slots=True)
class _Kind:
    """Something with counts."""

    name: str
    page: _Page
    wrong: Callable[[Sequence[int]], Awaitable[list[Wrong]]]
    mend: Callable[[int], Awaitable[list[Wrong]]]


class Reconciler:
    """Checks pages of tweets, of polls and of people: those that changed lately first, then all by id, again and again.

    Args:
        store: compares and mends.
        recent: gives up to so many tweets whose counts changed lately, each once.
        registry: of metrics.
        pause_s: seconds between pages.
        chance: 0 to 1: where the first round begins, so that frequent restarts leave nobody out.
    """

    def __init__(
        self,
        store: CountCheck,
        recent: Callable[[int], list[int]],
        *,
        registry: CollectorRegistry = REGISTRY,
        pause_s: float = _PAUSE_S,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._recent = recent
        self._pause_s = pause_s
        self._chance = chance
        self._kinds = (
            _Kind("tweet", store.tweet_ids, store.wrong_tweets, store.mend_tweet),
            _Kind("poll", store.poll_ids, store.wrong_polls, store.mend_poll),
            _Kind("author", store.author_ids, store.wrong_authors, store.mend_author),
        )
        self._after: dict[str, int] = {}
        self._mended = Counter(
            "tweet_counts_mended", "Counts that were not those of their rows", ["count"], registry=registry
        )

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(self._pause_s)
            try:
                await self.step()
            except Unavailable as error:
                _log.info("counts are not compared now", error=error.detail)

    async def step(self) -> None:
        """One page of each kind. Raises Unavailable."""
        await self._check(self._kinds[0], self._recent(_PAGE))
        for kind in self._kinds:
            if kind.name not in self._after:
                self._after[kind.name] = await self._somewhere(kind.page)
            ids = await kind.page(self._after[kind.name], _PAGE)
            await self._check(kind, ids)
            self._after[kind.name] = ids[-1] if len(ids) == _PAGE else 0

    async def sweep(self) -> None:
        """Everything once, without a pause. Raises Unavailable."""
        for kind in self._kinds:
            after = 0
            while ids := await kind.page(after, _PAGE):
                await self._check(kind, ids)
                after = ids[-1]

    async def _somewhere(self, page: _Page) -> int:
        """An id between the first one and those of this moment."""
        first = await page(0, 1)
        return int(first[0] + (id_of_ms(int(time.time() * 1000)) - first[0]) * self._chance()) if first else 0

    async def _check(self, kind: _Kind, ids: Sequence[int]) -> None:
        for one in dict.fromkeys(wrong.id for wrong in await kind.wrong(ids)):
            self._note(kind.name, await kind.mend(one))

    def _note(self, kind: str, mended: Sequence[Wrong]) -> None:
        for one in mended:
            self._mended.labels(f"{kind}.{one.count}").inc()
            _log.warning("a count was wrong", kind=kind, id=one.id, count=one.count, was=one.counted, rows=one.rows)
