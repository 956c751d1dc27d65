"""Carries decisions out: asks `tweet` and `user`, who own what is decided about, and asks again until they answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog
from rookery.events.v1.tweet_events_pb2 import (
    TWEET_VISIBILITY_LIMITED,
    TWEET_VISIBILITY_OPEN,
    TWEET_VISIBILITY_REMOVED,
    TweetVisibility,
)
from rookery.tweet.v1.tweet_moderation_mesh_pb2 import SetVisibilityRequest
from rookery.user.v1.user_mesh_pb2 import SetSuspensionRequest

from mesh.client import Destination
from mesh.errors import DeadlineExceeded, MeshError, NotFound, Unavailable
from services.moderation.domain import Action, Decision, superseded
from services.moderation.store.base import ModerationStore

if TYPE_CHECKING:
    from rookery.tweet.v1.tweet_moderation_mesh_pb2_grpc import TweetModerationMeshServiceAsyncStub
    from rookery.user.v1.user_mesh_pb2_grpc import UserMeshServiceAsyncStub

_log = structlog.get_logger(__name__)
_VISIBILITY: dict[Action, TweetVisibility.ValueType] = {
    Action.LIMIT: TWEET_VISIBILITY_LIMITED,
    Action.REMOVE: TWEET_VISIBILITY_REMOVED,
    Action.RESTORE: TWEET_VISIBILITY_OPEN,
}
_PAGE = 50
_PAUSE_S = 2.0


class Enforcement:
    """Carries decisions out. Doing it twice changes nothing more."""

    def __init__(
        self,
        store: ModerationStore,
        tweet: Destination[TweetModerationMeshServiceAsyncStub],
        user: Destination[UserMeshServiceAsyncStub],
    ) -> None:
        self._store = store
        self._tweet = tweet
        self._user = user

    async def carry_out(self, decision: Decision) -> bool:
        """Carries one out; whether it is. Raises nothing: `run` tries again."""
        if decision.done:
            return True
        try:
            await self._store.carried_out(decision.id, await self._do(decision))
        except (Unavailable, DeadlineExceeded) as error:
            _log.info("a decision waits to be carried out", decision=decision.id, error=error.detail)
            return False
        except MeshError as error:
            _log.error("a decision cannot be carried out", decision=decision.id, error=error.detail)
            return False
        return True

    async def _do(self, decision: Decision) -> str:
        """Does it; says what came of it."""
        if superseded(decision, await self._store.later(decision)):
            return "something else was decided since"
        try:
            if decision.tweet_id:
                visibility = _VISIBILITY[decision.action]
                request = SetVisibilityRequest(tweet_id=decision.tweet_id, visibility=visibility)
                await self._tweet.call(self._tweet.stub.SetVisibility, request)
            else:
                suspended = decision.action is Action.SUSPEND
                whose = SetSuspensionRequest(user_id=decision.author_id, suspended=suspended)
                await self._user.call(self._user.stub.SetSuspension, whose)
        except NotFound:
            return "it is gone"
        return str(decision.action)

    async def run(self) -> None:
        """Carries out what waits, for as long as the service runs: what a crash or an outage left."""
        while True:
            try:
                for decision in await self._store.to_do(_PAGE):
                    await self.carry_out(decision)
            except Unavailable as error:
                _log.debug("decisions are not read", error=error.detail)
            await asyncio.sleep(_PAUSE_S)
