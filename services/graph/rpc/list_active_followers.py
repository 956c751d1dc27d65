"""GraphMeshService.ListActiveFollowers."""

from __future__ import annotations

import time

from rookery.graph.v1.graph_mesh_pb2 import ListActiveFollowersRequest, ListActiveFollowersResponse

from services.graph.domain import SEEN_WINDOW_MS
from services.graph.store.base import GraphStore


class ListActiveFollowers:
    """Pages of followers whose home lists may exist."""

    def __init__(self, store: GraphStore) -> None:
        self._store = store

    async def __call__(self, request: ListActiveFollowersRequest) -> ListActiveFollowersResponse:
        """Answers without ids for an author whose tweets are pulled."""
        audience = await self._store.audience(
            request.author_id,
            after=request.after,
            limit=request.page_size,
            seen_since_ms=time.time_ns() // 1_000_000 - SEEN_WINDOW_MS,
        )
        full = len(audience.follower_ids) == request.page_size
        return ListActiveFollowersResponse(
            pushed=audience.pushed,
            follower_ids=audience.follower_ids,
            next_after=audience.follower_ids[-1] if full else 0,
        )
