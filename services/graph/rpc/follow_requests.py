"""GraphService.AcceptFollowRequest and DeclineFollowRequest."""

from __future__ import annotations

from rookery.graph.v1.graph_service_pb2 import (
    AcceptFollowRequestRequest,
    AcceptFollowRequestResponse,
    DeclineFollowRequestRequest,
    DeclineFollowRequestResponse,
)

from mesh.errors import NotFound
from mesh.ids import LeasedIds
from mesh.interceptors.viewer import require_viewer
from services.graph.people import require_person
from services.graph.readmodel import ReadModel
from services.graph.store.base import GraphStore
from views.hydrate import Hydrator


class AcceptFollowRequest:
    """Lets somebody who asked follow the viewer."""

    def __init__(self, store: GraphStore, ids: LeasedIds, users: Hydrator, readmodel: ReadModel) -> None:
        self._store = store
        self._ids = ids
        self._users = users
        self._readmodel = readmodel

    async def __call__(self, request: AcceptFollowRequestRequest) -> AcceptFollowRequestResponse:
        """Raises NotFound unless `id` is there and asks or follows, PermissionDenied when they follow too many."""
        viewer = require_viewer()
        await require_person(self._users, request.id, "id")
        if not await self._store.accept(request.id, viewer, await self._ids.next()):
            raise _no_request(request.id)
        await self._readmodel.changed([request.id])
        return AcceptFollowRequestResponse(data=AcceptFollowRequestResponse.Data(accepted=True))


class DeclineFollowRequest:
    """Ends a request to the viewer."""

    def __init__(self, store: GraphStore) -> None:
        self._store = store

    async def __call__(self, request: DeclineFollowRequestRequest) -> DeclineFollowRequestResponse:
        """Raises NotFound unless `id` asks. The requester is not told."""
        if not await self._store.decline(request.id, require_viewer()):
            raise _no_request(request.id)
        return DeclineFollowRequestResponse(data=DeclineFollowRequestResponse.Data(declined=True))


def _no_request(requester_id: int) -> NotFound:
    return NotFound(f"Could not find follow request with id: [{requester_id}].")
