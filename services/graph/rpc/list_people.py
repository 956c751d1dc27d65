"""GraphService.ListFollowers and ListFollowing."""

from __future__ import annotations

from typing import Protocol

from rookery.graph.v1.graph_service_pb2 import ListFollowersRequest, ListFollowingRequest

from services.graph.store.base import Edge, GraphStore
from views.pages import Pages


class _Fetch(Protocol):
    async def __call__(self, user_id: int, *, before: int, after: int, limit: int) -> list[Edge]: ...


class _ListPeople:
    def __init__(self, name: str, fetch: _Fetch, pages: Pages) -> None:
        self._name = name
        self._fetch = fetch
        self._pages = pages

    async def answer(self, request: ListFollowersRequest | ListFollowingRequest) -> bytes:
        async def fetch(before: int, after: int, count: int) -> list[Edge]:
            return await self._fetch(request.id, before=before, after=after, limit=count)

        return await self._pages.people(
            request,
            self._name,
            fetch,
            key=lambda edge: edge.edge_id,
            user_id=lambda edge: edge.user_id,
            of_user=request.id,
        )


class ListFollowers:
    """One page of who follows somebody."""

    def __init__(self, store: GraphStore, pages: Pages) -> None:
        self._list = _ListPeople("followers", store.followers, pages)

    async def __call__(self, request: ListFollowersRequest) -> bytes:
        """Raises InvalidArgument for a cursor of another request."""
        return await self._list.answer(request)


class ListFollowing:
    """One page of whom somebody follows."""

    def __init__(self, store: GraphStore, pages: Pages) -> None:
        self._list = _ListPeople("following", store.following, pages)

    async def __call__(self, request: ListFollowingRequest) -> bytes:
        """Raises InvalidArgument for a cursor of another request."""
        return await self._list.answer(request)
