"""ListService.CreateList, UpdateList and DeleteList."""

from __future__ import annotations

from rookery.graph.v1.list_service_pb2 import (
    CreateListRequest,
    CreateListResponse,
    DeleteListRequest,
    DeleteListResponse,
    UpdateListRequest,
    UpdateListResponse,
)

from mesh.context import current
from mesh.errors import InvalidArgument, PermissionDenied
from mesh.ids import LeasedIds
from mesh.interceptors.viewer import require_viewer
from services.graph.list_domain import PeopleList, clean
from services.graph.listings import Listings
from services.graph.settling import Settling
from services.graph.store.lists import ListStore


async def require_owner(listings: Listings, list_id: int, viewer: int) -> PeopleList:
    """The viewer's own list. Raises NotFound for one that does not show, PermissionDenied for another's that does."""
    listed = await listings.get(list_id, viewer)
    if listed.owner_id != viewer:
        raise PermissionDenied("Only the owner of a list may change it.")
    return listed


class CreateList:
    """Makes a list of the viewer's."""

    def __init__(self, store: ListStore, ids: LeasedIds) -> None:
        self._store = store
        self._ids = ids

    async def __call__(self, request: CreateListRequest) -> CreateListResponse:
        """Raises InvalidArgument for a name of spaces, PermissionDenied for one list too many."""
        viewer = require_viewer()
        name, description = clean("name", request.name), clean("description", request.description)
        made = await self._store.create(
            PeopleList(await self._ids.next(), viewer, name, description, request.private, 0, 0), request.request_id
        )
        current().response_metadata.append(("x-http-status", "201"))
        return CreateListResponse(data=CreateListResponse.Data(id=made.id, name=made.name))


class UpdateList:
    """Changes the viewer's list."""

    def __init__(self, store: ListStore, listings: Listings, settling: Settling) -> None:
        self._store = store
        self._listings = listings
        self._settling = settling

    async def __call__(self, request: UpdateListRequest) -> UpdateListResponse:
        """Raises InvalidArgument when nothing is given, NotFound and PermissionDenied as `require_owner`."""
        viewer = require_viewer()
        name = clean("name", request.name) if request.HasField("name") else None
        description = clean("description", request.description) if request.HasField("description") else None
        private = request.private if request.HasField("private") else None
        if name is None and description is None and private is None:
            raise InvalidArgument("The request changes nothing.")
        await require_owner(self._listings, request.id, viewer)
        await self._store.update(request.id, viewer, name=name, description=description, private=private)
        if private is not None:
            self._settling.wake()
        return UpdateListResponse(data=UpdateListResponse.Data(updated=True))


class DeleteList:
    """Takes the viewer's list away."""

    def __init__(self, store: ListStore, listings: Listings, settling: Settling) -> None:
        self._store = store
        self._listings = listings
        self._settling = settling

    async def __call__(self, request: DeleteListRequest) -> DeleteListResponse:
        """Raises NotFound and PermissionDenied as `require_owner`; one's own that is deleted already stays so."""
        viewer = require_viewer()
        if not await self._store.delete(request.id, viewer):
            await require_owner(self._listings, request.id, viewer)
        self._settling.wake()
        return DeleteListResponse(data=DeleteListResponse.Data(deleted=True))
