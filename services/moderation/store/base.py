"""The port of `moderation`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from services.moderation.domain import Action, Case, Decision, Finding, Reason, Report


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of `audit`."""

    id: int
    """Orders them; its time is theirs (mesh/ids.py)."""
    actor_id: int
    """Who; 0 for the service itself."""
    act: str
    """What."""
    case_id: int
    """About which case; 0 for none."""
    detail: str
    """More, in words."""


@dataclass(frozen=True, slots=True)
class Scan:
    """One row of `scans`."""

    id: int
    """Snowflake id."""
    running: bool = True
    """Whether it is under way."""
    position: int = 0
    """The last tweet that was checked."""
    checked: int = 0
    """How many were."""
    found: int = 0
    """For how many of them a case was opened."""


class ModerationStore(Protocol):
    """Cases and all about them. Changes add to the audit, and put their events into the outbox, in the same
    transaction. A call that is made again changes nothing more. All raise Unavailable."""

    async def open(self, case_id: int, finding: Finding, *, actor_id: int = 0, once: bool = False) -> Case | None:
        """Opens a case, or adds what was found to the one that waits; gives it.

        Args:
            case_id: of the case to be.
            finding: what is to be looked at.
            actor_id: who opens it; 0 for the service itself.
            once: whether nothing is done, and None given, when there was a case for one of these reasons before.
        """
        ...

    async def report(self, case_id: int, report: Report, author_id: int) -> Report:
        """Adds a report, opens a case for it or adds it to the one that waits; gives the one that this person made of
        the same before, if they did.

        Args:
            case_id: of the case to be.
            report: with an id.
            author_id: whose tweet, or which account.
        """
        ...

    async def case(self, case_id: int) -> Case | None:
        """One case."""
        ...

    async def waiting(self, *, priority: int, after: int, limit: int) -> list[Case]:
        """Cases that wait, the most urgent and then the oldest first: those behind one with that priority and id.

        A priority below 0 for the first page.
        """
        ...

    async def closed(self, *, before: int, limit: int) -> list[Case]:
        """Closed cases with ids below a bound, 0 for none; the newest first."""
        ...

    async def reports_of(self, case_id: int, limit: int) -> list[Report]:
        """Reports of a case, the newest first."""
        ...

    async def claim(self, moderator_id: int, count: int, *, now_ms: int, until_ms: int) -> list[Case]:
        """Cases for a moderator: those that they hold, and then the most urgent that nobody holds, up to `count`.

        Appeals against what they decided themselves come last.
        """
        ...

    async def release(self, case_id: int, moderator_id: int, *, now_ms: int) -> Case | None:
        """Gives a case back that this moderator holds; gives it, changed or not. None for none."""
        ...

    async def decide(
        self, case_id: int, decision_id: int, action: Action, moderator_id: int, note: str, *, now_ms: int
    ) -> tuple[Case, Decision] | None:
        """Closes a case; None when there is none. The same decision of the same moderator again gives the first one.

        Raises FailedPrecondition for a case that another moderator holds, or closed otherwise, and for an action that
        makes no sense.
        """
        ...

    async def to_do(self, limit: int) -> list[Decision]:
        """Decisions that are not carried out, the oldest first."""
        ...

    async def later(self, decision: Decision) -> list[Decision]:
        """Decisions about the same tweet or account after this one, 20 at most."""
        ...

    async def carried_out(self, decision_id: int, detail: str) -> None:
        """Notes that a decision was carried out."""
        ...

    async def blocked(self, decision_id: int, author_id: int, reasons: Sequence[Reason]) -> None:
        """Notes that a post was not published."""
        ...

    async def decisions_of(self, author_id: int, *, before: int, after: int, limit: int) -> list[Decision]:
        """Decisions about a person's tweets and account between two ids, exclusive, 0 for none: the newest first, or
        with `after` the oldest first."""
        ...

    async def appeal(self, decision_id: int, author_id: int, text: str, case_id: int) -> Decision | None:
        """Appeals against a decision, once, and opens a case for it; gives the decision. None when it is not about this
        person. Raises FailedPrecondition for one that took nothing away."""
        ...

    async def appeal_text(self, decision_id: int) -> str:
        """What was said against a decision; empty for nothing."""
        ...

    async def audit(self, *, case_id: int, before: int, limit: int) -> list[Entry]:
        """Who did what, the newest first; about one case unless that is 0; with ids below a bound, 0 for none."""
        ...

    async def begin_scan(self, scan_id: int, actor_id: int) -> Scan:
        """A scan; the one that is under way, if there is one."""
        ...

    async def scan(self, scan_id: int) -> Scan | None:
        """One scan; with id 0 the one that is under way."""
        ...

    async def advance(self, scan: Scan, findings: Sequence[tuple[int, Finding]], position: int, checked: int) -> bool:
        """One page of a scan: opens cases with these ids, and goes on. False when the scan is elsewhere by now, and
        nothing was done. A page without tweets ends it."""
        ...

    async def drop(self, tweet_id: int) -> None:
        """Closes what waits about a tweet that its author deleted."""
        ...

    async def reports_by(self, reporter_id: int, *, after: int, limit: int) -> list[Report]:
        """What somebody reported, with ids above a bound, the oldest first."""
        ...

    async def erase(self, user_id: int, limit: int) -> int:
        """Removes up to about `limit` rows that are of a person or about them, and their id from others; gives how
        many: 0 when nothing is left."""
        ...
