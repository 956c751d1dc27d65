"""ListService's reads of lists: one, and pages of those that a person owns, follows, is on, or has pinned."""

from __future__ import annotations

from typing import Protocol

from rookery.api.v2.envelope_pb2 import Meta
from rookery.graph.v1.list_service_pb2 import (
    GetListRequest,
    GetListResponse,
    ListFollowedListsRequest,
    ListFollowedListsResponse,
    ListListMembershipsRequest,
    ListListMembershipsResponse,
    ListOwnedListsRequest,
    ListOwnedListsResponse,
    ListPinnedListsRequest,
    ListPinnedListsResponse,
)

from mesh.interceptors.viewer import require_reader, require_self
from services.graph.listings import Listings, Paged, Shown, lists_plan
from services.graph.store.lists import Listing, ListStore
from views.present import not_found


class GetList:
    """One list."""

    def __init__(self, listings: Listings) -> None:
        self._listings = listings

    async def __call__(self, request: GetListRequest) -> GetListResponse:
        """A list that is not there, or does not show, is a problem in `errors`."""
        plan = lists_plan(request)
        listed = await self._listings.find(request.id, require_reader())
        if listed is None:
            return GetListResponse(errors=[not_found("list", "id", str(request.id))])
        shown = await self._listings.show(plan, [listed])
        return GetListResponse(data=shown.data[0], includes=shown.includes, errors=shown.errors)


class _Fetch(Protocol):
    async def __call__(self, user_id: int, *, before: int, after: int, limit: int) -> list[Listing]: ...


class _Page:
    def __init__(self, name: str, fetch: _Fetch, listings: Listings) -> None:
        self._name = name
        self._fetch = fetch
        self._listings = listings

    async def read(self, request: Paged) -> tuple[Shown, Meta]:
        async def fetch(before: int, after: int, count: int) -> list[Listing]:
            return await self._fetch(request.id, before=before, after=after, limit=count)

        return await self._listings.page(request, self._name, fetch)


class ListOwnedLists:
    """One page of whose owner somebody is."""

    def __init__(self, store: ListStore, listings: Listings) -> None:
        self._page = _Page("owned_lists", store.owned, listings)

    async def __call__(self, request: ListOwnedListsRequest) -> ListOwnedListsResponse:
        """A person who is not there, or whose lists do not show, is a problem in `errors`."""
        shown, meta = await self._page.read(request)
        return ListOwnedListsResponse(data=shown.data, includes=shown.includes, errors=shown.errors, meta=meta)


class ListFollowedLists:
    """One page of the lists that somebody follows."""

    def __init__(self, store: ListStore, listings: Listings) -> None:
        self._page = _Page("followed_lists", store.followed, listings)

    async def __call__(self, request: ListFollowedListsRequest) -> ListFollowedListsResponse:
        """As ListOwnedLists."""
        shown, meta = await self._page.read(request)
        return ListFollowedListsResponse(data=shown.data, includes=shown.includes, errors=shown.errors, meta=meta)


class ListListMemberships:
    """One page of the lists that somebody is on."""

    def __init__(self, store: ListStore, listings: Listings) -> None:
        self._page = _Page("list_memberships", store.memberships, listings)

    async def __call__(self, request: ListListMembershipsRequest) -> ListListMembershipsResponse:
        """As ListOwnedLists."""
        shown, meta = await self._page.read(request)
        return ListListMembershipsResponse(data=shown.data, includes=shown.includes, errors=shown.errors, meta=meta)


class ListPinnedLists:
    """One page of the lists that the viewer has pinned."""

    def __init__(self, store: ListStore, listings: Listings) -> None:
        self._page = _Page("pinned_lists", store.pinned, listings)

    async def __call__(self, request: ListPinnedListsRequest) -> ListPinnedListsResponse:
        """Raises PermissionDenied for somebody else's."""
        require_self(request.id)
        shown, meta = await self._page.read(request)
        return ListPinnedListsResponse(data=shown.data, includes=shown.includes, errors=shown.errors, meta=meta)
