"""GraphService.Mute and Unmute."""

from __future__ import annotations

from rookery.graph.v1.graph_service_pb2 import MuteRequest, MuteResponse, UnmuteRequest, UnmuteResponse

from mesh.ids import LeasedIds
from mesh.interceptors.viewer import require_self
from services.graph.domain import check_pair
from services.graph.people import require_person
from services.graph.readmodel import ReadModel
from services.graph.store.base import GraphStore
from views.hydrate import Hydrator


class Mute:
    """Makes the viewer mute another."""

    def __init__(self, store: GraphStore, ids: LeasedIds, users: Hydrator, readmodel: ReadModel) -> None:
        self._store = store
        self._ids = ids
        self._users = users
        self._readmodel = readmodel

    async def __call__(self, request: MuteRequest) -> MuteResponse:
        """Raises NotFound for an unknown target, InvalidArgument for oneself, PermissionDenied for too many."""
        viewer = require_self(request.id)
        target = request.target_user_id
        check_pair(viewer, target, "mute")
        await require_person(self._users, target, "target_user_id")
        await self._store.mute(viewer, target, await self._ids.next())
        await self._readmodel.changed([viewer])
        return MuteResponse(data=MuteResponse.Data(muting=True))


class Unmute:
    """Ends a mute of the viewer's."""

    def __init__(self, store: GraphStore, readmodel: ReadModel) -> None:
        self._store = store
        self._readmodel = readmodel

    async def __call__(self, request: UnmuteRequest) -> UnmuteResponse:
        """Not muting already, or nobody's id, is no error."""
        viewer = require_self(request.id)
        target = request.target_user_id
        check_pair(viewer, target, "unmute")
        await self._store.unmute(viewer, target)
        await self._readmodel.changed([viewer])
        return UnmuteResponse(data=UnmuteResponse.Data(muting=False))
