"""ModerationMeshService.CheckPost."""

from __future__ import annotations

import asyncio

import structlog
from rookery.moderation.v1.moderation_mesh_pb2 import (
    POST_VERDICT_BLOCK,
    POST_VERDICT_LIMIT,
    POST_VERDICT_SAFE,
    CheckPostRequest,
    CheckPostResponse,
    PostVerdict,
)

from mesh.context import shared
from mesh.errors import MeshError
from mesh.ids import LeasedIds
from services.moderation.checks import Checks
from services.moderation.domain import Reason, Verdict
from services.moderation.post import Post
from services.moderation.store.base import ModerationStore

_log = structlog.get_logger(__name__)
_VERDICTS: dict[Verdict, PostVerdict.ValueType] = {
    Verdict.SAFE: POST_VERDICT_SAFE,
    Verdict.LIMIT: POST_VERDICT_LIMIT,
    Verdict.BLOCK: POST_VERDICT_BLOCK,
}
_NOTES = 1_000  # that are being written; of more nobody is told


class CheckPost:
    """Judges a post before it is published."""

    def __init__(self, checks: Checks, store: ModerationStore, ids: LeasedIds) -> None:
        self._checks = checks
        self._store = store
        self._ids = ids
        self._notes: set[asyncio.Task[None]] = set()

    async def __call__(self, request: CheckPostRequest) -> CheckPostResponse:
        """Raises nothing on purpose."""
        post = Post(
            request.author_id,
            request.text,
            tuple(request.urls),
            mentions=request.mentions,
            reply=bool(request.in_reply_to_user_id),
        )
        found = await self._checks.judge(post)
        if found.verdict is Verdict.BLOCK and len(self._notes) < _NOTES:
            # Beside the answer, which must not wait for a disk.
            note = asyncio.create_task(self._note(post.author_id, found.reasons), context=shared())
            self._notes.add(note)
            note.add_done_callback(self._notes.discard)
        return CheckPostResponse(
            verdict=_VERDICTS[found.verdict],
            reasons=found.reasons,
            review=found.review,
            toxicity=found.toxicity,
            spam=found.spam,
        )

    async def _note(self, author_id: int, reasons: tuple[Reason, ...]) -> None:
        try:
            await self._store.blocked(await self._ids.next(), author_id, reasons)
        except MeshError as error:
            _log.warning("nobody is told of a post that was not published", error=error.detail)

    async def finish(self) -> None:
        """Waits until what is being written is."""
        if self._notes:
            await asyncio.wait(self._notes, timeout=2.0)
