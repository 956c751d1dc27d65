"""GraphMeshService.BatchGetRelation."""

from __future__ import annotations

from rookery.graph.v1.graph_mesh_pb2 import BatchGetRelationRequest, BatchGetRelationResponse

from mesh.errors import InvalidArgument
from services.graph.store.base import GraphStore


class BatchGetRelation:
    """Who follows whom, for many pairs."""

    def __init__(self, store: GraphStore) -> None:
        self._store = store

    async def __call__(self, request: BatchGetRelationRequest) -> BatchGetRelationResponse:
        """Raises InvalidArgument unless there are as many followees as followers."""
        if len(request.follower_ids) != len(request.followee_ids):
            raise InvalidArgument("There must be one followee for each follower.")
        pairs = list(zip(request.follower_ids, request.followee_ids, strict=True))
        related = await self._store.related(pairs)
        return BatchGetRelationResponse(following=[pair in related for pair in pairs])
