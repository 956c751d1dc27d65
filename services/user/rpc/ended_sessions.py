"""UserMeshService.ListEndedSessions, and the same for this service itself."""

from __future__ import annotations

from rookery.user.v1 import user_mesh_pb2
from rookery.user.v1.user_mesh_pb2 import ListEndedSessionsRequest, ListEndedSessionsResponse

from mesh.sessions import Ended, EndedPage
from services.user.sessions import Sessions
from services.user.store.base import SessionStore

_PAGE = 10_000


class ListEndedSessions:
    """Sessions that ended while access tokens of theirs may be good."""

    def __init__(self, store: SessionStore, sessions: Sessions) -> None:
        self._store = store
        self._sessions = sessions

    async def __call__(self, request: ListEndedSessionsRequest) -> ListEndedSessionsResponse:
        """A page of them."""
        page = await self.read(request.after_ms, request.after_id)
        return ListEndedSessionsResponse(
            sessions=[user_mesh_pb2.EndedSession(id=one.session, ended_ms=one.ended_ms) for one in page.sessions],
            keep_ms=page.keep_ms,
            more=page.more,
        )

    async def read(self, after_ms: int, after_id: bytes) -> EndedPage:
        """See mesh.sessions.Read."""
        found = await self._store.ended(after_ms, after_id, _PAGE)
        return EndedPage(
            [Ended(one.id, one.ended_ms) for one in found], self._sessions.tokens_end_ms, len(found) == _PAGE
        )
