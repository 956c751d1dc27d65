"""Cases in SQL."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

from google.protobuf.message import Message
from rookery.events.v1.moderation_events_pb2 import ModerationDecided, PostBlocked

from mesh.db.sql import Database, Tx
from mesh.errors import FailedPrecondition
from mesh.ids import id_of_ms
from mesh.outbox.sql import SqlOutbox
from services.moderation.domain import (
    ERASED,
    MODERATION_TOPIC,
    Action,
    Appeal,
    Case,
    Decision,
    Finding,
    Reason,
    Report,
    can_appeal,
    check_action,
    joined,
    merged,
    outcome,
    priority_of,
    split,
)
from services.moderation.store.base import Entry, Scan

_CASE = (
    "id, tweet_id, author_id, reasons, toxicity, spam, report_count, priority, waiting, claimed_by, claimed_until_ms,"
    " action, appealed_id, appealed_by"
)
_DECISION = "id, case_id, tweet_id, author_id, action, reasons, moderator_id, note, done, appeal, appeal_text"
_REPORT = "id, reporter_id, tweet_id, user_id, reason, comment"
_SCAN = "id, running, position, checked, found"
_MAX_ID = 2**63 - 1
_LATER = 20
_RANDOM = 22  # bits below the time
_ERASED = (
    "DELETE FROM reports WHERE id IN (SELECT id FROM reports WHERE reporter_id = :id LIMIT :limit)",
    "DELETE FROM reports WHERE id IN (SELECT id FROM reports WHERE user_id = :id AND user_id <> 0 LIMIT :limit)",
    "DELETE FROM reports WHERE id IN (SELECT r.id FROM cases AS c JOIN reports AS r ON r.case_id = c.id"
    " WHERE c.author_id = :id LIMIT :limit)",
    "DELETE FROM decisions WHERE id IN (SELECT id FROM decisions WHERE author_id = :id LIMIT :limit)",
    "DELETE FROM cases WHERE id IN (SELECT id FROM cases WHERE author_id = :id LIMIT :limit)",
    f"UPDATE decisions SET moderator_id = {ERASED} WHERE id IN"
    " (SELECT id FROM decisions WHERE moderator_id = :id AND moderator_id <> 0 LIMIT :limit)",
    "UPDATE cases SET claimed_by = 0, claimed_until_ms = 0 WHERE id IN"
    " (SELECT id FROM cases WHERE claimed_by = :id AND claimed_by <> 0 LIMIT :limit)",
    f"UPDATE cases SET appealed_by = {ERASED} WHERE id IN"
    " (SELECT id FROM cases WHERE appealed_by = :id AND appealed_by <> 0 LIMIT :limit)",
    f"UPDATE audit SET actor_id = {ERASED} WHERE id IN"
    " (SELECT id FROM audit WHERE actor_id = :id AND actor_id <> 0 LIMIT :limit)",
)
"""In this order: reports of cases are found by the cases."""


def _case(row: Any) -> Case:
    values = row._asdict()
    return Case(**{**values, "reasons": split(values["reasons"]), "waiting": bool(values["waiting"])})


def _decision(row: Any) -> Decision:
    values = row._asdict()
    return Decision(
        **{
            **values,
            "action": Action(values["action"]),
            "reasons": split(values["reasons"]),
            "done": bool(values["done"]),
            "appeal": Appeal(values["appeal"]),
        }
    )


def _report(row: Any) -> Report:
    return Report(**row._asdict())


def _scan(row: Any) -> Scan:
    return Scan(row.id, bool(row.running), row.position, row.checked, row.found)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class SqlModerationStore:
    """services.moderation.store.base.ModerationStore.

    Args:
        db: the database.
        outbox: where events go.
        now_ms: the time of entries of the audit.
    """

    def __init__(self, db: Database, outbox: SqlOutbox, now_ms: Callable[[], int] = _now_ms) -> None:
        self._db = db
        self._outbox = outbox
        self._now_ms = now_ms
        self._last = 0

    # --- cases

    async def open(self, case_id: int, finding: Finding, *, actor_id: int = 0, once: bool = False) -> Case | None:
        """See ModerationStore."""

        async def unit(tx: Tx) -> Case | None:
            if once and await self._was_looked_at(tx, finding):
                return None
            return await self._found(tx, case_id, finding, actor_id)

        return await self._db.write(unit)

    @staticmethod
    async def _was_looked_at(tx: Tx, finding: Finding) -> bool:
        rows = await tx.execute(
            "SELECT reasons FROM cases WHERE tweet_id = :id AND tweet_id <> 0", {"id": finding.tweet_id}
        )
        return any({*split(row.reasons)} & {*finding.reasons} for row in rows.all())

    async def _found(
        self, tx: Tx, case_id: int, finding: Finding, actor_id: int, reports: int = 0, appealed: Decision | None = None
    ) -> Case:
        """Opens a case, or adds to the one that waits."""
        before = await self._open_case(tx, finding)
        case = before or Case(case_id, finding.tweet_id, finding.author_id, ())
        reasons = merged(case.reasons, finding.reasons)
        toxicity, spam = max(case.toxicity, finding.toxicity), max(case.spam, finding.spam)
        count = case.report_count + reports
        values: dict[str, Any] = {
            "id": case.id,
            "tweet_id": finding.tweet_id,
            "author_id": finding.author_id,
            "reasons": joined(reasons),
            "toxicity": toxicity,
            "spam": spam,
            "report_count": count,
            "priority": priority_of(reasons, toxicity, count),
            "appealed_id": appealed.id if appealed else case.appealed_id,
            "appealed_by": appealed.moderator_id if appealed else case.appealed_by,
        }
        if before is None:
            names = ", ".join(values)
            marks = ", ".join(f":{name}" for name in values)
            await tx.execute(f"INSERT INTO cases ({names}) VALUES ({marks})", values)
            await self._note(tx, actor_id, "opened", case.id, values["reasons"])
        else:
            known = (before.reasons, before.toxicity, before.spam, before.report_count, before.appealed_id)
            if known != (reasons, toxicity, spam, count, values["appealed_id"]):
                await tx.execute(
                    "UPDATE cases SET reasons = :reasons, toxicity = :toxicity, spam = :spam,"
                    " report_count = :report_count, priority = :priority, appealed_id = :appealed_id,"
                    " appealed_by = :appealed_by WHERE id = :id",
                    {name: value for name, value in values.items() if name not in ("tweet_id", "author_id")},
                )
        return await self._one_case(tx, case.id)

    @staticmethod
    async def _open_case(tx: Tx, finding: Finding) -> Case | None:
        subject = "tweet_id = :id AND tweet_id <> 0" if finding.tweet_id else "author_id = :id AND tweet_id = 0"
        row = (
            await tx.execute(
                f"SELECT {_CASE} FROM cases WHERE {subject} AND waiting",
                {"id": finding.tweet_id or finding.author_id},
            )
        ).first()
        return None if row is None else _case(row)

    @staticmethod
    async def _one_case(tx: Tx, case_id: int) -> Case:
        return _case((await tx.execute(f"SELECT {_CASE} FROM cases WHERE id = :id", {"id": case_id})).one())

    async def report(self, case_id: int, report: Report, author_id: int) -> Report:
        """See ModerationStore."""
        subject = {"reporter_id": report.reporter_id, "tweet_id": report.tweet_id, "user_id": report.user_id}

        async def unit(tx: Tx) -> Report:
            made = (
                await tx.execute(
                    f"SELECT {_REPORT} FROM reports WHERE reporter_id = :reporter_id AND tweet_id = :tweet_id"
                    " AND user_id = :user_id",
                    subject,
                )
            ).first()
            if made is not None:
                return _report(made)
            case = await self._found(tx, case_id, Finding(report.tweet_id, author_id, (Reason.REPORTS,)), 0, reports=1)
            await tx.execute(
                "INSERT INTO reports (id, reporter_id, case_id, tweet_id, user_id, reason, comment)"
                " VALUES (:id, :reporter_id, :case_id, :tweet_id, :user_id, :reason, :comment)",
                {**subject, "id": report.id, "case_id": case.id, "reason": report.reason, "comment": report.comment},
            )
            return report

        return await self._db.write(unit)

    async def case(self, case_id: int) -> Case | None:
        """See ModerationStore."""
        found = await self._cases("id = :id", "id", id=case_id, limit=1)
        return found[0] if found else None

    async def waiting(self, *, priority: int, after: int, limit: int) -> list[Case]:
        """See ModerationStore."""
        if priority < 0:
            return await self._cases("waiting", "priority DESC, id", limit=limit)
        return await self._cases(
            "waiting AND (priority < :priority OR (priority = :priority AND id > :after))",
            "priority DESC, id",
            priority=priority,
            after=after,
            limit=limit,
        )

    async def closed(self, *, before: int, limit: int) -> list[Case]:
        """See ModerationStore."""
        return await self._cases("NOT waiting AND id < :before", "id DESC", before=before or _MAX_ID, limit=limit)

    async def _cases(self, where: str, order: str, **params: int) -> list[Case]:
        async def unit(tx: Tx) -> list[Case]:
            rows = await tx.execute(f"SELECT {_CASE} FROM cases WHERE {where} ORDER BY {order} LIMIT :limit", params)
            return [_case(row) for row in rows.all()]

        return await self._db.read(unit)

    async def reports_of(self, case_id: int, limit: int) -> list[Report]:
        """See ModerationStore."""

        async def unit(tx: Tx) -> list[Report]:
            rows = await tx.execute(
                f"SELECT {_REPORT} FROM reports WHERE case_id = :id ORDER BY id DESC LIMIT :limit",
                {"id": case_id, "limit": limit},
            )
            return [_report(row) for row in rows.all()]

        return await self._db.read(unit)

    # --- moderators

    async def claim(self, moderator_id: int, count: int, *, now_ms: int, until_ms: int) -> list[Case]:
        """See ModerationStore."""

        async def unit(tx: Tx) -> list[Case]:
            params = {"me": moderator_id, "now": now_ms, "limit": count}
            held = await tx.execute(
                f"SELECT {_CASE} FROM cases WHERE claimed_by = :me AND claimed_by <> 0 AND claimed_until_ms > :now"
                " AND waiting ORDER BY priority DESC, id LIMIT :limit",
                params,
            )
            mine = [_case(row) for row in held.all()]
            # Two ranges of the queue's index, of which each stops at the limit: others' decisions, then one's own.
            for own in ("<>", "="):
                if len(mine) >= count:
                    break
                found = await tx.execute(
                    f"SELECT {_CASE} FROM cases WHERE waiting AND claimed_until_ms <= :now AND appealed_by {own} :me"
                    " ORDER BY priority DESC, id LIMIT :limit",
                    {**params, "limit": count - len(mine)},
                )
                for row in found.all():
                    await tx.execute(
                        "UPDATE cases SET claimed_by = :me, claimed_until_ms = :until WHERE id = :id",
                        {"me": moderator_id, "until": until_ms, "id": row.id},
                    )
                    await self._note(tx, moderator_id, "claimed", row.id, "")
                    mine.append(await self._one_case(tx, row.id))
            return mine

        return await self._db.write(unit)

    async def release(self, case_id: int, moderator_id: int, *, now_ms: int) -> Case | None:
        """See ModerationStore."""

        async def unit(tx: Tx) -> Case | None:
            row = (await tx.execute(f"SELECT {_CASE} FROM cases WHERE id = :id", {"id": case_id})).first()
            if row is None:
                return None
            case = _case(row)
            if case.waiting and case.holder(now_ms) == moderator_id:
                await tx.execute(
                    "UPDATE cases SET claimed_by = 0, claimed_until_ms = 0 WHERE id = :id", {"id": case_id}
                )
                await self._note(tx, moderator_id, "released", case_id, "")
            return await self._one_case(tx, case_id)

        return await self._db.write(unit)

    async def decide(
        self, case_id: int, decision_id: int, action: Action, moderator_id: int, note: str, *, now_ms: int
    ) -> tuple[Case, Decision] | None:
        """See ModerationStore."""

        async def unit(tx: Tx) -> tuple[Case, Decision] | None:
            row = (await tx.execute(f"SELECT {_CASE} FROM cases WHERE id = :id", {"id": case_id})).first()
            if row is None:
                return None
            case = _case(row)
            if not case.waiting:
                made = await tx.execute(
                    f"SELECT {_DECISION} FROM decisions WHERE case_id = :id AND case_id <> 0 ORDER BY id DESC LIMIT 1",
                    {"id": case_id},
                )
                before = made.first()
                if before is not None and (before.moderator_id, before.action) == (moderator_id, action):
                    return case, _decision(before)
                raise FailedPrecondition("This case is closed.", reason="CASE_CLOSED")
            if case.holder(now_ms) not in (0, moderator_id):
                raise FailedPrecondition("Another moderator holds this case.", reason="CASE_CLAIMED")
            check_action(case, action)
            decision = Decision(
                decision_id,
                case_id,
                0 if action is Action.SUSPEND else case.tweet_id,  # that is about the account
                case.author_id,
                action,
                case.reasons,
                moderator_id,
                note,
                done=action is Action.KEEP,
            )
            await self._add(tx, decision)
            await tx.execute(
                "UPDATE cases SET waiting = FALSE, action = :action, claimed_by = 0, claimed_until_ms = 0"
                " WHERE id = :id",
                {"id": case_id, "action": action},
            )
            if case.appealed_id:
                await tx.execute(
                    "UPDATE decisions SET appeal = :appeal WHERE id = :id",
                    {"id": case.appealed_id, "appeal": outcome(action)},
                )
            await self._note(tx, moderator_id, "decided", case_id, action)
            told = ModerationDecided(
                decision_id=decision_id,
                author_id=case.author_id,
                tweet_id=decision.tweet_id,
                action=action,
                on_appeal=bool(case.appealed_id),
            )
            await self._publish(tx, case.author_id, told)
            return await self._one_case(tx, case_id), decision

        return await self._db.write(unit)

    @staticmethod
    async def _add(tx: Tx, decision: Decision) -> None:
        await tx.execute(
            f"INSERT INTO decisions ({_DECISION}) VALUES (:id, :case_id, :tweet_id, :author_id, :action, :reasons,"
            " :moderator_id, :note, :done, :appeal, :appeal_text)",
            {
                "id": decision.id,
                "case_id": decision.case_id,
                "tweet_id": decision.tweet_id,
                "author_id": decision.author_id,
                "action": decision.action,
                "reasons": joined(decision.reasons),
                "moderator_id": decision.moderator_id,
                "note": decision.note,
                "done": decision.done,
                "appeal": decision.appeal,
                "appeal_text": decision.appeal_text,
            },
        )

    async def to_do(self, limit: int) -> list[Decision]:
        """See ModerationStore."""
        return await self._decisions("NOT done", "id", limit=limit)

    async def later(self, decision: Decision) -> list[Decision]:
        """See ModerationStore."""
        subject = (
            "tweet_id = :subject AND tweet_id <> 0" if decision.tweet_id else "author_id = :subject AND tweet_id = 0"
        )
        return await self._decisions(
            f"{subject} AND id > :after",
            "id",
            subject=decision.tweet_id or decision.author_id,
            after=decision.id,
            limit=_LATER,
        )

    async def _decisions(self, where: str, order: str, **params: int) -> list[Decision]:
        async def unit(tx: Tx) -> list[Decision]:
            query = f"SELECT {_DECISION} FROM decisions WHERE {where} ORDER BY {order} LIMIT :limit"
            return [_decision(row) for row in (await tx.execute(query, params)).all()]

        return await self._db.read(unit)

    async def carried_out(self, decision_id: int, detail: str) -> None:
        """See ModerationStore."""

        async def unit(tx: Tx) -> None:
            row = (
                await tx.execute(
                    "UPDATE decisions SET done = TRUE WHERE id = :id AND NOT done RETURNING case_id",
                    {"id": decision_id},
                )
            ).first()
            if row is not None:
                await self._note(tx, 0, "carried_out", row.case_id, detail)

        await self._db.write(unit)

    async def blocked(self, decision_id: int, author_id: int, reasons: Sequence[Reason]) -> None:
        """See ModerationStore."""

        async def unit(tx: Tx) -> None:
            if await tx.scalar("SELECT 1 FROM decisions WHERE id = :id", {"id": decision_id}):
                return
            await self._add(tx, Decision(decision_id, 0, 0, author_id, Action.BLOCK, tuple(reasons), 0, done=True))
            await self._note(tx, 0, "blocked", 0, joined(reasons))
            await self._publish(tx, author_id, PostBlocked(author_id=author_id, reasons=list(reasons)))

        await self._db.write(unit)

    # --- those whom it is about

    async def decisions_of(self, author_id: int, *, before: int, after: int, limit: int) -> list[Decision]:
        """See ModerationStore."""
        if after:
            where, order, bound = "id > :bound", "id", after
        else:
            where, order, bound = "id < :bound", "id DESC", before or _MAX_ID
        return await self._decisions(
            f"author_id = :author AND {where}", order, author=author_id, bound=bound, limit=limit
        )

    async def appeal(self, decision_id: int, author_id: int, text: str, case_id: int) -> Decision | None:
        """See ModerationStore."""

        async def unit(tx: Tx) -> Decision | None:
            query = f"SELECT {_DECISION} FROM decisions WHERE id = :id AND author_id = :author"
            params = {"id": decision_id, "author": author_id}
            row = (await tx.execute(query, params)).first()
            if row is None:
                return None
            decision = _decision(row)
            if decision.appeal is not Appeal.NONE:
                return decision
            if not can_appeal(decision):
                raise FailedPrecondition("This decision took nothing away.", reason="NOTHING_TO_APPEAL")
            await tx.execute(
                "UPDATE decisions SET appeal = :appeal, appeal_text = :text WHERE id = :id",
                {"id": decision_id, "appeal": Appeal.WAITING, "text": text},
            )
            finding = Finding(decision.tweet_id, author_id, (Reason.APPEAL,))
            case = await self._found(tx, case_id, finding, 0, appealed=decision)
            await self._note(tx, 0, "appealed", case.id, "")
            return _decision((await tx.execute(query, params)).one())

        return await self._db.write(unit)

    async def appeal_text(self, decision_id: int) -> str:
        """See ModerationStore."""
        found = await self._decisions("id = :id", "id", id=decision_id, limit=1)
        return found[0].appeal_text if found else ""

    # --- audit

    def _entry_id(self) -> int:
        """By time, later than the one before; of two processes in one millisecond by chance, which has 22 bits."""
        made = id_of_ms(self._now_ms()) | secrets.randbits(_RANDOM)
        self._last = made if made > self._last else self._last + 1
        return self._last

    async def _note(self, tx: Tx, actor_id: int, act: str, case_id: int, detail: str) -> None:
        await tx.execute(
            "INSERT INTO audit (id, actor_id, act, case_id, detail) VALUES (:id, :actor, :act, :case, :detail)",
            {"id": self._entry_id(), "actor": actor_id, "act": act, "case": case_id, "detail": str(detail)},
        )

    async def audit(self, *, case_id: int, before: int, limit: int) -> list[Entry]:
        """See ModerationStore."""
        about = "case_id = :case AND case_id <> 0 AND " if case_id else ""

        async def unit(tx: Tx) -> list[Entry]:
            rows = await tx.execute(
                f"SELECT id, actor_id, act, case_id, detail FROM audit WHERE {about}id < :before"
                " ORDER BY id DESC LIMIT :limit",
                {"before": before or _MAX_ID, "limit": limit} | ({"case": case_id} if case_id else {}),
            )
            return [Entry(row.id, row.actor_id, row.act, row.case_id, row.detail) for row in rows.all()]

        return await self._db.read(unit)

    # --- scans

    async def begin_scan(self, scan_id: int, actor_id: int) -> Scan:
        """See ModerationStore."""

        async def unit(tx: Tx) -> Scan:
            running = (await tx.execute(f"SELECT {_SCAN} FROM scans WHERE running")).first()
            if running is not None:
                return _scan(running)
            await tx.execute("INSERT INTO scans (id) VALUES (:id)", {"id": scan_id})
            await self._note(tx, actor_id, "scan_begun", 0, str(scan_id))
            return Scan(scan_id)

        return await self._db.write(unit)

    async def scan(self, scan_id: int) -> Scan | None:
        """See ModerationStore."""
        where, params = ("id = :id", {"id": scan_id}) if scan_id else ("running", {})

        async def unit(tx: Tx) -> Scan | None:
            row = (await tx.execute(f"SELECT {_SCAN} FROM scans WHERE {where}", params)).first()
            return None if row is None else _scan(row)

        return await self._db.read(unit)

    async def advance(self, scan: Scan, findings: Sequence[tuple[int, Finding]], position: int, checked: int) -> bool:
        """See ModerationStore."""

        async def unit(tx: Tx) -> bool:
            where = "id = :id AND running AND position = :position"
            params = {"id": scan.id, "position": scan.position}
            if (await tx.execute(f"SELECT 1 FROM scans WHERE {where}", params)).first() is None:
                return False
            if not checked:
                await tx.execute(f"UPDATE scans SET running = FALSE WHERE {where}", params)
                await self._note(tx, 0, "scan_ended", 0, str(scan.id))
                return True
            found = 0
            for case_id, finding in findings:
                if not await self._was_looked_at(tx, finding):
                    await self._found(tx, case_id, finding, 0)
                    found += 1
            await tx.execute(
                "UPDATE scans SET position = :next, checked = checked + :checked, found = found + :found"
                " WHERE id = :id",
                {"id": scan.id, "next": position, "checked": checked, "found": found},
            )
            return True

        return await self._db.write(unit)

    # --- what goes

    async def drop(self, tweet_id: int) -> None:
        """See ModerationStore."""

        async def unit(tx: Tx) -> None:
            rows = await tx.execute(
                "UPDATE cases SET waiting = FALSE, claimed_by = 0, claimed_until_ms = 0"
                " WHERE tweet_id = :id AND tweet_id <> 0 AND waiting RETURNING id",
                {"id": tweet_id},
            )
            for row in rows.all():
                await self._note(tx, 0, "dropped", row.id, "its author deleted the tweet")

        await self._db.write(unit)

    async def reports_by(self, reporter_id: int, *, after: int, limit: int) -> list[Report]:
        """See ModerationStore."""

        async def unit(tx: Tx) -> list[Report]:
            rows = await tx.execute(
                f"SELECT {_REPORT} FROM reports WHERE reporter_id = :id AND id > :after ORDER BY id LIMIT :limit",
                {"id": reporter_id, "after": after, "limit": limit},
            )
            return [_report(row) for row in rows.all()]

        return await self._db.read(unit)

    async def erase(self, user_id: int, limit: int) -> int:
        """See ModerationStore."""

        async def unit(tx: Tx) -> int:
            done = 0
            for statement in _ERASED:
                if done < limit:
                    result = await tx.execute(statement, {"id": user_id, "limit": limit - done})
                    done += result.rowcount
            return done

        return await self._db.write(unit)

    async def _publish(self, tx: Tx, author_id: int, event: Message) -> None:
        kind = event.DESCRIPTOR.full_name
        await self._outbox.add(tx, MODERATION_TOPIC, str(author_id).encode(), kind, event.SerializeToString())
