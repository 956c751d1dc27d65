"""Checks all tweets again, page by page, when somebody asks for it: with another model, or another list of links.

How far it is stands in the store, changed together with the cases of a page: a crash, or two replicas at it, end at the
same.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import structlog
from rookery.tweet.v1.tweet_moderation_mesh_pb2 import ReviewedTweet

from mesh.errors import DeadlineExceeded, Unavailable
from mesh.ids import LeasedIds
from services.moderation.checks import FindsLinks, ScoresToxicity
from services.moderation.domain import SCALE, Finding, Reason, judge
from services.moderation.material import Material
from services.moderation.post import Post
from services.moderation.store.base import ModerationStore, Scan

_log = structlog.get_logger(__name__)
_PAGE = 100
_LOOK_S = 30.0
_PAUSE_S = 0.05  # between pages: nobody waits, and `tweet` has others to answer
_CHECK_S = 2.0


class ScoresContent(Protocol):
    """How much of spam a post has by itself."""

    def content(self, post: Post) -> float:
        """0 to 1."""
        ...


class Scanner:
    """The worker."""

    def __init__(
        self,
        store: ModerationStore,
        material: Material,
        toxicity: ScoresToxicity,
        spam: ScoresContent,
        links: FindsLinks,
        ids: LeasedIds,
    ) -> None:
        self._store = store
        self._material = material
        self._toxicity = toxicity
        self._spam = spam
        self._links = links
        self._ids = ids
        self._asked = asyncio.Event()

    def wake(self) -> None:
        """A scan was begun."""
        self._asked.set()

    async def run(self) -> None:
        """Works on scans for as long as the service runs."""
        while True:
            self._asked.clear()
            try:
                while (scan := await self._store.scan(0)) is not None:
                    await self.step(scan)
                    await asyncio.sleep(_PAUSE_S)
            except (Unavailable, DeadlineExceeded) as error:
                _log.info("a scan waits", error=error.detail)
            try:
                await asyncio.wait_for(self._asked.wait(), _LOOK_S)
            except TimeoutError:
                continue

    async def step(self, scan: Scan) -> None:
        """One page. Raises Unavailable, and then nothing of it is done."""
        page = await self._material.page(scan.position, _PAGE)
        findings = [
            (await self._ids.next(), finding) for tweet in page if (finding := await self._finding(tweet)) is not None
        ]
        await self._store.advance(scan, findings, page[-1].id if page else scan.position, len(page))

    async def _finding(self, tweet: ReviewedTweet) -> Finding | None:
        if tweet.retweeted_tweet_id or tweet.deleted:
            return None
        post = Post(tweet.author_id, tweet.text)
        async with asyncio.timeout(_CHECK_S):
            try:
                toxicity = await self._toxicity.score(post)
                found = judge(toxicity, self._spam.content(post), await self._links.forbidden(post))
            except TimeoutError:
                raise Unavailable("the model is late") from None
        if not found.reasons or Reason.UNCHECKED in found.reasons:
            return None
        return Finding(
            tweet.id,
            tweet.author_id,
            (Reason.SCAN, *found.reasons),
            round(found.toxicity * SCALE),
            round(found.spam * SCALE),
        )
