"""GraphMeshService.GetStanding."""

from __future__ import annotations

from collections.abc import Sequence

from rookery.graph.v1.graph_mesh_pb2 import GetStandingRequest, GetStandingResponse

from services.graph.readmodel import ReadModel
from services.graph.store.base import GraphStore


class GetStanding:
    """How a viewer stands to some people; also loads the read model."""

    def __init__(self, store: GraphStore, readmodel: ReadModel) -> None:
        self._store = store
        self._readmodel = readmodel

    async def __call__(self, request: GetStandingRequest) -> GetStandingResponse:
        """From the store, also when the read model has the sets."""
        return await self.ask(request.viewer_id, request.user_ids, request.loaded)

    async def ask(self, viewer_id: int, user_ids: Sequence[int], loaded: bool) -> GetStandingResponse:
        """The same, for views.standings in this service."""
        if not loaded:
            await self._readmodel.load(viewer_id)
        # Asked by key and not looked up in what was loaded, which is cut where there are too many.
        async with self._readmodel.loads:
            standing = await self._store.standing(viewer_id, user_ids)
        return GetStandingResponse(
            following_ids=standing.following, blocked_ids=standing.blocked, muted_ids=standing.muted
        )
