"""ModerationService.CreateScan and GetScan."""

from __future__ import annotations

from rookery.moderation.v1.moderation_service_pb2 import (
    CreateScanRequest,
    CreateScanResponse,
    GetScanRequest,
    GetScanResponse,
)

from mesh.context import current
from mesh.errors import NotFound
from mesh.ids import LeasedIds
from mesh.interceptors.viewer import require_viewer
from services.moderation.answers import scan_answer
from services.moderation.scanner import Scanner
from services.moderation.store.base import ModerationStore


class CreateScan:
    """Begins to check all tweets again."""

    def __init__(self, store: ModerationStore, ids: LeasedIds, scanner: Scanner) -> None:
        self._store = store
        self._ids = ids
        self._scanner = scanner

    async def __call__(self, request: CreateScanRequest) -> CreateScanResponse:
        """The one that is under way, if there is one."""
        scan = await self._store.begin_scan(await self._ids.next(), require_viewer())
        self._scanner.wake()
        current().response_metadata.append(("x-http-status", "202"))
        return CreateScanResponse(data=scan_answer(scan))


class GetScan:
    """Says how far a scan is."""

    def __init__(self, store: ModerationStore) -> None:
        self._store = store

    async def __call__(self, request: GetScanRequest) -> GetScanResponse:
        """Raises NotFound for none."""
        require_viewer()
        scan = await self._store.scan(request.id)
        if scan is None:
            raise NotFound(f"Could not find scan with id: [{request.id}].")
        return GetScanResponse(data=scan_answer(scan))
