"""GraphArchiveMeshService.ReadArchive."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from rookery.graph.v1 import graph_archive_mesh_pb2 as archive
from rookery.graph.v1.graph_archive_mesh_pb2 import ReadArchiveRequest, ReadArchiveResponse

from mesh.ids import rfc3339_of_id
from services.graph.store.base import Edge, GraphStore

Page: TypeAlias = Callable[[int, int, int], Awaitable[list[Edge]]]
"""Person, where the page before ended, and size; gives edges, the oldest first."""


class ReadArchive:
    """One page of what this store has of a person."""

    def __init__(self, store: GraphStore) -> None:
        def oldest_first(read: Callable[..., Awaitable[list[Edge]]]) -> Page:
            # 1 is before every id: pages that begin there come from the oldest on.
            return lambda user_id, after, limit: read(user_id, before=0, after=max(after, 1), limit=limit)

        self._sections: dict[archive.ArchiveSection.ValueType, tuple[Page, str]] = {
            archive.ARCHIVE_SECTION_FOLLOWING: (oldest_first(store.following), "followed_at"),
            archive.ARCHIVE_SECTION_FOLLOWERS: (oldest_first(store.followers), "followed_at"),
            archive.ARCHIVE_SECTION_BLOCKS: (oldest_first(store.blocking), "blocked_at"),
            archive.ARCHIVE_SECTION_MUTES: (oldest_first(store.muting), "muted_at"),
            archive.ARCHIVE_SECTION_FOLLOW_REQUESTS_SENT: (oldest_first(store.requests_sent), "requested_at"),
            archive.ARCHIVE_SECTION_FOLLOW_REQUESTS_RECEIVED: (oldest_first(store.requests_received), "requested_at"),
        }

    async def __call__(self, request: ReadArchiveRequest) -> ReadArchiveResponse:
        """An empty page for somebody of whom there is nothing."""
        read, time = self._sections[request.section]
        edges = await read(request.user_id, request.after, request.page_size)
        return ReadArchiveResponse(
            items=[
                json.dumps({"user_id": str(edge.user_id), time: rfc3339_of_id(edge.edge_id)}).encode() for edge in edges
            ],
            next_after=edges[-1].edge_id if len(edges) == request.page_size else 0,
        )
