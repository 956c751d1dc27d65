"""What the moderation store is made of, for copies to another one (mesh/transfer)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mesh.transfer.base import Kind, Transfer, Type
from mesh.transfer.sql import SqlTransfer

_INTEGER, _TEXT, _BOOLEAN = Type.INTEGER, Type.TEXT, Type.BOOLEAN

KINDS: Sequence[Kind] = (
    Kind(
        "cases",
        ("id",),
        {
            "id": _INTEGER,
            "tweet_id": _INTEGER,
            "author_id": _INTEGER,
            "reasons": _TEXT,
            "toxicity": _INTEGER,
            "spam": _INTEGER,
            "report_count": _INTEGER,
            "priority": _INTEGER,
            "waiting": _BOOLEAN,
            "claimed_by": _INTEGER,
            "claimed_until_ms": _INTEGER,
            "action": _TEXT,
            "appealed_id": _INTEGER,
            "appealed_by": _INTEGER,
        },
    ),
    Kind(
        "reports",
        ("id",),
        {
            "id": _INTEGER,
            "reporter_id": _INTEGER,
            "case_id": _INTEGER,
            "tweet_id": _INTEGER,
            "user_id": _INTEGER,
            "reason": _TEXT,
            "comment": _TEXT,
        },
    ),
    Kind(
        "decisions",
        ("id",),
        {
            "id": _INTEGER,
            "case_id": _INTEGER,
            "tweet_id": _INTEGER,
            "author_id": _INTEGER,
            "action": _TEXT,
            "reasons": _TEXT,
            "moderator_id": _INTEGER,
            "note": _TEXT,
            "done": _BOOLEAN,
            "appeal": _TEXT,
            "appeal_text": _TEXT,
        },
    ),
    Kind(
        "audit",
        ("id",),
        {"id": _INTEGER, "actor_id": _INTEGER, "act": _TEXT, "case_id": _INTEGER, "detail": _TEXT},
    ),
    Kind(
        "scans",
        ("id",),
        {"id": _INTEGER, "running": _BOOLEAN, "position": _INTEGER, "checked": _INTEGER, "found": _INTEGER},
    ),
)
"""In the order in which they refer to each other."""
LEFT_OUT: Mapping[str, str] = {
    "outbox": "moved as mesh.transfer.base.EVENTS",
    "outbox_lease": "who relays, and what they know of a bus that may be another at the target",
    "worker_leases": "of processes that have ended",
}
"""Tables that are no kind, and why."""


_SCHEMAS = Path(__file__).parents[1] / "schema"


async def open_transfer(url: str, *, target: bool) -> Transfer:
    """The moderation store behind a URL, as an end of a copy. Raises as SqlTransfer.open."""
    return await SqlTransfer.open(url, _SCHEMAS, KINDS, target=target)
