"""ListService.FollowList, UnfollowList, PinList and UnpinList: lists that a person keeps at hand."""

from __future__ import annotations

from rookery.graph.v1.list_service_pb2 import (
    FollowListRequest,
    FollowListResponse,
    PinListRequest,
    PinListResponse,
    UnfollowListRequest,
    UnfollowListResponse,
    UnpinListRequest,
    UnpinListResponse,
)

from mesh.ids import LeasedIds
from mesh.interceptors.viewer import require_self
from services.graph.listings import Listings
from services.graph.store.lists import ListStore


class FollowList:
    """Makes the viewer follow a list."""

    def __init__(self, store: ListStore, ids: LeasedIds, listings: Listings) -> None:
        self._store = store
        self._ids = ids
        self._listings = listings

    async def __call__(self, request: FollowListRequest) -> FollowListResponse:
        """Raises NotFound for a list that does not show, PermissionDenied for one too many."""
        viewer = require_self(request.id)
        await self._listings.get(request.list_id, viewer)
        await self._store.follow_list(request.list_id, viewer, await self._ids.next())
        return FollowListResponse(data=FollowListResponse.Data(following=True))


class UnfollowList:
    """Ends it."""

    def __init__(self, store: ListStore) -> None:
        self._store = store

    async def __call__(self, request: UnfollowListRequest) -> UnfollowListResponse:
        """The same answer for every list, followed or not, there or not."""
        await self._store.unfollow_list(request.list_id, require_self(request.id))
        return UnfollowListResponse(data=UnfollowListResponse.Data(following=False))


class PinList:
    """Pins a list for the viewer."""

    def __init__(self, store: ListStore, ids: LeasedIds, listings: Listings) -> None:
        self._store = store
        self._ids = ids
        self._listings = listings

    async def __call__(self, request: PinListRequest) -> PinListResponse:
        """Raises NotFound for a list that does not show, PermissionDenied for one too many."""
        viewer = require_self(request.id)
        await self._listings.get(request.list_id, viewer)
        await self._store.pin(request.list_id, viewer, await self._ids.next())
        return PinListResponse(data=PinListResponse.Data(pinned=True))


class UnpinList:
    """Ends it."""

    def __init__(self, store: ListStore) -> None:
        self._store = store

    async def __call__(self, request: UnpinListRequest) -> UnpinListResponse:
        """The same answer for every list, as UnfollowList."""
        await self._store.unpin(request.list_id, require_self(request.id))
        return UnpinListResponse(data=UnpinListResponse.Data(pinned=False))
