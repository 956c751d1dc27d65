"""ModerationService.ListAudit."""

from __future__ import annotations

from rookery.api.v2.envelope_pb2 import Meta
from rookery.moderation.v1.moderation_service_pb2 import ListAuditRequest, ListAuditResponse

from mesh.interceptors.viewer import require_viewer
from mesh.paging import Cursors, Position
from services.moderation.answers import audit_answer
from services.moderation.store.base import ModerationStore

_DEFAULT_PAGE = 20


class ListAudit:
    """One page of who did what."""

    def __init__(self, store: ModerationStore, cursors: Cursors) -> None:
        self._store = store
        self._cursors = cursors

    async def __call__(self, request: ListAuditRequest) -> ListAuditResponse:
        """Raises InvalidArgument for a cursor of another request."""
        binding = f"audit/{require_viewer()}/{request.case_id}"
        before = 0
        if request.pagination_token:
            before = Position.unpack(self._cursors.open(request.pagination_token, binding)).key
        limit = request.max_results if request.HasField("max_results") else _DEFAULT_PAGE
        found = await self._store.audit(case_id=request.case_id, before=before, limit=limit + 1)
        meta = Meta(result_count=min(len(found), limit))
        if len(found) > limit:
            meta.next_token = self._cursors.seal(Position(found[limit - 1].id).pack(), binding)
        return ListAuditResponse(data=map(audit_answer, found[:limit]), meta=meta)
