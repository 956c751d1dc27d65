"""Adds up what was counted. Who likes, answers or repeats a tweet only notes it; here all notes become counts.

One update a tweet and batch, however many liked it, and one record written. A batch is one transaction: its changes are
gone with the commit that counts them, so each counts exactly once, whoever is killed and however many replicas add up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import structlog

from mesh.errors import Unavailable
from services.tweet.polls import Polls
from services.tweet.store.base import CountStore
from services.tweet.tweets import Tweets

_log = structlog.get_logger(__name__)
_BATCH = 500  # changes: some 10 ms during which other writers wait
_LINGER_S = 0.05  # how long a change waits for others; counts follow about so much after a write
_SWEEP_S = 1.0  # between looks for changes of a process that died
_RETRY_S = 0.5
_RECENT = 10_000


class Counting:
    """Adds up, for as long as the process runs.

    Args:
        store: the counts.
        tweets: writes their records.
        polls: writes theirs.
        linger_s: seconds that a change waits for others.
    """

    def __init__(self, store: CountStore, tweets: Tweets, polls: Polls, *, linger_s: float = _LINGER_S) -> None:
        self._store = store
        self._tweets = tweets
        self._polls = polls
        self._linger_s = linger_s
        self._recent: dict[int, None] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self._something()
                await asyncio.sleep(self._linger_s)
                await self.settle()
            except Unavailable as error:
                _log.warning("counts wait", error=error.detail)
                await asyncio.sleep(_RETRY_S)

    async def settle(self) -> None:
        """Adds up all that waits. Raises Unavailable."""
        self._store.changed.clear()  # before the first look: what is committed after it sets it again
        while True:
            applied = await self._store.apply(_BATCH)
            await self._tweets.publish(applied.tweets)
            await self._polls.publish(applied.polls)
            self._note(tweet.id for tweet in applied.tweets if not tweet.deleted)
            if applied.changes < _BATCH:
                return

    def recent(self, limit: int) -> list[int]:
        """Tweets whose counts changed lately, and that this did not give before; of too many, the newest 10,000."""
        found = list(self._recent)[:limit]
        for tweet_id in found:
            del self._recent[tweet_id]
        return found

    def _note(self, ids: Iterable[int]) -> None:
        self._recent |= dict.fromkeys(ids)
        for tweet_id in list(self._recent)[: max(0, len(self._recent) - _RECENT)]:
            del self._recent[tweet_id]

    async def _something(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_SWEEP_S):
                    await self._store.changed.wait()
            except TimeoutError:
                if not await self._store.waiting():
                    continue
            return
