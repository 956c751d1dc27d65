"""Rules of moderation, with no I/O."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from mesh.errors import FailedPrecondition, InvalidArgument, Violation

MODERATION_TOPIC = "moderation"
BLOCK_TOXICITY = 0.9
"""Above it a post is not published (product.md of the first design)."""
LIMIT_TOXICITY = 0.7
"""Above it a post is published limited, and reviewed."""
LIMIT_SPAM = 0.8
"""Likewise."""
CLAIM_MS = 10 * 60_000
"""How long a moderator holds a case."""
ERASED = -1
"""Stands for a moderator who was erased."""
VIRAL_ENGAGEMENT = 1_000
"""Likes, retweets, quotes and replies from which on a tweet is reviewed once."""
SCALE = 1_000
"""Scores are kept in thousandths."""


class Reason(StrEnum):
    """Why something is looked at."""

    TOXICITY = "toxicity"
    SPAM = "spam"
    LINK = "link"
    UNCHECKED = "unchecked"
    """A check failed or was late."""
    REPORTS = "reports"
    VIRAL = "viral"
    SCAN = "scan"
    APPEAL = "appeal"
    MANUAL = "manual"


class Action(StrEnum):
    """What is decided."""

    KEEP = "keep"
    LIMIT = "limit"
    REMOVE = "remove"
    SUSPEND = "suspend"
    RESTORE = "restore"
    BLOCK = "block"
    """A post was not published; by the check alone."""


class Appeal(StrEnum):
    """What became of an appeal against a decision."""

    NONE = ""
    WAITING = "waiting"
    UPHELD = "upheld"
    OVERTURNED = "overturned"


class Verdict(StrEnum):
    """What becomes of a post."""

    SAFE = "safe"
    LIMIT = "limit"
    BLOCK = "block"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the check says of a post."""

    verdict: Verdict
    """What becomes of it."""
    reasons: tuple[Reason, ...] = ()
    """Why it is not just safe."""
    review: bool = False
    """Whether moderators are to look at it."""
    toxicity: float = 0.0
    """0 to 1."""
    spam: float = 0.0
    """0 to 1."""


def probability(value: float | None) -> float | None:
    """A model's answer if it is one: a number within 0 and 1; None for anything else, such as NaN."""
    if value is None or not math.isfinite(value) or not 0.0 <= value <= 1.0:
        return None
    return value


def judge(toxicity: float | None, spam: float | None, forbidden_link: bool | None) -> Judgement:
    """The verdict from what the checks said; None where one failed or was late: that is for review, and blocks nothing.

    Raises nothing: a post is never lost for want of a check.
    """
    toxicity, spam = probability(toxicity), probability(spam)
    reasons: list[Reason] = []
    if forbidden_link:
        reasons.append(Reason.LINK)
    if toxicity is not None and toxicity > LIMIT_TOXICITY:
        reasons.append(Reason.TOXICITY)
    if spam is not None and spam > LIMIT_SPAM:
        reasons.append(Reason.SPAM)
    scores = (toxicity or 0.0, spam or 0.0)
    if forbidden_link or (toxicity is not None and toxicity > BLOCK_TOXICITY):
        return Judgement(Verdict.BLOCK, tuple(reasons), False, *scores)
    verdict = Verdict.LIMIT if reasons else Verdict.SAFE
    if toxicity is None or spam is None or forbidden_link is None:
        reasons.append(Reason.UNCHECKED)
    return Judgement(verdict, tuple(reasons), bool(reasons), *scores)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is to be looked at."""

    tweet_id: int
    """The tweet; 0 when it is about the account."""
    author_id: int
    """Whose tweet, or which account."""
    reasons: tuple[Reason, ...]
    """Why."""
    toxicity: int = 0
    """In thousandths."""
    spam: int = 0
    """In thousandths."""


@dataclass(frozen=True, slots=True)
class Case:
    """One row of `cases`."""

    id: int
    """Snowflake id."""
    tweet_id: int
    """The tweet; 0 when it is about the account."""
    author_id: int
    """Whose tweet, or which account."""
    reasons: tuple[Reason, ...]
    """Why it is here."""
    toxicity: int = 0
    """In thousandths."""
    spam: int = 0
    """In thousandths."""
    report_count: int = 0
    """How many people reported it."""
    priority: int = 0
    """The greater, the more urgent."""
    waiting: bool = True
    """Whether nothing was decided yet."""
    claimed_by: int = 0
    """Who holds it; 0 for nobody, and see `holder`."""
    claimed_until_ms: int = 0
    """Until when, Unix milliseconds."""
    action: str = ""
    """What was decided."""
    appealed_id: int = 0
    """The decision that is appealed against; 0 for none."""
    appealed_by: int = 0
    """Who decided that."""

    def holder(self, now_ms: int) -> int:
        """Who holds it now; 0 for nobody."""
        return self.claimed_by if self.claimed_until_ms > now_ms else 0


@dataclass(frozen=True, slots=True)
class Report:
    """One row of `reports`."""

    id: int
    """Snowflake id."""
    reporter_id: int
    """Who reports."""
    tweet_id: int
    """What; 0 for an account."""
    user_id: int
    """What account; 0 for a tweet."""
    reason: str
    """What is wrong with it."""
    comment: str
    """In the reporter's words."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One row of `decisions`."""

    id: int
    """Snowflake id."""
    case_id: int
    """The case; 0 for a post that was not published."""
    tweet_id: int
    """The tweet; 0 for none."""
    author_id: int
    """Whose tweet, or which account."""
    action: Action
    """What."""
    reasons: tuple[Reason, ...]
    """Why."""
    moderator_id: int
    """Who; 0 for the check, ERASED for somebody who was erased."""
    note: str = ""
    """For other moderators."""
    done: bool = False
    """Whether it was carried out."""
    appeal: Appeal = Appeal.NONE
    """What became of an appeal against it."""
    appeal_text: str = ""
    """What its author says."""


_URGENCY = {
    Reason.MANUAL: 400,
    Reason.TOXICITY: 300,
    Reason.VIRAL: 250,
    Reason.APPEAL: 200,
    Reason.SPAM: 100,
    Reason.SCAN: 50,
    Reason.LINK: 50,
    Reason.REPORTS: 0,
    Reason.UNCHECKED: 0,
}
_A_REPORT = 20
_REPORTS_COUNTED = 100


def priority_of(reasons: Iterable[Reason], toxicity: int, report_count: int) -> int:
    """How urgent a case is: the most urgent of its reasons, how toxic it is (up to 100), how many reported it."""
    most = max((_URGENCY[reason] for reason in reasons), default=0)
    return most + toxicity // 10 + _A_REPORT * min(report_count, _REPORTS_COUNTED)


def merged(reasons: Iterable[Reason], more: Iterable[Reason]) -> tuple[Reason, ...]:
    """Both, each once, in the order of the enumeration, so that equal sets are stored alike."""
    known = {*reasons, *more}
    return tuple(reason for reason in Reason if reason in known)


def joined(reasons: Collection[Reason]) -> str:
    """As the store keeps them."""
    return ",".join(merged(reasons, ()))


def split(text: str) -> tuple[Reason, ...]:
    """From what the store keeps."""
    return tuple(Reason(name) for name in text.split(",") if name)


def check_subject(tweet_id: int, user_id: int) -> None:
    """Raises InvalidArgument unless it is a tweet or an account, and not both."""
    if bool(tweet_id) == bool(user_id):
        problem = "must be given, or user_id, and not both"
        raise InvalidArgument(f"tweet_id {problem}.", violations=[Violation("tweet_id", problem)])


def check_action(case: Case, action: Action) -> None:
    """Raises FailedPrecondition for what cannot be decided about a case."""
    if action in (Action.LIMIT, Action.REMOVE) and not case.tweet_id:
        raise FailedPrecondition(f"An account cannot be decided upon by {action}.", reason="WRONG_ACTION")


def can_appeal(decision: Decision) -> bool:
    """Whether a decision took something away that could come back."""
    return decision.action in (Action.LIMIT, Action.REMOVE, Action.SUSPEND)


def outcome(action: Action) -> Appeal:
    """What a decision on an appeal says of the decision that it was against."""
    return Appeal.OVERTURNED if action is Action.RESTORE else Appeal.UPHELD


def superseded(decision: Decision, later: Sequence[Decision]) -> bool:
    """Whether a later decision about the same thing makes carrying this one out pointless."""
    return any(
        (other.tweet_id, other.author_id) == (decision.tweet_id, decision.author_id)
        and other.id > decision.id
        and other.action is not Action.KEEP
        for other in later
    )
