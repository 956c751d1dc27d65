"""EngagementService.Vote."""

from __future__ import annotations

import time
from collections.abc import Callable

from rookery.tweet.v1.tweet_service_pb2 import VoteRequest, VoteResponse

from mesh.errors import InvalidArgument, NotFound, PermissionDenied, Violation
from mesh.interceptors.viewer import require_viewer
from services.tweet.sight import Sight
from services.tweet.store.base import PollStore


class Vote:
    """Votes in a poll, once and for all.

    Args:
        store: the polls.
        sight: whether the viewer sees the poll's tweet.
        clock: seconds since 1970.
    """

    def __init__(self, store: PollStore, sight: Sight, *, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._sight = sight
        self._clock = clock

    async def __call__(self, request: VoteRequest) -> VoteResponse:
        """The same vote again is no error, even after the end.

        Raises NotFound for a poll that is not there or does not show, InvalidArgument for a choice that it does not
        have, PermissionDenied for its author, for another vote than before, and after the end.
        """
        viewer = require_viewer()
        found = await self._store.by_ids([request.id])
        tweet = await self._sight.find(viewer, found[0].tweet_id) if found else None
        if tweet is None:
            raise NotFound(f"Could not find poll with id: [{request.id}].")
        if request.position > len(found[0].choices):
            problem = f"must be at most {len(found[0].choices)}"
            raise InvalidArgument(f"The position {problem}.", violations=[Violation("position", problem)])
        if tweet.author_id == viewer:
            raise PermissionDenied("You may not vote in your own poll.", reason="OWN_POLL")
        voted = await self._store.vote(request.id, viewer, request.position, int(self._clock() * 1000))
        if not voted:
            raise PermissionDenied("The poll is closed.", reason="POLL_CLOSED")
        if voted != request.position:
            raise PermissionDenied("You have already voted in this poll.", reason="ALREADY_VOTED")
        return VoteResponse(data=VoteResponse.Data(voted=True, position=voted))
