"""Who is on a list and who follows it: pages of people, and all members for list timelines."""

from __future__ import annotations

from typing import Protocol

from rookery.graph.v1.graph_mesh_pb2 import GetListMembersRequest, GetListMembersResponse
from rookery.graph.v1.list_service_pb2 import ListListFollowersRequest, ListListMembersRequest

from mesh.interceptors.viewer import require_reader
from services.graph.listings import Listings
from services.graph.store.base import Edge
from services.graph.store.lists import ListStore
from views.pages import Pages
from views.present import not_found


class _Fetch(Protocol):
    async def __call__(self, list_id: int, *, before: int, after: int, limit: int) -> list[Edge]: ...


class _PeopleOfList:
    def __init__(self, name: str, fetch: _Fetch, listings: Listings, pages: Pages) -> None:
        self._name = name
        self._fetch = fetch
        self._listings = listings
        self._pages = pages

    async def answer(self, request: ListListMembersRequest | ListListFollowersRequest) -> bytes:
        listed = await self._listings.find(request.id, require_reader())

        async def fetch(before: int, after: int, count: int) -> list[Edge]:
            return await self._fetch(request.id, before=before, after=after, limit=count)

        return await self._pages.people(
            request,
            self._name,
            fetch,
            key=lambda edge: edge.edge_id,
            user_id=lambda edge: edge.user_id,
            missing=None if listed else not_found("list", "id", str(request.id)),
        )


class ListListMembers:
    """One page of who is on a list."""

    def __init__(self, store: ListStore, listings: Listings, pages: Pages) -> None:
        self._people = _PeopleOfList("list_members", store.members, listings, pages)

    async def __call__(self, request: ListListMembersRequest) -> bytes:
        """A list that is not there, or does not show, is a problem in `errors`."""
        return await self._people.answer(request)


class ListListFollowers:
    """One page of who follows a list."""

    def __init__(self, store: ListStore, listings: Listings, pages: Pages) -> None:
        self._people = _PeopleOfList("list_followers", store.list_followers, listings, pages)

    async def __call__(self, request: ListListFollowersRequest) -> bytes:
        """As ListListMembers."""
        return await self._people.answer(request)


class GetListMembers:
    """Everyone on a list, if it shows to a person."""

    def __init__(self, store: ListStore, listings: Listings) -> None:
        self._store = store
        self._listings = listings

    async def __call__(self, request: GetListMembersRequest) -> GetListMembersResponse:
        """From the store."""
        if await self._listings.find(request.list_id, request.viewer_id) is None:
            return GetListMembersResponse(there=False)
        return GetListMembersResponse(there=True, member_ids=await self._store.member_ids(request.list_id))
