"""ListService.AddListMember and RemoveListMember."""

from __future__ import annotations

from rookery.graph.v1.list_service_pb2 import (
    AddListMemberRequest,
    AddListMemberResponse,
    RemoveListMemberRequest,
    RemoveListMemberResponse,
)

from mesh.errors import NotFound
from mesh.ids import LeasedIds
from mesh.interceptors.viewer import require_viewer
from services.graph.listings import Listings
from services.graph.rpc.manage_lists import require_owner
from services.graph.store.lists import ListStore
from views.hydrate import Hydrator
from views.record import is_there


class AddListMember:
    """Puts a person on the viewer's list."""

    def __init__(self, store: ListStore, ids: LeasedIds, users: Hydrator, listings: Listings) -> None:
        self._store = store
        self._ids = ids
        self._users = users
        self._listings = listings

    async def __call__(self, request: AddListMemberRequest) -> AddListMemberResponse:
        """Raises NotFound for an unknown person, PermissionDenied across a block, and errors as `require_owner`."""
        viewer = require_viewer()
        await require_owner(self._listings, request.id, viewer)
        if not is_there((await self._users.get([request.user_id]))[0]):
            raise NotFound(f"Could not find user with user_id: [{request.user_id}].")
        await self._store.add_member(request.id, viewer, request.user_id, await self._ids.next())
        return AddListMemberResponse(data=AddListMemberResponse.Data(is_member=True))


class RemoveListMember:
    """Takes a person from the viewer's list."""

    def __init__(self, store: ListStore, listings: Listings) -> None:
        self._store = store
        self._listings = listings

    async def __call__(self, request: RemoveListMemberRequest) -> RemoveListMemberResponse:
        """Raises errors as `require_owner`."""
        viewer = require_viewer()
        await require_owner(self._listings, request.id, viewer)
        await self._store.remove_member(request.id, viewer, request.target_user_id)
        return RemoveListMemberResponse(data=RemoveListMemberResponse.Data(is_member=False))
