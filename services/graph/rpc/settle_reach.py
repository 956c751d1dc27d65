"""GraphMeshService.SettleReach."""

from __future__ import annotations

from rookery.graph.v1.graph_mesh_pb2 import SettleReachRequest, SettleReachResponse

from services.graph.readmodel import ReadModel
from services.graph.store.base import GraphStore

_PAGE = 1_000


class SettleReach:
    """Ends an author's crossing between pushed and pulled."""

    def __init__(self, store: GraphStore, readmodel: ReadModel) -> None:
        self._store = store
        self._readmodel = readmodel

    async def __call__(self, request: SettleReachRequest) -> SettleReachResponse:
        """Raises CacheGone when followers' read models cannot be dropped: then nothing is settled."""
        after = 0
        while page := await self._store.follower_ids(request.user_id, after=after, limit=_PAGE):
            await self._readmodel.drop(page)
            after = page[-1]
        await self._store.settle(request.user_id, pulled=request.pulled)
        return SettleReachResponse()
