"""GraphArchiveMeshService.ReadArchive."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from rookery.graph.v1 import graph_archive_mesh_pb2 as archive
from rookery.graph.v1.graph_archive_mesh_pb2 import ReadArchiveRequest, ReadArchiveResponse

from mesh.ids import rfc3339_of_id
from services.graph.store.base import Edge, GraphStore
from services.graph.store.lists import Listing, ListStore

Page: TypeAlias = tuple[list[dict[str, object]], int]
"""Items, and where the next page begins, 0 for none."""
Section: TypeAlias = Callable[[int, int, int], Awaitable[Page]]
"""Person, where the page before ended, and size; gives a page, the oldest first."""
_LISTS = 20  # a list has up to 5,000 members, some 110 KB


class ReadArchive:
    """One page of what this store has of a person."""

    def __init__(self, store: GraphStore, lists: ListStore) -> None:
        self._lists = lists
        self._sections: dict[archive.ArchiveSection.ValueType, Section] = {
            archive.ARCHIVE_SECTION_FOLLOWING: _edges(store.following, "followed_at"),
            archive.ARCHIVE_SECTION_FOLLOWERS: _edges(store.followers, "followed_at"),
            archive.ARCHIVE_SECTION_BLOCKS: _edges(store.blocking, "blocked_at"),
            archive.ARCHIVE_SECTION_MUTES: _edges(store.muting, "muted_at"),
            archive.ARCHIVE_SECTION_FOLLOW_REQUESTS_SENT: _edges(store.requests_sent, "requested_at"),
            archive.ARCHIVE_SECTION_FOLLOW_REQUESTS_RECEIVED: _edges(store.requests_received, "requested_at"),
            archive.ARCHIVE_SECTION_LISTS: self._owned,
            archive.ARCHIVE_SECTION_LIST_MEMBERSHIPS: _listings(lists.memberships, "added_at", public=True),
            archive.ARCHIVE_SECTION_FOLLOWED_LISTS: _listings(lists.followed, "followed_at"),
            archive.ARCHIVE_SECTION_PINNED_LISTS: _listings(lists.pinned, "pinned_at"),
        }

    async def __call__(self, request: ReadArchiveRequest) -> ReadArchiveResponse:
        """An empty page for somebody of whom there is nothing."""
        # 1 is before every id: pages that begin there come from the oldest on.
        items, following = await self._sections[request.section](
            request.user_id, max(request.after, 1), request.page_size
        )
        return ReadArchiveResponse(
            items=[json.dumps(item, ensure_ascii=False).encode() for item in items], next_after=following
        )

    async def _owned(self, user_id: int, after: int, limit: int) -> Page:
        limit = min(limit, _LISTS)
        found = await self._lists.owned(user_id, before=0, after=after, limit=limit)
        items: list[dict[str, object]] = [
            {
                "id": str(one.list.id),
                "name": one.list.name,
                "description": one.list.description,
                "private": one.list.private,
                "created_at": rfc3339_of_id(one.list.id),
                "member_ids": [str(member) for member in sorted(await self._lists.member_ids(one.list.id))],
            }
            for one in found
        ]
        return items, found[-1].key if len(found) == limit else 0


def _edges(read: Callable[..., Awaitable[list[Edge]]], time: str) -> Section:
    async def page(user_id: int, after: int, limit: int) -> Page:
        edges = await read(user_id, before=0, after=after, limit=limit)
        items: list[dict[str, object]] = [
            {"user_id": str(edge.user_id), time: rfc3339_of_id(edge.edge_id)} for edge in edges
        ]
        return items, edges[-1].edge_id if len(edges) == limit else 0

    return page


def _listings(read: Callable[..., Awaitable[list[Listing]]], time: str, *, public: bool = False) -> Section:
    """What somebody does with lists; `public` leaves out private ones of others, of which they may not know."""

    async def page(user_id: int, after: int, limit: int) -> Page:
        found = await read(user_id, before=0, after=after, limit=limit)
        items: list[dict[str, object]] = [
            {"list_id": str(one.list.id), time: rfc3339_of_id(one.key)}
            for one in found
            if not public or not one.list.private or one.list.owner_id == user_id
        ]
        return items, found[-1].key if len(found) == limit else 0

    return page
