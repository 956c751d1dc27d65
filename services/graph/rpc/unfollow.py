"""GraphService.Unfollow."""

from __future__ import annotations

from rookery.graph.v1.graph_service_pb2 import UnfollowRequest, UnfollowResponse

from mesh.interceptors.viewer import require_self
from services.graph.domain import check_pair
from services.graph.readmodel import ReadModel
from services.graph.store.base import GraphStore


class Unfollow:
    """Ends the viewer's following of another."""

    def __init__(self, store: GraphStore, readmodel: ReadModel) -> None:
        self._store = store
        self._readmodel = readmodel

    async def __call__(self, request: UnfollowRequest) -> UnfollowResponse:
        """Not following already is no error."""
        viewer = require_self(request.id)
        check_pair(viewer, request.target_user_id, "unfollow")
        await self._store.unfollow(viewer, request.target_user_id)
        await self._readmodel.changed([viewer])
        return UnfollowResponse(data=UnfollowResponse.Data(following=False))
