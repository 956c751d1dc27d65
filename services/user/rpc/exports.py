"""ExportService."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from google.api.httpbody_pb2 import HttpBody
from rookery.user.v1.export_service_pb2 import (
    CreateExportRequest,
    CreateExportResponse,
    Export,
    GetExportArchiveRequest,
    GetExportRequest,
    GetExportResponse,
    ListExportsRequest,
    ListExportsResponse,
)

from mesh.context import current
from mesh.errors import NotFound, Unauthenticated
from mesh.ids import LeasedIds, rfc3339_of_id
from mesh.interceptors.viewer import require_viewer
from mesh.objects import Objects
from services.user.exporter import AGAIN_MS, Exporter, now_ms, object_key, rfc3339
from services.user.store.exports import READY, WAITING, ExportStore, StoredExport

_MOST = 20
_LARGEST = 2**32 - 1


def _shown(export: StoredExport) -> Export:
    ready = export.status == READY
    return Export(
        id=export.id,
        status=export.status,
        progress=export.progress,
        created_at=rfc3339_of_id(export.id),
        finished_at=rfc3339(export.finished_ms) if export.finished_ms else None,
        expires_at=rfc3339(export.expires_ms) if export.expires_ms else None,
        size=min(export.size, _LARGEST) if ready else None,
    )


async def _own(store: ExportStore, export_id: int) -> StoredExport:
    """One of the viewer's. Raises NotFound for another's as for none."""
    viewer = require_viewer()
    export = await store.by_id(export_id)
    if export is None or export.user_id != viewer or 0 < export.expires_ms <= now_ms():
        raise NotFound(f"Could not find export with id: [{export_id}].")
    return export


class CreateExport:
    """Begins to make an archive of the viewer."""

    def __init__(self, store: ExportStore, ids: LeasedIds, exporter: Exporter) -> None:
        self._store = store
        self._ids = ids
        self._exporter = exporter

    async def __call__(self, request: CreateExportRequest) -> CreateExportResponse:
        """The one that waits, or was ready within the last day, if there is one."""
        viewer = require_viewer()
        export = await self._store.begin(await self._ids.next(), viewer, finished_after_ms=now_ms() - AGAIN_MS)
        if export is None:
            raise Unauthenticated("This account is gone.")
        if export.status == WAITING:
            self._exporter.wake()
            current().response_metadata.append(("x-http-status", "202"))
        return CreateExportResponse(data=_shown(export))


class GetExport:
    """How far an archive of the viewer's is."""

    def __init__(self, store: ExportStore) -> None:
        self._store = store

    async def __call__(self, request: GetExportRequest) -> GetExportResponse:
        """Raises NotFound for none and for another's."""
        return GetExportResponse(data=_shown(await _own(self._store, request.id)))


class ListExports:
    """The viewer's archives."""

    def __init__(self, store: ExportStore) -> None:
        self._store = store

    async def __call__(self, request: ListExportsRequest) -> ListExportsResponse:
        """Those that have not expired."""
        now = now_ms()
        found = await self._store.of_user(require_viewer(), _MOST)
        return ListExportsResponse(data=[_shown(one) for one in found if not 0 < one.expires_ms <= now])


class GetExportArchive:
    """The archive itself, piece by piece."""

    def __init__(self, store: ExportStore, objects: Objects) -> None:
        self._store = store
        self._objects = objects

    async def __call__(self, request: GetExportArchiveRequest) -> AsyncGenerator[HttpBody, None]:
        """Raises NotFound for none, for another's and for one that is not ready."""
        export = await _own(self._store, request.id)
        missing = NotFound(f"Could not find export with id: [{request.id}].")
        if export.status != READY:
            raise missing
        name = f"rookery-{export.id}.zip"
        begun = False
        try:
            async for piece in self._objects.get(object_key(export.id)):
                if not begun:
                    current().response_metadata.append(("content-disposition", f'attachment; filename="{name}"'))
                    current().response_metadata.append(("cache-control", "private, no-store"))
                    begun = True
                yield HttpBody(content_type="application/zip", data=piece)
        except NotFound:
            raise missing from None  # it went between the row and the object; the store's own sentence names its key
