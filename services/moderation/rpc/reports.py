"""ReportService: to report others, to know what was decided about oneself, to appeal."""

from __future__ import annotations

from rookery.api.v2.envelope_pb2 import Meta
from rookery.moderation.v1.report_service_pb2 import (
    CreateAppealRequest,
    CreateAppealResponse,
    CreateReportRequest,
    CreateReportResponse,
    ListDecisionsRequest,
    ListDecisionsResponse,
)

from mesh.context import current
from mesh.errors import NotFound
from mesh.ids import LeasedIds
from mesh.interceptors.viewer import require_viewer
from mesh.paging import Cursors, Position, keyset_page
from services.moderation.answers import decision_answer, report_answer
from services.moderation.domain import Decision, Report, check_subject
from services.moderation.store.base import ModerationStore
from views.record import author_of
from views.shown import Views, shown
from views.visibility import Surface

_DEFAULT_PAGE = 20


class CreateReport:
    """Reports a tweet or an account."""

    def __init__(self, store: ModerationStore, ids: LeasedIds, views: Views) -> None:
        self._store = store
        self._ids = ids
        self._views = views

    async def __call__(self, request: CreateReportRequest) -> CreateReportResponse:
        """Raises NotFound for what does not show to the viewer, as if it were not there; InvalidArgument for none."""
        viewer = require_viewer()
        check_subject(request.tweet_id, request.user_id)
        if request.tweet_id:
            [record] = (await shown(self._views, [request.tweet_id], Surface.TWEET, viewer)).records
            if record is None:
                raise NotFound(f"Could not find tweet with tweet_id: [{request.tweet_id}].")
            author = author_of(record)
        else:
            author = request.user_id
            # Blocked people may be reported: often that is why they are.
            if not (await self._views.standings.of(viewer, [author])).meets(author, blocked=True):
                raise NotFound(f"Could not find user with user_id: [{author}].")
        report = Report(
            await self._ids.next(), viewer, request.tweet_id, request.user_id, request.reason, request.comment
        )
        made = await self._store.report(await self._ids.next(), report, author)
        current().response_metadata.append(("x-http-status", "201"))
        return CreateReportResponse(data=report_answer(made))


class ListDecisions:
    """What was decided about the viewer."""

    def __init__(self, store: ModerationStore, cursors: Cursors) -> None:
        self._store = store
        self._cursors = cursors

    async def __call__(self, request: ListDecisionsRequest) -> ListDecisionsResponse:
        """Raises InvalidArgument for a cursor of another request."""
        viewer = require_viewer()
        binding = f"decisions/{viewer}"
        position = Position(0)
        if request.pagination_token:
            position = Position.unpack(self._cursors.open(request.pagination_token, binding))

        async def fetch(before: int, after: int, limit: int) -> list[Decision]:
            return await self._store.decisions_of(viewer, before=before, after=after, limit=limit)

        limit = request.max_results if request.HasField("max_results") else _DEFAULT_PAGE
        page = await keyset_page(fetch, lambda decision: decision.id, position, limit)
        meta = Meta(result_count=len(page.rows))
        if page.next:
            meta.next_token = self._cursors.seal(page.next.pack(), binding)
        if page.previous and request.pagination_token:
            meta.previous_token = self._cursors.seal(page.previous.pack(), binding)
        return ListDecisionsResponse(data=map(decision_answer, page.rows), meta=meta)


class CreateAppeal:
    """Asks for a decision to be looked at again."""

    def __init__(self, store: ModerationStore, ids: LeasedIds) -> None:
        self._store = store
        self._ids = ids

    async def __call__(self, request: CreateAppealRequest) -> CreateAppealResponse:
        """Raises NotFound for another's decision, as for none; FailedPrecondition for one that took nothing away."""
        decision = await self._store.appeal(request.id, require_viewer(), request.text, await self._ids.next())
        if decision is None:
            raise NotFound(f"Could not find decision with id: [{request.id}].")
        current().response_metadata.append(("x-http-status", "201"))
        return CreateAppealResponse(data=decision_answer(decision))
