"""What the tables of `moderation` keep of people (mesh/db/personal.py)."""

from __future__ import annotations

from collections.abc import Mapping

from mesh.db.personal import Table

_MODERATOR = "; of a moderator the id becomes -1"

TABLES: Mapping[str, Table] = {
    "cases": Table(
        ("author_id", "claimed_by", "appealed_by"),
        ("id", "tweet_id", "appealed_id"),
        left_out="what moderators look at; what they decided is in section moderation_decisions",
        erased=f"the rows{_MODERATOR}",
    ),
    "reports": Table(
        ("reporter_id", "user_id"),
        ("id", "case_id", "tweet_id"),
        ("reports",),
        left_out="that somebody reported them is that one's",
        erased="the rows, those about the person and their tweets too",
    ),
    "decisions": Table(
        ("author_id", "moderator_id"),
        ("id", "case_id", "tweet_id"),
        ("moderation_decisions",),
        left_out="what a moderator decided about others",
        erased=f"the rows{_MODERATOR}",
    ),
    "audit": Table(
        ("actor_id",),
        ("id", "case_id"),
        left_out="the work of moderators",
        erased="the id of an erased moderator becomes -1; nobody else is named",
    ),
    "scans": Table(others=("id",), erased="numbers"),
    "worker_leases": Table(erased="numbers of processes"),
    "outbox": Table(("key",), ("id", "event_id"), left_out="events of the last minutes", erased="pruned by age"),
    "outbox_lease": Table(erased="a process"),
}
"""By name."""
