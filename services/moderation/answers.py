"""Cases, decisions and reports as the REST face has them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from rookery.events.v1.tweet_events_pb2 import (
    TWEET_VISIBILITY_LIMITED,
    TWEET_VISIBILITY_OPEN,
    TWEET_VISIBILITY_REMOVED,
)
from rookery.moderation.v1 import moderation_service_pb2 as moderation
from rookery.moderation.v1 import report_service_pb2 as reports
from rookery.tweet.v1.tweet_moderation_mesh_pb2 import ReviewedTweet

from mesh.ids import rfc3339_of_id
from services.moderation.domain import SCALE, Case, Decision, Report
from services.moderation.store.base import Entry, Scan

_VISIBILITIES = {
    TWEET_VISIBILITY_OPEN: "open",
    TWEET_VISIBILITY_LIMITED: "limited",
    TWEET_VISIBILITY_REMOVED: "removed",
}


def rfc3339(ms: int) -> str:
    """A time as the REST face has it, with milliseconds."""
    return datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{ms % 1000:03d}Z"


def case_answer(
    case: Case,
    now_ms: int,
    *,
    tweet: ReviewedTweet | None = None,
    appeal_text: str = "",
    received: Sequence[Report] = (),
) -> moderation.Case:
    """A case."""
    answer = moderation.Case(
        id=case.id,
        author_id=case.author_id,
        reasons=case.reasons,
        toxicity=case.toxicity / SCALE,
        spam=case.spam / SCALE,
        report_count=case.report_count,
        status="open" if case.waiting else "closed",
        created_at=rfc3339_of_id(case.id),
        tweet_id=case.tweet_id or None,
        action=case.action or None,
        appeal_text=appeal_text or None,
        reports=[
            moderation.CaseReport(reason=one.reason, comment=one.comment, created_at=rfc3339_of_id(one.id))
            for one in received
        ],
    )
    if holder := case.holder(now_ms):
        answer.claimed_by, answer.claimed_until = holder, rfc3339(case.claimed_until_ms)
    if tweet is not None and tweet.id:
        visibility = "deleted" if tweet.deleted else _VISIBILITIES.get(tweet.visibility, "open")
        answer.tweet.CopyFrom(moderation.ModeratedTweet(id=tweet.id, text=tweet.text, visibility=visibility))
    return answer


def decision_answer(decision: Decision) -> reports.Decision:
    """A decision, as those have it whom it is about."""
    return reports.Decision(
        id=decision.id,
        tweet_id=decision.tweet_id or None,
        action=decision.action,
        reasons=decision.reasons,
        created_at=rfc3339_of_id(decision.id),
        appeal=decision.appeal or None,
    )


def report_answer(report: Report) -> reports.Report:
    """A report, as its writer has it."""
    return reports.Report(
        id=report.id,
        tweet_id=report.tweet_id or None,
        user_id=report.user_id or None,
        reason=report.reason,
        created_at=rfc3339_of_id(report.id),
    )


def audit_answer(entry: Entry) -> moderation.AuditEntry:
    """Something that somebody did."""
    return moderation.AuditEntry(
        id=entry.id,
        created_at=rfc3339_of_id(entry.id),
        actor_id=entry.actor_id or None,
        act=entry.act,
        case_id=entry.case_id or None,
        detail=entry.detail or None,
    )


def scan_answer(scan: Scan) -> moderation.Scan:
    """How far a scan is."""
    return moderation.Scan(
        id=scan.id,
        status="running" if scan.running else "finished",
        checked=scan.checked,
        found=scan.found,
        created_at=rfc3339_of_id(scan.id),
    )
