"""ModerationService: cases, for moderators."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from struct import Struct

from rookery.api.v2.envelope_pb2 import Meta
from rookery.moderation.v1.moderation_service_pb2 import Case as CaseAnswer
from rookery.moderation.v1.moderation_service_pb2 import (
    ClaimCasesRequest,
    ClaimCasesResponse,
    DecideCaseRequest,
    DecideCaseResponse,
    GetCaseRequest,
    GetCaseResponse,
    ListCasesRequest,
    ListCasesResponse,
    OpenCaseRequest,
    OpenCaseResponse,
    ReleaseCaseRequest,
    ReleaseCaseResponse,
)

from mesh.context import current
from mesh.errors import NotFound
from mesh.ids import LeasedIds
from mesh.interceptors.viewer import require_viewer
from mesh.paging import Cursors
from services.moderation.answers import case_answer
from services.moderation.domain import CLAIM_MS, Action, Case, Finding, Reason, check_subject
from services.moderation.enforcement import Enforcement
from services.moderation.material import Material
from services.moderation.store.base import ModerationStore

_DEFAULT_PAGE = 20
_REPORTS = 20
_PLACE = Struct(">qq")


def now_ms() -> int:
    """Unix milliseconds."""
    return time.time_ns() // 1_000_000


def _none(case_id: int) -> NotFound:
    return NotFound(f"Could not find case with id: [{case_id}].")


class Cases:
    """What the RPCs about cases share.

    Args:
        store: where they are.
        material: what they are about.
        now_ms: the time.
    """

    def __init__(self, store: ModerationStore, material: Material, now_ms: Callable[[], int] = now_ms) -> None:
        self.store = store
        self.material = material
        self.now_ms = now_ms

    async def answers(self, cases: Sequence[Case]) -> list[CaseAnswer]:
        """Cases with their tweets."""
        tweets = await self.material.tweets([case.tweet_id for case in cases])
        return [case_answer(case, self.now_ms(), tweet=tweets.get(case.tweet_id)) for case in cases]

    async def whole(self, case: Case) -> CaseAnswer:
        """A case with all about it."""
        tweets = await self.material.tweets([case.tweet_id])
        return case_answer(
            case,
            self.now_ms(),
            tweet=tweets.get(case.tweet_id),
            appeal_text=await self.store.appeal_text(case.appealed_id) if case.appealed_id else "",
            received=await self.store.reports_of(case.id, _REPORTS),
        )


class ListCases:
    """One page of cases."""

    def __init__(self, cases: Cases, cursors: Cursors) -> None:
        self._cases = cases
        self._cursors = cursors

    async def __call__(self, request: ListCasesRequest) -> ListCasesResponse:
        """Raises InvalidArgument for a cursor of another request."""
        closed = request.status == "closed"
        binding = f"cases/{require_viewer()}/{'closed' if closed else 'open'}"
        limit = request.max_results if request.HasField("max_results") else _DEFAULT_PAGE
        priority, after = -1, 0
        if request.pagination_token:
            priority, after = _PLACE.unpack(self._cursors.open(request.pagination_token, binding))
        if closed:
            found = await self._cases.store.closed(before=after, limit=limit + 1)
        else:
            found = await self._cases.store.waiting(priority=priority, after=after, limit=limit + 1)
        meta = Meta(result_count=min(len(found), limit))
        if len(found) > limit:
            last = found[limit - 1]
            meta.next_token = self._cursors.seal(_PLACE.pack(last.priority, last.id), binding)
        now = self._cases.now_ms()
        return ListCasesResponse(data=[case_answer(case, now) for case in found[:limit]], meta=meta)


class OpenCase:
    """Opens a case by hand."""

    def __init__(self, cases: Cases, ids: LeasedIds) -> None:
        self._cases = cases
        self._ids = ids

    async def __call__(self, request: OpenCaseRequest) -> OpenCaseResponse:
        """Raises NotFound for no such tweet or person, InvalidArgument for neither or both."""
        viewer = require_viewer()
        check_subject(request.tweet_id, request.user_id)
        author = request.user_id
        if request.tweet_id:
            tweet = (await self._cases.material.tweets([request.tweet_id])).get(request.tweet_id)
            if tweet is None or tweet.deleted:
                raise NotFound(f"Could not find tweet with tweet_id: [{request.tweet_id}].")
            author = tweet.author_id
        elif not await self._cases.material.is_known(author):
            raise NotFound(f"Could not find user with user_id: [{author}].")
        finding = Finding(request.tweet_id, author, (Reason.MANUAL,))
        case = await self._cases.store.open(await self._ids.next(), finding, actor_id=viewer)
        if case is None:
            raise LookupError("a case that is opened is there")
        current().response_metadata.append(("x-http-status", "201"))
        return OpenCaseResponse(data=await self._cases.whole(case))


class ClaimCases:
    """Takes the most urgent cases for the viewer."""

    def __init__(self, cases: Cases) -> None:
        self._cases = cases

    async def __call__(self, request: ClaimCasesRequest) -> ClaimCasesResponse:
        """None when nothing waits."""
        now = self._cases.now_ms()
        claimed = await self._cases.store.claim(
            require_viewer(), request.count or 1, now_ms=now, until_ms=now + CLAIM_MS
        )
        return ClaimCasesResponse(data=await self._cases.answers(claimed))


class GetCase:
    """Reads one case."""

    def __init__(self, cases: Cases) -> None:
        self._cases = cases

    async def __call__(self, request: GetCaseRequest) -> GetCaseResponse:
        """Raises NotFound for none."""
        case = await self._cases.store.case(request.id)
        if case is None:
            raise _none(request.id)
        return GetCaseResponse(data=await self._cases.whole(case))


class ReleaseCase:
    """Gives a case back."""

    def __init__(self, cases: Cases) -> None:
        self._cases = cases

    async def __call__(self, request: ReleaseCaseRequest) -> ReleaseCaseResponse:
        """Raises NotFound for none. One that the viewer does not hold is left as it is."""
        case = await self._cases.store.release(request.id, require_viewer(), now_ms=self._cases.now_ms())
        if case is None:
            raise _none(request.id)
        return ReleaseCaseResponse(data=case_answer(case, self._cases.now_ms()))


class DecideCase:
    """Closes a case."""

    def __init__(self, cases: Cases, ids: LeasedIds, enforcement: Enforcement) -> None:
        self._cases = cases
        self._ids = ids
        self._enforcement = enforcement

    async def __call__(self, request: DecideCaseRequest) -> DecideCaseResponse:
        """Raises NotFound, FailedPrecondition. What cannot be carried out now is carried out later."""
        made = await self._cases.store.decide(
            request.id,
            await self._ids.next(),
            Action(request.action),
            require_viewer(),
            request.note,
            now_ms=self._cases.now_ms(),
        )
        if made is None:
            raise _none(request.id)
        case, decision = made
        await self._enforcement.carry_out(decision)
        current().response_metadata.append(("x-http-status", "201"))
        return DecideCaseResponse(data=case_answer(case, self._cases.now_ms()))
