"""GraphService.Block and Unblock."""

from __future__ import annotations

from rookery.graph.v1.graph_service_pb2 import BlockRequest, BlockResponse, UnblockRequest, UnblockResponse

from mesh.ids import LeasedIds
from mesh.interceptors.viewer import require_self
from services.graph.domain import check_pair
from services.graph.people import require_person
from services.graph.readmodel import ReadModel
from services.graph.store.base import GraphStore
from views.hydrate import Hydrator


class Block:
    """Makes the viewer block another, and cuts what is between them."""

    def __init__(self, store: GraphStore, ids: LeasedIds, users: Hydrator, readmodel: ReadModel) -> None:
        self._store = store
        self._ids = ids
        self._users = users
        self._readmodel = readmodel

    async def __call__(self, request: BlockRequest) -> BlockResponse:
        """Raises NotFound for an unknown target, InvalidArgument for oneself, PermissionDenied for too many."""
        viewer = require_self(request.id)
        target = request.target_user_id
        check_pair(viewer, target, "block")
        await require_person(self._users, target, "target_user_id")
        await self._store.block(viewer, target, await self._ids.next())
        await self._readmodel.changed([viewer, target])
        return BlockResponse(data=BlockResponse.Data(blocking=True))


class Unblock:
    """Ends a block of the viewer's; what it cut stays cut."""

    def __init__(self, store: GraphStore, readmodel: ReadModel) -> None:
        self._store = store
        self._readmodel = readmodel

    async def __call__(self, request: UnblockRequest) -> UnblockResponse:
        """Not blocking already, or nobody's id, is no error."""
        viewer = require_self(request.id)
        target = request.target_user_id
        check_pair(viewer, target, "unblock")
        await self._store.unblock(viewer, target)
        await self._readmodel.changed([viewer, target])
        return UnblockResponse(data=UnblockResponse.Data(blocking=False))
