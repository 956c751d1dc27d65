"""SessionService."""

from __future__ import annotations

from rookery.user.v1.session_service_pb2 import (
    AccountSession,
    EndSessionRequest,
    EndSessionResponse,
    EndSessionsRequest,
    EndSessionsResponse,
    ListSessionsRequest,
    ListSessionsResponse,
)

from mesh.context import current
from mesh.errors import NotFound
from mesh.ids import id_of_ms, rfc3339_of_id
from mesh.interceptors.viewer import require_viewer
from services.user.sessions import Sessions
from services.user.store.base import Session, SessionStore
from services.user.store.clients import ClientStore

_MOST = 200


def _id(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


class ListSessions:
    """Where the viewer is signed in, and whom they let in."""

    def __init__(self, store: SessionStore, clients: ClientStore, sessions: Sessions) -> None:
        self._store = store
        self._clients = clients
        self._sessions = sessions

    async def __call__(self, request: ListSessionsRequest) -> ListSessionsResponse:
        """Those that have not ended."""
        found = await self._store.of_person(require_viewer(), self._sessions.now_ms(), _MOST)
        names = {
            client_id: client.name
            for client_id in {one.client_id for one in found if one.client_id}
            if (client := await self._clients.client(client_id))
        }
        return ListSessionsResponse(data=[self._shown(one, names.get(one.client_id)) for one in found])

    @staticmethod
    def _shown(session: Session, client_name: str | None) -> AccountSession:
        return AccountSession(
            id=session.id.hex(),
            created_at=rfc3339_of_id(id_of_ms(session.created_ms)),
            expires_at=rfc3339_of_id(id_of_ms(session.expires_ms)),
            client_id=session.client_id or None,
            client_name=client_name,
            scope=session.scope,
            current=session.id.hex() == current().session,
        )


class EndSession:
    """Ends one of the viewer's sessions."""

    def __init__(self, store: SessionStore) -> None:
        self._store = store

    async def __call__(self, request: EndSessionRequest) -> EndSessionResponse:
        """Raises NotFound for none, and for another's."""
        if not await self._store.end_own(require_viewer(), _id(request.id)):
            raise NotFound(f"Could not find session with id: [{request.id}].")
        return EndSessionResponse(data=EndSessionResponse.Data(ended=True))


class EndSessions:
    """Ends all of the viewer's sessions, or all but one."""

    def __init__(self, store: SessionStore) -> None:
        self._store = store

    async def __call__(self, request: EndSessionsRequest) -> EndSessionsResponse:
        """A second time changes nothing."""
        await self._store.end_all(require_viewer(), but=_id(current().session) if request.keep_current else b"")
        return EndSessionsResponse(data=EndSessionsResponse.Data(ended=True))
