"""AuthService.Refresh."""

from __future__ import annotations

from rookery.user.v1.user_service_pb2 import RefreshRequest, RefreshResponse

from mesh.errors import Unauthenticated
from services.user.sessions import Sessions
from services.user.store.base import UserStore


class Refresh:
    """Trades a refresh token for new tokens."""

    def __init__(self, store: UserStore, sessions: Sessions) -> None:
        self._store = store
        self._sessions = sessions

    async def __call__(self, request: RefreshRequest) -> RefreshResponse:
        """Raises Unauthenticated for a token that is not good, or not any more."""
        rotated, token = await self._sessions.refresh(request.refresh_token)
        for person in await self._store.by_ids([rotated.user_id]):
            if not person.active:
                break
            return RefreshResponse(data=await self._sessions.signed_in(person, token))
        raise Unauthenticated("The refresh token is not valid.", reason="INVALID_REFRESH_TOKEN")
