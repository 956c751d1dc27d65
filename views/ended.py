"""Sessions that have ended, for every service that takes access tokens: `user` tells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rookery.user.v1.user_mesh_pb2 import ListEndedSessionsRequest

from mesh.client import Destination
from mesh.sessions import Ended, EndedPage, EndedSessions

if TYPE_CHECKING:
    from rookery.user.v1.user_mesh_pb2_grpc import UserMeshServiceAsyncStub


def remote_ended_sessions(user: Destination[UserMeshServiceAsyncStub]) -> EndedSessions:
    """What `user` knows of them, kept up with in the background of the service that has it (mesh.server.Service)."""

    async def read(after_ms: int, after_id: bytes) -> EndedPage:
        request = ListEndedSessionsRequest(after_ms=after_ms, after_id=after_id)
        page = await user.call(user.stub.ListEndedSessions, request)
        return EndedPage([Ended(one.id, one.ended_ms) for one in page.sessions], page.keep_ms, page.more)

    return EndedSessions(read)
