"""What the tables of `graph` keep of people (mesh/db/personal.py)."""

from __future__ import annotations

from collections.abc import Mapping

from mesh.db.personal import Table

_BOTH_WAYS = "as if either had taken it back, page by page, with its events"

TABLES: Mapping[str, Table] = {
    "follows": Table(("follower_id", "followee_id"), ("follow_id",), ("following", "followers"), erased=_BOTH_WAYS),
    "follow_requests": Table(
        ("requester_id", "target_id"),
        ("request_id",),
        ("follow_requests_sent", "follow_requests_received"),
        erased=_BOTH_WAYS,
    ),
    "blocks": Table(
        ("blocker_id", "blocked_id"),
        ("block_id",),
        ("blocks",),
        left_out="that somebody blocks them is that one's",
        erased=_BOTH_WAYS,
    ),
    "mutes": Table(
        ("muter_id", "muted_id"),
        ("mute_id",),
        ("mutes",),
        left_out="that somebody mutes them is that one's",
        erased=_BOTH_WAYS,
    ),
    "people": Table(
        ("user_id",), left_out="counts that the profile has, and a mark for fan-out", erased="the row, last of all"
    ),
    "worker_leases": Table(erased="numbers of processes"),
    "outbox": Table(("key",), ("id", "event_id"), left_out="events of the last minutes", erased="pruned by age"),
    "outbox_lease": Table(erased="a process"),
}
"""By name."""
