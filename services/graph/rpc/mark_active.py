"""GraphMeshService.MarkActive."""

from __future__ import annotations

import time

from rookery.graph.v1.graph_mesh_pb2 import MarkActiveRequest, MarkActiveResponse

from services.graph.store.base import GraphStore


class MarkActive:
    """Notes that a person reads their home timeline."""

    def __init__(self, store: GraphStore) -> None:
        self._store = store

    async def __call__(self, request: MarkActiveRequest) -> MarkActiveResponse:
        """Answers after the commit: from then on fan-out reaches the person."""
        await self._store.mark_seen(request.user_id, time.time_ns() // 1_000_000)
        return MarkActiveResponse()
