"""ModerationArchiveMeshService.ReadArchive."""

from __future__ import annotations

import json
from collections.abc import Sequence

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rookery.moderation.v1.moderation_archive_mesh_pb2 import (
    ARCHIVE_SECTION_REPORTS,
    ReadArchiveRequest,
    ReadArchiveResponse,
)

from services.moderation.answers import decision_answer, report_answer
from services.moderation.domain import Decision, Report
from services.moderation.store.base import ModerationStore


class ReadArchive:
    """One page of what this store has of a person."""

    def __init__(self, store: ModerationStore) -> None:
        self._store = store

    async def __call__(self, request: ReadArchiveRequest) -> ReadArchiveResponse:
        """An empty page for somebody of whom there is nothing."""
        rows: Sequence[Report | Decision]
        if request.section == ARCHIVE_SECTION_REPORTS:
            reports = await self._store.reports_by(request.user_id, after=request.after, limit=request.page_size)
            items = [_item(report_answer(one), {"comment": one.comment}) for one in reports]
            rows = reports
        else:
            decisions = await self._store.decisions_of(
                request.user_id, before=0, after=max(request.after, 1), limit=request.page_size
            )
            items = [_item(decision_answer(one), {"appeal_text": one.appeal_text}) for one in decisions]
            rows = decisions
        return ReadArchiveResponse(items=items, next_after=rows[-1].id if len(rows) == request.page_size else 0)


def _item(answer: Message, more: dict[str, str]) -> bytes:
    shown = MessageToDict(answer, preserving_proto_field_name=True)
    return json.dumps(shown | {name: text for name, text in more.items() if text}, ensure_ascii=False).encode()
