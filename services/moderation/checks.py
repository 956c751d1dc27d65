"""All that is checked before a post is published, side by side, in time, and in spite of whatever fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Protocol, TypeVar

import structlog
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram

from services.moderation.domain import Judgement, Reason, judge
from services.moderation.post import Post

_log = structlog.get_logger(__name__)
T = TypeVar("T")
CHECK_S = 0.1
"""How long one check may take: of the 150 ms that `tweet` waits, 50 are for the way there and back."""


class ScoresToxicity(Protocol):
    """How toxic a post is."""

    async def score(self, post: Post) -> float:
        """0 to 1."""
        ...


class ScoresSpam(Protocol):
    """How much of spam a post has."""

    async def score(self, post: Post) -> float:
        """0 to 1."""
        ...


class FindsLinks(Protocol):
    """Whether a post has a forbidden link."""

    async def forbidden(self, post: Post) -> bool:
        """Whether it has."""
        ...


class Checks:
    """Judges posts.

    Args:
        toxicity, spam, links: what is asked.
        limit_s: how long each may take.
        registry: where failures are counted.
    """

    def __init__(
        self,
        toxicity: ScoresToxicity,
        spam: ScoresSpam,
        links: FindsLinks,
        *,
        limit_s: float = CHECK_S,
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self._toxicity = toxicity
        self._spam = spam
        self._links = links
        self._limit_s = limit_s
        self._failed = Counter(
            "moderation_checks_failed", "Checks that failed or were late", ["check"], registry=registry
        )
        self._verdicts = Counter("moderation_verdicts", "Posts judged", ["verdict"], registry=registry)
        self._seconds = Histogram(
            "moderation_check_seconds",
            "Duration of all checks of a post",
            buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2),
            registry=registry,
        )

    async def judge(self, post: Post) -> Judgement:
        """The verdict. Raises nothing: what cannot be said is for review."""
        with self._seconds.time():
            toxicity, spam, forbidden = await asyncio.gather(
                self._asked("toxicity", self._toxicity.score(post)),
                self._asked("spam", self._spam.score(post)),
                self._asked("links", self._links.forbidden(post)),
            )
            found = judge(toxicity, spam, forbidden)
        if Reason.UNCHECKED in found.reasons:
            _log.warning("a post is published unchecked", toxicity=toxicity, spam=spam, links=forbidden)
        self._verdicts.labels(found.verdict.value).inc()
        return found

    async def _asked(self, name: str, asked: Awaitable[T]) -> T | None:
        try:
            async with asyncio.timeout(self._limit_s):
                return await asked
        except Exception as error:  # noqa: BLE001 -- models raise anything, and no post is to be lost for it
            self._failed.labels(name).inc()
            _log.warning("a check failed", check=name, error=repr(error))
            return None
