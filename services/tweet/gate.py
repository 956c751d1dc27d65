"""The check before publishing: `moderation` is asked, within 150 ms, and whatever it does a tweet is not lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from rookery.api.v2.tweet_pb2 import TweetEntities
from rookery.moderation.v1.moderation_mesh_pb2 import (
    POST_VERDICT_BLOCK,
    POST_VERDICT_LIMIT,
    CheckPostRequest,
)

from mesh.client import Destination
from mesh.errors import MeshError, PermissionDenied
from services.tweet.domain import UNCHECKED, Review, Visibility

if TYPE_CHECKING:
    from rookery.moderation.v1.moderation_mesh_pb2_grpc import ModerationMeshServiceAsyncStub

_log = structlog.get_logger(__name__)
CHECK_S = 0.15
"""Of the 500 ms that a post may take."""
_TEXT = 16_384  # what the contract takes; a tweet with a poll has a tenth of it, unless its links are long
_LINKS = 100
_LINK = 4_096


@dataclass(frozen=True, slots=True)
class Passed:
    """A post that may be published."""

    visibility: Visibility
    """How far it reaches."""
    review: Review | None
    """Why it is to be looked at; None if it is not."""


class Gate:
    """Asks `moderation` before a tweet is published."""

    def __init__(self, moderation: Destination[ModerationMeshServiceAsyncStub]) -> None:
        self._moderation = moderation

    async def check(self, author_id: int, text: str, found: TweetEntities, *, answered: int = 0) -> Passed:
        """What becomes of a post. Without an answer in time it is published, and queued for review.

        Args:
            author_id: who writes.
            text: with the choices of a poll.
            found: the entities of the text.
            answered: whom it answers; 0 for nobody.

        Raises:
            PermissionDenied: it must not be published.
        """
        request = CheckPostRequest(
            author_id=author_id,
            text=text[:_TEXT],
            urls=[url.url for url in found.urls if len(url.url) <= _LINK][:_LINKS],
            in_reply_to_user_id=answered,
            mentions=len({mention.username.lower() for mention in found.mentions}),
        )
        try:
            said = await self._moderation.call(self._moderation.stub.CheckPost, request, timeout_s=CHECK_S)
        except MeshError as error:
            _log.warning("a tweet is published unchecked", error=error.detail)
            return Passed(Visibility.OPEN, Review((UNCHECKED,)))
        if said.verdict == POST_VERDICT_BLOCK:
            why = " and ".join(said.reasons)
            raise PermissionDenied(
                f"This post was not published, as it breaks the rules: {why}.", reason="POST_BLOCKED"
            )
        limited = said.verdict == POST_VERDICT_LIMIT
        review = Review(tuple(said.reasons), said.toxicity, said.spam) if said.review else None
        return Passed(Visibility.LIMITED if limited else Visibility.OPEN, review)
